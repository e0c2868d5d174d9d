"""Which tokens a transcript is made of: the likeliest each time, or the best of several pursued at once.

Each clip has its own limit of tokens, so that what is decoded beside it changes nothing. What a step computes
is the decoder's business.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mosel.models.avhubert.shape import BOS, EOS, PAD

Step = Callable[..., Tensor]
"""`step(tokens, number, order)`: logits of what follows, (batch, beam, vocabulary).

Tokens are the last of each transcript, (batch, beam), `number` of them came before; `order` are the rows, of
batch × beam, whose past each transcript goes on from; without it each goes on from its own.
"""


class Transcripts(NamedTuple):
    """What was found for each clip of a batch.

    Attributes:
        tokens: (batch, longest), `PAD` behind the end.
        lengths: how many they are, (batch,).
        rating: the mean log-probability of a token, the end counted where it was found, (batch,).
    """

    tokens: Tensor
    lengths: Tensor
    rating: Tensor


def likeliest(step: Step, most: Tensor) -> Transcripts:
    """Return the transcripts of which each token is the likeliest after those before it.

    Args:
        step: of the decoder.
        most: how many tokens each clip may have, (batch,); it has one at least.
    """
    found: list[Tensor] = []
    lengths, going = torch.zeros_like(most), torch.ones_like(most, dtype=torch.bool)
    total, counted = torch.zeros(most.shape, device=most.device), torch.zeros_like(most)
    token = torch.full_like(most, EOS)
    while bool(going.any()):
        rated = step(token.unsqueeze(1), len(found))[:, 0].float().log_softmax(dim=1)
        rated[:, _never(len(found))] = -torch.inf
        best, token = rated.max(dim=1)
        total, counted = total + best * going, counted + going
        going = going & (token != EOS)
        lengths = lengths + going
        found.append(token.masked_fill(~going, PAD))
        going = going & (lengths < most)
    return Transcripts(torch.stack(found, dim=1)[:, : int(lengths.max())], lengths, total / counted)


def beam_search(step: Step, most: Tensor, beam: int) -> Transcripts:
    """Return the transcripts of the highest rating among those that are pursued.

    A clip is done when as many transcripts have ended as are pursued, or when it has all the tokens that it may
    have.

    Args:
        step: of the decoder.
        most: how many tokens each clip may have, (batch,); it has one at least.
        beam: how many transcripts of a clip are pursued.
    """
    ends = _Ends(most, beam)
    scores = torch.full((len(most), beam), -torch.inf, device=most.device)
    scores[:, 0] = 0  # they all begin alike: one of them is enough
    tokens = most.new_full((len(most), beam), EOS)
    paths, order = most.new_empty(len(most), beam, 0), None
    first = torch.arange(len(most), device=most.device).unsqueeze(1) * beam
    for number in range(int(most.max()) + 1):
        rated = _rated(step(tokens, number, order), number, number >= most)
        reached = (scores.unsqueeze(2) + rated).flatten(1)
        top, places = reached.topk(min(2 * beam, reached.shape[1]), dim=1)
        parents, following = places // rated.shape[2], places % rated.shape[2]
        ends.note(top, parents, following == EOS, paths)
        if not bool(ends.open.any()):
            break
        scores, chosen = top.masked_fill(following == EOS, -torch.inf).topk(beam, dim=1)
        parents, tokens = parents.gather(1, chosen), following.gather(1, chosen)
        paths = torch.cat((_of(paths, parents), tokens.unsqueeze(2)), dim=2)
        order = (first + parents).flatten()
    return ends.best()


class _Ends:
    """The best transcript of each clip that has ended so far."""

    def __init__(self, most: Tensor, beam: int) -> None:
        self._most, self._beam = most, beam
        self._score = torch.full(most.shape, -torch.inf, device=most.device)
        self._tokens = most.new_full((len(most), int(most.max())), PAD)
        self._lengths, self._ended = torch.zeros_like(most), torch.zeros_like(most)
        self.open = torch.ones_like(most, dtype=torch.bool)

    def note(self, top: Tensor, parents: Tensor, over: Tensor, paths: Tensor) -> None:
        """Take note of those among the `beam` best candidates that end, and of which clips are done.

        Args:
            top: log-probabilities of candidates, best first, (batch, candidates).
            parents: of which path each is the continuation.
            over: whether it is the end.
            paths: tokens so far, (batch, beam, tokens).
        """
        number = paths.shape[2]
        counted = over & self.open.unsqueeze(1) & top.isfinite()
        counted[:, self._beam :] = False
        score, which = (top / (number + 1)).masked_fill(~counted, -torch.inf).max(dim=1)
        better = score > self._score
        path = _of(paths, parents.gather(1, which.unsqueeze(1)))[:, 0]
        self._score = torch.where(better, score, self._score)
        self._lengths = torch.where(better, number, self._lengths)
        self._tokens[better, :number] = path[better]
        self._ended = self._ended + counted.sum(dim=1)
        self.open = self.open & (self._ended < self._beam) & (number < self._most)

    def best(self) -> Transcripts:
        """Return the best of each clip."""
        longest = max(1, int(self._lengths.max()))
        places = torch.arange(longest, device=self._most.device)
        behind = places >= self._lengths.unsqueeze(1)
        return Transcripts(self._tokens[:, :longest].masked_fill(behind, PAD), self._lengths, self._score)


def _rated(logits: Tensor, number: int, full: Tensor) -> Tensor:
    """Return log-probabilities, (batch, beam, vocabulary): after all its tokens a clip can only end."""
    rated = logits.float().log_softmax(dim=2)
    rated[:, :, _never(number)] = -torch.inf
    others = torch.arange(rated.shape[2], device=rated.device) != EOS
    return rated.masked_fill(full[:, None, None] & others, -torch.inf)


def _never(number: int) -> list[int]:
    """Return which tokens cannot come after so many: a transcript does not end before it begins."""
    return [BOS, PAD] if number else [BOS, PAD, EOS]


def _of(paths: Tensor, parents: Tensor) -> Tensor:
    return paths.gather(1, parents.unsqueeze(2).expand(-1, -1, paths.shape[2]))
