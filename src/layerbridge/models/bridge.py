"""LayerBridge: a frozen encoder, a trained bridge, a frozen language model.

    states = encoder(text)                  L × [B, S, E]
    soft   = projection(fusion(states))     [B, S, D]
    answer = language_model([BOS] · soft · boundary · instruction · …)

Legend: L layers, B batch, S encoder and T LM tokens, E and D their widths, V vocabulary, O options.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationMixin, PreTrainedModel

from layerbridge.models import fusion, projection
from layerbridge.models.alignment import align, rescale
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.backbone_pair import load_backbones, record_weights
from layerbridge.models.bridge_output import BridgeOutput
from layerbridge.models.centering import Centering, centered
from layerbridge.models.checkpoint import read_checkpoint, read_config
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.finite import check_rows, check_soft_prompt, finite_rows
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.inference import Answering
from layerbridge.models.language_model import IGNORED, LanguageModel
from layerbridge.models.option_scoring import option_scores
from layerbridge.models.packing import Segment
from layerbridge.models.prompt_room import text_limit
from layerbridge.models.saving import Saving
from layerbridge.models.state_noise import StateNoise, encoder_dropout


class LayerBridge(Saving, Answering, PreTrainedModel, GenerationMixin):
    """The whole model (arXiv 2508.09091, §3). Only ``fusion`` and ``projection`` are trained.

    Build one with ``from_backbones`` or ``from_pretrained``.
    """

    config_class = BridgeConfig
    config: BridgeConfig
    # Moves states by language; None leaves them as they are.
    centering: Centering | None = None
    # Of training; None for none.
    noise: StateNoise | None = None
    base_model_prefix = "layerbridge"
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def __init__(
        self, config: BridgeConfig, encoder: Encoder, language_model: LanguageModel
    ) -> None:
        super().__init__(config)
        # A shared encoder cuts texts at its own limit, or lower if a prompt would not fit.
        self.encoder = encoder.with_settings(
            max_text_tokens=text_limit(config, encoder, language_model),
            embedding_layer=config.embedding_layer,
            template=config.template or "",
            text_prefix=config.text_prefix or "",
            language=config.encoder_language or "",
        )
        self.language_model = language_model
        config.max_text_tokens = self.encoder.max_text_tokens
        config.encoder_width = encoder.width
        config.encoder_layers = self.encoder.num_layers
        config.language_model_width = language_model.width
        self.fusion = fusion.build(
            config.fusion,
            num_layers=self.encoder.num_layers,
            width=encoder.width,
            start=config.start,
            normalize=config.normalize,
            **(config.fusion_options or {}),
        )
        config.start = self.fusion.start
        self.projection = projection.build(
            config.projection,
            encoder.width,
            language_model.width,
            boundary=config.boundary,
            **(config.projection_options or {}),
        )
        self.post_init()
        # The Trainer warns about missing keys unless they are in this set.
        self._keys_to_ignore_on_save = set(self.state_dict()) - set(self.trained_state_dict())

    def init_weights(self) -> None:
        """Does nothing: backbones come with weights, and the bridge initializes its own."""

    @classmethod
    def from_backbones(
        cls,
        encoder: str,
        language_model: str,
        fusion: str = "token-softmax",
        *,
        encoder_revision: str | None = None,
        language_model_revision: str | None = None,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
        texts: Sequence[str] | None = (),
        **settings: Any,
    ) -> LayerBridge:
        """Returns a new, untrained bridge between two pretrained models.

        Args:
            encoder: a folder, ``zoo:NAME`` or a hub id of a multilingual encoder.
            language_model: the same for a causal language model.
            fusion: a strategy of ``layerbridge.models.fusion.names()``.
            encoder_revision: branch, tag or commit on the hub.
            language_model_revision: the same for the language model.
            dtype: as in ``LoadOptions``, as the four that follow; the bridge itself is always
                float32, and on the language model's device.
            texts: as in ``from_parts``.
            **settings: other fields of ``BridgeConfig`` and of ``LoadOptions`` (``device_map``, …).

        Raises:
            BackboneError: a model cannot be found or is of the wrong kind.
            ConfigError: a setting is unknown or invalid.
        """
        options = LoadOptions.taken_from(
            settings, dtype, attn_implementation, trust_remote_code, allow_pickle, device
        )
        config = BridgeConfig(
            encoder=encoder,
            encoder_revision=encoder_revision,
            language_model=language_model,
            language_model_revision=language_model_revision,
            fusion=fusion,
            **settings,
        )
        return cls.from_parts(config, *load_backbones(config, options), texts=texts)

    @classmethod
    def from_parts(
        cls,
        config: BridgeConfig,
        encoder: Encoder,
        language_model: LanguageModel,
        *,
        texts: Sequence[str] | None = (),
    ) -> LayerBridge:
        """Returns a new, untrained bridge between loaded backbones, which bridges may share.

        Args:
            config: its ``encoder`` and ``language_model`` name the backbones.
            encoder: on the device for the bridge.
            language_model: on the same device.
            texts: as in ``start_projection``; None if trained tensors are loaded next, which
                replace any start.
        """
        record_weights(config, encoder, language_model)
        bridge = cls(config, encoder, language_model).to(language_model.device)
        if texts is not None:
            bridge.start_projection(texts)
        return bridge

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
        encoder: Encoder | None = None,
        language_model: LanguageModel | None = None,
        config: BridgeConfig | None = None,
        **loading: Any,
    ) -> LayerBridge:
        """Loads a trained bridge, in eval mode.

        Args:
            path: a folder written by ``save_pretrained``, or a hub id.
            revision: branch, tag or commit on the hub.
            dtype: as in ``LoadOptions``, as the four that follow.
            encoder: one that is loaded already, to share it; with both given, no network is used.
            language_model: one that is loaded already.
            config: instead of the saved one.
            **loading: other fields of ``LoadOptions`` (``token``, ``load_in_4bit``, …); without
                any, backbones are quantized as they were in training.

        Raises:
            CheckpointError: a file is missing or damaged, tensors do not fit, or a backbone is
                not the one it was trained with.
            BackboneError: a backbone cannot be found.
        """
        how = (dtype, attn_implementation, trust_remote_code, allow_pickle, device)
        options = LoadOptions(*how, **loading)
        saved, folder = read_config(str(path), revision=revision, access=options.access)
        config = config or saved
        tensors = read_checkpoint(folder)
        bridge = cls(
            config, *load_backbones(config, options, encoder, language_model, trained=True)
        )
        bridge.load_trained(tensors, where=str(path))
        bridge.saved_in = folder
        bridge.load_centering(folder)
        place = torch.device(bridge.language_model.device if device is None else device)
        # A language model without weights has no place, and leaves the others where they are.
        return bridge.eval() if place.type == "meta" else bridge.eval().to(place)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LayerBridge:
        super()._apply(fn, recurse)
        # A language model that was put on its devices stays there, and the bridge with it.
        self.encoder.states_device = device = self.language_model.device
        self.fusion.to(device)
        self.projection.to(device)
        return self

    @torch.no_grad()
    def start_projection(self, texts: Sequence[str] = ()) -> None:
        """Initializes the projection as ``config.projection_start`` says.

        A start at the language model's scale gives the boundary that scale too. The gradient of
        a zero boundary, the paper's, passes through a norm that divides by it: it is hundreds of
        times the others, and clipping the global norm would stop the projection.

        Args:
            texts: English texts like those of training. Without any, ``"scaled"`` and
                ``"aligned"`` read only words of the language model's vocabulary.

        Raises:
            ConfigError: there is nothing to read, or a tokenizer is not a fast one.
        """
        start = self.config.projection_start
        if start == "random":
            return
        if self.projection.boundary is not None:
            self.projection.boundary.normal_(0, self.language_model.embedding_rms())
        initialize = align if start == "aligned" else rescale
        initialize(self.encoder, self.fusion, self.projection, self.language_model, texts)

    def encode(
        self, texts: Sequence[str], language: str | Sequence[str | None] | None = None
    ) -> HiddenStates:
        """Returns the hidden states of texts; layers the fusion does not need may be on meta.

        Args:
            texts: in any language of the encoder.
            language: the code of all texts, or of each. With ``centering`` their states are moved,
                by the nearest mean where it is None.

        Raises:
            DataError: a language has no mean.
        """
        states = self.encoder.encode(texts, layers=self.fusion.required_layers)
        return centered(self.centering, states, language)

    def soft_prompt(self, states: HiddenStates) -> Float[Tensor, "B n D"]:
        """Returns projection(fusion(states)), always in float32.

        In bfloat16, small training updates would be lost; the soft prompt is rounded only where
        it enters the language model.
        """
        with torch.autocast(states.mask.device.type, enabled=False):
            return self.projection(self.fusion(states), states.mask)

    def prefix(
        self, states: HiddenStates, instruction: str | Segment | None = None
    ) -> list[Segment]:
        """Returns [BOS] · soft prompt · boundary · instruction (None takes the config's).

        Raises:
            NotFiniteError: states or soft prompts are not finite; names their rows.
        """
        soft = self.soft_prompt(states)
        mask = self.projection.soft_mask(states.mask)
        check_soft_prompt(soft, mask, states, self.encoder.model.dtype, training=self.training)
        instruction = self.config.instruction if instruction is None else instruction
        if isinstance(instruction, str):
            instruction = self.language_model.instruction(instruction, len(soft))
        return self.language_model.prefix(soft, mask, self.projection.boundary, instruction)

    def forward(
        self,
        input_ids: Int[Tensor, "B S"] | None = None,
        attention_mask: Int[Tensor, "B S"] | None = None,
        labels: Int[Tensor, "B T"] | None = None,
        hidden_states: Float[Tensor, "L B S E"] | HiddenStates | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> BridgeOutput:
        """Computes the prefix language modeling loss over the target and EOS tokens.

        Args:
            input_ids: the encoder's token ids.
            attention_mask: 1 for real tokens.
            labels: target ids and EOS, padded on the right with -100.
            hidden_states: the encoder's output, instead of ``input_ids``.
            num_items_in_batch: labels of the whole step, over all accumulated batches. The loss
                is then the sum divided by it, so that accumulation does not change the step.

        Raises:
            NotFiniteError: states, or outside training soft prompts or logits, are not finite.
            LengthError: a row has more tokens than a model has positions.
        """
        device = self.language_model.device
        states = self._states(input_ids, attention_mask, hidden_states)
        mixture = None
        if self.training and self.noise is not None:
            states, mixture = self.noise(states)
        prefix = self.prefix(states)
        if labels is None:
            logits = self.language_model.next_logits(prefix)
            check_rows(finite_rows(logits), "the logits", self.language_model.dtype)
            return BridgeOutput(logits=logits)
        # The Trainer's own device may be another than the language model's.
        given, labels = labels.device, labels.to(device)
        loss, logits = self._loss(prefix, labels, num_items_in_batch)
        if mixture is not None:
            other, _ = self._loss(prefix, labels[mixture.order], num_items_in_batch)
            loss = mixture.weight * loss + (1 - mixture.weight) * other
        return BridgeOutput(loss=loss.to(given), logits=logits)

    def _loss(
        self, prefix: list[Segment], labels: Int[Tensor, "B T"], items: Tensor | int | None
    ) -> tuple[Tensor, Tensor]:
        logits = self.language_model.label_logits(prefix, labels)  # [n, V]
        targets = labels[labels != IGNORED]  # [n]
        items = len(targets) if items is None else items
        if isinstance(items, Tensor):
            items = items.to(labels.device)
        return F.cross_entropy(logits.float(), targets, reduction="sum") / items, logits

    @torch.no_grad()
    def generate(
        self,
        input_ids: Int[Tensor, "B S"] | None = None,
        attention_mask: Int[Tensor, "B S"] | None = None,
        hidden_states: Float[Tensor, "L B S E"] | HiddenStates | None = None,
        instruction: str | None = None,
        **arguments: Any,
    ) -> Any:
        """Runs transformers' ``generate``, with all its arguments, on the language model.

        Args:
            input_ids: the encoder's token ids.
            attention_mask: 1 for real tokens.
            hidden_states: the encoder's output, instead of ``input_ids``.
            instruction: English text for the language model; None takes the config's.
            **arguments: of transformers' ``generate``.

        Returns:
            The answers' token ids [B, new] in the language model's vocabulary, or a
            ``ModelOutput`` with ``return_dict_in_generate=True``.
        """
        states = self._states(input_ids, attention_mask, hidden_states)
        return self.language_model.generate(self.prefix(states, instruction), **arguments)

    @torch.no_grad()
    def option_scores(
        self,
        states: HiddenStates,
        options: Sequence[Sequence[int]],
        instruction: str | None = None,
    ) -> Float[Tensor, "B O"]:
        """Returns the summed log-probability (nats) of each option's token ids after each text."""
        return option_scores(self.language_model, self.prefix(states, instruction), options)

    def can_generate(self) -> bool:
        """Returns true: the language model generates."""
        return True

    def _states(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        hidden_states: Tensor | HiddenStates | None,
    ) -> HiddenStates:
        if isinstance(hidden_states, HiddenStates):
            return hidden_states.to(self.language_model.device)
        if hidden_states is not None:
            if attention_mask is None:
                attention_mask = torch.ones(hidden_states.shape[1:3], device=hidden_states.device)
            return HiddenStates(hidden_states, attention_mask).to(self.language_model.device)
        assert input_ids is not None, "input_ids or hidden_states must be given"
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        with encoder_dropout(self.encoder.model, self.noise if self.training else None):
            states = self.encoder(input_ids, mask, layers=self.fusion.required_layers)
        return states if self.training else centered(self.centering, states, None)
