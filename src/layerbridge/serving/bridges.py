"""Bridges: the served runs by name, and the input embeddings they make of texts.

The bridges share one language model, and each encoder is in memory once. Both engines get their
input here. Legend: B batch, T LM tokens, D LM width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.errors import ConfigError, LengthError
from layerbridge.hub.named_run import split_name
from layerbridge.hub.sources import Source
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.backbone_pair import (
    have_same_weights,
    identified_source,
    options_for,
)
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.checkpoint import read_config
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.length_grouping import cut
from layerbridge.models.packing import pack
from layerbridge.models.prompt_room import fixed_tokens, prompt_lengths
from layerbridge.serving.embedding_loader import load_embeddings
from layerbridge.serving.requests import Prompt, Question
from layerbridge.training.examples import Example
from layerbridge.training.examples import read as read_examples

# Tokens of a batch on a CPU, padding included. Rows in order of arrival would be padded to three
# times their length.
CPU_TOKENS = 512


class Bridges(Mapping[str, LayerBridge]):
    """Trained bridges over one language model, by name.

    Args:
        bridges: in eval mode, on one device.
        source: where their language model is.
        examples: of their runs, by name.
    """

    def __init__(
        self,
        bridges: Mapping[str, LayerBridge],
        source: Source,
        examples: Mapping[str, Sequence[Example]] | None = None,
    ) -> None:
        self._bridges = dict(bridges)
        self.examples = {name: list((examples or {}).get(name, ())) for name in bridges}
        self.source = source
        self.language_model: LanguageModel = next(iter(self._bridges.values())).language_model

    @classmethod
    def load(
        cls,
        runs: Sequence[str],
        options: LoadOptions | None = None,
        *,
        device: str = "cpu",
        weights: bool = True,
    ) -> Bridges:
        """Loads the bridges of these runs.

        Args:
            runs: folders or hub ids, each optionally as ``NAME=RUN``.
            options: how to load the backbones.
            device: where to put them.
            weights: load the whole language model; else only its embeddings, for an engine that
                loads the rest itself.

        Raises:
            ConfigError: two runs have the same name, or need different language models.
            CheckpointError: a run is missing or damaged, its examples included.
            BackboneError: a backbone cannot be found.
        """
        options = replace(options or LoadOptions(), device=device)
        named = names(runs)
        read = {name: read_config(run) for name, run in named.items()}
        configs = {name: config for name, (config, _) in read.items()}
        shown = {name: read_examples(folder) for name, (_, folder) in read.items()}
        sources = {
            name: identified_source(config, "language_model") for name, config in configs.items()
        }
        first, source = next(iter(sources.items()))
        loading = {name: options_for(config, options) for name, config in configs.items()}
        for name, other in sources.items():
            if not have_same_weights(configs[name], configs[first], "language_model"):
                raise ConfigError(
                    f"{name!r} needs the language model {other.given!r}, and {first!r} needs "
                    f"{source.given!r}",
                    allowed="bridges over one language model",
                    hint="start one server for each",
                )
            if loading[name].quantization("language_model") != loading[first].quantization(
                "language_model"
            ):
                raise ConfigError(
                    f"{name!r} and {first!r} were trained on a language model that was quantized "
                    "differently",
                    hint="--load-in-4bit, --load-in-8bit or --unquantized for all",
                )
        load_model = LanguageModel.load if weights else load_embeddings
        language_model = load_model(source, loading[first]).to(device)
        encoders: dict[str, Encoder] = {}  # by the first run that needs them
        bridges = {}
        for name, run in named.items():
            config = configs[name]
            encoder_source = identified_source(config, "encoder")
            # Bridges with other truncation or layers share only the encoder's weights.
            key = next(
                (
                    run
                    for run in encoders
                    if have_same_weights(configs[run], config, "encoder")
                    and loading[run].quantization("encoder")
                    == loading[name].quantization("encoder")
                ),
                name,
            )
            if key not in encoders:
                encoders[key] = Encoder.load(
                    encoder_source, loading[name], max_text_tokens=config.max_text_tokens
                )
            bridges[name] = LayerBridge.from_pretrained(
                run,
                device=device,
                encoder=encoders[key].with_settings(max_text_tokens=config.max_text_tokens),
                language_model=language_model,
            )
        return cls(bridges, source, shown)

    def __getitem__(self, name: str) -> LayerBridge:
        return self._bridges[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bridges)

    def __len__(self) -> int:
        return len(self._bridges)

    def embeds(self, prompts: Sequence[Prompt]) -> list[Float[Tensor, "T D"]]:
        """Returns the language model's input for each prompt, in its dtype.

        Each is [BOS] · soft prompt · boundary · instruction.
        """
        rows = dict(pair for batch in self.embed_batches(prompts) for pair in batch)
        return [rows[index] for index in range(len(prompts))]

    def embed_batches(
        self, prompts: Sequence[Prompt]
    ) -> Iterator[list[tuple[int, Float[Tensor, "T D"]]]]:
        """Yields, after each encoder batch, the indices of its prompts with their embeddings.

        Prompts for the same bridge and instruction are batched together.
        """
        groups: dict[tuple[str, str | None], list[int]] = defaultdict(list)
        for index, prompt in enumerate(prompts):
            groups[prompt.bridge, prompt.instruction].append(index)
        for (name, instruction), group in groups.items():
            bridge = self[name]
            batches = [list(range(len(group)))]
            if self._groups_lengths:  # else the lengths do not matter
                tokenized = bridge.encoder.tokenize([prompts[index].text for index in group])
                batches = self.batches(tokenized["attention_mask"].sum(1).tolist())
            for batch in batches:
                indices = [group[position] for position in batch]
                rows = _embed(bridge, [prompts[index] for index in indices], instruction)
                yield list(zip(indices, rows, strict=True))

    @property
    def _groups_lengths(self) -> bool:
        return self.language_model.device.type == "cpu"

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Splits rows of these lengths into batches of indices.

        On a CPU a batch has rows of similar length, up to ``CPU_TOKENS`` with padding; a GPU takes
        all rows at once.
        """
        indices = range(len(lengths))
        if not self._groups_lengths:
            return [list(indices)]
        return cut(sorted(indices, key=lambda index: -lengths[index]), lengths, CPU_TOKENS)

    def prompt_tokens(self, name: str, texts: Sequence[str], instruction: str | None) -> list[int]:
        """Returns the length of what ``embeds`` makes of each text, without running a model."""
        bridge = self[name]
        others = fixed_tokens(bridge.config, self.language_model, instruction)
        lengths = bridge.encoder.tokenize(texts)["attention_mask"].sum(1).tolist()
        return [length + others for length in prompt_lengths(bridge.config, lengths)]

    def max_new_tokens(
        self, prompt_tokens: int, needed: int = 1, limit: int | None = None
    ) -> int | None:
        """Returns how many tokens fit after a prompt; None if the context is unbounded.

        Args:
            prompt_tokens: length of the prompt.
            needed: how many must fit, such as those of the longest option.
            limit: of the engine, if it may be lower than the language model's.

        Raises:
            LengthError: fewer than ``needed`` fit.
        """
        limits = [each for each in (limit, self.language_model.max_tokens) if each is not None]
        if not limits:
            return None
        room = min(limits) - prompt_tokens
        if room < needed:
            what = "text and instruction" if needed == 1 else "text, instruction and options"
            raise LengthError(
                f"{what} come to {prompt_tokens + needed - 1} tokens",
                allowed=f"fewer than {min(limits)}, the language model's context length",
            )
        return room


def names(runs: Sequence[str]) -> dict[str, str]:
    """Maps names to runs: NAME of ``NAME=RUN``, else as much of the path's end as is unique.

    Raises:
        ConfigError: two runs have the same name, or there are no runs.
    """
    if not runs:
        raise ConfigError("no run to serve", allowed="layerbridge serve RUN [RUN…]")
    named: dict[str, str] = {}
    unnamed = []
    for run in runs:
        name, path = split_name(run)
        if name is not None:
            _add(named, name, path)
        else:
            unnamed.append(run)
    parts = {run: Path(run).parts for run in dict.fromkeys(unnamed)}
    longest = max([1, *map(len, parts.values())])
    for count in range(1, longest + 1):
        ends = {run: "/".join(path[-count:]) for run, path in parts.items()}
        if len(set(ends.values())) == len(ends):
            break
    for run, end in ends.items():
        _add(named, end, run)
    return named


def _add(named: dict[str, str], name: str, run: str) -> None:
    if name in named:
        raise ConfigError(
            f"{named[name]!r} and {run!r} would both be named {name!r}",
            hint="give one a name with NAME=RUN",
        )
    named[name] = run


def texts_of(
    requests: Sequence[Prompt | Question],
) -> tuple[list[str], list[str | None] | None]:
    """Returns the texts of requests and their languages; None if none is given."""
    languages = [request.language for request in requests]
    return [request.text for request in requests], languages if any(languages) else None


@torch.no_grad()
def _embed(
    bridge: LayerBridge, prompts: Sequence[Prompt], instruction: str | None
) -> list[Float[Tensor, "T D"]]:
    states = bridge.encode(*texts_of(prompts))
    packed = pack(bridge.prefix(states, instruction))
    masks = packed.attention_mask.bool()
    return [row[mask] for row, mask in zip(packed.inputs_embeds, masks, strict=True)]
