"""The table of times, on tiny shapes."""

from __future__ import annotations

import json

import pytest

from layerbridge.benchmarking import latency
from layerbridge.errors import OutputError
from layerbridge.reproducing import reproduce


def test_it_is_measured_once(request_of, monkeypatch):
    outcome = reproduce(request_of("table5"))
    file, table = outcome.paths
    measured = json.loads(file.read_text())["measured"]
    assert outcome.document["measured"] == measured
    text = table.read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("| token-softmax ")]
    over = measured["ms_per_token"]["token-softmax"] / measured["ms_per_token"]["last"]
    assert f"| {over:.2f} | 1.05 | – | 11.54 |" in line
    assert "24.23 ms per token for last" in text
    assert outcome.document["paper"]["over_last"]["token-softmax"] == pytest.approx(25.41 / 24.23)

    monkeypatch.setattr(latency, "run", None)
    assert reproduce(request_of("table5")).document == outcome.document
    with pytest.raises(OutputError) as error:
        reproduce(request_of("table5", translator="shape:tiny-translator"))
    assert str(error.value) == (
        f"{str(file)!r} was made with translator None, and now it is 'shape:tiny-translator'; "
        "next: --overwrite to replace it, or another --output"
    )
