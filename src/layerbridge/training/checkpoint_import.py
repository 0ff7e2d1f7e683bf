"""A run from a checkpoint of LangBridge or of the authors of arXiv 2508.09091."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import AddedToken
from torch import Tensor

from layerbridge.errors import CheckpointError
from layerbridge.hub.sources import Source, resolve
from layerbridge.models import tensor_file
from layerbridge.models.backbone import LoadOptions, load_config, load_tokenizer
from layerbridge.models.bridge import LayerBridge
from layerbridge.progress import say
from layerbridge.training.foreign_names import LANGBRIDGE, ForeignBridge, sorted_out
from layerbridge.training.output import check_output, nearest_existing, prepare_output
from layerbridge.training.weight_files import read_weights

# What each cuts texts at in evaluation.
_TEXT_TOKENS, _LANGBRIDGE_TEXT_TOKENS = 512, 1024
# That LangBridge adds to its encoder's tokenizer, where the model has spare embeddings.
_WHITE_SPACE = ("\t", "\n", "\r", "\v", "\f", "  ", "   ", "    ")
# LangBridge's config.json names both backbones.
_NAMED = {"encoder": "enc", "language_model": "lm"}
_FOLDERS = {"encoder": "encoder", "language_model": "language-model"}
# The input embeddings, whose rows are the model's vocabulary.
_TABLES = {
    "encoder": ("shared.weight", "encoder.embed_tokens.weight"),
    "language_model": ("model.embed_tokens.weight",),
}


def import_checkpoint(
    checkpoint: Path,
    output: Path,
    *,
    encoder: str | None = None,
    language_model: str | None = None,
    options: Sequence[str] | None = None,
    template: str | None = None,
    load_options: LoadOptions | None = None,
    overwrite: bool = False,
) -> LayerBridge:
    """Writes the run of a checkpoint, and returns its bridge.

    Backbones that a checkpoint of LangBridge brings along, since it trains them, become folders in
    the run. Copies of published ones are dropped, and counted.

    Args:
        checkpoint: a file or a folder.
        output: of the run.
        encoder: a folder, ``zoo:NAME`` or a hub id of the encoder; for a checkpoint that brings
            its own, of its config and tokenizer. None takes the one that its config.json names.
        language_model: the same for the language model.
        options: label words of the training task.
        template: of the training texts.
        load_options: how backbones are loaded.
        overwrite: replace an earlier run.

    Raises:
        CheckpointError: it cannot be read, is of another kind, or does not fit its backbones.
        BackboneError: a backbone cannot be found or loaded.
        OutputError: the folder cannot be written.
    """
    check_output(output, overwrite=overwrite)
    given = {"encoder": encoder, "language_model": language_model}
    found = sorted_out(read_weights(checkpoint), where=str(checkpoint))
    sources = {part: _source(part, name, checkpoint) for part, name in given.items()}
    load_options = load_options or LoadOptions()
    with TemporaryDirectory(dir=nearest_existing(output), prefix=".importing-") as folder:
        work = Path(folder)
        own = {"encoder": found.encoder, "language_model": found.language_model}
        paths = {part: sources[part].given for part in own}
        for part, tensors in own.items():
            if tensors:
                paths[part] = str(work / _FOLDERS[part])
                _write_backbone(Path(paths[part]), part, tensors, sources[part], load_options)
        bridge = _bridge(found, paths, load_options, options=options, template=template)
        bridge.load_trained(found.tensors, where=str(checkpoint))
        for part, tensors in own.items():
            if tensors:
                setattr(bridge.config, part, f"./{_FOLDERS[part]}")
        # Only now: nothing is removed for a checkpoint that does not fit.
        prepare_output(output, overwrite=overwrite)
        for part, tensors in own.items():
            if tensors:
                _replace(work / _FOLDERS[part], output / _FOLDERS[part])
        bridge.save_pretrained(output)
    say(
        f"{found.origin}: fusion {found.fusion}, {len(found.tensors)} tensors of the bridge, "
        f"{found.dropped} copies of others dropped"
        + "".join(f", {part.replace('_', ' ')} of its own" for part in own if own[part])
    )
    return bridge


def _source(part: str, given: str | None, checkpoint: Path) -> Source:
    name = given
    file = checkpoint / "config.json"
    if name is None and file.is_file():
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{str(file)!r} is not valid JSON ({error})") from None
        name = config.get(_NAMED[part]) if isinstance(config, Mapping) else None
    if not isinstance(name, str):
        flag = f"--{part.replace('_', '-')}"
        raise CheckpointError(
            f"{str(checkpoint)!r} does not say which {part.replace('_', ' ')} it belongs to",
            hint=f"{flag} with a folder, zoo:NAME or hub id",
        )
    return resolve(name)


def _bridge(
    found: ForeignBridge, paths: Mapping[str, str], load_options: LoadOptions, **settings: Any
) -> LayerBridge:
    fusion_options = {}
    if found.fusion == "token-softmax":
        # As in the authors' code; the paper's text says four heads.
        feedforward = found.tensors.get("fusion.block.linear1.weight")
        fusion_options = {"heads": 1, "feedforward": 1 if feedforward is None else len(feedforward)}
    is_langbridge = found.origin == LANGBRIDGE
    return LayerBridge.from_backbones(
        paths["encoder"],
        paths["language_model"],
        found.fusion,
        dtype=load_options.dtype,
        device=load_options.device,
        attn_implementation=load_options.attn_implementation,
        trust_remote_code=load_options.trust_remote_code,
        allow_pickle=load_options.allow_pickle,
        texts=None,
        fusion_options=fusion_options,
        start="uniform" if found.fusion != "last" else None,
        projection_start="random",
        max_text_tokens=_LANGBRIDGE_TEXT_TOKENS if is_langbridge else _TEXT_TOKENS,
        **settings,
    )


def _write_backbone(
    folder: Path, part: str, tensors: Mapping[str, Tensor], source: Source, options: LoadOptions
) -> None:
    """Writes a backbone with these weights, and with the config and tokenizer of another."""
    kind = part.replace("_", " ")
    config = load_config(kind, source, options)
    tokenizer = load_tokenizer(kind, source, options)
    tables = [tensor for name, tensor in tensors.items() if name in _TABLES[part]]
    if not tables:
        raise CheckpointError(
            f"the checkpoint's {kind} has no embeddings", allowed=" or ".join(_TABLES[part])
        )
    rows = len(tables[0])
    if part == "encoder":
        spare = rows - len(tokenizer)
        missing = [token for token in _WHITE_SPACE if token not in tokenizer.get_added_vocab()]
        if spare >= len(missing):
            tokenizer.add_tokens([AddedToken(token, normalized=False) for token in missing])
    elif "lm_head.weight" in tensors:
        config.tie_word_embeddings = False  # it was trained alone
    config.vocab_size = rows
    folder.mkdir()
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tensor_file.save(folder / "model.safetensors", _apart(tensors), {"format": "pt"})


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns tensors that share no memory, as safetensors asks: torch files keep ties."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        apart[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return apart


def _replace(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    source.replace(target)
