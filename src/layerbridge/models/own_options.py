"""The options of a module that is chosen by name: what its class takes beyond its base."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from layerbridge.errors import ConfigError


def check_own_options(what: str, cls: type, base: type, options: Iterable[str]) -> None:
    """Checks the names of options.

    Args:
        what: the module, for the message: ``fusion 'last'``.
        cls: its class.
        base: what all of its kind share.
        options: given by the user.

    Raises:
        ConfigError: the class takes no such option of its own.
    """
    shared = inspect.signature(base.__init__).parameters  # type: ignore[misc]
    accepted = set(inspect.signature(cls.__init__).parameters) - set(shared)  # type: ignore[misc]
    for option in options:
        if option not in accepted:
            allowed = ", ".join(sorted(accepted)) or "none"
            raise ConfigError(f"{what} has no option {option!r}", allowed=allowed)
