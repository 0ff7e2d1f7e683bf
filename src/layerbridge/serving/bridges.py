"""Bridges: the runs that are served, by name, and what they make of a text.

All of them share one language model, and each encoder is in memory once. Both engines get their
input here, so that both read the same numbers. It knows no HTTP and decodes nothing.
Legend: B batch, T LM tokens, D LM width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.errors import ConfigError, DataError
from layerbridge.hub.sources import Source
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.backbone_pair import backbone_source
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.checkpoint import read_config
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.length_grouping import cut
from layerbridge.models.packing import pack
from layerbridge.serving.embedding_loader import load_embeddings
from layerbridge.serving.requests import Ask

# A pass of a CPU, pads included. Rows as they come would be padded to three times their length.
CPU_TOKENS = 512


class Bridges(Mapping[str, LayerBridge]):
    """Trained bridges over one language model, by name.

    Args:
        bridges: in eval mode, on one device.
        source: where their language model is.
    """

    def __init__(self, bridges: Mapping[str, LayerBridge], source: Source) -> None:
        self._bridges = dict(bridges)
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
        """The bridges of these runs.

        Args:
            runs: folders or hub ids, each as it is or as ``NAME=RUN``.
            options: how backbones are read.
            device: where to.
            weights: whether the language model is to answer here; else only its embeddings are
                read, for an engine that has the rest.

        Raises:
            ConfigError: two runs have one name, or they need different language models.
            CheckpointError: a run is missing or damaged.
            BackboneError: a backbone cannot be found.
        """
        options = options or LoadOptions()
        named = names(runs)
        configs = {name: read_config(run)[0] for name, run in named.items()}
        sources = {
            name: backbone_source(config, "language_model") for name, config in configs.items()
        }
        first, source = next(iter(sources.items()))
        for name, other in sources.items():
            if (other.path, other.revision) != (source.path, source.revision):
                raise ConfigError(
                    f"{name!r} needs the language model {other.given!r}, and {first!r} needs "
                    f"{source.given!r}",
                    allowed="bridges over one language model",
                    hint="start one server for each",
                )
        read = LanguageModel.load if weights else load_embeddings
        language_model = read(source, options).to(device)
        encoders: dict[tuple[Any, ...], Encoder] = {}
        bridges = {}
        for name, run in named.items():
            config = configs[name]
            where = backbone_source(config, "encoder")
            # Bridges that cut texts elsewhere, or want other layers, share the weights alone.
            key = (where.path, where.revision)
            encoder = encoders.get(key)
            if encoder is None:
                encoder = encoders[key] = Encoder.load(
                    where, options, max_text_tokens=config.max_text_tokens
                ).to(device)
            bridges[name] = LayerBridge.from_pretrained(
                run,
                device=device,
                encoder=encoder.with_settings(
                    max_text_tokens=config.max_text_tokens, embedding_layer=config.embedding_layer
                ),
                language_model=language_model,
            )
        return cls(bridges, source)

    def __getitem__(self, name: str) -> LayerBridge:
        return self._bridges[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bridges)

    def __len__(self) -> int:
        return len(self._bridges)

    def embeds(self, asks: Sequence[Ask]) -> list[Float[Tensor, "T D"]]:
        """What the language model reads of each, in its dtype: [BOS] · soft prompt · boundary ·
        instruction. The texts of one bridge go through its encoder together, on a CPU those of
        about one length.

        Raises:
            DataError: one of them is longer than the language model can read.
        """
        found = dict(pair for made in self.embeds_by_pass(asks) for pair in made)
        return [found[place] for place in range(len(asks))]

    def embeds_by_pass(
        self, asks: Sequence[Ask]
    ) -> Iterator[list[tuple[int, Float[Tensor, "T D"]]]]:
        """As ``embeds``: after each pass, the places of its asks with what is read of them.

        Raises:
            DataError: as ``embeds``.
        """
        groups: dict[tuple[str, str | None], list[int]] = defaultdict(list)
        for place, ask in enumerate(asks):
            groups[ask.bridge, ask.instruction].append(place)
        for (name, instruction), group in groups.items():
            bridge = self[name]
            texts = [asks[place].text for place in group]
            parts = [list(range(len(texts)))]
            if self._cuts:  # else nobody looks at the lengths
                tokenized = bridge.encoder.tokenize(texts)
                parts = self.passes(tokenized["attention_mask"].sum(1).tolist())
            for own in parts:
                places = [group[place] for place in own]
                rows = _read(bridge, [asks[place].text for place in places], instruction)
                yield list(zip(places, rows, strict=True))

    @property
    def _cuts(self) -> bool:
        return self.language_model.device.type == "cpu"

    def passes(self, lengths: Sequence[int]) -> list[list[int]]:
        """Places of the rows that go through a model in one pass, by the rows' tokens.

        On a CPU those of about one length, up to ``CPU_TOKENS`` with pads; a GPU takes all at once.
        """
        places = range(len(lengths))
        if not self._cuts:
            return [list(places)]
        return cut(sorted(places, key=lambda place: -lengths[place]), lengths, CPU_TOKENS)

    def room(self, prompt_tokens: int) -> int | None:
        """How many tokens an answer may have after such a prompt; None where nothing bounds it.

        Raises:
            DataError: none.
        """
        most = self.language_model.max_tokens
        if most is None:
            return None
        if prompt_tokens >= most:
            raise DataError(
                f"text and instruction come to {prompt_tokens} tokens",
                allowed=f"fewer than {most}, what the language model can read",
            )
        return most - prompt_tokens


def names(runs: Sequence[str]) -> dict[str, str]:
    """Name → run: the name of ``NAME=RUN``, else as much of the path's end as tells runs apart.

    Raises:
        ConfigError: two have one name, or there are none.
    """
    if not runs:
        raise ConfigError("there is no run to serve", allowed="layerbridge serve RUN [RUN…]")
    found: dict[str, str] = {}
    unnamed = []
    for run in runs:
        name, mark, path = run.partition("=")
        # A folder may have "=" in its name.
        if mark and name and not Path(run).exists():
            _add(found, name, path)
        else:
            unnamed.append(run)
    parts = {run: Path(run).parts for run in dict.fromkeys(unnamed)}
    longest = max(map(len, parts.values()), default=1)
    for count in range(1, longest + 1):
        ends = ["/".join(own[-count:]) for own in parts.values()]
        if len(set(ends)) == len(ends) or count == longest:
            for run, end in zip(parts, ends, strict=True):
                _add(found, end, run)
            break
    return found


def _add(found: dict[str, str], name: str, run: str) -> None:
    if name in found:
        raise ConfigError(
            f"{found[name]!r} and {run!r} would both be called {name!r}", hint="NAME=RUN names one"
        )
    found[name] = run


@torch.no_grad()
def _read(
    bridge: LayerBridge, texts: Sequence[str], instruction: str | None
) -> list[Float[Tensor, "T D"]]:
    packed = pack(bridge.prefix(bridge.encode(texts), instruction))
    masks = packed.attention_mask.bool()
    return [row[mask] for row, mask in zip(packed.inputs_embeds, masks, strict=True)]
