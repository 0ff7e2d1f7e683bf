"""Makes transformers' auto classes and pipelines know bridges, at no cost for who needs neither.

``import layerbridge`` must not import transformers. So the registration waits for transformers'
own modules of auto classes; what it registers there imports a bridge's modules on first use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, NoReturn

from layerbridge.errors import ConfigError


def install() -> None:
    """Registers bridges with the auto classes that are imported, and with the others later."""
    for module, register in _REGISTER.items():
        if module in sys.modules:
            register()
    sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds transformers' modules as usual, and registers bridges once they have run.

    It has no base class: importing ``importlib.abc`` takes longer than all else here.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        register = _REGISTER.get(fullname)
        spec = PathFinder.find_spec(fullname, path, target) if register else None
        if register is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            register()

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register_config() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    from layerbridge.models.config import BridgeConfig

    AutoConfig.register(BridgeConfig.model_type, BridgeConfig, exist_ok=True)


def _register_models() -> None:
    from transformers.models.auto import modeling_auto as auto

    from layerbridge.models.config import BridgeConfig

    for auto_class, name in (
        (auto.AutoModel, "LayerBridge"),
        (auto.AutoModelForCausalLM, "LayerBridgeForCausalLM"),
        (auto.AutoModelForSequenceClassification, "LayerBridgeForSequenceClassification"),
    ):
        auto_class.register(BridgeConfig, _stand_in(name, _load_model), exist_ok=True)


def _register_tokenizer() -> None:
    from transformers.models.auto.tokenization_auto import AutoTokenizer

    from layerbridge.models.config import BridgeConfig

    AutoTokenizer.register(BridgeConfig, _stand_in("BridgeTokenizer", _load_tokenizer))


def _load_model(name: str, path: str, **settings: Any) -> Any:
    from layerbridge.models import auto_models

    return auto_models.load(getattr(auto_models, name), path, **settings)


def _load_tokenizer(_name: str, path: str, **settings: Any) -> Any:
    from layerbridge.models.auto_models import own_arguments
    from layerbridge.models.bridge_tokenizer import BridgeTokenizer

    load = BridgeTokenizer.from_pretrained
    return load(path, **own_arguments(load, settings))


def _stand_in(name: str, load: Callable[..., Any]) -> type:
    """Returns what transformers needs of a class until it loads one: its name and two methods."""

    def from_pretrained(path: str, *_: Any, **settings: Any) -> Any:
        return load(name, path, **settings)

    def from_config(*_: Any, **__: Any) -> NoReturn:
        raise ConfigError(
            "a bridge cannot be made from a config alone: its backbones have weights",
            hint="LayerBridge.from_backbones, or from_pretrained",
        )

    methods = {"from_pretrained": from_pretrained, "_from_config": from_config}
    return type(
        name, (), {"__module__": __name__, **{key: staticmethod(f) for key, f in methods.items()}}
    )


_AUTO = "transformers.models.auto."
_REGISTER = {
    _AUTO + "configuration_auto": _register_config,
    _AUTO + "modeling_auto": _register_models,
    _AUTO + "tokenization_auto": _register_tokenizer,
}
