"""The frozen language model: splices the soft prompt in, and reads out what follows it.

    LM input = [BOS] · soft prompt · boundary · instruction · target

It knows nothing of encoders, fusion or tasks.
Legend: B batch, S encoder tokens, T LM tokens, D LM width, V vocabulary, O options.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from layerbridge.errors import BackboneError
from layerbridge.hub.sources import Source
from layerbridge.models.backbone import (
    LoadOptions,
    freeze,
    load,
    load_config,
    load_tokenizer,
    load_weights,
    resolve_dtype,
)
from layerbridge.models.compilation import compile_layers, uncompiled

IGNORED = -100  # the label that no loss is taken of, as everywhere in transformers

# Options are continued this many rows a pass, or as many as the batch has if that is more.
PASS_ROWS = 64

# Layers of a cache that grow by making a new tensor, and never write into the old one.
GROWING = (DynamicLayer, DynamicSlidingWindowLayer)


@dataclass(frozen=True)
class Segment:
    """A stretch of LM input: ``embeds`` [B, n, D] and ``mask`` [B, n], true where it is real."""

    embeds: Float[Tensor, "B n D"]
    mask: Bool[Tensor, "B n"]


@dataclass(frozen=True)
class PackedInputs:
    """LM input whose pads are all on the left."""

    inputs_embeds: Float[Tensor, "B T D"]
    attention_mask: Int[Tensor, "B T"]

    @property
    def position_ids(self) -> Int[Tensor, "B T"]:
        """Positions count real tokens only, so padding never moves a token."""
        return _positions(self.attention_mask)


def pack(pieces: Sequence[Segment]) -> PackedInputs:
    """Puts pieces side by side and moves every row's pads to its left end.

    Rows end together, so what follows any row comes right after its last real token, and all
    label rows stand at the right edge.
    """
    embeds = torch.cat([piece.embeds for piece in pieces], dim=1)
    mask = torch.cat([piece.mask.bool() for piece in pieces], dim=1)
    width = int(mask.sum(1).max())
    # False sorts before True, and a stable sort keeps the order of the real tokens.
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)[:, mask.shape[1] - width :]
    mask = mask.gather(1, order)
    embeds = embeds.gather(1, order[..., None].expand(-1, -1, embeds.shape[-1]))
    return PackedInputs(embeds.masked_fill(~mask[..., None], 0.0), mask.long())


class LanguageModel(nn.Module):
    """A frozen causal language model and its tokenizer.

    A model whose tokenizer has no BOS token simply gets none: the soft prompt comes first.

    Args:
        model: any ``AutoModelForCausalLM``.
        tokenizer: the one the model was trained with; it must have an EOS token.
        has_body: False of a model that can embed and nothing more (``load_embeddings``).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        has_body: bool = True,
    ) -> None:
        super().__init__()
        self.has_body = has_body
        self.model = freeze(model)
        self.tokenizer = tokenizer
        self.width: int = model.get_input_embeddings().embedding_dim
        self.bos_id: int | None = tokenizer.bos_token_id
        if tokenizer.eos_token_id is None:
            raise BackboneError(
                f"the tokenizer of {model.name_or_path or 'this language model'!r} has no EOS "
                "token, so no answer could end",
                hint="set tokenizer.eos_token",
            )
        self.eos_id: int = tokenizer.eos_token_id
        body = model.base_model
        self.takes_positions = "position_ids" in inspect.signature(body.forward).parameters
        config = model.config.get_text_config()
        # How many tokens it was made to read; None where nothing bounds it.
        self.max_tokens: int | None = getattr(config, "max_position_embeddings", None)
        self.logit_cap: float | None = getattr(config, "final_logit_softcapping", None)
        # Cohere multiplies its logits, Granite divides them.
        scale, divisor = getattr(config, "logit_scale", None), getattr(config, "logits_scaling", 1)
        self.logit_scale: float = (1.0 if scale is None else scale) / divisor
        self.head_is_separable = has_body and self._head_is_separable()
        self.compiled = False

    @classmethod
    def load(cls, source: Source, options: LoadOptions | None = None) -> LanguageModel:
        """The language model at ``source``.

        Raises:
            BackboneError: it cannot be loaded, or it is no causal language model.
        """
        options = options or LoadOptions()
        config = _config(source, options)
        arguments = options.for_transformers(source)
        model = load_weights("language model", source, AutoModelForCausalLM, config, arguments)
        return cls(model, load_tokenizer("language model", source, options))

    @classmethod
    def load_embeddings(cls, source: Source, options: LoadOptions | None = None) -> LanguageModel:
        """The language model at ``source`` without its body: it makes input, and reads none.

        Of its weights the input embeddings alone are read, for an engine that has the rest.

        Raises:
            BackboneError: as ``load`` does.
        """
        options = options or LoadOptions()
        config = _config(source, options)
        model = load("language model", source, lambda: _embedder(source, config, options))
        tokenizer = load_tokenizer("language model", source, options)
        return cls(model, tokenizer, has_body=False)

    def compile_layers(self, **settings: Any) -> None:
        """Compiles the layers for training; scoring and generating go without.

        Args:
            **settings: of ``torch.compile``, such as ``mode``.

        Raises:
            BackboneError: there is no compiler, or the model's layers are not known.
        """
        assert self.has_body
        compile_layers(self.model, **settings)
        self.compiled = True

    @property
    def dtype(self) -> torch.dtype:
        """What the soft prompt is cast to where it enters."""
        return self.model.get_input_embeddings().weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the input embeddings are."""
        return self.model.get_input_embeddings().weight.device

    @torch.no_grad()
    def embedding_rms(self) -> float:
        """The root mean square of the input embeddings: the scale of a real word."""
        ids = torch.arange(len(self.tokenizer), device=self.device)
        return self.embed(ids).float().square().mean().sqrt().item()

    def embed(self, ids: Int[Tensor, "..."]) -> Float[Tensor, "... D"]:
        """The input embeddings of token ids."""
        return self.model.get_input_embeddings()(ids)

    def token_ids(self, text: str) -> list[int]:
        """Token ids of ``text`` alone: no BOS, no EOS."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def prefix(
        self,
        soft_prompt: Float[Tensor, "B S D"],
        soft_mask: Bool[Tensor, "B S"],
        boundary: Float[Tensor, " D"] | None = None,
        instruction: Segment | None = None,
    ) -> list[Segment]:
        """[BOS] · soft prompt · boundary · instruction, where each is there."""
        batch = soft_prompt.shape[0]
        always = soft_mask.new_ones(batch, 1, dtype=torch.bool)
        pieces = [Segment(soft_prompt.to(self.dtype), soft_mask)]
        if self.bos_id is not None:
            bos = self.embed(torch.tensor([self.bos_id], device=self.device))
            pieces.insert(0, Segment(bos.expand(batch, 1, -1), always))
        if boundary is not None:
            pieces.append(Segment(boundary.to(self.dtype).expand(batch, 1, -1), always))
        if instruction is not None:
            pieces.append(instruction)
        return pieces

    def instruction(self, text: str, batch: int) -> Segment:
        """The same English text for every row."""
        ids = torch.tensor(self.token_ids(text), device=self.device)
        embeds = self.embed(ids).expand(batch, -1, -1)
        return Segment(embeds, torch.ones(embeds.shape[:2], dtype=torch.bool, device=self.device))

    def target(self, labels: Int[Tensor, "B T"]) -> Segment:
        """The target as input, without its last token: nothing is predicted from that one."""
        real = labels != IGNORED
        follows = torch.zeros_like(real)
        follows[:, :-1] = real[:, 1:]
        return Segment(self.embed(labels.clamp_min(0)), real & follows)

    def label_logits(
        self, prefix: Sequence[Segment], labels: Int[Tensor, "B T"]
    ) -> Float[Tensor, "n V"]:
        """The logits that predict each label, one row a label, in the order of the labels.

        Args:
            prefix: what stands before the target.
            labels: target ids and EOS, padded on the right with IGNORED.

        The body runs once over all tokens; the head, whose V is far larger than D, runs on the
        n label rows alone, gathered into one contiguous matrix.
        """
        packed = pack([*prefix, self.target(labels)])
        counts = (labels != IGNORED).sum(1, keepdim=True)  # [B, 1]
        width = packed.attention_mask.shape[1]
        columns = torch.arange(width, device=labels.device)
        predicts = columns >= width - counts  # [B, T]: rows end together
        arguments = self._arguments(packed)
        if self.head_is_separable:
            hidden = self.model.base_model(**arguments, use_cache=False).last_hidden_state
            return self.head(hidden[predicts])
        keep = int(counts.max())
        logits, _ = self._last_logits(arguments, keep, use_cache=False)
        return logits[predicts[:, -keep:]]

    def next_logits(self, prefix: Sequence[Segment]) -> Float[Tensor, "B V"]:
        """The logits of whatever comes first after the prefix."""
        logits, _ = self._last_logits(self._arguments(pack(prefix)), 1, use_cache=False)
        return logits[:, 0]

    @torch.no_grad()
    def cache_of(self, prefix: Sequence[Segment]) -> Any:
        """The cache that transformers leaves behind the prefix, for ``option_scores``."""
        return self._last_logits(self._arguments(pack(prefix)), 1, use_cache=True)[1]

    def head(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """Hidden states → logits, with the family's scale or cap where it has one."""
        assert self.has_body
        logits = self.model.get_output_embeddings()(hidden)
        if self.logit_scale != 1.0:
            logits = logits * self.logit_scale
        if self.logit_cap is not None:
            logits = torch.tanh(logits / self.logit_cap) * self.logit_cap
        return logits

    @torch.no_grad()
    def option_scores(
        self,
        prefix: Sequence[Segment],
        options: Sequence[Sequence[int]],
        *,
        after: Any = None,
    ) -> Float[Tensor, "B O"]:
        """log p(option | prefix), summed over its tokens, EOS among them if it is given.

        The prefix runs once and is kept; then come only the options' own tokens, those of one
        length together, a batch of rows a pass.

        Args:
            prefix: what stands before the options.
            options: O lists of token ids, none of them empty.
            after: ``cache_of`` one row that has no pads and stands before every row's prefix; it
                stays as it is. Pads may follow it, so the model must take positions.
        """
        arguments = self._arguments(pack(prefix), after)
        scores, cache = self._first_scores(arguments, options)
        longer = torch.tensor([len(option) > 1 for option in options], device=scores.device)
        mask = arguments["attention_mask"]
        self._continue(mask, cache, options, scores, longer.expand_as(scores))
        return scores

    @torch.no_grad()
    def best_options(
        self,
        prefix: Sequence[Segment],
        options: Sequence[Sequence[int]],
        divisors: Sequence[int] | None = None,
    ) -> Int[Tensor, " B"]:
        """argmax of ``option_scores`` (over ``divisors``), without scoring what cannot win.

        No token has a probability above 1, so an option's first token bounds its score. The most
        promising option of each row is scored in full, then only those whose bound reaches it:
        after training, hardly any.
        """
        arguments = self._arguments(pack(prefix))
        mask = arguments["attention_mask"]
        scores, cache = self._first_scores(arguments, options)
        by = torch.tensor(divisors or [1] * len(options), device=scores.device)
        bounds = scores / by
        favourite = F.one_hot(bounds.argmax(1), len(options)).bool()
        longer = torch.tensor([len(option) > 1 for option in options], device=scores.device)
        self._continue(mask, cache, options, scores, favourite & longer)
        reached = (scores / by)[favourite][:, None]
        rivals = ~favourite & (bounds >= reached)
        self._continue(mask, cache, options, scores, rivals & longer)
        return (scores / by).masked_fill(~(favourite | rivals), -torch.inf).argmax(1)

    def _first_scores(
        self, arguments: dict[str, Any], options: Sequence[Sequence[int]]
    ) -> tuple[Float[Tensor, "B O"], Any]:
        """log p of each option's first token, and the prefix's cache."""
        logits, cache = self._last_logits(arguments, 1, use_cache=True)
        first = logits[:, 0].float().log_softmax(-1)  # [B, V]
        return first[:, [option[0] for option in options]], cache

    def _continue(
        self,
        mask: Int[Tensor, "B T"],
        cache: Any,
        options: Sequence[Sequence[int]],
        scores: Float[Tensor, "B O"],
        wanted: Bool[Tensor, "B O"],
    ) -> None:
        """Adds log p of tokens 2 … n to the wanted scores, in place; the cache stays as it is."""
        of_length: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for option, row in wanted.T.nonzero().tolist():
            of_length[len(options[option])].append((row, option))
        # As many rows a pass as the prefix had: then all rows with one option are a pass of their
        # own, and their cache need not be copied. Fewer than that would leave the machine idle.
        size = max(len(wanted), PASS_ROWS)
        for pairs in of_length.values():
            for start in range(0, len(pairs), size):
                rows, chosen = torch.tensor(pairs[start : start + size], device=self.device).T
                ids = torch.tensor([options[option] for option in chosen.tolist()])
                rest = self._rest_scores(mask, cache, rows, ids.to(self.device))
                scores[rows, chosen] += rest

    def _rest_scores(
        self,
        mask: Int[Tensor, "B S"],
        cache: Any,
        rows: Int[Tensor, " n"],
        ids: Int[Tensor, "n T"],
    ) -> Float[Tensor, " n"]:
        """Σ log p of tokens 2 … T, each of them after the prefix of one of the rows."""
        rest = ids.shape[1] - 1
        follows = torch.cat([mask[rows], mask.new_ones(len(rows), rest)], dim=1)
        arguments = self._with_positions(self.embed(ids[:, :-1]), follows)
        arguments["past_key_values"] = _branch(cache, rows, len(mask))
        logits, _ = self._last_logits(arguments, rest, use_cache=True)
        return logits.float().log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1).sum(1)

    @torch.no_grad()
    def generate(self, prefix: Sequence[Segment], **arguments: Any) -> Any:
        """What transformers' ``generate`` returns for the prefix: the new tokens alone."""
        assert self.has_body
        packed = pack(prefix)
        pad = self.tokenizer.pad_token_id
        arguments.setdefault("pad_token_id", self.eos_id if pad is None else pad)
        arguments.setdefault("eos_token_id", self.stop_token_ids())
        with self._as_written(), self._whole_rows():
            return self.model.generate(
                inputs_embeds=packed.inputs_embeds,
                attention_mask=packed.attention_mask,
                **arguments,
            )

    def prefill(self, packed: PackedInputs) -> tuple[Float[Tensor, "B V"], Any]:
        """The logits of what follows the prompts, and the cache to go on from."""
        logits, cache = self._last_logits(self._arguments(packed), 1, use_cache=True)
        return logits[:, 0], cache

    def decode_step(
        self, ids: Int[Tensor, " B"], mask: Int[Tensor, "B T"], cache: Any
    ) -> tuple[Float[Tensor, "B V"], Any]:
        """The logits of what follows one token more in every row.

        Args:
            ids: the tokens.
            mask: 1 where a token is real, these among them.
            cache: of all before them.
        """
        arguments = self._with_positions(self.embed(ids[:, None]), mask)
        arguments["past_key_values"] = cache
        logits, cache = self._last_logits(arguments, 1, use_cache=True)
        return logits[:, 0], cache

    def stop_token_ids(self) -> list[int]:
        """EOS, which the bridge was trained with, and whatever else the model stops at."""
        configured = self.model.generation_config.eos_token_id
        others = [configured] if isinstance(configured, int) else list(configured or [])
        return sorted({self.eos_id, *others})

    def train(self, mode: bool = True) -> LanguageModel:
        """Stays in eval mode: a frozen language model has no dropout."""
        return super().train(False)

    def _last_logits(
        self, arguments: dict[str, Any], keep: int, *, use_cache: bool
    ) -> tuple[Float[Tensor, "B keep V"], Any]:
        """The logits of the last ``keep`` positions, and the cache."""
        with self._as_written() if use_cache else nullcontext():
            if self.head_is_separable:
                output = self.model.base_model(**arguments, use_cache=use_cache)
                logits = self.head(output.last_hidden_state[:, -keep:].contiguous())
            else:
                output = self.model(**arguments, use_cache=use_cache, logits_to_keep=keep)
                logits = output.logits[:, -keep:]
        return logits, output.past_key_values if use_cache else None

    @contextmanager
    def _whole_rows(self) -> Iterator[None]:
        """Within, the head multiplies contiguous rows.

        transformers hands it the last position of [B, T, D] as a strided slice. On a CPU that
        becomes a batched product, for which the vocabulary is copied once for every row.
        """
        head = self.model.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
        try:
            yield
        finally:
            hook.remove()

    def _as_written(self) -> AbstractContextManager[None]:
        return uncompiled() if self.compiled else nullcontext()

    def _arguments(self, packed: PackedInputs, after: Any = None) -> dict[str, Any]:
        """What the body takes; ``after`` is the cache of a row that stands before every row."""
        assert self.has_body
        mask = packed.attention_mask
        if after is None:
            return self._with_positions(packed.inputs_embeds, mask)
        before = mask.new_ones(len(mask), after.get_seq_length())
        arguments = self._with_positions(packed.inputs_embeds, torch.cat([before, mask], dim=1))
        arguments["past_key_values"] = _branch(after, mask.new_zeros(len(mask)), 1)
        return arguments

    def _with_positions(
        self, embeds: Float[Tensor, "B n D"], mask: Int[Tensor, "B T"]
    ) -> dict[str, Any]:
        """The last n of T tokens as the body takes them; those before them are in a cache."""
        arguments: dict[str, Any] = {"inputs_embeds": embeds, "attention_mask": mask}
        if self.takes_positions:
            arguments["position_ids"] = _positions(mask)[:, -embeds.shape[1] :]
        return arguments

    @torch.no_grad()
    def _head_is_separable(self) -> bool:
        """Whether body and head, called apart, give the model's own logits.

        Asked of the model itself, so that a family with a quirk nobody here knows is slower, not
        wrong.
        """
        ids = torch.tensor([[self.eos_id, 0, self.eos_id]], device=self.device)
        packed = PackedInputs(self.embed(ids), torch.ones_like(ids))
        try:
            hidden = self.model.base_model(**self._arguments(packed)).last_hidden_state
            apart = self.head(hidden)
        except (AttributeError, TypeError, RuntimeError):
            return False
        together = self.model(**self._arguments(packed)).logits
        return torch.allclose(apart.float(), together.float(), rtol=1e-3, atol=1e-3)


def _config(source: Source, options: LoadOptions) -> PreTrainedConfig:
    config = load_config("language model", source, options)
    kind = config.model_type
    if (
        config.is_encoder_decoder
        or kind in MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES
        or (kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not options.trust_remote_code)
    ):
        raise BackboneError(
            f"{source.given!r} is a {kind!r} model, which is no causal language model",
            allowed="any AutoModelForCausalLM (Llama, SmolLM2, Qwen, Gemma, GPT-2, …)",
        )
    return config


def _embedder(source: Source, config: PreTrainedConfig, options: LoadOptions) -> PreTrainedModel:
    """The model with nothing in it but the way to its input embeddings, and those."""
    weights = _stored(source)
    if weights is None:
        if not options.allow_pickle:
            raise OSError("no file named model.safetensors")
        arguments = options.for_transformers(source)
        model = load_weights("language model", source, AutoModelForCausalLM, config, arguments)
        return _strip(model)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=resolve_dtype(options.dtype),
            trust_remote_code=options.trust_remote_code,
        )
    with suppress(OSError):  # as from_pretrained does: not every model has such a file
        model.generation_config = GenerationConfig.from_pretrained(
            source.path, revision=source.revision or "main"
        )
    embeddings = model.get_input_embeddings()
    found = _find_embeddings(model, weights, source)
    weight = nn.Parameter(found.to(embeddings.weight.dtype), requires_grad=False)
    weight._is_hf_initialized = True  # type: ignore[attr-defined]
    embeddings.to_empty(device="cpu")
    embeddings.weight = weight
    model._init_weights(embeddings)  # what no file has, such as the number that Gemma scales by
    return _strip(model)


def _stored(source: Source) -> dict[str, str] | None:
    """Tensor → the safetensors file that has it; None where there is no such file."""
    whole = _file(source, SAFE_WEIGHTS_NAME)
    if whole is not None:
        with safe_open(whole, "pt") as file:
            return dict.fromkeys(file.keys(), SAFE_WEIGHTS_NAME)
    index = _file(source, SAFE_WEIGHTS_INDEX_NAME)
    return None if index is None else json.loads(Path(index).read_text())["weight_map"]


def _file(source: Source, name: str) -> str | None:
    return cached_file(
        source.path,
        name,
        revision=source.revision or "main",
        _raise_exceptions_for_missing_entries=False,
    )


def _find_embeddings(
    model: PreTrainedModel, stored: dict[str, str], source: Source
) -> Float[Tensor, "V D"]:
    embeddings = model.get_input_embeddings()
    own = f"{_path(model, embeddings)}.weight"
    # A checkpoint may leave out the prefix of the base model, or be a part of a larger model.
    ending = "." + ".".join(own.split(".")[-2:])
    names = [own, *sorted(name for name in stored if f".{name}".endswith(ending))]
    if model.config.get_text_config().tie_word_embeddings:
        names.append(f"{_path(model, model.get_output_embeddings())}.weight")
    for name in names:
        if name not in stored:
            continue
        path = _file(source, stored[name])
        if path is None:
            raise OSError(f"no file named {stored[name]}")
        with safe_open(path, "pt") as file:
            if file.get_slice(name).get_shape() == list(embeddings.weight.shape):
                return file.get_tensor(name)
    raise BackboneError(
        f"the language model {source.given!r} lacks weights: {own!r}",
        hint="use a complete checkpoint of this architecture",
    )


def _path(model: nn.Module, module: nn.Module) -> str:
    return next(name for name, other in model.named_modules() if other is module)


def _strip(model: PreTrainedModel) -> PreTrainedModel:
    """Drops all but the input embeddings, in place."""
    holder: nn.Module = model
    for name in _path(model, model.get_input_embeddings()).split("."):
        for other in [child for child, _ in holder.named_children() if child != name]:
            setattr(holder, other, nn.Identity())
        for other in [*holder._parameters, *holder._buffers]:
            delattr(holder, other)
        holder = holder.get_submodule(name)
    return model


def _positions(mask: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    return (mask.cumsum(1) - 1).clamp_min(0)


def _branch(cache: Any, rows: Int[Tensor, " n"], batch: int) -> Any:
    """The cache of some of its rows, to go on from; the cache itself stays as it is."""
    layers = getattr(cache, "layers", None)
    if layers and all(type(layer) in GROWING for layer in layers):
        # These put a new tensor in the place of the old one, so that sharing the old is safe.
        own = copy.copy(cache)
        own.layers = [copy.copy(layer) for layer in layers]
    else:
        own = copy.deepcopy(cache)
    if len(rows) != batch or not torch.equal(rows, torch.arange(batch, device=rows.device)):
        own.reorder_cache(rows)
    return own
