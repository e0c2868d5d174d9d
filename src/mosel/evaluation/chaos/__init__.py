"""Faults on purpose: a live server under load, things that go wrong, and a tally that has to come out even."""
