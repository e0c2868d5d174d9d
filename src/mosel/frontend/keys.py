"""API keys: who may call, and as which tenant. Without any, everybody may, and says himself who he is.

Keys come from a TOML file of tenants, each with one or several: `gold = ["…", "…"]`. A key is compared with
every key there is, each in constant time, so that how long that takes says nothing about any of them.
"""

import hmac
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from mosel.core.errors import FileError, UnauthorizedError
from mosel.core.files import read_bytes

KEYS_LIMIT_BYTES = 1 << 20
LEAST_CHARACTERS = 16

KEY_HEADERS = (b"authorization", b"x-api-key")

Key = Annotated[str, msgspec.Meta(min_length=LEAST_CHARACTERS)]


class Keys:
    """The keys of a server.

    Args:
        tenants: each tenant's keys.
    """

    def __init__(self, tenants: Mapping[str, Iterable[str]] | None = None) -> None:
        self._keys = [(key.encode(), tenant) for tenant, keys in (tenants or {}).items() for key in keys]

    @property
    def needed(self) -> bool:
        """Whether a call needs a key."""
        return bool(self._keys)

    def tenant_of(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Return the tenant whose key a call carries, as `Authorization: Bearer KEY` or `X-API-Key: KEY`.

        Raises:
            UnauthorizedError: it carries none, or one that is not known.
        """
        given = _given(headers)
        found = None
        for key, tenant in self._keys:
            if hmac.compare_digest(key, given):
                found = tenant
        if found is None:
            said = "is not known" if given else "is missing"
            raise UnauthorizedError(f"the API key {said}; send it as `Authorization: Bearer KEY`")
        return found


def read_keys(path: Path) -> Keys:
    """Return the keys in a file.

    Raises:
        FileError: it cannot be read, is no such TOML, or a key is short or stands there twice.
    """
    try:
        found = tomllib.loads(read_bytes(path, KEYS_LIMIT_BYTES).decode())
        tenants = msgspec.convert(found, dict[str, list[Key] | Key])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: is not valid TOML: {error}") from error
    except msgspec.ValidationError as error:  # it names no key
        raise FileError(
            f"{path}: expected tenants with keys of at least {LEAST_CHARACTERS} characters, as in "
            f'gold = ["…"]: {error}'
        ) from error
    lists = {tenant: [keys] if isinstance(keys, str) else keys for tenant, keys in tenants.items()}
    every = [key for keys in lists.values() for key in keys]
    if not every or len(set(every)) != len(every):
        raise FileError(f"{path}: has no keys, or one twice; expected at least one, and each once")
    return Keys(lists)


def _given(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
        if name == b"x-api-key":
            return value.strip()
    return b""
