"""layerbridge: an English-centric language model that understands a hundred languages.

The public names are imported when they are first used, so ``import layerbridge`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from layerbridge.version import __version__

if TYPE_CHECKING:
    from layerbridge.config import BridgeConfig
    from layerbridge.encoder import Encoder
    from layerbridge.errors import LayerbridgeError
    from layerbridge.language_model import LanguageModel
    from layerbridge.model import LayerBridge
    from layerbridge.training import BridgeTrainer, BridgeTrainingArguments

_PUBLIC = {
    "BridgeConfig": "layerbridge.config",
    "BridgeTrainer": "layerbridge.training",
    "BridgeTrainingArguments": "layerbridge.training",
    "Encoder": "layerbridge.encoder",
    "LanguageModel": "layerbridge.language_model",
    "LayerBridge": "layerbridge.model",
    "LayerbridgeError": "layerbridge.errors",
}

__all__ = [
    "BridgeConfig",
    "BridgeTrainer",
    "BridgeTrainingArguments",
    "Encoder",
    "LanguageModel",
    "LayerBridge",
    "LayerbridgeError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'layerbridge' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
