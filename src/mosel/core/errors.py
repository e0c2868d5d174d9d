"""Every error that mosel raises on purpose.

    MoselError
    ├── UsageError            the caller's mistake: exit status 2, HTTP 400
    │   ├── FileError         a file that cannot be read, parsed or trusted
    │   ├── ModelError        a model that cannot be found or is not declared well
    │   ├── InputError        tensors or parameters of a request that do not fit the model
    │   │   ├── TooLargeError a request over a limit of the server: HTTP 413
    │   │   └── CorruptInputError a modality that its preprocessing cannot make sense of
    │   ├── UnauthorizedError a call without a key that this server knows: HTTP 401
    │   ├── UnknownModelError a model name that is not served: HTTP 404
    │   └── GoneError         an offer, or an answered job, that is not held any more: HTTP 410
    ├── RefusedError          refused now, perhaps not later: HTTP 503 with Retry-After
    └── ExecutionError        something failed while running: exit status 1, HTTP 500
        ├── ModelFailedError  the model raised
        │   └── OutOfMemoryError  the device has no room for the batch
        ├── WrongOutputError  the model returned something else than it declares
        ├── BadAnswerError    a server's answer that is not what the protocol says
        └── NotReadyError     a server that cannot be reached, or takes no jobs yet

A message says what was given, what was expected and what to do about it. Protocol codes are assigned in
`frontend/codes.py` alone; `assert` is for what only a bug can break.
"""


class MoselError(Exception):
    """Base of every error that mosel raises on purpose."""


class UsageError(MoselError):
    """The caller asked for something that cannot be done as asked."""


class FileError(UsageError):
    """A file that cannot be read, parsed or trusted; the message names the file and the key."""


class ModelError(UsageError):
    """A model that cannot be found, or that is not declared as `models/base.py` asks."""


class InputError(UsageError):
    """Tensors or parameters of a request that do not fit the model's metadata."""


class TooLargeError(InputError):
    """A request whose body is larger than the server takes."""


class CorruptInputError(InputError):
    """A modality of a job that its preprocessing cannot make sense of."""

    def __init__(self, message: str, modality: str) -> None:
        super().__init__(message)
        self.modality = modality


class UnauthorizedError(UsageError):
    """A call without an API key that this server knows."""


class UnknownModelError(UsageError):
    """A request for a model that this server does not serve."""


class GoneError(UsageError):
    """An upload for an offer, or feedback on a job, that is not held, or not any more."""


class RefusedError(MoselError):
    """A request that cannot be taken now: overloaded, draining or not yet ready."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ExecutionError(MoselError):
    """A model, a worker or a server failed while running."""


class ModelFailedError(ExecutionError):
    """The model raised: out of memory, say. Another batch may well run."""


class OutOfMemoryError(ModelFailedError):
    """The device has no room for a batch of this size. A smaller one may well run."""


class WrongOutputError(ExecutionError):
    """The model returned something else than it declares, or no numbers at all."""


class BadAnswerError(ExecutionError):
    """An answer of a server that is not what the protocol says."""


class NotReadyError(ExecutionError):
    """A server that cannot be reached, or that takes no jobs; perhaps it will, if it is only starting."""
