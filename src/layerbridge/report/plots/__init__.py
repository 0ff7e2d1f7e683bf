"""Pictures of result files, of a run's log of weights, and of one text's tokens.

Reads results, never models. Each kind of picture has a file of its own, whose ``figure`` draws it;
here are the functions that write one to a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from layerbridge.evaluation.results import Result
from layerbridge.report.plots import accuracy, gains, layers, sentence
from layerbridge.report.plots.output import SUFFIXES, checked, save
from layerbridge.training.weight_log import WeightLog

if TYPE_CHECKING:
    from layerbridge.models.inference import LayerWeights

__all__ = [
    "SUFFIXES",
    "accuracy_by_language",
    "gain_by_language",
    "layer_weights",
    "layer_weights_by_language",
    "layer_weights_by_layer",
    "layer_weights_in_training",
    "sentence_weights",
]


def accuracy_by_language(results: Sequence[Result], path: str | Path) -> Path:
    """Draw each method's accuracy in each language with its 95 % interval, English apart.

    Languages are ordered by the mean accuracy of the methods. Baselines (protocol ``classifier``)
    are grey ticks, chance (one over the number of labels) a dotted line. Several seeds of a method
    are one mark, as they are one row of the accuracy table, whose intervals the bars are.

    Args:
        results: of one task, split and protocol, on the same rows.
        path: ends in .svg or .png.

    Returns:
        The path.

    Raises:
        ResultError: there are no results, or they cannot be compared.
        OutputError: the path has another ending or cannot be written.
    """
    path = checked(path)
    return save(accuracy.figure(list(results)), path)


def gain_by_language(
    results: Sequence[Result], path: str | Path, *, against: str = "last", by: str = "script"
) -> Path:
    """Draw what each method gains over one of them, in points, language by language.

    Effects and intervals are those of ``layerbridge compare``. A hollow mark may be chance.

    Args:
        results: of one task, split and protocol, on the same rows.
        path: ends in .svg or .png.
        against: the method that the others are compared with.
        by: how languages are grouped: ``"script"``, or ``"share"`` of the encoder's pretraining
            data, where that is known.

    Returns:
        The path.

    Raises:
        ResultError: there is nothing to compare, or the results cannot be compared.
        ConfigError: an unknown ``by``.
        OutputError: the path has another ending or cannot be written.
    """
    path = checked(path)
    return save(gains.figure(list(results), against=against, by=by), path)


def layer_weights(results: Sequence[Result], path: str | Path) -> Path:
    """Draw the mean weight of each encoder layer.

    One result with several languages is a heat map, a row a language; several results, or one
    language, are a line each over the layers, the mean of the languages. The dotted line, and the
    mark on the colour scale, is where all layers weigh the same.

    Args:
        results: those without layer weights are passed over.
        path: ends in .svg or .png.

    Returns:
        The path.

    Raises:
        ResultError: no result has layer weights, or their numbers of layers differ.
        OutputError: the path has another ending or cannot be written.
    """
    path = checked(path)
    return save(layers.figure(list(results)), path)


def layer_weights_by_layer(results: Sequence[Result], path: str | Path) -> Path:
    """Draw a line a method over the layers, the mean of languages and runs; each run a thin one.

    Args:
        results: those without layer weights are passed over.
        path: ends in .svg or .png.

    Returns:
        The path.

    Raises:
        ResultError: no result has layer weights, or their numbers of layers differ.
        OutputError: the path has another ending or cannot be written.
    """
    path = checked(path)
    return save(layers.by_layer(list(results)), path)


def layer_weights_by_language(results: Sequence[Result], path: str | Path) -> Path:
    """Draw one method's weights as a heat map, a row a language; of several runs the mean.

    Args:
        results: of one method.
        path: ends in .svg or .png.

    Returns:
        The path.

    Raises:
        ResultError: no result has layer weights, or their numbers of layers differ.
        OutputError: the path has another ending or cannot be written.
    """
    path = checked(path)
    return save(layers.by_language(list(results)), path)


def layer_weights_in_training(log: WeightLog, path: str | Path, *, title: str = "") -> Path:
    """Draw how a run's layer weights moved: a heat map of steps and layers.

    Args:
        log: as ``layerbridge.training.weight_log.read`` gives it.
        path: ends in .svg or .png.
        title: over the picture.

    Returns:
        The path.

    Raises:
        OutputError: the path has another ending or cannot be written.
    """
    path = checked(path)
    return save(layers.over_steps(log, title=title), path)


def sentence_weights(weights: LayerWeights, path: str | Path, *, title: str = "") -> Path:
    """Draw one text's tokens and the layers that each drew on.

    Letters are drawn with whichever installed fonts have them; where none has, code points are
    written, and stderr says so.

    Args:
        weights: as ``bridge.layer_weights`` gives them.
        path: ends in .svg or .png.
        title: over the picture.

    Returns:
        The path.

    Raises:
        OutputError: the path has another ending or cannot be written.
    """
    path = checked(path)
    return save(sentence.figure(weights, title=title), path)
