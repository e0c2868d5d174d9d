"""Jobs for the faulty model, and the client's own count of what became of each of them."""

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import orjson
from numpy.typing import NDArray

from mosel.core.errors import BadAnswerError
from mosel.core.states import OUTCOMES, State
from mosel.evaluation.client import Client, Reply
from mosel.evaluation.payloads import Payload
from mosel.models.faulty import Fault, model

LABELS = 1000
GONE, MISSING = "gone", "missing"


@dataclass(slots=True)
class Tally:
    """What became of the jobs that were sent to one server.

    Attributes:
        sent: how many there were.
        answered: those that the server answered, by outcome.
        broken: whose connection died; they count as failed.
        gone: whose client went away on purpose; they count as dropped.
        missing: that got no answer in time.
        wrong: whose answer was not theirs.
    """

    sent: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    gone: int = 0
    missing: int = 0
    wrong: int = 0

    def outcomes(self) -> Counter[str]:
        """Return every job's one outcome."""
        return +(self.answered + Counter({State.FAILED.value: self.broken, State.DROPPED.value: self.gone}))

    def problems(self, server: Counter[str] | None, *, torn: bool = False) -> list[str]:
        """Return what does not come out even, by itself and beside the server's own count.

        Where connections were torn, the server may have answered jobs whose answer did not come through.
        """
        found = []
        if self.outcomes().total() + self.missing != self.sent:
            found.append(f"{self.sent} sent, {dict(self.outcomes())} and {self.missing} missing")
        found += [f"{self.missing} jobs got no answer"] * bool(self.missing)
        found += [f"{self.wrong} jobs got an answer that is not theirs"] * bool(self.wrong)
        if server is not None:
            more = {name: server[name] - self.answered[name] for name in {*server, *self.answered}}
            if min(more.values(), default=0) < 0 or sum(more.values()) > self.gone + torn * self.broken:
                found.append(
                    f"the server counts {dict(sorted(server.items()))}, its clients "
                    f"{dict(sorted(self.answered.items()))}, {self.gone} that went away and {self.broken} "
                    "that lost their connection"
                )
        return found


class Sender:
    """Sends jobs to one server and counts.

    Args:
        session: through which; its time limit is how long an answer may take.
        url: of the server.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.tally = Tally()
        self._client = Client(session, url, model.name)
        self._numbers = itertools.count()

    async def send(
        self,
        requests: int = 1,
        fault: Fault = Fault.NONE,
        number: float = 0.0,
        *,
        accuracy_slo: float = 0.6,
        slo_ms: float = 200.0,
    ) -> Reply | None:
        """Send a job whose first request asks for `fault`; returns the answer if one came."""
        label = next(self._numbers) % LABELS
        text = np.array([[label, Fault.NONE, 0.0]] * requests, "<f4")
        text[0, 1:] = fault, number
        self.tally.sent += 1
        try:
            reply = await self._client.infer(_payload(text, accuracy_slo, slo_ms))
        except asyncio.CancelledError:
            self.tally.gone += 1
            raise
        except TimeoutError:
            self.tally.missing += 1
            return None
        except (aiohttp.ClientError, OSError):
            self.tally.broken += 1
            return None
        except BadAnswerError:
            self.tally.broken += 1
            self.tally.wrong += 1
            return None
        self._count(reply, label, requests)
        return reply

    def _count(self, reply: Reply, label: int, requests: int) -> None:
        told = reply.receipt.get("outcome")
        self.tally.answered[told if told in OUTCOMES else State.REJECTED.value] += 1
        if reply.outputs and reply.outputs["label"].tolist() != [label] * requests:
            self.tally.wrong += 1


def _payload(text: NDArray[np.float32], accuracy_slo: float, slo_ms: float) -> Payload:
    sound = np.zeros((len(text), 1), "<f4")
    inputs = [
        {
            "name": name,
            "datatype": "FP32",
            "shape": list(array.shape),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in (("text", text), ("sound", sound))
    ]
    parameters = {"accuracy_slo": accuracy_slo, "latency_slo_ms": slo_ms}
    head = orjson.dumps({"parameters": parameters, "inputs": inputs})
    return Payload(head + text.tobytes() + sound.tobytes(), len(head), np.zeros(len(text), np.int64))
