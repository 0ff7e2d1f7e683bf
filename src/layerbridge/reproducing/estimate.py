"""What an experiment costs, by arithmetic: seconds and bytes, before anything is fetched or run.

A forward pass is 2 FLOP a token for each weight of a matrix, and a language model in training costs
as many again for the gradients of its inputs; attention, embeddings, heads and the bridge are left
out. Time is FLOP over a part of what a matrix product reaches on this machine. Expect it within a
factor of two or three. Models are known by their published configurations (``shape:NAME``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from transformers import PreTrainedModel

from layerbridge.benchmarking import roofline, shapes
from layerbridge.demo import ENCODER, LANGUAGE_MODEL
from layerbridge.errors import DataError
from layerbridge.hub import zoo
from layerbridge.models import fusion
from layerbridge.models.backbone import resolve_dtype
from layerbridge.reproducing.request import Request
from layerbridge.tasks import Task

# What part of the matrix rate training was measured to reach (docs/performance.md).
REACHED = 0.39
# Tokens of a text that nobody has read: an English pair of MultiNLI (docs/performance.md).
TOKENS = 52
CHARACTERS_A_TOKEN = 4
# Beside the soft prompt: boundary, instruction and answer; the English around a text that the
# language model reads itself; and how many more tokens it takes than the encoder, whose vocabulary
# has every language.
AROUND_SOFT, AROUND_TEXT, MORE_TOKENS = 8, 30, 2
# Of a result file, for each answer.
ANSWER_BYTES = 120

_SHAPES = {
    "google/mt5-large": "mt5-large",
    "meta-llama/Llama-3.2-1B-Instruct": "llama-3.2-1b",
    ENCODER: "multilingual-e5-small",
    LANGUAGE_MODEL: "smollm2-135m",
}
# Weights as the hub has them: 1.23e9 parameters in float32 (the decoder's too), 1.24e9 in bfloat16.
_HUB_BYTES = {"google/mt5-large": 4.9e9, "meta-llama/Llama-3.2-1B-Instruct": 2.5e9}


@dataclass(frozen=True)
class Sizes:
    """Of two models.

    Attributes:
        encoder: parameters that a token is multiplied with.
        language_model: the same.
        layers: of the encoder.
        width: of the encoder.
        language_model_width: of the language model's embeddings.
    """

    encoder: int
    language_model: int
    layers: int
    width: int
    language_model_width: int


@cache
def sizes(encoder: str, language_model: str) -> Sizes | None:
    """The sizes of two models; None where one is not known here."""
    reader, answerer = _without_weights(encoder), _without_weights(language_model)
    if reader is None or answerer is None:
        return None
    reads = reader.config.get_text_config()
    return Sizes(
        roofline.matrix_parameters(reader),
        roofline.matrix_parameters(answerer),
        reads.num_hidden_layers,
        reads.hidden_size,
        answerer.config.get_text_config().hidden_size,
    )


def rate(request: Request) -> float:
    """FLOP a second that models may reach on this machine, measured."""
    # The best of a few: what else the machine does at the moment makes it slower, never faster.
    dtype = resolve_dtype(request.dtype)
    return REACHED * max(roofline.matrix_rate(request.place, dtype) for _ in range(3))


def text_tokens(task: Task) -> int:
    """Tokens of a text: of the English test rows, if they are files here."""
    try:
        if not task.dataset_info().place.startswith(("local", "built in")):
            return TOKENS
        texts = [row.text for row in task.test("en")]
    except DataError:
        return TOKENS
    return max(1, round(sum(map(len, texts)) / len(texts) / CHARACTERS_A_TOKEN))


def reading(of: Sizes, rows: int, tokens: int) -> float:
    """FLOP of the encoder over so many texts."""
    return 2.0 * of.encoder * tokens * rows


def training(of: Sizes, rows: int, tokens: int) -> float:
    """FLOP of the language model in training, over so many rows."""
    return 4.0 * of.language_model * (tokens + AROUND_SOFT) * rows


def asking(of: Sizes, rows: int, tokens: int) -> float:
    """FLOP of a bridge that answers so many rows."""
    return reading(of, rows, tokens) + 2.0 * of.language_model * (tokens + AROUND_SOFT) * rows


def asking_alone(of: Sizes, rows: int, tokens: int) -> float:
    """FLOP of a language model that reads so many texts itself."""
    return 2.0 * of.language_model * (MORE_TOKENS * tokens + AROUND_TEXT) * rows


def state_bytes(of: Sizes, rows: int, tokens: int, dtype: str) -> float:
    """Of the encoder's states of so many texts."""
    return float(rows * tokens * of.layers * of.width * resolve_dtype(dtype).itemsize)


def checkpoint_bytes(of: Sizes, name: str) -> float:
    """Of a run: the trained bridge, and what training goes on from (it and two moments)."""
    projection = (of.width + 2) * of.language_model_width
    return 16.0 * (_fusion_parameters(name, of.layers, of.width) + projection)


def to_fetch(name: str) -> float | None:
    """Bytes to fetch before a model can be read; 0 if it is here, None if nobody knows."""
    bare = name.removeprefix("zoo:")
    if bare in (entry.name for entry in zoo.entries()):
        return 0.0 if zoo.is_present(bare) else 1e6 * zoo.entry(bare).download_mb
    if _is_shape(name) or _is_here(name):
        return 0.0
    return _HUB_BYTES.get(name)


def _without_weights(name: str) -> PreTrainedModel | None:
    """A model of that size, on no device; None where its size is not known here."""
    known = _SHAPES.get(name)
    if known is None:
        if not _is_shape(name):
            return None
        known = name.removeprefix(shapes.PREFIX)
    return shapes.build(shapes.shape(known), dtype="float32", device="meta")


@cache
def _fusion_parameters(name: str, layers: int, width: int) -> int:
    return sum(p.numel() for p in fusion.build(name, num_layers=layers, width=width).parameters())


def _is_shape(name: str) -> bool:
    return name.startswith(shapes.PREFIX)


def _is_here(name: str) -> bool:
    if Path(name).expanduser().is_dir():
        return True
    files = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    return name in _HUB_BYTES and any(
        isinstance(try_to_load_from_cache(name, file), str) for file in files
    )
