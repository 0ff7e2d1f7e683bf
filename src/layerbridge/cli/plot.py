"""``layerbridge plot``: pictures of result files."""

from __future__ import annotations

from pathlib import Path

import typer


def plot(
    runs: list[Path] = typer.Argument(..., help="Result files, or folders that hold some."),
    output_dir: Path = typer.Option(Path("plots"), "--output-dir", "-o", help="Where they go."),
    form: str = typer.Option("png", "--format", help="png or svg."),
) -> None:
    """Draw accuracy by language, and the layer weights where a fusion has learned any."""
    from layerbridge import plots, results

    found = results.find(runs)
    print(plots.accuracy_by_language(found, output_dir / f"accuracy-by-language.{form}"))
    weighted = [
        language.layer_weights for result in found for language in result.languages.values()
    ]
    if any(weighted):
        print(plots.layer_weights(found, output_dir / f"layer-weights.{form}"))
