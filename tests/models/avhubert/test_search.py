import itertools
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from mosel.models.avhubert.network import AVHubert
from mosel.models.avhubert.search import Step, beam_search, likeliest
from mosel.models.avhubert.shape import AUDIO_FEATURES, BOS, EOS, PAD, Shape
from mosel.models.avhubert.vocabulary import words
from mosel.models.checkpoints import seeded

TINY = Shape(32, 2, 2, 64, 2, 2, 64, channels=4, buckets=(10, 20), most_tokens=9)
TOKENS = 7
"""The four special ones, and three that say something."""


def bigrams(seed: int, clips: int) -> Tensor:
    """Return logits of what follows each token, by clip: (clips, tokens, tokens)."""
    return 3 * torch.randn(clips, TOKENS, TOKENS, generator=torch.Generator().manual_seed(seed))


def step_of(table: Tensor) -> Step:
    """Return a step that knows nothing but the last token."""

    def step(tokens: Tensor, number: int, order: Tensor | None = None) -> Tensor:  # noqa: ARG001
        return table[torch.arange(len(table))[:, None], tokens].clone()

    return step


def best_by_trying_all(table: Tensor, most: int) -> tuple[list[int], float]:
    """Return the transcript of the highest log-probability a token, the end counted, and that."""
    rated = table.log_softmax(dim=1)
    said = [token for token in range(TOKENS) if token not in (BOS, PAD, EOS)]
    tried = [path for n in range(1, most + 1) for path in itertools.product(said, repeat=n)]

    def mean(path: Iterable[int]) -> float:
        path = list(path)
        pairs = itertools.pairwise((EOS, *path, EOS))
        return sum(float(rated[before, after]) for before, after in pairs) / (len(path) + 1)

    best = max(tried, key=mean)
    return list(best), mean(best)


@pytest.mark.parametrize("seed", range(20))
def test_a_wide_beam_finds_the_best_transcript_of_all(seed: int) -> None:
    """With room for every transcript none is lost, whatever is decoded beside it."""
    table, most = bigrams(seed, 3), torch.tensor([4, 2, 3])
    tokens, lengths, rating = beam_search(step_of(table), most, 4**4)
    for clip in range(3):
        expected, mean = best_by_trying_all(table[clip], int(most[clip]))
        assert float(rating[clip]) == pytest.approx(mean, abs=1e-5)
        assert tokens[clip, : lengths[clip]].tolist() == expected
        assert (tokens[clip, lengths[clip] :] == PAD).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_takes_the_likeliest_token_each_time(seed: int) -> None:
    """Ends included; at its limit a clip has no end of its own."""
    table, most = bigrams(seed, 4), torch.tensor([5, 1, 3, 9])
    found, expected = beam_search(step_of(table), most, 1), likeliest(step_of(table), most)
    assert found.lengths.tolist() == expected.lengths.tolist()
    assert found.tokens.tolist() == expected.tokens.tolist()
    ended = expected.lengths < most
    torch.testing.assert_close(found.rating[ended], expected.rating[ended])


def test_the_likeliest_tokens_are_rated_by_their_mean_log_probability() -> None:
    """The end counts where the network ended, and is not there at the limit; what comes after it does not."""
    table, most = bigrams(1, 4), torch.tensor([6, 6, 2, 1])
    tokens, lengths, rating = likeliest(step_of(table), most)
    for clip, length in enumerate(lengths.tolist()):
        said = [EOS, *tokens[clip, :length].tolist()] + [EOS] * (length < int(most[clip]))
        rated = table[clip].log_softmax(dim=1)
        pairs = [float(rated[before, after]) for before, after in itertools.pairwise(said)]
        assert float(rating[clip]) == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)


def test_a_beam_may_be_wider_than_there_are_tokens() -> None:
    """What cannot be reached is not pursued."""
    tokens, lengths, _ = beam_search(step_of(bigrams(0, 1)), torch.tensor([1]), 50)
    assert tokens.shape == (1, 1)
    assert lengths.tolist() == [1]


def test_each_transcript_goes_on_from_its_own_past() -> None:
    """With keys and values that are kept and moved the decoder finds what it finds from whole transcripts."""
    network = seeded(lambda: AVHubert(TINY, words("abcdefgh"), beam=3), 5)
    nn.init.normal_(network.decoder.embed.weight, std=1)
    generator = torch.Generator().manual_seed(2)
    states, real = torch.randn(2, 6, 32, generator=generator), torch.arange(6) < torch.tensor([[6], [4]])
    most = torch.tensor([9, 5])
    paths = torch.empty(6, 0, dtype=torch.long)

    def step(tokens: Tensor, number: int, order: Tensor | None = None) -> Tensor:  # noqa: ARG001
        nonlocal paths
        kept = paths if order is None else paths[order]
        paths = torch.cat((kept, tokens.reshape(6, 1)), dim=1)
        logits: Tensor = network.decoder(paths, states.repeat_interleave(3, 0), real.repeat_interleave(3, 0))
        return logits[:, -1].view(2, 3, -1)

    with torch.inference_mode():
        found, expected = network.decoder.transcribe(states, real, most, 3), beam_search(step, most, 3)
    assert found.tokens.tolist() == expected.tokens.tolist()
    assert found.lengths.tolist() == expected.lengths.tolist()
    torch.testing.assert_close(found.rating, expected.rating)


def test_clips_searched_together_give_what_they_give_alone() -> None:
    """Of unequal lengths, with a beam."""
    network = seeded(lambda: AVHubert(TINY, words("abcdefgh"), beam=4), 3)
    nn.init.normal_(network.decoder.embed.weight, std=1)
    generator = torch.Generator().manual_seed(1)
    clips = [torch.randn(n, AUDIO_FEATURES, generator=generator) for n in (5, 12, 20)]
    together = nn.utils.rnn.pad_sequence(clips, batch_first=True)
    with torch.inference_mode():
        whole = network(audio=together, audio_lengths=torch.tensor([5, 12, 20]))
        for row, clip in enumerate(clips):
            alone = network(audio=clip[None], audio_lengths=torch.tensor([len(clip)]))
            length = int(alone["text_lengths"][0])
            assert int(whole["text_lengths"][row]) == length
            assert whole["text"][row, :length].tolist() == alone["text"][0, :length].tolist()
            torch.testing.assert_close(whole["rating"][row], alone["rating"][0])
