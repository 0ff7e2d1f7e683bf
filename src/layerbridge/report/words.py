"""Numbers as a report writes them."""

from __future__ import annotations

from layerbridge.report.tables.grid import signed


def percent(value: float) -> str:
    """A proportion in per cent, with one decimal."""
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """A difference in points: with its sign, and nothing has none."""
    text = signed(value)
    return "0.0" if text == "+0.0" else text


def interval(low: float, high: float) -> str:
    """From one difference to another."""
    return f"{points(low)} to {points(high)}"


def probability(p: float) -> str:
    """A p-value: three decimals are all that is ever asked of one."""
    return f"p {p:.3f}" if p >= 0.001 else "p < 0.001"
