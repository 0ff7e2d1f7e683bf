"""``layerbridge plot``: pictures of result files, of a run's training, and of one text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from layerbridge.evaluation.results import Result
    from layerbridge.models.inference import LayerWeights

RESULTS = "results"


class _ResultsIfNothingElse(TyperGroup):
    """``layerbridge plot RUN`` is ``layerbridge plot results RUN``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words, with the name of the usual picture before them where none is given."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = [RESULTS, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ResultsIfNothingElse,
    help="Draw results: RUN… alone, or one of the pictures below.",
    rich_markup_mode=None,
)

_RUNS: Any = typer.Argument(..., help="Result files, or folders that hold some.")
_OUTPUT: Any = typer.Option(Path("plots"), "--output-dir", "-o", help="Where they go.")
_FORM: Any = typer.Option("png", "--format", help="png or svg.")


@app.command(RESULTS)
def results_(runs: list[Path] = _RUNS, output_dir: Path = _OUTPUT, form: str = _FORM) -> None:
    """Draw accuracy by language, and the layer weights where a fusion has learned any."""
    from layerbridge.evaluation import results
    from layerbridge.report import plots

    found = results.find(runs)
    print(plots.accuracy_by_language(found, output_dir / f"accuracy-by-language.{form}"))
    if _weighted(found):
        print(plots.layer_weights(found, output_dir / f"layer-weights.{form}"))


@app.command("weights")
def weights(runs: list[Path] = _RUNS, output_dir: Path = _OUTPUT, form: str = _FORM) -> None:
    """Draw the layer weights: of all methods by layer, and of each by language."""
    from layerbridge.evaluation import results
    from layerbridge.report import plots

    found = _weighted(results.find(runs)) or results.find(runs)
    print(plots.layer_weights_by_layer(found, output_dir / f"layer-weights.{form}"))
    for method in dict.fromkeys(result.method for result in found):
        path = output_dir / f"layer-weights-{_file_name(method)}.{form}"
        of_method = [result for result in found if result.method == method]
        print(plots.layer_weights_by_language(of_method, path))


@app.command("training")
def training(
    runs: list[Path] = typer.Argument(..., help="Folders of runs, or folders that hold some."),
    output_dir: Path = _OUTPUT,
    form: str = _FORM,
) -> None:
    """Draw how the layer weights moved in training: steps by layers."""
    from layerbridge.errors import ResultError
    from layerbridge.report import plots
    from layerbridge.report.run_folders import run_folders
    from layerbridge.training.weight_log import FILE

    logged = [(folder.name, folder.weights) for folder in run_folders(runs) if folder.weights]
    if not logged:
        raise ResultError(
            f"there is no {FILE} in {', '.join(map(str, runs))}",
            hint="a run has one if its fusion learns weights, such as global-softmax",
        )
    names = _distinct(name for name, _ in logged)
    for (title, log), name in zip(logged, names, strict=True):
        path = output_dir / f"layer-weights-in-training-{name}.{form}"
        print(plots.layer_weights_in_training(log, path, title=title))


@app.command("gains")
def gains(
    runs: list[Path] = _RUNS,
    against: str = typer.Option("last", help="The method to compare with."),
    by: str = typer.Option("script", help="script, or share of the encoder's pretraining data."),
    output_dir: Path = _OUTPUT,
    form: str = _FORM,
) -> None:
    """Draw what each method gains over one of them, language by language."""
    from layerbridge.evaluation import results
    from layerbridge.report import plots

    path = output_dir / f"gain-by-{_file_name(by)}.{form}"
    print(plots.gain_by_language(results.find(runs), path, against=against, by=by))


@app.command("sentence")
def sentence(
    run: str = typer.Argument(..., help="The run's folder, or a hub id."),
    texts: list[str] = typer.Argument(..., help="Texts in any language."),
    output_dir: Path = _OUTPUT,
    form: str = typer.Option(
        "png", "--format", help="png, svg, or html, which has the browser's fonts."
    ),
    dtype: str = typer.Option("auto", help="Of the backbones."),
    device: str | None = typer.Option(None, help="cpu, cuda, …; the best there is if not given."),
    revision: str | None = typer.Option(None, help="Of a bridge on the hub."),
    trust_remote_code: bool = typer.Option(False, "--trust-remote-code"),
    allow_pickle: bool = typer.Option(False, "--allow-pickle"),
) -> None:
    """Draw which layers each token of a text drew on."""
    from layerbridge.report import plots
    from layerbridge.report.plots.output import check_path

    # Before the models are read, which takes a while.
    if form != "html":
        check_path(output_dir / f"tokens.{form}")
    asked = sentences(
        run,
        texts,
        dtype=dtype,
        device=device,
        revision=revision,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    if form == "html":
        from layerbridge import report

        title = f"Layer weights of {run}, token by token"
        print(report.write_tokens(asked, output_dir / "tokens.html", title=title))
        return
    for number, (text, weights) in enumerate(asked, 1):
        name = f"tokens-{number}" if len(asked) > 1 else "tokens"
        print(plots.sentence_weights(weights, output_dir / f"{name}.{form}", title=text))


def sentences(
    run: str, texts: Iterable[str], *, device: str | None = None, **options: Any
) -> list[tuple[str, LayerWeights]]:
    """Texts with their weights, token by token.

    Args:
        run: the bridge's folder, or a hub id.
        texts: in any language.
        device: the best there is if None.
        **options: as for ``LayerBridge.from_pretrained``.
    """
    from layerbridge.models.backbone import choose_device
    from layerbridge.models.bridge import LayerBridge

    bridge = LayerBridge.from_pretrained(run, device=choose_device(device), **options)
    texts = list(texts)
    return list(zip(texts, bridge.layer_weights(texts), strict=True))


def _weighted(found: list[Result]) -> list[Result]:
    return [
        result
        for result in found
        if any(language.layer_weights for language in result.languages.values())
    ]


def _file_name(name: str) -> str:
    """A method's name as part of a file's: letters and digits of any script, and dashes."""
    return re.sub(r"[^\w]+", "-", name).strip("-")[:60] or "unnamed"


def _distinct(names: Iterable[str]) -> list[str]:
    """Names for files, the second of a kind with a number behind it."""
    made: list[str] = []
    for name in map(_file_name, names):
        number = 1
        while (name if number == 1 else f"{name}-{number}") in made:
            number += 1
        made.append(name if number == 1 else f"{name}-{number}")
    return made
