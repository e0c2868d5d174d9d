from mosel.core.states import OUTCOMES, TRANSITIONS, Reason, State


def test_every_state_has_a_row() -> None:
    """The table says for every state what may follow."""
    assert set(TRANSITIONS) == set(State)


def test_outcomes_are_the_final_states() -> None:
    """There are five outcomes and nothing leads out of any of them."""
    assert {str(state) for state in OUTCOMES} == {"served", "late", "dropped", "rejected", "failed"}
    assert all(not TRANSITIONS[state] for state in OUTCOMES)


def test_every_state_is_reached_and_reaches_an_outcome() -> None:
    """From arrival each state can be reached, and from each state an outcome."""
    reached = {state: _after(state) for state in State}
    assert reached[State.ARRIVED] == set(State)
    assert all(found & set(OUTCOMES) for found in reached.values())


def test_no_state_returns() -> None:
    """A job never comes back to a state that it left."""
    for state in State:
        assert all(state not in _after(later) for later in TRANSITIONS[state])


def test_only_arrival_is_rejected() -> None:
    """A job that was accepted cannot be rejected any more."""
    assert {state for state, after in TRANSITIONS.items() if State.REJECTED in after} == {State.ARRIVED}


def test_reasons_are_plain_codes() -> None:
    """A reason is written in receipts as a lower-case word, and no two are the same."""
    assert all(str(reason).replace("_", "").islower() for reason in Reason)
    assert len({str(reason) for reason in Reason}) == len(Reason)


def _after(state: State) -> set[State]:
    found = {state}
    for later in TRANSITIONS[state]:
        found |= _after(later)
    return found
