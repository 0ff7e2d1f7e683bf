"""Saving and publishing a bridge: its trained tensors, config and model card.

A mixin of ``LayerBridge``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from huggingface_hub import HfApi
from torch import Tensor

from layerbridge.hub.sources import is_local
from layerbridge.models.centering import Centering
from layerbridge.models.checkpoint import (
    CARD,
    EVAL_RESULTS,
    LANGUAGE_MEANS,
    check_tensors,
    write_checkpoint,
)
from layerbridge.models.model_card import card_at
from layerbridge.progress import say

if TYPE_CHECKING:
    from torch import nn

    from layerbridge.models.config import BridgeConfig
    from layerbridge.models.encoder import Encoder
    from layerbridge.models.fusion import Fusion
    from layerbridge.models.projection import Projection


class Saving:
    """``save_pretrained``, ``push_to_hub`` and the tensors they write, for a bridge."""

    if TYPE_CHECKING:
        centering: Centering | None
        config: BridgeConfig
        encoder: Encoder
        fusion: Fusion
        projection: Projection

    # The model card that save_pretrained writes; set by training.
    card: str | None = None
    # Where a trained bridge was loaded from: its card and results go where the bridge goes.
    saved_in: Path | None = None

    def save_pretrained(
        self, save_directory: str | Path, *, push_to_hub: bool = False, **arguments: Any
    ) -> None:
        """Writes the trained tensors (safetensors), ``config.json`` and a model card.

        Language means are a file of their own.

        Args:
            save_directory: created if missing.
            push_to_hub: also upload it.
            **arguments: ``state_dict``, tensors to write instead of the bridge's; ``repo_id``
                (by default the folder's name) and others of ``push_to_hub``.
        """
        tensors = trained = self.trained_state_dict()
        if (state := arguments.pop("state_dict", None)) is not None:
            tensors = {name: state[name] for name in trained}
        for unused in ("is_main_process", "max_shard_size", "save_peft_format"):
            arguments.pop(unused, None)
        folder = Path(save_directory)
        card = self.card
        if card is None and not (folder / CARD).exists():
            card = self._saved_card()
        write_checkpoint(folder, self.config, tensors, card=card)
        if self.centering is not None:
            self.centering.means.write(Path(save_directory))
        else:  # those of another bridge
            (Path(save_directory) / LANGUAGE_MEANS).unlink(missing_ok=True)
        if push_to_hub:
            repo_id = arguments.pop("repo_id", Path(save_directory).name)
            self.push_to_hub(repo_id, **arguments)

    def push_to_hub(self, repo_id: str, **arguments: Any) -> Any:
        """Uploads what ``save_pretrained`` writes; transformers' own would replace the card.

        The card's examples name the repository, and the results of ``layerbridge evaluate`` come
        along. Warns about backbones that are folders of this machine.

        Args:
            repo_id: created if missing.
            **arguments: ``private``, ``token``, and those of ``HfApi.upload_folder``.
        """
        for backbone in ("encoder", "language_model"):
            model_id = getattr(self.config, backbone)
            if model_id is not None and is_local(model_id):
                say(
                    f"warning: the uploaded config.json names {model_id!r}, a folder of this "
                    f"machine, as its {backbone.replace('_', ' ')}: nobody else can load the "
                    "bridge; train it with a hub id or a model of the zoo"
                )
        api = HfApi(token=arguments.pop("token", None))
        private = arguments.pop("private", None)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            card = Path(folder) / CARD
            card.write_text(card_at(card.read_text(encoding="utf-8"), repo_id), encoding="utf-8")
            results = None if self.saved_in is None else self.saved_in / EVAL_RESULTS
            if self.card is None and results is not None and results.is_dir():
                shutil.copytree(results, Path(folder) / EVAL_RESULTS)
            return api.upload_folder(repo_id=repo_id, folder_path=folder, **arguments)

    def _saved_card(self) -> str | None:
        file = None if self.saved_in is None else self.saved_in / CARD
        return file.read_text(encoding="utf-8") if file is not None and file.is_file() else None

    def trained_state_dict(self) -> dict[str, Tensor]:
        """Returns the tensors of the bridge itself, without the backbones'."""
        return {
            **self.fusion.state_dict(prefix="fusion."),
            **self.projection.state_dict(prefix="projection."),
        }

    def load_trained(self, tensors: dict[str, Tensor], *, where: str = "these tensors") -> None:
        """Copies saved tensors into the bridge.

        Raises:
            CheckpointError: a tensor is missing, unexpected, of another shape, or not finite.
        """
        check_tensors(tensors, self.trained_state_dict(), where=where)
        cast("nn.Module", self).load_state_dict(tensors, strict=False)

    def load_centering(self, folder: Path) -> None:
        """Takes the language means in a run's folder, if it has any.

        Raises:
            CheckpointError: the file is damaged, or of another encoder or other layers.
        """
        self.centering = Centering.load(
            folder,
            self.fusion.required_layers,
            self.encoder.num_layers,
            self.encoder.width,
            self.config.encoder_fingerprint,
        )
