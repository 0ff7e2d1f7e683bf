"""The benchmarks on tiny shapes: that they run, and what their JSON holds; no speed is tested."""

import json
import pickle

import pytest

from layerbridge.benchmarking import fusion, memory, roofline, start, train

TINY = ("--encoder", "shape:tiny-encoder", "--language-model", "shape:tiny-lm", "--device", "cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(roofline.MATRIX, "cpu", 64)
    monkeypatch.setattr(train, "GROUP", 4)


@pytest.fixture
def _in_process(monkeypatch):
    """Peaks are not what is tested here, and a fresh process takes seconds to import torch."""

    def call(function, *arguments):
        function, arguments = pickle.loads(pickle.dumps((function, arguments)))
        return function(*arguments)

    for module in (fusion, memory, start):
        monkeypatch.setattr(module, "in_fresh_process", call)


def document(result):
    assert result.code == 0, result.err
    return json.loads(result.out.splitlines()[-1])


@pytest.mark.usefixtures("_in_process")
def test_fusion(command):
    found = document(
        command("bench", "fusion", "--layers", "3", "--width", "32", "--tokens", "8",
                "--repeat", "1", "--device", "cpu")
    )  # fmt: skip
    fusion = found["fusion"]
    assert {"speedup_forward", "speedup_train", "max_difference", "memory_ratio"} <= fusion.keys()
    assert 0 < fusion["max_difference"] < 1e-5
    assert fusion["speedup_forward"] > 0
    assert found["machine"]["torch"]


@pytest.mark.parametrize("fusion", ["last", "global-softmax", "token-softmax"])
def test_train(command, fusion):
    found = document(
        command("bench", "train", *TINY, "--fusion", fusion, "--batch-size", "4", "--steps", "2",
                "--repeat", "1", "--dtype", "float32")
    )  # fmt: skip
    train = found["train"]
    # One round, so that the ratio of the medians is the median of the ratios.
    rates = train["rows_per_second"]
    assert train["speedup"] == pytest.approx(rates["layerbridge"] / rates["reference"])
    assert train["speedup_same_dtype"] == train["speedup"]
    assert train["loss_difference"] < 1e-4
    assert train["rows"] == 8


def test_train_in_another_dtype_has_two_rivals(command):
    found = document(
        command("bench", "train", *TINY, "--batch-size", "2", "--steps", "1", "--repeat", "1",
                "--dtype", "bfloat16", "--optimizations", "collapsed,grouped")
    )  # fmt: skip
    rates = found["train"]["rows_per_second"]
    assert set(rates) == {"layerbridge", "reference", "reference, float32"}
    assert found["train"]["levers"] == ["collapsed", "grouped"]
    assert found["train"]["reading_states_s"] == 0


def test_waterfall(command):
    found = document(
        command("bench", "train", *TINY, "--batch-size", "2", "--steps", "1", "--repeat", "1",
                "--dtype", "float32", "--ablate")
    )  # fmt: skip
    assert set(found["train"]["rows_per_second"]) == {
        "layerbridge", "reference", "no lever",
        "collapsed alone", "label-rows alone", "grouped alone", "cached alone",
    }  # fmt: skip


def test_evaluate(command):
    found = document(
        command("bench", "evaluate", *TINY, "--repeat", "1", "--rows", "6", "--dtype", "float32")
    )
    evaluate = found["evaluate"]
    assert (evaluate["rows"], evaluate["options"]) == (6, 3)
    assert set(evaluate["rows_per_second"]) == set(evaluate["ways"])


@pytest.mark.usefixtures("_in_process")
def test_memory(command):
    found = document(command("bench", "memory", *TINY, "--batch-size", "2", "--steps", "1"))
    assert set(found["memory"]["peak_bytes"]) == {
        "layerbridge",
        "layerbridge, gradient checkpointing",
        "reference",
        "reference, float32",
    }
    assert 0.3 < found["memory"]["ratio_checkpointed"] < 1.2
    assert 0.3 < found["memory"]["ratio"] < 1.5


@pytest.mark.usefixtures("_in_process")
@pytest.mark.parametrize("start", ["scaled", "aligned"])
def test_start(command, start):
    found = document(
        command("bench", "start", *TINY, "--rows", "3,12", "--projection-start", start)
    )["start"]
    assert found["start"] == start
    for figures in (found["peak_bytes"], found["added_bytes"], found["seconds"]):
        assert list(figures) == ["3 rows", "12 rows"]
    peaks = found["peak_bytes"]
    assert found["growth"] == pytest.approx(peaks["12 rows"] / peaks["3 rows"])


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_latency(command, cache):
    found = document(
        command("bench", "latency", *TINY, "--translator", "shape:tiny-translator", "--texts", "1",
                "--max-new-tokens", "3", "--repeat", "1", "--cache", cache)
    )  # fmt: skip
    latency = found["latency"]
    contestants = {"last", "global-softmax", "token-softmax", "translate, then answer"}
    assert set(latency["ms_per_token"]) == contestants
    times = latency["ms_per_token"]
    assert latency["over_last"] == {name: time / times["last"] for name, time in times.items()}


def test_levers_are_reported(command):
    assert "collapsed" in command("bench", "optimizations").out


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        (
            ("train", "--encoder", "shape:nothing"),
            "unknown shape 'nothing'; allowed: ",
        ),
        (
            ("train", "--encoder", "shape:tiny-lm"),
            "shape 'tiny-lm' is a language model, not an encoder",
        ),
        (
            ("train", "--optimizations", "magic"),
            "unknown optimization 'magic'; allowed: all, none, collapsed",
        ),
        (("train", "--dtype", "int4"), "unknown dtype 'int4'; allowed: auto, float32"),
        (("start", "--rows", "0,5"), "--rows '0,5' has no row to start from; allowed: positive"),
        (
            ("start", "--projection-start", "random"),
            "unknown projection start 'random'; allowed: scaled, aligned",
        ),
        (("latency", "--cache", "magic"), "unknown cache 'magic'; allowed: dynamic, static"),
    ],
)
def test_mistakes_are_one_line(command, arguments, outcome):
    result = command("bench", *arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith(f"error: {outcome}"), result.err
    assert result.err.count("\n") == 1
