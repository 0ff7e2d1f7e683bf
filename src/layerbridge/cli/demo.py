"""``layerbridge demo``: two real models, three bridges, fifteen languages, a few minutes."""

from __future__ import annotations

from pathlib import Path

from layerbridge.cli import options as o


def demo(
    output_dir: o.OutputFolder = Path("runs/demo"),
    quick: bool = o.option(False, "Fewer steps, languages and rows.", "--quick"),
    seed: int = o.option(0, "Random seed of training."),
) -> None:
    """Train three bridges on English, test them in 15 languages.

    The texts are names of countries, languages, currencies and the like.
    """
    from layerbridge.demo import QUICK, DemoSettings
    from layerbridge.demo import demo as run

    run(output_dir, QUICK if quick else DemoSettings(), seed=seed)
