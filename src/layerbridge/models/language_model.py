"""The frozen language model: reads the soft prompt and answers.

    LM input = [BOS] · soft prompt · boundary · instruction · target

It knows nothing about encoders, fusion or tasks.
Legend: B batch, S encoder tokens, T LM tokens, D LM width, V vocabulary, n labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from layerbridge.errors import BackboneError
from layerbridge.hub.sources import Source
from layerbridge.models.backbone import (
    LoadOptions,
    freeze,
    load_config,
    load_tokenizer,
    load_weights,
)
from layerbridge.models.checkpointing import checkpoint_layers, restore_layers
from layerbridge.models.compilation import compile_layers
from layerbridge.models.finite import warn_of_overflow
from layerbridge.models.generation import generate_within
from layerbridge.models.own_steps import OwnSteps, takes_embeddings
from layerbridge.models.packing import PackedInputs, Segment, pack
from layerbridge.models.passes import Passes
from layerbridge.models.placement import input_device, put
from layerbridge.models.positions import check_ids, known_ids
from layerbridge.models.probes.gradients import check_gradients
from layerbridge.models.probes.language_model_traits import (
    TEXT,
    TOKENS,
    LanguageModelProbe,
)
from layerbridge.models.sharding import is_sharded, shard_layers
from layerbridge.progress import say

IGNORED = -100  # the label that adds no loss, as everywhere in transformers
PART = 2**25  # numbers of the embedding table that are read at once


class LanguageModel(Passes):
    """A frozen causal language model and its tokenizer.

    Without a BOS token in the tokenizer, the soft prompt comes first.

    Args:
        model: any ``AutoModelForCausalLM``.
        tokenizer: the model's own; it must have an EOS token.
        has_body: false for a model that has input embeddings and nothing else.
        source: where the model was loaded from; None if it was not.

    Raises:
        BackboneError: the tokenizer has no EOS token, or the model no embedding for it, or breaks
            what the method relies on.

    Attributes:
        traits: what probes found out about the model.
        is_sharded: whether each of several processes has a part of every layer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        has_body: bool = True,
        source: Source | None = None,
    ) -> None:
        super().__init__(freeze(model), has_body=has_body)
        self.source = source
        self.tokenizer = tokenizer
        self.width: int = model.get_input_embeddings().embedding_dim
        self.bos_id: int | None = tokenizer.bos_token_id
        if tokenizer.eos_token_id is None:
            raise BackboneError(
                f"the tokenizer of {model.name_or_path or 'this language model'!r} has no EOS "
                "token, so answers would never end",
                hint="set tokenizer.eos_token",
            )
        self.eos_id: int = tokenizer.eos_token_id
        self.is_sharded = is_sharded(model)
        self.known_ids = known_ids(model)
        ends = [self.eos_id] if self.bos_id is None else [self.bos_id, self.eos_id]
        check_ids(ends, self.known_ids, tokenizer, "language model")
        # In a list, so that it is no module of this one.
        self._generators: list[PreTrainedModel] = []
        if has_body:
            self.traits = self._probe().run()
            if self.traits.slow_ways:
                say(f"{self._named} {' and '.join(self.traits.slow_ways)}: slower, and right")

    @classmethod
    def load(
        cls, source: Source, options: LoadOptions | None = None, *, shard: bool = False
    ) -> LanguageModel:
        """Loads the language model at ``source``.

        Args:
            source: where it is.
            options: dtype and the like.
            shard: leave each of torchrun's processes a part of every layer.

        Raises:
            BackboneError: it cannot be loaded, or is not a causal language model.
        """
        options = options or LoadOptions()
        config = causal_config(source, options)
        arguments = options.for_backbone("language model", source, config)
        model = load_weights("language model", source, AutoModelForCausalLM, config, arguments)
        tokenizer = load_tokenizer("language model", source, options)
        if shard:
            shard_layers(freeze(model), options.device or "cpu")
        model = put(model, options.device, arguments.get("device_map"))
        language_model = cls(model, tokenizer, source=source)
        warn_of_overflow("language model", source, model.dtype, language_model.is_finite)
        return language_model

    def is_finite(self, text: str) -> bool:
        """Returns whether the logits after a text are finite."""
        ids = torch.tensor([self.token_ids(text)], device=self.device)
        packed = pack(self.prefix(self.embed(ids), torch.ones_like(ids, dtype=torch.bool)))
        return bool(self.prefill(packed)[0].isfinite().all())

    def compile_layers(self, **settings: Any) -> None:
        """Compiles the layers for training; scoring and generation run uncompiled.

        Args:
            **settings: of ``torch.compile``, such as ``mode``.

        Raises:
            BackboneError: there is no compiler, or the model's layers are not found.
        """
        assert self.has_body
        compile_layers(self.model, **settings)
        self.compiled = True

    def checkpoint_layers(self, on: bool = True) -> None:
        """Makes the layers run again in the backward pass, to keep less of the forward pass.

        Args:
            on: false undoes it.

        Raises:
            BackboneError: the model's layers are not found.
        """
        assert self.has_body
        if on:
            checkpoint_layers(self.model)
        else:
            restore_layers(self.model)

    def check_gradients(self) -> None:
        """Checks that a quantized model lets gradients through; others always do.

        Raises:
            BackboneError: it does not.
        """
        if getattr(self.model, "is_quantized", False):
            probe = self._probe()
            embeds = self.embed(probe.ids[:1])
            check_gradients(self._named, self.model, probe.logits, embeds)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the input embeddings, to which the soft prompt is cast."""
        return self.model.get_input_embeddings().weight.dtype

    @property
    def device(self) -> torch.device:
        """Device that the input embeddings run on."""
        return input_device(self.model)

    @torch.no_grad()
    def embedding_rms(self) -> float:
        """Returns the root mean square of the input embeddings: the scale of a real token."""
        # The table may have rows that are no tokens, and the tokenizer tokens that are no rows.
        count = min(len(self.tokenizer), self.known_ids)
        squares = torch.zeros((), device=self.device)
        for ids in torch.arange(count, device=self.device).split(max(1, PART // self.width)):
            squares += self.embed(ids).float().square().mean() * (len(ids) / count)
        return squares.sqrt().item()

    def embed(self, ids: Int[Tensor, "..."]) -> Float[Tensor, "... D"]:
        """Returns the input embeddings of token ids, as the first layer gets them."""
        embeds = self.model.get_input_embeddings()(ids)
        return embeds if self.traits.embed_scale == 1 else embeds * self.traits.embed_scale

    def token_ids(self, text: str) -> list[int]:
        """Returns the token ids of ``text`` without special tokens.

        Raises:
            BackboneError: the model has no embedding for one of them.
        """
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        check_ids(ids, self.known_ids, self.tokenizer, "language model")
        return ids

    def prefix(
        self,
        soft_prompt: Float[Tensor, "B S D"],
        soft_mask: Bool[Tensor, "B S"],
        boundary: Float[Tensor, " D"] | None = None,
        instruction: Segment | None = None,
    ) -> list[Segment]:
        """Returns the segments [BOS] · soft prompt · boundary · instruction, where present."""
        batch = soft_prompt.shape[0]
        all_real = soft_mask.new_ones(batch, 1, dtype=torch.bool)
        segments = [Segment(soft_prompt.to(self.dtype), soft_mask)]
        if self.bos_id is not None:
            bos = self.embed(torch.tensor([self.bos_id], device=self.device))
            segments.insert(0, Segment(bos.expand(batch, 1, -1), all_real))
        if boundary is not None:
            segments.append(Segment(boundary.to(self.dtype).expand(batch, 1, -1), all_real))
        if instruction is not None:
            segments.append(instruction)
        return segments

    def instruction(self, text: str, batch: int) -> Segment:
        """Returns the segment of an English text, the same in each of ``batch`` rows."""
        # Without a dtype the ids of an empty text would be floats.
        ids = torch.tensor(self.token_ids(text), dtype=torch.long, device=self.device)
        embeds = self.embed(ids).expand(batch, -1, -1)
        return Segment(embeds, torch.ones(embeds.shape[:2], dtype=torch.bool, device=self.device))

    def target(self, labels: Int[Tensor, "B T"]) -> Segment:
        """Returns the target as input, without its last token, which predicts nothing."""
        real = labels != IGNORED
        has_next = torch.zeros_like(real)
        has_next[:, :-1] = real[:, 1:]
        return Segment(self.embed(labels.clamp_min(0)), real & has_next)

    def label_logits(
        self, prefix: Sequence[Segment], labels: Int[Tensor, "B T"]
    ) -> Float[Tensor, "n V"]:
        """Returns the logits that predict each label, one row per label, in label order.

        The body runs once over all tokens; the head, whose V is far larger than D, runs only on
        the n rows that predict a label.

        Args:
            prefix: what stands before the target.
            labels: target ids and EOS, padded on the right with IGNORED.
        """
        packed = pack([*prefix, self.target(labels)])
        embeds, mask = packed.inputs_embeds, packed.attention_mask
        counts = (labels != IGNORED).sum(1, keepdim=True)  # [B, 1]
        columns = torch.arange(mask.shape[1], device=labels.device)
        predicts = columns >= mask.shape[1] - counts  # [B, T]: rows end together
        if self.traits.head_is_separable:
            return self.head(self.hidden(embeds, mask)[predicts])
        keep = int(counts.max())
        logits, _ = self.last_logits(embeds, mask, keep=keep, use_cache=False)
        return logits[predicts[:, -keep:]]

    def next_logits(self, prefix: Sequence[Segment]) -> Float[Tensor, "B V"]:
        """Returns the logits of the first token after the prefix."""
        packed = pack(prefix)
        logits, _ = self.last_logits(packed.inputs_embeds, packed.attention_mask, use_cache=False)
        return logits[:, 0]

    @torch.no_grad()
    def generate(self, prefix: Sequence[Segment], **arguments: Any) -> Any:
        """Returns what transformers' ``generate`` returns for the prefix: only the new tokens.

        An answer ends where the model's positions end, and that is said.

        Raises:
            LengthError: a prefix leaves no position for an answer.
            NotFiniteError: logits are not finite.
        """
        assert self.has_body
        packed = pack(prefix)
        self.check_length(packed.attention_mask, answer=1)
        pad = self.tokenizer.pad_token_id
        known = pad is not None and pad < self.known_ids
        arguments.setdefault("pad_token_id", pad if known else self.eos_id)
        arguments.setdefault("eos_token_id", self.stop_token_ids())
        with self.uncompiled():
            if not self._generators:
                self._generators.append(self.model if takes_embeddings(self) else OwnSteps(self))
            return generate_within(self.max_tokens, self._generators[0], packed, arguments)

    def prefill(self, packed: PackedInputs) -> tuple[Float[Tensor, "B V"], Any]:
        """Returns the logits of the first token after the prompts, and the prompts' cache."""
        logits, cache = self.last_logits(packed.inputs_embeds, packed.attention_mask)
        return logits[:, 0], cache

    def decode_step(
        self, ids: Int[Tensor, " B"], mask: Int[Tensor, "B T"], cache: Any
    ) -> tuple[Float[Tensor, "B V"], Any]:
        """Returns the logits after one more token in every row, and the extended cache.

        Args:
            ids: the new tokens.
            mask: 1 for real tokens, the new ones included.
            cache: of all tokens before the new ones.
        """
        logits, cache = self.last_logits(self.embed(ids[:, None]), mask, cache)
        return logits[:, 0], cache

    def stop_token_ids(self) -> list[int]:
        """Returns EOS, which ends the training targets, and the model's own stop tokens."""
        configured = self.model.generation_config.eos_token_id
        others = [configured] if isinstance(configured, int) else list(configured or [])
        return sorted({self.eos_id, *others})

    def train(self, mode: bool = True) -> LanguageModel:
        """Stays in eval mode: a frozen language model has no dropout."""
        return super().train(False)

    @property
    def _named(self) -> str:
        given = self.source.given if self.source else self.model.name_or_path
        return f"the language model {given!r}" if given else "this language model"

    def _probe(self) -> LanguageModelProbe:
        ids = self.token_ids(TEXT)[:TOKENS]
        if self.bos_id is not None:
            ids = [self.bos_id, *ids]
        return LanguageModelProbe(self._named, self.model, self.takes_positions, ids, self.head)


def causal_config(source: Source, options: LoadOptions) -> PreTrainedConfig:
    """Reads the config of the causal language model at ``source``.

    Raises:
        BackboneError: it cannot be read, or is another kind of model.
    """
    config = load_config("language model", source, options)
    kind = config.model_type
    # A masked language model reads ahead, which a probe would find too, unless it is a decoder.
    is_masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
        config, "is_decoder", False
    )
    is_causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not is_masked
    if config.is_encoder_decoder or not (is_causal or options.trust_remote_code):
        raise BackboneError(
            f"{source.given!r} is a {kind!r} model, not a causal language model",
            allowed="any AutoModelForCausalLM (Llama, SmolLM2, Qwen, Gemma, GPT-2, …)",
        )
    return config
