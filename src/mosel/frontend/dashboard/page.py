"""The page, put together once from its three parts, and the policy that lets a browser run these alone."""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Page(NamedTuple):
    """The HTML and the headers that go with it."""

    content: bytes
    headers: dict[str, str]


@cache
def page(*, needs_key: bool = False) -> Page:
    """Return the page; one that `needs_key` asks for an API key first, which it keeps in memory alone."""
    parts = files(__package__)
    markup, style, script = (
        (parts / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    markup = markup.replace("/*key*/", "needed" if needs_key else "")
    content = markup.replace("/*style*/", style).replace("/*script*/", script).encode()
    policy = (
        f"default-src 'none'; script-src {_hashed(script)}; style-src {_hashed(style)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Page(
        content,
        {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        },
    )


def _hashed(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
