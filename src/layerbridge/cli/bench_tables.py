"""Tables of ``layerbridge bench`` on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from layerbridge.report.tables.grid import Grid


def show(name: str, figures: Mapping[str, Any]) -> None:
    """Shows a benchmark's figures, one per row."""
    table = Table(title=f"bench {name}", title_justify="left", show_header=False)
    for key, value in figures.items():
        if isinstance(value, dict) and all(isinstance(v, (int, float)) for v in value.values()):
            for inner, number in value.items():
                table.add_row(f"{key}: {inner}", _number(number))
        elif isinstance(value, (int, float, str)):
            table.add_row(key, _number(value))
    Console(stderr=True).print(table)


def show_levels(figures: Mapping[str, Any]) -> None:
    """Shows the figures of ``bench serve`` by engine and concurrency."""
    title = "bench serve: medians over rounds; p50/p99 in ms"
    head = ["engine", "clients", "tokens/s", "first token", "per token", "latency", "errors"]
    body: list[list[str]] = []
    for name, engine in figures["engines"].items():
        for level in engine["levels"]:
            spreads = (level["ms_to_first_token"], level["ms_per_token"], level["latency_ms"])
            cells = [
                name,
                str(level["concurrency"]),
                _number(level["tokens_per_second"]),
                *(f"{s['p50']:.0f}/{s['p99']:.0f}" if s else "–" for s in spreads),
                ", ".join(f"{count} × {kind}" for kind, count in level["errors"].items()) or "0",
            ]
            body.append(cells)
    Console(stderr=True).print(Grid(head, body, 1, title=title).rich())


def _number(value: float | str) -> str:
    if isinstance(value, int) and value > 10**6:
        return f"{value / 2**20:,.0f} MiB"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
