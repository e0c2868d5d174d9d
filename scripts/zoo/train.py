"""Train one of the zoo's small networks and write the weights that ship with it: minutes of one core's time.

    pip install -e '.[dev]'
    python scripts/zoo/train.py vilt-small

Every step draws samples of the training split, prepares them as a server does, and trains all combinations of
modalities at once. What is printed on the way is measured on the calibration split; the last line alone is
measured on the test split, with the weights as they ship, and no weights are chosen by it. One thread computes,
so that a seed gives the same weights on all machines of a kind.
"""

import argparse
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _tasks import TASKS, Task, inputs
from safetensors.torch import save
from torch import nn

from mosel.core.files import write_atomic
from mosel.core.types import mode_name
from mosel.models.av_digits.data import Split
from mosel.models.base import Model, Samples, metric_of
from mosel.models.checkpoints import COUNTED
from mosel.models.loading import SHIPPED
from mosel.models.registry import find

EVALUATED = 50
"""Samples that are answered together when accuracy is measured."""


def main() -> None:
    """Train, write the weights, and print the accuracy of every combination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", choices=TASKS)
    parser.add_argument("--output", type=Path, help="by default the file that ships")
    parser.add_argument("--steps", type=int, help="by default as many as the weights that ship took")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    task = TASKS[arguments.name](find(f"{arguments.name},seed={arguments.seed}"))
    train(task, arguments.steps or task.steps, np.random.default_rng(arguments.seed))
    output = arguments.output or _shipped(arguments.name)
    write_atomic(output, save(halved(task.network)))
    print(f"{output}: {output.stat().st_size:,} bytes")
    made = find(f"{arguments.name},checkpoint={output}")
    assert made.samples is not None
    print(f"test: {accuracies(made, made.load('cpu', 'float32'), made.samples())}")


def train(task: Task, steps: int, rng: np.random.Generator) -> None:
    """Train a task's network for so many steps."""
    began = time.monotonic()
    task.prepare(rng)
    parameters = [*task.network.parameters(), *task.extra.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=task.rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, task.rate, total_steps=steps, pct_start=0.15)
    watched = task.draw(Split.CALIBRATION, task.watched, np.random.default_rng(1), None)
    for step in range(1, steps + 1):
        task.network.train()
        loss = task.step(rng)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % max(1, steps // 8) == 0:
            found = accuracies(task.model, task.network.eval(), watched)
            shown = f"step {step}/{steps} · {time.monotonic() - began:.0f} s · loss {loss.item():.3f}"
            print(f"{shown} · calibration: {found}", flush=True)


def halved(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return a network's tensors by our names, in half precision."""
    state = network.state_dict().items()
    return {name: tensor.half().contiguous() for name, tensor in state if not name.endswith(COUNTED)}


@torch.inference_mode()
def accuracies(model: Model, function: Callable[..., Any], samples: Samples) -> str:
    """Return the metric of every combination on these samples, as one line."""
    starts = range(0, len(samples), EVALUATED)
    parts = [range(start, min(start + EVALUATED, len(samples))) for start in starts]
    found = []
    for mode in model.combinations():
        scores = [
            model.score(_arrays(model, function(**inputs(model, samples, mode, part))), samples.labels[part])
            for part in parts
        ]
        found.append(f"{mode_name(mode)} {metric_of(np.concatenate(scores)):.3f}")
    return "  ".join(found)


def _arrays(model: Model, answer: Any) -> dict[str, Any]:
    answers = answer if isinstance(answer, dict) else {model.outputs[0].name: answer}
    return {
        name: tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()
        for name, tensor in answers.items()
    }


def _shipped(name: str) -> Path:
    package = resources.files(f"mosel.models.{name.removesuffix('-small')}")
    return Path(str(package)) / SHIPPED


if __name__ == "__main__":
    main()
