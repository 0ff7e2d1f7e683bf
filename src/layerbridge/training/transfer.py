"""The options for transfer of one run (``docs/transfer.md``): language means, noise, averages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layerbridge.models.bridge import LayerBridge
from layerbridge.models.centering import Centering
from layerbridge.models.language_means import LanguageMeans
from layerbridge.tasks.stored_rows import Texts, sample
from layerbridge.tasks.unlabeled import text_files
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.language_centering import training_means
from layerbridge.training.noise import check_noise, needs_means, state_noise
from layerbridge.training.recipe import Recipe
from layerbridge.training.run_data import RunData
from layerbridge.training.trainer import BridgeTrainer
from layerbridge.training.weight_average import AverageLast

# Rows on the disk of which English texts are drawn.
SAMPLED = 50_000


def check_transfer(recipe: Recipe, arguments: BridgeTrainingArguments) -> None:
    """Checks the options before models are loaded.

    Raises:
        ConfigError: noise that lacks what it needs.
        DataError: the folder of texts has none.
    """
    check_noise(arguments, language_texts=recipe.language_texts is not None)
    if recipe.language_texts is not None:
        text_files(recipe.language_texts)


class Transfer:
    """What the options do with a bridge while it is trained, and at the end.

    Args:
        trainer: of the bridge; gets a callback for an average.
        means: of languages; None if nothing needs them.
        keeps_means: the bridge is centered by them from the end of the training on.
        folder: of the run.
    """

    def __init__(
        self, trainer: BridgeTrainer, means: LanguageMeans | None, keeps_means: bool, folder: Path
    ) -> None:
        self.bridge: LayerBridge = trainer.model
        self.means = means if keeps_means else None
        self.average: AverageLast | None = None
        if trainer.args.average_last:
            self.average = AverageLast(self.bridge, trainer.args.average_last, folder)
            trainer.add_callback(self.average)

    def finish(self) -> None:
        """Puts the average into the trained bridge."""
        if self.average is not None:
            self.average.finish()

    def keep_means(self) -> None:
        """Centers the bridge from now on; English validation before does not need it."""
        if self.means is not None:
            self.bridge.centering = Centering(self.means, self.bridge.encoder.num_layers)


@contextmanager
def transfer(
    trainer: BridgeTrainer, recipe: Recipe, data: RunData, folder: Path
) -> Iterator[Transfer]:
    """Prepares a run; within the context its bridge has the noise of training.

    Args:
        trainer: has not begun.
        recipe: of the run.
        data: its rows.
        folder: of the run.
    """
    bridge, arguments = trainer.model, trainer.args
    # That of another run of this bridge.
    bridge.centering = None
    keeps_means = recipe.language_centering or recipe.language_texts is not None
    means = None
    if keeps_means or needs_means(arguments):
        english = Texts(sample(data.train, SAMPLED))[:]
        means = training_means(bridge, english, recipe.language_texts, data.template)
    bridge.noise = state_noise(arguments, bridge, means)
    try:
        yield Transfer(trainer, means, keeps_means, folder)
    finally:
        bridge.noise = None
