"""How large TBN is: the published size, and a small one for a CPU. Torch is not needed here."""

from dataclasses import dataclass

FLOW_CHANNELS = 10
"""x and y of five frames."""

PAPER_MIDDLE = 96
"""To how many channels BN-Inception's blocks 4c and 4d project what they pool, in its paper."""


PAPER_FEATURES = 1024
"""The width of BN-Inception's last block."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a network is.

    Attributes:
        segments: how many moments of a clip are looked at; scores are means over them.
        side: of square frames, in pixels: a multiple of 32, which is halved five times.
        divisor: divides the channels of every image network; 1 is the published one.
        hidden: width of the layer behind the concatenation.
        verbs: how many of them are told apart.
        nouns: how many of them are told apart.
        middle: see `BNInception`.
    """

    segments: int = 25
    side: int = 224
    divisor: int = 1
    hidden: int = 512
    verbs: int = 97
    nouns: int = 300
    middle: int = PAPER_MIDDLE

    @property
    def features(self) -> int:
        """How much each image network tells of a segment."""
        return PAPER_FEATURES // self.divisor


SHAPES = {"full": Shape(), "small": Shape(segments=3, side=96, divisor=8, hidden=128)}
