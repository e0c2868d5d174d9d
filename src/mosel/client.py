"""Clients of a mosel server: send a job whole, or offer it first and send only what the server wants.

`Client` needs no package but numpy; `AsyncClient` needs aiohttp (extra `serve`). Tensors travel raw. An input
may be a function that makes it: with `lazy=True` it is called only if the server wants that modality.
"""

import http.client
import select
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from mosel.client_wire import (
    ANSWER_LIMIT_BYTES,
    Answer,
    Call,
    Inputs,
    Offer,
    Parameter,
    Reply,
    Wire,
    answer_of,
    checked,
    count_of,
    counts_of,
    made,
    modalities_of,
    offer_of,
    read_within_limit,
    step_of,
    too_large,
    unreachable,
)
from mosel.core.errors import UsageError

__all__ = ["Answer", "AsyncClient", "Client", "Offer"]

TIMEOUT_S = 600.0


class Client:
    """One model on one server, over one connection; not for several threads at a time.

    Every method raises `InputError`, `UnauthorizedError`, `UnknownModelError`, `GoneError` (an offer, or a job
    to give feedback on, that is not held any more), `RefusedError` (not now; `retry_after_s`) or
    `ExecutionError` as the server answers, and `NotReadyError` if it cannot be reached.

    Args:
        url: of the server, like http://127.0.0.1:8000.
        model: its name.
        api_key: if the server asks for one.
        timeout_s: how long to wait for an answer.
    """

    def __init__(self, url: str, model: str, api_key: str = "", timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"server {url!r}; expected an address as in http://127.0.0.1:8000")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._url = url
        self._connection = kind(parts.hostname, _port(url), timeout=timeout_s)
        self._wire = Wire(parts.path.rstrip("/"), model, api_key)
        self._of_modality: dict[str, str] = {}

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def infer(
        self,
        inputs: Inputs,
        *,
        lazy: bool = False,
        requests: int = 0,
        request_id: str = "",
        **parameters: Parameter,
    ) -> Answer:
        """Run a job and return its answer.

        Args:
            inputs: by tensor name, each (requests, …), of the modalities that the job has.
            lazy: offer the job first, and send only what the server wants.
            requests: how many there are; needed only if every input is a function.
            request_id: an id of this job's own, if feedback is to be given on it.
            parameters: `accuracy_slo`, `latency_slo_ms` and the others of `docs/formats.md`.
        """
        if not lazy:
            return answer_of(self._ask(self._wire.infer(made(inputs, inputs), parameters, request_id)))
        offer = self.offer(inputs, requests or count_of(inputs), **parameters)
        return self.upload(offer, inputs, request_id)

    def offer(self, inputs: Iterable[str], requests: int, **parameters: Parameter) -> Offer:
        """Offer a job with these tensors, and return what the server wants of them."""
        if not self._of_modality:
            self._of_modality = modalities_of(self._ask(self._wire.describe()))
        return offer_of(self._ask(self._wire.offer(requests, inputs, self._of_modality, parameters)))

    def upload(self, offer: Offer, inputs: Inputs, request_id: str = "") -> Answer:
        """Send what was wanted for an offer, and what is wanted after that; return the job's answer."""
        found = step_of(self._ask(self._wire.upload(offer, inputs, request_id)))
        return found if isinstance(found, Answer) else self.upload(found, inputs, request_id)

    def feedback(self, request_id: str, scores: Sequence[float]) -> dict[str, int]:
        """Say how right the answers to a job were, and return how many count for which mode.

        Args:
            request_id: the one that the job was sent with.
            scores: of each of its requests, in their order: whether it was right, or a number on 0..1.
        """
        return counts_of(self._ask(self._wire.feedback(request_id, scores)))

    def _ask(self, call: "Call") -> "Reply":
        try:
            self._leave_if_closed()
            self._connection.request(call.method, call.path, call.body, call.headers)
            with self._connection.getresponse() as reply:
                content = reply.read(ANSWER_LIMIT_BYTES + 1)
                if len(content) > ANSWER_LIMIT_BYTES:
                    self._connection.close()
                    raise too_large()
                return checked(Reply(reply.status, dict(reply.getheaders()), content))
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise unreachable(self._url, error) from error

    def _leave_if_closed(self) -> None:
        """Close a connection that the server has closed while it was idle, so that the call opens another."""
        waiting = self._connection.sock
        if waiting is not None and select.select([waiting], [], [], 0)[0]:
            self._connection.close()


class AsyncClient:
    """As `Client`, with as many calls at a time as there are tasks; use it as `async with`."""

    def __init__(self, url: str, model: str, api_key: str = "", timeout_s: float = TIMEOUT_S) -> None:
        import aiohttp  # an optional extra

        _port(url)
        self._url = url.rstrip("/")
        self._lost = (aiohttp.ClientError, OSError, TimeoutError)
        timeout, connector = aiohttp.ClientTimeout(timeout_s), aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        self._wire = Wire("", model, api_key)
        self._of_modality: dict[str, str] = {}

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def infer(
        self,
        inputs: Inputs,
        *,
        lazy: bool = False,
        requests: int = 0,
        request_id: str = "",
        **parameters: Parameter,
    ) -> Answer:
        """Run a job and return its answer; see `Client.infer`. Cancelling cancels the job."""
        if not lazy:
            return answer_of(await self._ask(self._wire.infer(made(inputs, inputs), parameters, request_id)))
        offer = await self.offer(inputs, requests or count_of(inputs), **parameters)
        return await self.upload(offer, inputs, request_id)

    async def offer(self, inputs: Iterable[str], requests: int, **parameters: Parameter) -> Offer:
        """Offer a job with these tensors, and return what the server wants of them."""
        if not self._of_modality:
            self._of_modality = modalities_of(await self._ask(self._wire.describe()))
        return offer_of(await self._ask(self._wire.offer(requests, inputs, self._of_modality, parameters)))

    async def upload(self, offer: Offer, inputs: Inputs, request_id: str = "") -> Answer:
        """Send what was wanted for an offer, and what is wanted after that; return the job's answer."""
        found = step_of(await self._ask(self._wire.upload(offer, inputs, request_id)))
        return found if isinstance(found, Answer) else await self.upload(found, inputs, request_id)

    async def feedback(self, request_id: str, scores: Sequence[float]) -> dict[str, int]:
        """Say how right the answers to a job were; see `Client.feedback`."""
        return counts_of(await self._ask(self._wire.feedback(request_id, scores)))

    async def _ask(self, call: "Call") -> "Reply":
        try:
            async with self._session.request(
                call.method, self._url + call.path, data=call.body, headers=call.headers
            ) as reply:
                return checked(Reply(reply.status, reply.headers, await read_within_limit(reply)))
        except self._lost as error:
            raise unreachable(self._url, error) from error


def _port(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError as error:
        raise UsageError(f"server {url!r}: {error}; expected an address as in http://127.0.0.1:8000") from error
