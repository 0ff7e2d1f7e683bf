"""Loading frozen backbones: device, dtype, weight format and errors, for both kinds alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from layerbridge.errors import BackboneError, ConfigError
from layerbridge.hub.access import HubAccess
from layerbridge.hub.quiet import quiet_transformers
from layerbridge.hub.sources import Source
from layerbridge.models.cpu_speed import bfloat16_is_faster
from layerbridge.models.placement import BACKBONES, check_map
from layerbridge.models.quantization import (
    ALLOWED,
    NONE,
    check_available,
    config_of,
    is_choice,
    own_method,
)
from layerbridge.progress import say

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadOptions:
    """How backbones are loaded.

    Args:
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"`` (or torch's), or ``"auto"``: bfloat16
            where the device is faster with it, else float32.
        attn_implementation: as in transformers; None takes its default.
        trust_remote_code: run code that comes with a model.
        allow_pickle: also read ``pytorch_model.bin``.
        device: where the model is put; None is the CPU.
        token: of the hub, as ``HubAccess`` has it.
        cache_dir: of the hub's downloads.
        local_files_only: ask no network.
        load_in_4bit: quantize both to 4 bits; short for ``quantization_config="4bit"``.
        load_in_8bit: the same in 8 bits.
        unquantized: load both in ``dtype``, even if a bridge was trained on quantized ones.
        quantization_config: ``"4bit"``, ``"8bit"``, ``"none"`` or a config of transformers, for
            both; or a mapping with one for each of ``encoder`` and ``language_model``. None leaves
            it to the checkpoint and to the config of a trained bridge.
        device_map: spreads models over devices: ``"auto"`` and the like, a device, or a mapping
            with one of these, or a map of modules to devices, for each of ``encoder`` and
            ``language_model``. None puts models on ``device``.
        encoder_device: puts the encoder alone on a device of its own.

    Raises:
        ConfigError: two options contradict each other, or one is of the wrong kind.
        MissingExtraError: bitsandbytes is needed and not installed.
    """

    dtype: str | torch.dtype = "auto"
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    device: str | torch.device | None = None
    token: str | bool | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    unquantized: bool = False
    quantization_config: Any = None
    device_map: Any = None
    encoder_device: str | torch.device | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("load_in_4bit", "load_in_8bit", "unquantized",
                 "quantization_config") if getattr(self, name) not in (False, None)]  # fmt: skip
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)} contradict each other", allowed="one of them")
        choice = self.quantization_config
        by_backbone = isinstance(choice, Mapping) and choice.keys() <= set(BACKBONES)
        if not all(map(is_choice, choice.values() if by_backbone else [choice])):
            raise ConfigError(f"unknown quantization_config {choice!r}", allowed=ALLOWED)
        check_map(self.device_map)
        if self.encoder_device is not None:
            choose_device(str(self.encoder_device))
            if self._of_backbone(self.device_map, "encoder") is not None:
                raise ConfigError(
                    "encoder_device and a device_map of the encoder contradict each other",
                    allowed="one of them",
                    hint='device_map={"language_model": …} maps the language model alone',
                )
        for backbone in BACKBONES:
            check_available(self.quantization(backbone), self.device_of(backbone))

    @classmethod
    def taken_from(cls, settings: dict[str, Any], *first: Any) -> LoadOptions:
        """Returns the ``first`` options and those among ``settings``, and removes them there."""
        names = [each.name for each in fields(cls)]
        return cls(*first, **{name: settings.pop(name) for name in names if name in settings})

    @classmethod
    def of(cls, settings: Mapping[str, Any], device: str | torch.device | None) -> LoadOptions:
        """Returns the options among a recipe's settings of backbones."""
        return cls.taken_from({**settings, "device": device})

    @staticmethod
    def _of_backbone(given: Any, backbone: str) -> Any:
        if isinstance(given, Mapping) and given and given.keys() <= set(BACKBONES):
            return given.get(backbone)
        return given

    def quantization(self, backbone: str) -> Any:
        """Returns the choice for ``"encoder"`` or ``"language_model"``; None if there is none."""
        if self.unquantized:
            return NONE
        for name, is_set in (("4bit", self.load_in_4bit), ("8bit", self.load_in_8bit)):
            if is_set:
                return name
        return self._of_backbone(self.quantization_config, backbone)

    def device_of(self, backbone: str) -> str | torch.device | None:
        """Returns the one device for a backbone; without a map it is there."""
        own = self.encoder_device if backbone == "encoder" else None
        return self.device if own is None else own

    def with_default(self, backbone: str, choice: Any) -> LoadOptions:
        """Returns options with a choice of quantization for a backbone that has none."""
        if choice is None or self.quantization(backbone) is not None:
            return self
        chosen = {each: self.quantization(each) for each in BACKBONES} | {backbone: choice}
        return replace(self, quantization_config=chosen)

    def in_dtype(self) -> LoadOptions:
        """Returns the options for models that are neither quantized nor spread."""
        return LoadOptions(
            self.dtype,
            self.attn_implementation,
            self.trust_remote_code,
            self.allow_pickle,
            self.device,
            self.token,
            self.cache_dir,
            self.local_files_only,
        )

    @property
    def access(self) -> HubAccess:
        """Returns how the hub is asked."""
        return HubAccess(self.token, self.cache_dir, self.local_files_only)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Returns the dtype on this device.

        Raises:
            ConfigError: the name is unknown.
        """
        return resolve_dtype(self.dtype, self.device)

    def for_transformers(self, source: Source) -> dict[str, Any]:
        """Returns the keyword arguments of a model's ``from_pretrained``."""
        return {
            **self.for_metadata(source),
            "dtype": self.torch_dtype,
            "attn_implementation": self.attn_implementation,
            "use_safetensors": None if self.allow_pickle else True,
        }

    def for_backbone(self, kind: str, source: Source, config: PreTrainedConfig) -> dict[str, Any]:
        """Returns the keyword arguments of ``from_pretrained`` of a backbone.

        With a ``device_map`` among them, the model is on its devices once it is loaded.

        Args:
            kind: ``"encoder"`` or ``"language model"``.
            source: where it is.
            config: of the model.
        """
        backbone = kind.replace(" ", "_")
        device, choice = self.device_of(backbone), self.quantization(backbone)
        device_map = self._of_backbone(self.device_map, backbone)
        dtype = resolve_dtype(self.dtype, device)
        arguments = {**self.for_transformers(source), "dtype": dtype}
        own = own_method(config)
        if own is not None:
            if choice is not None:
                note = f"is quantized already ({own}), and loaded as it is"
                say(f"the {kind} {source.given!r} {note}")
        elif choice not in (None, NONE):
            arguments["quantization_config"] = config_of(choice, dtype)
        quantized = own is not None or "quantization_config" in arguments
        if device_map is None and (quantized or device is not self.device):
            device_map = {"": str(device or "cpu")}
        if device_map is not None:
            arguments["device_map"] = device_map
        return arguments

    def for_metadata(self, source: Source) -> dict[str, Any]:
        """Returns the keyword arguments of ``from_pretrained`` of a config or tokenizer."""
        return {
            "revision": source.revision or "main",
            "trust_remote_code": self.trust_remote_code,
            **self.access.arguments(),
        }


def resolve_dtype(
    dtype: str | torch.dtype, device: str | torch.device | None = None
) -> torch.dtype:
    """Returns the dtype of that name.

    Args:
        dtype: as in ``LoadOptions``.
        device: that the models will run on, for ``"auto"``; None is the CPU.

    Raises:
        ConfigError: the name is unknown.
    """
    if isinstance(dtype, torch.dtype):
        dtype = dtype_name(dtype)
    if dtype == "auto":
        return torch.bfloat16 if prefers_bfloat16(device) else torch.float32
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}", allowed=("auto", *DTYPES))
    return DTYPES[dtype]


def dtype_name(dtype: torch.dtype) -> str:
    """Returns ``"bfloat16"`` for ``torch.bfloat16``, the inverse of ``resolve_dtype``."""
    return str(dtype).removeprefix("torch.")


def prefers_bfloat16(device: str | torch.device | None) -> bool:
    """Returns whether the device has bfloat16 units; of a CPU, whether bfloat16 is the faster."""
    device = torch.device(device or "cpu")
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bfloat16_is_faster()


def choose_device(device: str | None = None) -> str:
    """Returns ``device``, or the best one: CUDA, else Apple's GPU, else the CPU.

    Raises:
        ConfigError: the device does not exist here.
    """
    if device is not None:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            problem = str(error).splitlines()[0][:120]
            raise ConfigError(
                f"device {device!r} is not available ({problem})", allowed="cpu, cuda, mps"
            ) from None
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load(kind: str, source: Source, loader: Callable[[], Any], *, method: str | None = None) -> Any:
    """Runs ``loader``, and turns what transformers raises into one clear line.

    Args:
        kind: ``"encoder"`` or ``"language model"``, for messages.
        source: where the backbone is.
        loader: reads it.
        method: how it is quantized, if it is.

    Raises:
        BackboneError: it cannot be loaded.
    """
    try:
        return loader()
    except BackboneError:
        raise
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        raise _explained(kind, source, error, method) from error


def load_weights(
    kind: str,
    source: Source,
    cls: Any,
    config: PreTrainedConfig,
    arguments: dict[str, Any],
    *,
    unread: str | None = None,
) -> PreTrainedModel:
    """Runs ``cls.from_pretrained``; transformers would fill missing weights with random numbers.

    Args:
        kind: ``"encoder"`` or ``"language model"``, for messages.
        source: where the weights are.
        cls: an auto class, or a model's.
        config: of the model.
        arguments: of ``from_pretrained``.
        unread: name of a module whose weights may be missing, since nobody reads its output.

    Raises:
        BackboneError: it cannot be loaded, or weights are missing.
    """

    def loader() -> PreTrainedModel:
        with quiet_transformers():
            model, info = cls.from_pretrained(
                source.path, config=config, output_loading_info=True, **arguments
            )
        missing = sorted(k for k in info["missing_keys"] if unread not in k.split("."))
        if missing:
            raise BackboneError(
                f"the {kind} {source.given!r} lacks weights: {missing[0]!r} and "
                f"{len(missing) - 1} more",
                hint="use a complete checkpoint of this architecture",
            )
        return model

    asked = arguments.get("quantization_config")
    method = own_method(config) or (asked and str(getattr(asked.quant_method, "value", "it")))
    return load(kind, source, loader, method=method)


def load_config(kind: str, source: Source, options: LoadOptions) -> PreTrainedConfig:
    """Loads the config of a backbone, which names its architecture."""
    arguments = options.for_metadata(source)
    return load(kind, source, lambda: AutoConfig.from_pretrained(source.path, **arguments))


def load_tokenizer(kind: str, source: Source, options: LoadOptions) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a backbone."""
    arguments = options.for_metadata(source)
    return load(
        f"tokenizer of the {kind}",
        source,
        lambda: AutoTokenizer.from_pretrained(source.path, **arguments),
    )


def freeze(model: PreTrainedModel) -> PreTrainedModel:
    """Puts a model into eval mode, and turns off its gradients."""
    return model.eval().requires_grad_(False)


def _explained(
    kind: str, source: Source, error: Exception, method: str | None = None
) -> BackboneError:
    text = " ".join(str(error).split())
    if "safetensors" in text and "no file named" in text.lower():
        return BackboneError(
            f"the {kind} {source.given!r} has no safetensors weights",
            allowed="safetensors, or pickled weights if you trust them",
            hint="pass --allow-pickle (allow_pickle=True in Python)",
        )
    if "trust_remote_code" in text:
        return BackboneError(
            f"the {kind} {source.given!r} comes with its own code",
            hint="read that code, then pass --trust-remote-code (trust_remote_code=True)",
        )
    summary = text if len(text) <= 200 else text[:200] + " …"
    if method is not None:
        return BackboneError(
            f"the {kind} {source.given!r}, quantized with {method}, cannot be loaded here: "
            f"{summary}",
            hint="install what is missing, or choose a checkpoint that is not quantized",
        )
    return BackboneError(
        f"cannot load the {kind} {source.given!r}: {summary}",
        allowed="a folder, zoo:NAME or a hub id of a transformers model",
    )
