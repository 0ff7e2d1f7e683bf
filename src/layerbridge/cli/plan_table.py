"""What ``layerbridge train --dry-run`` prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerbridge.training.plan import Plan


def show(plan: Plan, *, as_json: bool) -> None:
    """Prints a plan on stdout: as a table, or as JSON with bytes."""
    if as_json:
        print(json.dumps(plan.to_dict(), indent=1))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_header=False)
    table.add_column()
    table.add_column()
    table.add_column(justify="right")
    about = "about " if plan.rows["about"] else ""
    groups: dict[str, list[tuple[str, str]]] = {
        "parameters": [(name, f"{number:,}") for name, number in plan.parameters.items()],
        "rows": [(name, f"{about}{plan.rows[name]:,}") for name in ("training", "validation")],
        "steps": [("", f"{plan.steps:,}")],
        f"memory ({plan.device}, {plan.dtype})": [
            *((name, decimal(size)) for name, size in plan.memory.items() if size),
            ("peak", decimal(plan.peak)),
            ("available", "unknown" if plan.available is None else decimal(plan.available)),
        ],
        "disk": [(name, decimal(size)) for name, size in plan.disk.items()],
    }
    for group, lines in groups.items():
        for place, (name, value) in enumerate(lines):
            table.add_row("" if place else group, name, value)
        table.add_section()
    console = Console()
    console.print(table)
    batch = plan.batch
    tokens = f"{batch['text_tokens']} + {batch['target_tokens']} tokens"
    console.print(f"The step with the most memory: {batch['rows']} rows of {tokens}.")
    if plan.fits is None:
        return
    console.print("It fits." if plan.fits else "It does not fit. Each of these alone would take:")
    for change in plan.changes:
        fits = "fits" if change.fits else "does not fit"
        console.print(f"  {change.flags}: {decimal(change.peak)}, {fits}", soft_wrap=True)
