"""``layerbridge plot``: figures of result files, of a run's training, and of single texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from layerbridge.cli import options as o
from layerbridge.cli.values import load_bridge

if TYPE_CHECKING:
    from layerbridge.evaluation.results import Result
    from layerbridge.models.inference import LayerWeights

RESULTS = "results"
FOLDER = Path("plots")


class _DefaultToResults(TyperGroup):
    """``layerbridge plot RUN`` is ``layerbridge plot results RUN``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the name of the usual figures first where no figure is named."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = [RESULTS, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_DefaultToResults, help="Draw figures; `plot RUN` is short for `plot results RUN`."
)


@app.command(RESULTS)
def results_(
    runs: o.ResultFiles, output_dir: o.OutputFolder = FOLDER, form: o.FigureFormat = "png"
) -> None:
    """Draw accuracy by language, and layer weights.

    Layer weights only if a fusion learned any.
    """
    from layerbridge.evaluation import results
    from layerbridge.report import plots

    runs_found = results.find(runs)
    print(plots.accuracy_by_language(runs_found, output_dir / f"accuracy-by-language.{form}"))
    if _with_weights(runs_found):
        print(plots.layer_weights(runs_found, output_dir / f"layer-weights.{form}"))


@app.command("weights")
def weights(
    runs: o.ResultFiles, output_dir: o.OutputFolder = FOLDER, form: o.FigureFormat = "png"
) -> None:
    """Draw layer weights, by layer and by language.

    Those of all methods by layer, and of each method by language.
    """
    from layerbridge.evaluation import results
    from layerbridge.report import plots

    runs_found = results.find(runs)
    weighted = _with_weights(runs_found) or runs_found
    print(plots.layer_weights_by_layer(weighted, output_dir / f"layer-weights.{form}"))
    for method in dict.fromkeys(result.method for result in weighted):
        path = output_dir / f"layer-weights-{_file_name(method)}.{form}"
        of_method = [result for result in weighted if result.method == method]
        print(plots.layer_weights_by_language(of_method, path))


@app.command("training")
def training(
    runs: list[Path] = o.argument(..., "RUN", "Run folders, or folders that contain some."),
    output_dir: o.OutputFolder = FOLDER,
    form: o.FigureFormat = "png",
) -> None:
    """Draw how layer weights changed during training."""
    from layerbridge.errors import ResultError
    from layerbridge.report import plots
    from layerbridge.report.run_folders import run_folders
    from layerbridge.training.weight_log import FILE

    logs = [(folder.name, folder.weights) for folder in run_folders(runs) if folder.weights]
    if not logs:
        raise ResultError(
            f"no {FILE} in {', '.join(map(str, runs))}",
            hint="a run has one if its fusion learns weights, such as global-softmax",
        )
    names = _unique_names(name for name, _ in logs)
    for (title, log), name in zip(logs, names, strict=True):
        path = output_dir / f"layer-weights-in-training-{name}.{form}"
        print(plots.layer_weights_in_training(log, path, title=title))


@app.command("gains")
def gains(
    runs: o.ResultFiles,
    against: o.Against = "last",
    by: str = o.option("script", "script, or share of the encoder's pretraining data."),
    output_dir: o.OutputFolder = FOLDER,
    form: o.FigureFormat = "png",
) -> None:
    """Draw what each method gains over another, by language."""
    from layerbridge.evaluation import results
    from layerbridge.report import plots

    path = output_dir / f"gain-by-{_file_name(by)}.{form}"
    print(plots.gain_by_language(results.find(runs), path, against=against, by=by))


@app.command("sentence")
def sentence(
    context: typer.Context,
    run: o.RunFolder,
    texts: list[str] = o.argument(..., "TEXT", "Texts in any language."),
    dtype: o.Dtype = "auto",
    device: o.Device = None,
    revision: o.Revision = None,
    trust_remote_code: o.TrustRemoteCode = False,
    allow_pickle: o.AllowPickle = False,
    output_dir: o.OutputFolder = FOLDER,
    form: str = o.output("png", "png, svg, or html (uses the browser's fonts).", "--format"),
) -> None:
    """Draw which encoder layers each token of a text uses."""
    from layerbridge.report import plots
    from layerbridge.report.plots.output import check_path

    # Before the models are loaded, which takes a while.
    if form != "html":
        check_path(output_dir / f"tokens.{form}")
    token_maps = token_weights(run, texts, context.params)
    if form == "html":
        from layerbridge import report

        title = f"Layer weights of {run}, token by token"
        print(report.write_tokens(token_maps, output_dir / "tokens.html", title=title))
        return
    for number, (text, weights) in enumerate(token_maps, 1):
        name = f"tokens-{number}" if len(token_maps) > 1 else "tokens"
        print(plots.sentence_weights(weights, output_dir / f"{name}.{form}", title=text))


def token_weights(
    run: str, texts: Sequence[str], params: Mapping[str, Any]
) -> list[tuple[str, LayerWeights]]:
    """Returns each text with its tokens' layer weights; ``params`` as for ``load_bridge``."""
    bridge = load_bridge(run, params)
    return list(zip(texts, bridge.layer_weights(list(texts)), strict=True))


def _with_weights(runs: list[Result]) -> list[Result]:
    return [
        result
        for result in runs
        if any(language.layer_weights for language in result.languages.values())
    ]


def _file_name(name: str) -> str:
    """Returns a method's name as part of a file name: letters, digits of any script, dashes."""
    return re.sub(r"[^\w]+", "-", name).strip("-")[:60] or "unnamed"


def _unique_names(names: Iterable[str]) -> list[str]:
    """Returns names for files; a repeated name gets a number."""
    unique: list[str] = []
    for name in map(_file_name, names):
        number, candidate = 1, name
        while candidate in unique:
            number += 1
            candidate = f"{name}-{number}"
        unique.append(candidate)
    return unique
