"""API keys. Without any, the API is open to everyone who reaches the port.

The page and its files, health, metrics and the OpenAPI document need no key; all else does.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from starlette.types import Scope

from layerbridge.errors import ConfigError
from layerbridge.serving.errors import ApiError

# An allow list, so that another spelling of a path does not get around the check.
OPEN = ("/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/favicon.ico")
OPEN_FOLDER = "/page/"


class Keys:
    """API keys, kept as digests. All are compared, each in constant time.

    Raises:
        ConfigError: there is no key.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]
        if not self._digests:
            raise ConfigError("no API key", allowed="at least one")

    @classmethod
    def from_file(cls, path: str | Path) -> Keys:
        """Reads one key per line; skips empty lines and those that begin with ``#``.

        Raises:
            ConfigError: the file cannot be read, or has no key.
        """
        name = repr(str(path))
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = type(error).__name__
            raise ConfigError(f"the API key file {name} cannot be read: {reason}") from error
        keys = [key for line in lines if (key := line.strip()) and not key.startswith("#")]
        if not keys:
            raise ConfigError(f"the API key file {name} has no key", allowed="one key per line")
        return cls(keys)

    def accept(self, authorization: bytes) -> bool:
        """Whether this value of the Authorization header contains one of the keys."""
        scheme, _, key = authorization.partition(b" ")
        digest = _digest(key.strip())
        matches = [hmac.compare_digest(digest, own) for own in self._digests]
        return scheme.lower() == b"bearer" and any(matches)

    def check(self, scope: Scope) -> None:
        """Raises a 401 for a request that needs a key and has none."""
        path: str = scope["path"]
        if path in OPEN or path.startswith(OPEN_FOLDER):
            return
        if not self.accept(dict(scope["headers"]).get(b"authorization", b"")):
            message = "missing or invalid API key; send it as 'Authorization: Bearer KEY'"
            headers = {"WWW-Authenticate": "Bearer"}
            raise ApiError(401, message, "invalid_api_key", headers=headers)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
