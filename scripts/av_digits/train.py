"""Train AV-digits and write its weights: seven minutes of one core's time, on any number of cores.

    pip install -e '.[train]'
    python scripts/av_digits/train.py

Every step trains all seven modality combinations at once: each branch gives its logits, and the loss is the
mean over the combinations of the cross-entropy of their sum, which is modality dropout in expectation. Video
is trained on a few frames of the eight, drawn anew each step, and on all of them at the end. Speech is varied
as if other voices had said it, since the voices are few and those of the test are others.

What is printed is measured on the calibration split (voices and images of its own) until the last line. That
one alone looks at the test split, after the last step: no weights are chosen by it. One thread computes,
because sums over several are rounded differently: a seed gives the same weights on all machines of a kind.
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import cross_entropy

from mosel.core.files import write_atomic
from mosel.models.av_digits import WEIGHTS_FILE, level
from mosel.models.av_digits.data import MELS, MOST_FRAMES, VIDEO_FRAMES, Draw, Split, draw
from mosel.models.av_digits.network import AVDigits
from mosel.models.av_digits.vary import another_voice

MODALITIES = ("text", "audio", "video")
COMBINATIONS = [c for n in (1, 2, 3) for c in itertools.combinations(range(3), n)]
BATCH = 64
FEW_FRAMES = (2, 3)
ALL_FRAMES_SHARE = 0.05
MOST_MASKED_MELS, MOST_MASKED_FRAMES = 4, 6


def main() -> None:
    """Train, write the weights, and print the accuracy of every combination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=WEIGHTS_FILE)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    network = AVDigits(MELS).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train(network, arguments.steps, np.random.default_rng(arguments.seed))
    weights = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    write_atomic(arguments.output, save(weights))
    network.load_state_dict(weights)  # what is measured is what is shipped, rounded as it is
    print(f"{arguments.output}: {arguments.output.stat().st_size:,} bytes")
    print(f"test: {accuracies(network, Split.TEST, 2000)}")


def train(network: AVDigits, steps: int, rng: np.random.Generator) -> None:
    """Train `network` for `steps` batches."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.15)
    began = time.monotonic()
    for step in range(1, steps + 1):
        last = step > steps * (1 - ALL_FRAMES_SHARE)
        frames = VIDEO_FRAMES if last else int(rng.choice(FEW_FRAMES))
        drawn = draw(Split.TRAINING, BATCH, rng, frames, vary=another_voice)
        drawn.audio[:] = [filled(clip, rng) for clip in drawn.audio]
        inputs = tensors(drawn)
        mask(inputs["audio"], inputs["audio_lengths"], rng)
        loss = loss_of(network.train().logits(**inputs), torch.from_numpy(drawn.labels))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            shown = f"loss {loss.item():.3f} · calibration {accuracies(network, Split.CALIBRATION, 200)}"
            print(f"step {step}/{steps} · {time.monotonic() - began:.0f} s · {shown}", flush=True)


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over every combination of the modalities in `logits` (3, batch, 10)."""
    losses = [cross_entropy(logits[list(chosen)].sum(dim=0), labels) for chosen in COMBINATIONS]
    return torch.stack(losses).mean()


def filled(clip: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return `clip`, half the time with silence after it.

    Silence without any noise is what a client fills up with whose requests in one job differ in length.
    """
    most = (MOST_FRAMES - len(clip)) * int(rng.integers(0, 2))
    return np.pad(clip, ((0, int(rng.integers(0, most + 1))), (0, 0)))


def mask(audio: Tensor, lengths: Tensor, rng: np.random.Generator) -> None:
    """Set up to two bands and up to one stretch of time of each request to its mean (Park et al. 2019)."""
    for request, length in zip(audio, lengths.tolist(), strict=True):
        for _ in range(rng.integers(0, 3)):
            first = int(rng.integers(0, MELS - MOST_MASKED_MELS))
            request[:, first : first + int(rng.integers(1, MOST_MASKED_MELS + 1))] = 0
        for _ in range(rng.integers(0, 2)):
            first = int(rng.integers(0, max(1, length - MOST_MASKED_FRAMES)))
            request[first : first + int(rng.integers(1, MOST_MASKED_FRAMES + 1))] = 0


def tensors(drawn: Draw) -> dict[str, Tensor]:
    """Return the keywords of `AVDigits.logits`, padded as the server pads them."""
    text = torch.nn.utils.rnn.pad_sequence([torch.tensor(word) for word in drawn.text], batch_first=True)
    levelled = [torch.from_numpy(level({"audio": clip[None]})["audio"][0]) for clip in drawn.audio]
    audio = torch.nn.utils.rnn.pad_sequence(levelled, batch_first=True)
    lengths = torch.tensor([len(clip) for clip in drawn.audio])
    return {"text": text, "audio": audio, "audio_lengths": lengths, "video": torch.from_numpy(drawn.video)}


@torch.inference_mode()
def accuracies(network: AVDigits, split: Split, count: int) -> str:
    """Return the accuracy of every combination on `count` samples of `split`, as one line."""
    drawn = draw(split, count, np.random.default_rng(1))
    inputs = tensors(drawn)
    video, labels = inputs.pop("video"), torch.from_numpy(drawn.labels)
    quick = network.eval().logits(**inputs)
    slow = torch.cat([network.logits(video=part) for part in torch.split(video, BATCH)], dim=1)
    logits = torch.cat((quick, slow))
    return "  ".join(
        f"{'+'.join(MODALITIES[i] for i in chosen)} {_share(logits[list(chosen)].sum(dim=0), labels):.3f}"
        for chosen in COMBINATIONS
    )


def _share(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(dim=1) == labels).double().mean().item()


if __name__ == "__main__":
    main()
