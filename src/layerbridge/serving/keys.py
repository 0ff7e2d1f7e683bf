"""Keys: who may ask. Without any, whoever reaches the port may.

The page and its files, health, metrics and the OpenAPI document are open; all else needs a key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from layerbridge.errors import ConfigError
from layerbridge.serving.errors import ErrorResponse, unauthorized

# What is not on this list is closed, so that a path written in another way is not a way in.
OPEN = ("/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/favicon.ico")
OPEN_FOLDER = "/page/"


class Keys:
    """API keys. They are kept as digests, and all of them are compared, each in constant time.

    Args:
        keys: at least one.

    Raises:
        ConfigError: there is none.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]
        if not self._digests:
            raise ConfigError("there is no API key", allowed="one at least")

    @classmethod
    def from_file(cls, path: str | Path) -> Keys:
        """One key a line; empty lines and those that begin with ``#`` are left out.

        Raises:
            ConfigError: the file cannot be read, or has no key.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the API key file {str(path)!r} cannot be read: {type(error).__name__}"
            ) from error
        keys = [line.strip() for line in lines if not line.strip().startswith("#")]
        try:
            return cls(filter(None, keys))
        except ConfigError as error:
            raise ConfigError(
                f"the API key file {str(path)!r} has no key", allowed="one key a line"
            ) from error

    def accept(self, authorization: bytes) -> bool:
        """Whether this value of the Authorization header has one of the keys."""
        scheme, _, key = authorization.partition(b" ")
        given = _digest(key.strip())
        found = [hmac.compare_digest(given, digest) for digest in self._digests]
        return scheme.lower() == b"bearer" and any(found)


class KeyCheck:
    """ASGI: lets those in who have a key.

    Args:
        app: what they are let into.
        keys: theirs.
    """

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI calls."""
        if scope["type"] == "http" and not self._may(scope):
            await ErrorResponse(unauthorized())(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        path: str = scope["path"]
        if path in OPEN or path.startswith(OPEN_FOLDER):
            return True
        return self._keys.accept(dict(scope["headers"]).get(b"authorization", b""))


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
