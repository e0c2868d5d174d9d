"""How large AV-HuBERT is: the two published sizes, and a small one for a CPU. Torch is not needed here."""

from dataclasses import dataclass

FRAMES_HZ = 25
"""Frames a second, of picture and of sound alike; the model's unit of length is one of these."""

STACKED, BANDS = 4, 26
AUDIO_FEATURES = STACKED * BANDS
"""Four windows of log-mel, 10 ms apart, stand side by side in each frame of sound."""

SIDE = 88
"""Of the mouth's region, in pixels."""

BOS, PAD, EOS, UNKNOWN = range(4)
SPECIAL = 4
"""How many entries of the vocabulary are no pieces of words."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a network is, and how long its clips and transcripts may be.

    Attributes:
        width: of encoder and decoder.
        depth: layers of the encoder.
        heads: of each of their attentions.
        hidden: width inside their feed-forward parts.
        decoder_depth: layers of the decoder.
        decoder_heads: of each of its attentions.
        decoder_hidden: width inside its feed-forward parts.
        channels: of the first layer of the picture's front-end; eight times as many leave it.
        buckets: upper limits of the length buckets, in frames; the last is that of the longest clip.
        most_tokens: a transcript never has more.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    decoder_depth: int
    decoder_heads: int
    decoder_hidden: int
    channels: int = 64
    buckets: tuple[int, ...] = (50, 100, 200, 500)
    most_tokens: int = 175

    @property
    def most_frames(self) -> int:
        """The length of the longest clip."""
        return self.buckets[-1]


def most_tokens(shape: Shape, frames: int) -> int:
    """Return how many tokens a clip of so many frames may be decoded to.

    Speech has some four to five of a thousand sub-words a second; this is twice that. It bounds what decoding
    takes by the length of the clip, so that 𝒟 can hold for it.
    """
    return min(shape.most_tokens, 8 + frames // 3)


SHAPES = {
    "base": Shape(768, 12, 12, 3072, 6, 4, 3072),
    "large": Shape(1024, 24, 16, 4096, 9, 8, 4096),
    "small": Shape(128, 4, 4, 512, 2, 4, 512, channels=8, buckets=(50, 100, 200), most_tokens=32),
}
