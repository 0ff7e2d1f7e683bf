"""A report's pictures: each drawn for a wide page and for a telephone, with words for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from layerbridge.evaluation.comparison import Comparison
from layerbridge.evaluation.results import CLASSIFIER, Result
from layerbridge.report.plots import accuracy, layers, style
from layerbridge.report.plots import gains as gain_plots
from layerbridge.report.plots.layers import by_method
from layerbridge.report.plots.output import svg
from layerbridge.report.run_folders import RunFolder
from layerbridge.tasks.languages import corpus_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A method whose weights differ by less from one language to another looks at no text.
_SAME = 1e-4


@dataclass(frozen=True)
class Drawing:
    """One picture.

    Attributes:
        name: its id in the page.
        caption: under it.
        label: what a screen reader says in its place.
        wide: an ``<svg>`` element.
        narrow: the same for a page of a telephone's width.
    """

    name: str
    caption: str
    label: str
    wide: str
    narrow: str


class Drawings:
    """Draws the pictures of some results; a method has one colour and marker in all of them."""

    def __init__(
        self, results: Sequence[Result], found: Sequence[Comparison], against: str
    ) -> None:
        self.results = results
        self.found = found
        self.against = against
        methods = by_method(results)
        # Encoders may have different numbers of layers, and weights of one cannot be drawn beside
        # those of another.
        self.by_depth: dict[int, list[Result]] = {}
        for result in results:
            if layers.weights_of(result):
                self.by_depth.setdefault(layers.depth_of([result]), []).append(result)
        # Those that learn weights, or might, have the first colours.
        order = sorted(methods, key=lambda name: "bridge" not in methods[name][0].settings)
        self.numbers = {name: number for number, name in enumerate(order)}

    def marked(self) -> dict[str, int]:
        """Numbers of the methods that have a colour and a marker: a floor is a grey tick."""
        floors = {result.method for result in self.results if result.protocol == CLASSIFIER}
        return {name: number for name, number in self.numbers.items() if name not in floors}

    def accuracy(self) -> list[Drawing]:
        """Accuracy by language."""
        return [
            _drawn(
                "accuracy-by-language",
                "Accuracy by language. Bars are 95 % intervals; grey ticks are baselines without a "
                "language model.",
                f"Accuracy of {_list(self.numbers)} in "
                f"{len({code for r in self.results for code in r.languages})} languages. "
                "The numbers are in the table below.",
                partial(accuracy.figure, self.results, numbers=self.numbers),
            )
        ]

    def gains(self) -> list[Drawing]:
        """Gains by script, and by the share of the encoder's pretraining data if that is known."""
        drawn = [gain for gain in self.found if gain_plots.alike(gain, self.results)]
        if not drawn:
            return []
        told = f"of {_list(gain.method for gain in drawn)} over {self.against}"
        corpus = corpus_of(gain_plots.encoder_of(self.results))
        groups = {"script": "languages grouped by script"}
        if corpus is not None:
            groups["share"] = (
                f"languages grouped by their share of {corpus.name}, on which the encoder, or the "
                "one that it was made from, was trained"
            )
        return [
            _drawn(
                f"gain-by-{by}",
                f"Gain over {self.against}, {words}. Bars are 95 % intervals of the difference on "
                "the same rows; a hollow mark may be chance.",
                f"Gain {told}, {words}. The numbers are in the table below.",
                partial(
                    gain_plots.figure,
                    self.results,
                    against=self.against,
                    by=by,
                    numbers=self.numbers,
                    found=self.found,
                ),
            )
            for by, words in groups.items()
        ]

    def weights(self) -> list[Drawing]:
        """Weights by layer, and by language for methods whose weights depend on the text."""
        made = []
        for depth, weighted in self.by_depth.items():
            methods = by_method(weighted)
            several = f" of {depth}" if len(self.by_depth) > 1 else ""
            made.append(
                _drawn(
                    f"layer-weights-{depth}",
                    f"Mean weight of each encoder layer{several}. Where a method has several runs, "
                    "each is a thin line and their mean a bold one.",
                    f"Mean weight of each encoder layer{several} in {_list(methods)}. "
                    "The numbers are in the table below.",
                    partial(layers.by_layer, weighted, numbers=self.numbers),
                )
            )
            for number, (method, results) in enumerate(methods.items()):
                if any(_differs(result) for result in results):
                    made.append(
                        _drawn(
                            f"layer-weights-{depth}-{number}",
                            f"Mean weight of each layer by language, {method}.",
                            "Heat map of the mean weight of each encoder layer in each language, "
                            f"{method}.",
                            partial(layers.by_language, results),
                        )
                    )
        return made

    def mean_weights(self) -> list[dict[str, tuple[float, ...]]]:
        """The numbers behind ``weights``: by method, the mean of its languages and runs."""
        return [
            {
                method: tuple(
                    style.mean(column)
                    for column in zip(*map(layers.mean_weights, results), strict=True)
                )
                for method, results in by_method(weighted).items()
            }
            for weighted in self.by_depth.values()
        ]

    def training(self, folders: Sequence[RunFolder]) -> list[Drawing]:
        """Weights over the steps of each run that has a log of them."""
        made = []
        for number, folder in enumerate(folders):
            log = folder.weights
            if log is None:
                continue
            made.append(
                _drawn(
                    f"training-{number}",
                    f"Layer weights over the steps of {folder.name}, on English text. Colours are "
                    "spread by the square root of the weight.",
                    f"Heat map of the layer weights of {folder.name} from step {log.steps[0]} to "
                    f"step {log.steps[-1]}.",
                    partial(layers.over_steps, log, title=folder.name),
                )
            )
        return made


def _drawn(name: str, caption: str, label: str, draw: Callable[..., Figure]) -> Drawing:
    wide = svg(draw(width=style.WIDE), name=f"{name}-wide", label=label, kind="wide")
    narrow = svg(draw(width=style.NARROW), name=f"{name}-narrow", label=label, kind="narrow")
    return Drawing(name, caption, label, wide, narrow)


def _differs(result: Result) -> bool:
    columns = zip(*layers.weights_of(result).values(), strict=True)
    return any(max(column) - min(column) > _SAME for column in columns)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
