"""The plan: what it says, and that it fetches nothing."""

from __future__ import annotations

import json

import pytest

from layerbridge.hub import sources, zoo
from layerbridge.reproducing import Request, catalog, estimate, plan, reproduce
from layerbridge.reproducing.dry_run import duration


@pytest.fixture
def no_network(monkeypatch):
    """Whatever would fetch something fails."""
    import socket

    import datasets
    import huggingface_hub

    def refused(*_, **__):
        raise AssertionError("a plan fetches nothing")

    for module, name in (
        (zoo, "pull"),
        (sources, "resolve"),
        (datasets, "load_dataset"),
        (huggingface_hub, "hf_hub_download"),
        (huggingface_hub, "snapshot_download"),
        (socket.socket, "connect"),
    ):
        monkeypatch.setattr(module, name, refused)
    monkeypatch.setattr(estimate.roofline, "matrix_rate", lambda device, dtype: 1e11)


@pytest.mark.parametrize(
    ("experiment", "name"),
    [*(("table1", name) for name in catalog.presets()), ("table3", "paper"), ("table5", "paper"),
     ("figure2", "small"), ("xsid", "demo")],
)  # fmt: skip
def test_nothing_is_fetched(no_network, name, experiment, tmp_path):
    found = plan(Request(experiment, preset=name, output_dir=tmp_path, device="cpu"))
    json.dumps(found.document)
    assert list(tmp_path.iterdir()) == []
    assert all(step.state == "to do" for step in found.steps)


@pytest.mark.parametrize("place", ["memory", None])
def test_the_arithmetic(no_network, tmp_path, monkeypatch, place):
    """Of xnli, small, by hand: 52 tokens a text, 3 200 rows, 200 test rows in 15 languages.

    States that are kept are computed once for all jobs, others in every one.
    """
    monkeypatch.setattr("layerbridge.reproducing.dry_run.place_for", lambda *_: place)
    found = plan(Request("table1", seeds=(0,), output_dir=tmp_path, device="cpu"))
    steps = {step.method: step for step in found.steps}
    # Matrices of BERT: 12 × (4·384² + 2·384·1536), and the one of its position table is none; of
    # Llama: 30 × (2·576² + 2·576·192 + 3·576·1536).
    encoder = 12 * (4 * 384**2 + 2 * 384 * 1536)
    lm = 30 * (2 * 576**2 + 2 * 576 * 192 + 3 * 576 * 1536)
    of = estimate.sizes("zoo:multilingual-e5-small", "zoo:smollm2-135m-instruct")
    assert (of.encoder, of.language_model) == (encoder, lm)
    training = 4 * lm * 60 * 3200
    asking = (2 * encoder * 52 + 2 * lm * 60) * 3000
    reading = 2 * encoder * 52 * 3200
    speed = 0.39 * 1e11
    expected = (training + asking + (0 if place else reading)) / speed
    assert steps["last"].seconds == pytest.approx(expected)
    assert (steps["last"].steps, steps["last"].rows, steps["last"].test_rows) == (200, 3200, 3000)
    assert steps["zero-shot-lm"].seconds == pytest.approx(2 * lm * (2 * 52 + 30) * 3000 / speed)
    assert steps["tf-idf"].seconds == 0
    told = " ".join(found.notes)
    assert ("kept in memory during training" if place else ", not kept") in told
    total = sum(step.seconds for step in found.steps) + (reading / speed if place else 0)
    assert f"total time: about {duration(total)} on cpu" in told
    assert "zoo:multilingual-e5-small: 95.0 MB to fetch" in told
    assert "rows of xnli: not yet" in told


def test_the_papers_plan(no_network, tmp_path):
    found = plan(Request("table1", preset="paper", output_dir=tmp_path, device="cpu"))
    steps = [step for step in found.steps if step.method == "token-softmax"]
    assert [step.seed for step in steps] == [0, 1, 2]
    assert (steps[0].steps, steps[0].rows) == (37500, 300_000)
    assert steps[0].test_rows == 2 * 15 * 5010
    told = " ".join(found.notes)
    assert "google/mt5-large: 4.9 GB to fetch" in told
    assert "it needs --allow-pickle" in told


def test_what_is_there_is_known(request_of, quick):
    reproduce(request_of())
    assert {step.state for step in plan(request_of()).steps} == {"done"}
    more = plan(request_of(seeds=(0, 1)))
    assert [step.state for step in more.steps if step.seed == 1] == ["to do", "to do"]
    changed = {step.method: step for step in plan(request_of(max_test=3)).steps}
    assert changed["last"].state == "was made with test_rows 5, and now it is 3"
    again = {step.method: step for step in plan(request_of(max_test=3, overwrite=True)).steps}
    assert again["last"].state == "other settings, to be replaced"
    assert (again["last"].steps, again["last"].test_rows) == (0, 6)
    # The models of this test are nobody's, so their time is not known.
    assert again["last"].seconds is None


def test_texts_are_measured_where_they_are_files(request_of):
    # "News Sentence: news market Category: " and the like: 36 letters or so.
    assert estimate.text_tokens(request_of().task()) == 9
    assert estimate.text_tokens(Request("table1").task()) == 52


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, "–"), (3, "3 s"), (600, "10 min"), (9000, "2.5 h"), (864000, "10 days")],
)
def test_durations(seconds, told):
    assert duration(seconds) == told
