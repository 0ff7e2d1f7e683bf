import time

import torch

from layerbridge.benchmarking import measure
from layerbridge.benchmarking.measure import Timing, interleave, peak_bytes, ratio


def test_contestants_take_turns():
    calls = []
    found = interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4  # the first round warms up
    assert {name: len(timing.seconds) for name, timing in found.items()} == {"a": 3, "b": 3}


def test_a_cold_start_is_measured_when_asked():
    calls = []
    interleave({"a": lambda: calls.append(1)}, 2, warm_up=False)
    assert len(calls) == 2


def test_seconds_are_seconds():
    found = interleave({"slow": lambda: time.sleep(0.05), "fast": lambda: time.sleep(0.01)}, 3)
    assert 0.05 <= found["slow"].median < 0.2
    assert 2 < ratio(found["slow"], found["fast"]) < 6


def test_progress_tells_every_call():
    message = []
    interleave(
        {"a": int, "b": int},
        1,
        progress=lambda done, total, name: message.append((done, total, name)),
    )
    assert message == [(1, 4, "a"), (2, 4, "b"), (3, 4, "a"), (4, 4, "b")]


def test_ratio_pairs_the_rounds():
    """A slow minute hits both contestants of a round: 2, 2 and 4 times, not 8/2 or 4/4."""
    slow, fast = Timing((2.0, 8.0, 4.0)), Timing((1.0, 4.0, 1.0))
    assert ratio(slow, fast) == 2.0
    assert slow.to_dict() == {"median": 4.0, "min": 2.0, "max": 8.0, "rounds": 3}


def _peaks_of(*sizes):
    peaks = []
    for megabytes in sizes:
        before, peak = peak_bytes(lambda size=megabytes: torch.ones(size * 2**18).sum())
        peaks.append((peak - before) / 2**20)
    return peaks


def test_peak_of_a_fresh_process():
    sizes = (256, 64)
    for megabytes, extra in zip(sizes, measure.in_fresh_process(_peaks_of, *sizes), strict=True):
        assert 0.8 * megabytes < extra < 1.5 * megabytes + 32


def test_machine_says_what_it_was_run_with():
    found = measure.machine()
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert found["threads"] == torch.get_num_threads()
    assert {"cpu", "cpus", "python", "layerbridge", "transformers"} <= found.keys()
