"""AV-HuBERT whole: from sound and lips to text. Where its tensors come from is not known here."""

import torch
from torch import Tensor, nn

from mosel.models.avhubert.decoder import Decoder
from mosel.models.avhubert.encoder import SpeechEncoder
from mosel.models.avhubert.frontend import ConvNorm
from mosel.models.avhubert.shape import Shape, most_tokens
from mosel.models.avhubert.vocabulary import Vocabulary


class AVHubert(nn.Module):
    """Clips, heard, seen or both, to transcripts.

    Args:
        shape: how large it is.
        vocabulary: what its tokens say.
        beam: how many transcripts of a clip are pursued beside each other.
    """

    def __init__(self, shape: Shape, vocabulary: Vocabulary, beam: int = 1) -> None:
        super().__init__()
        self.shape, self.vocabulary, self.beam = shape, vocabulary, beam
        self.encoder = SpeechEncoder(shape)
        self.decoder = Decoder(shape, len(vocabulary))

    def forward(
        self,
        audio: Tensor | None = None,
        audio_lengths: Tensor | None = None,
        video: Tensor | None = None,
        video_lengths: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return `text`, UTF-8 bytes of shape (batch, longest), `text_lengths`, in bytes, and `rating`.

        The rating is the mean log-probability of a token; it and the lengths are of shape (batch,). Parameters
        are as `SpeechEncoder.forward` takes them.
        """
        states, real = self.encoder(audio, audio_lengths, video, video_lengths)
        frames = torch.full((len(states),), states.shape[1]) if real is None else real.sum(dim=1).cpu()
        most = torch.tensor([most_tokens(self.shape, each) for each in frames.tolist()], device=states.device)
        found = self.decoder.transcribe(states, real, most, self.beam)
        return {**self._as_bytes(found.tokens.tolist(), found.lengths.tolist()), "rating": found.rating}

    def fuse(self) -> None:
        """Merge normalisations into convolutions: the same outputs in eval mode, faster."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fuse()

    def _as_bytes(self, tokens: list[list[int]], lengths: list[int]) -> dict[str, Tensor]:
        texts = [
            self.vocabulary.text(row[:length]).encode() for row, length in zip(tokens, lengths, strict=True)
        ]
        longest = max(1, *map(len, texts))
        flat = bytearray(b"".join(text.ljust(longest, b"\0") for text in texts))
        return {
            "text": torch.frombuffer(flat, dtype=torch.uint8).view(len(texts), longest),
            "text_lengths": torch.tensor([len(text) for text in texts]),
        }
