"""AV-HuBERT's attention decoder: from states of frames to tokens, one after the other.

Keys and values of what was decoded before are kept, so that a step is one token's work. Which token comes next
is the search's business (`search.py`).
"""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from mosel.models.avhubert.search import Transcripts, beam_search, likeliest
from mosel.models.avhubert.shape import PAD, Shape
from mosel.models.layers import sine_positions

EPS = 1e-5
FIRST_POSITION = PAD + 1
"""Published weights count positions from here."""

Pair = tuple[Tensor, Tensor]
"""Keys and values, each of shape (rows, heads, entries, width of a head)."""


class Decoder(nn.Module):
    """Tokens from states; the embeddings of what was decoded also weigh what comes next."""

    def __init__(self, shape: Shape, vocabulary: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, shape.width, padding_idx=PAD)
        nn.init.normal_(self.embed.weight, std=shape.width**-0.5)
        self.layers = nn.ModuleList(
            DecoderLayer(shape.width, shape.decoder_heads, shape.decoder_hidden)
            for _ in range(shape.decoder_depth)
        )
        self.norm = nn.LayerNorm(shape.width, EPS)
        self.positions: Tensor
        table = sine_positions(FIRST_POSITION + 1 + shape.most_tokens, shape.width)[FIRST_POSITION:]
        self.register_buffer("positions", table, persistent=False)

    def forward(self, tokens: Tensor, states: Tensor, real: Tensor | None) -> Tensor:
        """Return logits of what follows each token, (batch, tokens, vocabulary), all at once as in training.

        Args:
            tokens: a transcript so far, (batch, tokens), `EOS` first.
            states: of the encoder, (batch, frames, width).
            real: which states count, (batch, frames); None if all do.
        """
        hidden = self.embed(tokens) + self.positions[: tokens.shape[1]]
        for layer in self._stack:
            hidden = layer(hidden, layer.look(states), real)
        return self._logits(hidden)

    def transcribe(self, states: Tensor, real: Tensor | None, most: Tensor, beam: int = 1) -> Transcripts:
        """Return what clips say.

        Args:
            states: of the encoder, (batch, frames, width).
            real: which states count, (batch, frames); None if all do.
            most: how many tokens each clip may have, (batch,); it has one at least.
            beam: how many transcripts of each clip are pursued beside each other; with 1 the likeliest token is
                taken each time.
        """
        frames = [layer.look(states) for layer in self._stack]
        pasts = [layer.room(states, int(most.max()) + 1, beam) for layer in self._stack]

        def step(tokens: Tensor, number: int, order: Tensor | None = None) -> Tensor:
            hidden = self.embed(tokens) + self.positions[number]
            for layer, frame, past in zip(self._stack, frames, pasts, strict=True):
                if order is not None:
                    for kept in past:
                        kept[:, :, :number] = kept[order, :, :number]
                hidden = layer.step(hidden, frame, real, past, number)
            return self._logits(hidden)

        return likeliest(step, most) if beam == 1 else beam_search(step, most, beam)

    @property
    def _stack(self) -> "list[DecoderLayer]":
        return cast("list[DecoderLayer]", list(self.layers))

    def _logits(self, hidden: Tensor) -> Tensor:
        return functional.linear(self.norm(hidden), self.embed.weight)


class DecoderLayer(nn.Module):
    """One step of one layer: attention to what was decoded, attention to the frames, a feed-forward part."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width, EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width, EPS)
        self.frame_query = nn.Linear(width, width)
        self.frame_kv = nn.Linear(width, 2 * width)
        self.frame_out = nn.Linear(width, width)
        self.norm_3 = nn.LayerNorm(width, EPS)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.drop = nn.Dropout(0.1)

    def look(self, states: Tensor) -> Pair:
        """Return keys and values of the encoder's states."""
        keys, values = self.frame_kv(states).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return keys, values

    def room(self, states: Tensor, most: int, beam: int) -> Pair:
        """Return room for the keys and values of `most` tokens of each transcript."""
        batch, _, width = states.shape
        empty = (batch * beam, self.heads, most, width // self.heads)
        return states.new_empty(empty), states.new_empty(empty)

    def forward(self, hidden: Tensor, frames: Pair, real: Tensor | None) -> Tensor:
        """Return the states of whole transcripts after this layer, (batch, tokens, width).

        Args:
            hidden: of the tokens, (batch, tokens, width).
            frames: what `look` returned.
            real: which frames count, (batch, frames); None if all do.
        """
        query, key, value = self._attended(hidden).permute(2, 0, 3, 1, 4)
        heard = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self._after(hidden, heard.transpose(1, 2).flatten(2), frames, real)

    def step(self, hidden: Tensor, frames: Pair, real: Tensor | None, past: Pair, number: int) -> Tensor:
        """Return the states of the next token after this layer, (batch, beam, width).

        Args:
            hidden: of that token of each transcript, (batch, beam, width).
            frames: what `look` returned.
            real: which frames count, (batch, frames); None if all do.
            past: what `room` returned; keys and values of this token are kept there.
            number: how many tokens were before this one.
        """
        query, key, value = self._attended(hidden).flatten(0, 1).unbind(1)
        past[0][:, :, number], past[1][:, :, number] = key, value
        keys, values = (kept[:, :, : number + 1] for kept in past)
        heard = functional.scaled_dot_product_attention(query.unsqueeze(2), keys, values)
        return self._after(hidden, heard.reshape(hidden.shape), frames, real)

    def _attended(self, hidden: Tensor) -> Tensor:
        """Return queries, keys and values, (batch, tokens, 3, heads, width of a head)."""
        found: Tensor = self.qkv(self.norm_1(hidden)).unflatten(2, (3, self.heads, -1))
        return found

    def _after(self, hidden: Tensor, heard: Tensor, frames: Pair, real: Tensor | None) -> Tensor:
        hidden = hidden + self.drop(self.out(heard))
        query = self.frame_query(self.norm_2(hidden)).unflatten(2, (self.heads, -1)).transpose(1, 2)
        mask = None if real is None else real[:, None, None, :]
        seen = functional.scaled_dot_product_attention(query, *frames, attn_mask=mask)
        hidden = hidden + self.drop(self.frame_out(seen.transpose(1, 2).flatten(2)))
        after: Tensor = hidden + self.drop(self.down(self.up(self.norm_3(hidden)).relu()))
        return after
