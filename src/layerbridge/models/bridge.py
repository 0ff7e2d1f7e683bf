"""LayerBridge: a frozen encoder, a trained bridge, a frozen language model.

    states = encoder(text)            L × [B, S, E]
    soft   = projection(fusion(states))   [B, S, D]
    answer = language_model([BOS] · soft · boundary · instruction · …)

It knows nothing of tasks, files or commands.
Legend: L layers, B batch, S encoder tokens, T LM tokens, E encoder width, D LM width,
V vocabulary, O options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import HfApi
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationMixin, PreTrainedModel
from transformers.utils import ModelOutput

from layerbridge.errors import CheckpointError
from layerbridge.hub.sources import Source, resolve
from layerbridge.models import fusion
from layerbridge.models.alignment import align, rescale
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.checkpoint import read_checkpoint, read_config, write_checkpoint
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.inference import Answering
from layerbridge.models.language_model import IGNORED, LanguageModel, Segment
from layerbridge.models.projection import Projection


@dataclass
class BridgeOutput(ModelOutput):
    """What ``forward`` returns.

    Attributes:
        loss: mean cross-entropy over the target and EOS tokens, when labels are given.
        logits: [n, V], one row a label, in the order of the labels; without labels [B, V], the
            logits of the first token of the answer.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None


class LayerBridge(Answering, PreTrainedModel, GenerationMixin):
    """The whole model. Only ``fusion`` and ``projection`` are trained or saved.

    Make one with ``from_backbones`` or ``from_pretrained``.
    """

    config_class = BridgeConfig
    config: BridgeConfig
    base_model_prefix = "layerbridge"
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def __init__(
        self, config: BridgeConfig, encoder: Encoder, language_model: LanguageModel
    ) -> None:
        super().__init__(config)
        self.encoder = encoder.with_settings(
            max_text_tokens=encoder.max_text_tokens, embedding_layer=config.embedding_layer
        )
        self.language_model = language_model
        # An encoder that several bridges share cuts texts where it was told to.
        config.max_text_tokens = encoder.max_text_tokens
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
        self.projection = Projection(encoder.width, language_model.width, boundary=config.boundary)
        self.post_init()
        # The Trainer compares what a checkpoint lacks with this set before it warns.
        self._keys_to_ignore_on_save = set(self.state_dict()) - set(self.trained_state_dict())

    def init_weights(self) -> None:
        """Nothing to do: backbones come with weights, the bridge's modules start themselves."""

    @classmethod
    def from_backbones(
        cls,
        encoder: str,
        language_model: str,
        fusion: str = "token-softmax",
        *,
        encoder_revision: str | None = None,
        language_model_revision: str | None = None,
        dtype: str = "auto",
        device: str | torch.device | None = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
        texts: Sequence[str] = (),
        **settings: Any,
    ) -> LayerBridge:
        """A new, untrained bridge between two pretrained models.

        Args:
            encoder: a folder, ``zoo:NAME`` or a hub id of a multilingual encoder.
            language_model: the same for a causal language model.
            fusion: a strategy of ``layerbridge.models.fusion.names()``.
            encoder_revision: branch, tag or commit of the encoder.
            language_model_revision: branch, tag or commit of the language model.
            dtype: of the backbones; ``"auto"`` is bfloat16 where the hardware has it, else
                float32. The bridge itself is always float32.
            device: where to put it all; None leaves it on the CPU.
            attn_implementation: as in transformers.
            trust_remote_code: run code that comes with a model.
            allow_pickle: also read weights that are not safetensors.
            texts: English texts like those to come, for ``projection_start="aligned"`` to fit on;
                without any it makes do with words of the language model's vocabulary.
            **settings: other fields of ``BridgeConfig``.

        Raises:
            BackboneError: a model cannot be found or is of the wrong kind.
            ConfigError: a setting is unknown or does not fit.
        """
        config = BridgeConfig(
            encoder=encoder,
            encoder_revision=encoder_revision,
            language_model=language_model,
            language_model_revision=language_model_revision,
            fusion=fusion,
            **settings,
        )
        options = LoadOptions(dtype, attn_implementation, trust_remote_code, allow_pickle)
        encoder_, language_model_ = _load_backbones(config, options)
        if device is not None:
            encoder_.to(device)
            language_model_.to(device)
        return cls.from_parts(config, encoder_, language_model_, texts=texts)

    @classmethod
    def from_parts(
        cls,
        config: BridgeConfig,
        encoder: Encoder,
        language_model: LanguageModel,
        *,
        texts: Sequence[str] = (),
    ) -> LayerBridge:
        """A new, untrained bridge between backbones that are loaded already, and may be shared.

        Args:
            config: its ``encoder`` and ``language_model`` say where they came from.
            encoder: where it is, the bridge's own tensors go too.
            language_model: on the same device.
            texts: as in ``from_backbones``.
        """
        for what in ("encoder", "language_model"):
            if getattr(config, f"{what}_fingerprint") is None and getattr(config, what):
                _remember(config, what, backbone_source(config, what), check=False)
        bridge = cls(config, encoder, language_model).to(language_model.device)
        bridge.start_projection(texts)
        return bridge

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        device: str | torch.device | None = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
        encoder: Encoder | None = None,
        language_model: LanguageModel | None = None,
    ) -> LayerBridge:
        """A trained bridge, from a folder or a hub id.

        Args:
            path: the folder that ``save_pretrained`` wrote, or a hub id.
            revision: branch, tag or commit on the hub.
            dtype: of the backbones, as in ``from_backbones``.
            device: where to put it all.
            attn_implementation: as in transformers.
            trust_remote_code: run code that comes with a model.
            allow_pickle: also read backbone weights that are not safetensors.
            encoder: one that is loaded already, to share it among bridges.
            language_model: one that is loaded already.

        Raises:
            CheckpointError: a file is missing or damaged, tensors do not fit, or a backbone is
                not the one it was trained with.
            BackboneError: a backbone cannot be found.
        """
        config, folder = read_config(str(path), revision=revision)
        tensors = read_checkpoint(folder)
        options = LoadOptions(dtype, attn_implementation, trust_remote_code, allow_pickle)
        loaded = _load_backbones(config, options, encoder, language_model, trained=True)
        bridge = cls(config, *loaded)
        bridge.load_trained(tensors, where=str(path))
        return bridge.eval() if device is None else bridge.eval().to(device)

    def save_pretrained(
        self, save_directory: str | Path, *, push_to_hub: bool = False, **arguments: Any
    ) -> None:
        """Writes the trained tensors (safetensors), ``config.json`` and a model card.

        Args:
            save_directory: made if it is not there.
            push_to_hub: upload it as well; further arguments as in transformers.
            **arguments: ``state_dict`` gives the tensors to write instead of the model's own;
                the rest goes to ``push_to_hub``.
        """
        state = arguments.pop("state_dict", None)
        tensors = self.trained_state_dict() if state is None else state
        tensors = {name: tensors[name] for name in self.trained_state_dict()}
        for unused in ("is_main_process", "max_shard_size", "save_peft_format"):
            arguments.pop(unused, None)
        write_checkpoint(Path(save_directory), self.config, tensors, card=self.card)
        if push_to_hub:
            repo_id = arguments.pop("repo_id", Path(save_directory).name)
            self.push_to_hub(repo_id, **arguments)

    def push_to_hub(self, repo_id: str, **arguments: Any) -> Any:
        """Uploads what ``save_pretrained`` writes, the bridge's own card among it.

        transformers' method would put a card of its own in that one's place.

        Args:
            repo_id: the repository; made if it is not there.
            **arguments: ``private`` and ``token``; the rest (``commit_message``, ``revision``,
                ``create_pr``, …) goes to ``HfApi.upload_folder``.
        """
        api = HfApi(token=arguments.pop("token", None))
        private = arguments.pop("private", None)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return api.upload_folder(repo_id=repo_id, folder_path=folder, **arguments)

    # A model card for save_pretrained; training sets it, and without one a plain one is written.
    card: str | None = None

    def trained_state_dict(self) -> dict[str, Tensor]:
        """The tensors of the bridge: all that is not a backbone's."""
        rooms = {"fusion": self.fusion, "projection": self.projection}
        return {
            f"{room}.{name}": tensor
            for room, module in rooms.items()
            for name, tensor in module.state_dict().items()
        }

    def load_trained(self, tensors: dict[str, Tensor], *, where: str = "these tensors") -> None:
        """Puts saved tensors in place.

        Raises:
            CheckpointError: a tensor is missing, unknown, or of another shape.
        """
        own = self.trained_state_dict()
        for name in own.keys() - tensors.keys():
            raise CheckpointError(f"{where} lacks the tensor {name!r}", allowed=sorted(own))
        for name in tensors.keys() - own.keys():
            raise CheckpointError(
                f"{where} has a tensor {name!r} that this bridge has not", allowed=sorted(own)
            )
        for name, tensor in tensors.items():
            if tensor.shape != own[name].shape:
                raise CheckpointError(
                    f"{where} has {name!r} of shape {list(tensor.shape)}",
                    allowed=f"shape {list(own[name].shape)}, which its backbones ask for",
                )
        self.load_state_dict(tensors, strict=False)

    @torch.no_grad()
    def start_projection(self, texts: Sequence[str] = ()) -> None:
        """Sets the projection's first value as ``config.projection_start`` says.

        A start that minds the language model's scale has a boundary of that scale too. The
        paper's zero passes through a norm that divides by it: its gradient is hundreds of times
        the others', and clipping by the global norm then leaves nothing to the projection
        (docs/decisions/0002-projection-start.md).
        """
        start = self.config.projection_start
        if start == "random":
            return
        language_model, projection = self.language_model, self.projection
        if projection.boundary is not None:
            projection.boundary.normal_(0, language_model.embedding_rms())
        begin = align if start == "aligned" else rescale
        begin(self.encoder, self.fusion, projection, language_model, texts)

    def encode(self, texts: Sequence[str]) -> HiddenStates:
        """The layer states of texts: tokenised, padded, run through the encoder.

        Layers that the fusion does not look at may stand there without numbers (``last``).
        """
        return self.encoder.encode(texts, layers=self.fusion.required_layers)

    def soft_prompt(self, states: HiddenStates) -> Float[Tensor, "B S D"]:
        """projection(fusion(states)), in float32 even where the backbones are not.

        A soft prompt rounded to bfloat16 while it is trained moves in steps; it is rounded once,
        where it enters the language model.
        """
        with torch.autocast(states.mask.device.type, enabled=False):
            return self.projection(self.fusion(states))

    def prefix(
        self, states: HiddenStates, instruction: str | Segment | None = None
    ) -> list[Segment]:
        """What the language model reads before the answer.

        Args:
            states: the encoder's, of B texts.
            instruction: English text after the soft prompt; None takes the config's.
        """
        soft = self.soft_prompt(states)
        instruction = self.config.instruction if instruction is None else instruction
        if isinstance(instruction, str):
            instruction = self.language_model.instruction(instruction, len(soft))
        return self.language_model.prefix(soft, states.mask, self.projection.boundary, instruction)

    def forward(
        self,
        input_ids: Int[Tensor, "B S"] | None = None,
        attention_mask: Int[Tensor, "B S"] | None = None,
        labels: Int[Tensor, "B T"] | None = None,
        hidden_states: Float[Tensor, "L B S E"] | HiddenStates | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> BridgeOutput:
        """Prefix language modelling (DESIGN §1): the loss of the target and EOS tokens.

        Args:
            input_ids: the encoder's token ids.
            attention_mask: 1 where they are real.
            labels: target ids and EOS, padded on the right with -100.
            hidden_states: what the encoder says of them, if that is known already; then
                ``input_ids`` is not needed.
            num_items_in_batch: how many labels the whole step has, over all its accumulated
                batches; the loss is then the sum over it, so accumulation changes nothing.
        """
        states = self._states(input_ids, attention_mask, hidden_states)
        prefix = self.prefix(states)
        if labels is None:
            return BridgeOutput(logits=self.language_model.next_logits(prefix))
        logits = self.language_model.label_logits(prefix, labels)  # [n, V]
        targets = labels[labels != IGNORED]  # [n]
        items = len(targets) if num_items_in_batch is None else num_items_in_batch
        loss = F.cross_entropy(logits.float(), targets, reduction="sum") / items
        return BridgeOutput(loss=loss, logits=logits)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Int[Tensor, "B S"] | None = None,
        attention_mask: Int[Tensor, "B S"] | None = None,
        hidden_states: Float[Tensor, "L B S E"] | HiddenStates | None = None,
        instruction: str | None = None,
        **arguments: Any,
    ) -> Any:
        """transformers' ``generate``: sampling, beams, streamers, stopping criteria and all.

        Args:
            input_ids: the encoder's token ids, of the text to answer.
            attention_mask: 1 where they are real.
            hidden_states: instead of ``input_ids``.
            instruction: English text for the language model; None takes the config's.
            **arguments: as for the language model's own ``generate``.

        Returns:
            The answer's token ids [B, new], in the language model's vocabulary, or what
            ``return_dict_in_generate`` asks for.
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
        """log p of each option's tokens after each text, summed."""
        return self.language_model.option_scores(self.prefix(states, instruction), options)

    def can_generate(self) -> bool:
        """It does, through the language model."""
        return True

    def _states(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        hidden_states: Tensor | HiddenStates | None,
    ) -> HiddenStates:
        if isinstance(hidden_states, HiddenStates):
            return hidden_states
        if hidden_states is not None:
            if attention_mask is None:
                attention_mask = torch.ones(hidden_states.shape[1:3], device=hidden_states.device)
            return HiddenStates(hidden_states, attention_mask)
        assert input_ids is not None, "input_ids or hidden_states must be given"
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        return self.encoder(input_ids, attention_mask, layers=self.fusion.required_layers)


def _load_backbones(
    config: BridgeConfig,
    options: LoadOptions,
    encoder: Encoder | None = None,
    language_model: LanguageModel | None = None,
    *,
    trained: bool = False,
) -> tuple[Encoder, LanguageModel]:
    """Both backbones; with ``trained``, only the very ones that the config remembers."""
    assert config.encoder is not None, "a bridge needs an encoder"
    assert config.language_model is not None, "a bridge needs a language model"
    encoder_source, lm_source = (
        backbone_source(config, "encoder"),
        backbone_source(config, "language_model"),
    )
    for what, source in (("encoder", encoder_source), ("language_model", lm_source)):
        _remember(config, what, source, check=trained)
    if encoder is None:
        encoder = Encoder.load(
            encoder_source,
            options,
            max_text_tokens=config.max_text_tokens,
            embedding_layer=config.embedding_layer,
        )
    if language_model is None:
        language_model = LanguageModel.load(lm_source, options)
    return encoder, language_model


def backbone_source(config: BridgeConfig, what: str) -> Source:
    """Where a backbone is, at the revision the config names."""
    return resolve(getattr(config, what), revision=getattr(config, f"{what}_revision"))


def _remember(config: BridgeConfig, what: str, source: Source, *, check: bool) -> None:
    """Writes down which weights a backbone has, or compares them with what is written down."""
    fingerprint = source.fingerprint()
    known = getattr(config, f"{what}_fingerprint")
    if check and known is not None and known != fingerprint:
        raise CheckpointError(
            f"the {what.replace('_', ' ')} {source.given!r} is not the one this bridge was trained "
            f"with: its weights are {fingerprint[:12]}",
            allowed=f"weights {known[:12]}",
            hint="restore those weights, or train a new bridge",
        )
    setattr(config, f"{what}_fingerprint", fingerprint)
    setattr(config, f"{what}_revision", source.revision)
