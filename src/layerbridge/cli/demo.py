"""``layerbridge demo``: two real models, three bridges, fifteen languages, a few minutes."""

from __future__ import annotations

from pathlib import Path

import typer


def demo(
    output_dir: Path = typer.Option(
        Path("runs/demo"), "--output-dir", "-o", help="Where everything is written."
    ),
    quick: bool = typer.Option(False, "--quick", help="Fewer steps, languages and rows."),
    seed: int = typer.Option(0, help="Of training."),
) -> None:
    """Train three bridges on English names and ask them in fifteen languages."""
    from layerbridge.demo import QUICK, DemoSettings
    from layerbridge.demo import demo as run

    run(output_dir, QUICK if quick else DemoSettings(), seed=seed)
