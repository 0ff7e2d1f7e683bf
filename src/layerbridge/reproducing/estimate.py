"""The cost of an experiment by arithmetic: FLOP and bytes, before anything is fetched or run.

A forward pass takes 2 FLOP per token and weight of a matrix. A language model in training takes as
many again for the gradients of its inputs. Attention, embeddings, heads and the bridge are left
out. Expect a factor of two or three. Models are known by their published configurations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from layerbridge.benchmarking import roofline, shapes
from layerbridge.demo import ENCODER, LANGUAGE_MODEL
from layerbridge.errors import DataError
from layerbridge.hub import zoo
from layerbridge.models import fusion
from layerbridge.models.backbone import resolve_dtype
from layerbridge.reproducing.request import Request
from layerbridge.tasks import Task

# The share of the matrix rate that training reached (docs/performance.md).
EFFICIENCY = 0.39
# Tokens of a text that cannot be measured: an English pair of MultiNLI (docs/performance.md).
DEFAULT_TOKENS = 52
CHARACTERS_PER_TOKEN = 4
# Tokens besides the soft prompt: boundary, instruction and answer.
SOFT_EXTRA = 8
# Of a text that the language model reads itself: the prompt's tokens, and the text's relative to
# the encoder's tokens, whose vocabulary covers every language.
PROMPT_EXTRA, TOKEN_RATIO = 30, 2

_SHAPES = {
    "google/mt5-large": "mt5-large",
    "meta-llama/Llama-3.2-1B-Instruct": "llama-3.2-1b",
    ENCODER: "multilingual-e5-small",
    LANGUAGE_MODEL: "smollm2-135m",
}
# Files on the hub: mT5 in float32 with its decoder, Llama in bfloat16.
_HUB_BYTES = {"google/mt5-large": 4.9e9, "meta-llama/Llama-3.2-1B-Instruct": 2.5e9}
_WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


@dataclass(frozen=True)
class Sizes:
    """The parameters in the matrices of two models, their shapes, and what they cost."""

    encoder: int
    language_model: int
    layers: int  # of the encoder
    width: int  # of the encoder
    language_model_width: int

    def flop(
        self,
        tokens: int,
        *,
        trained: int = 0,
        encoded: int = 0,
        answered: int = 0,
        answered_alone: int = 0,
    ) -> float:
        """FLOP of rows whose texts have ``tokens`` encoder tokens.

        Args:
            tokens: of one text.
            trained: rows of the language model's training.
            encoded: rows that the encoder reads in training.
            answered: rows that a bridge answers, encoder included.
            answered_alone: rows that the language model reads and answers itself.
        """
        soft, prompt = tokens + SOFT_EXTRA, TOKEN_RATIO * tokens + PROMPT_EXTRA
        encoder = 2 * self.encoder * tokens * (encoded + answered)
        training = 4 * self.language_model * soft * trained
        answering = 2 * self.language_model * (soft * answered + prompt * answered_alone)
        return float(encoder + training + answering)

    def state_bytes(self, rows: int, tokens: int, dtype: str) -> float:
        """Bytes of the encoder's hidden states."""
        return float(rows * tokens * self.layers * self.width * resolve_dtype(dtype).itemsize)

    def checkpoint_bytes(self, name: str) -> float:
        """Bytes of a run with this fusion: float32 bridge, checkpoint and two Adam moments."""
        parameters = fusion.build(name, num_layers=self.layers, width=self.width).parameters()
        projection = (self.width + 2) * self.language_model_width
        return 16.0 * (sum(p.numel() for p in parameters) + projection)


@cache
def sizes(encoder: str, language_model: str) -> Sizes | None:
    """Returns the sizes of two models; None if one is unknown."""
    models = []
    for name in (encoder, language_model):
        known = name.removeprefix(shapes.PREFIX) if name.startswith(shapes.PREFIX) else None
        known = _SHAPES.get(name, known)
        if known is None:
            return None
        models.append(shapes.build(shapes.shape(known), dtype="float32", device="meta"))
    configs = [model.config.get_text_config() for model in models]
    return Sizes(
        roofline.matrix_parameters(models[0]),
        roofline.matrix_parameters(models[1]),
        configs[0].num_hidden_layers,
        configs[0].hidden_size,
        configs[1].hidden_size,
    )


def speed(request: Request) -> float:
    """Measures the FLOP per second that models may reach on this machine."""
    # The best of a few: other processes only ever slow it down.
    dtype = resolve_dtype(request.dtype, request.device)
    return EFFICIENCY * max(roofline.matrix_rate(request.device, dtype) for _ in range(3))


def text_tokens(task: Task) -> int:
    """Returns the mean tokens of a text, from the English test rows if they are local files."""
    try:
        if not task.dataset_info().place.startswith(("local", "built in")):
            return DEFAULT_TOKENS
        texts = [row.text for row in task.test("en")]
    except DataError:
        return DEFAULT_TOKENS
    return max(1, round(sum(map(len, texts)) / len(texts) / CHARACTERS_PER_TOKEN))


def bytes_to_fetch(name: str) -> float | None:
    """Returns the bytes to fetch for a model: 0 if it is on this machine, None if unknown."""
    bare = name.removeprefix("zoo:")
    if bare in (entry.name for entry in zoo.entries()):
        return 0.0 if zoo.is_present(bare) else 1e6 * zoo.entry(bare).download_mb
    if name.startswith(shapes.PREFIX) or Path(name).expanduser().is_dir():
        return 0.0
    if name in _HUB_BYTES and any(
        isinstance(try_to_load_from_cache(name, file), str) for file in _WEIGHT_FILES
    ):
        return 0.0
    return _HUB_BYTES.get(name)
