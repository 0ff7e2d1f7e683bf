"""A tiny preset on tiny models, and a tiny copy of the news task."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest

from layerbridge.reproducing import Request, accuracy, runner
from layerbridge.reproducing.catalog import Preset, Timing
from layerbridge.training.recipe import Recipe

STEPS = 4
WORDS = {
    "Business": ("market", "bank"),
    "Entertainment": ("film", "song"),
    "Political": ("vote", "party"),
    "Sports": ("goal", "team"),
    "Science": ("star", "cell"),
}


@pytest.fixture(scope="session")
def news(tmp_path_factory):
    """A folder with the task sinhala-news: 60 English rows, 10 and 10 to test on."""
    folder = tmp_path_factory.mktemp("data") / "sinhala-news"
    folder.mkdir()

    def write(name, rows):
        lines = (json.dumps({"sentence": s, "label": w}, ensure_ascii=False) for s, w in rows)
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    words = [(label, word) for label, pair in WORDS.items() for word in pair]
    write("train-en.jsonl", [(f"{w} of day {n}", label) for n in range(6) for label, w in words])
    for code, first in (("en", "news"), ("si", "පුවත්")):
        write(f"test-{code}.jsonl", [(f"{first} {w}", label) for label, w in words])
    return folder.parent


@pytest.fixture(scope="session")
def tiny_preset(folder):
    """As ``small``, but tiny: four steps, and a checkpoint after every second."""
    return Preset(
        name="tiny",
        about="tiny models",
        recipe=Recipe(
            encoder=str(folder("xlm-r")),
            language_model=str(folder("llama")),
            max_rows=STEPS * 5,
            bridge={"projection_start": "scaled", "instruction": " (label:"},
            training={
                "max_steps": STEPS,
                "learning_rate": 1e-2,
                "per_device_train_batch_size": 5,
                "save_strategy": "steps",
                "save_steps": 2,
            },
        ),
        timing=Timing("shape:tiny-encoder", "shape:tiny-lm", texts=1, new_tokens=2, repeat=1),
        test_rows=5,
        protocols=("score",),
        seeds=(0, 1),
        fusions={
            "last": {},
            "global-softmax": {"start": "last", "fusion_learning_rate_scale": 0.03},
            "token-softmax": {"fusion_options": {"feedforward": 32}},
        },
    )


@pytest.fixture(scope="session")
def lone_preset(tiny_preset):
    """The same with one bridge and one seed."""
    return replace(tiny_preset, fusions={"last": {}}, seeds=(0,))


@pytest.fixture(scope="session")
def pair_preset(tiny_preset):
    """The same with two bridges and one seed."""
    two = {name: tiny_preset.fusions[name] for name in ("last", "global-softmax")}
    return replace(tiny_preset, fusions=two, seeds=(0,))


@pytest.fixture
def request_of(news, lone_preset, tmp_path):
    """A request for the news in the test's own folder; keywords change it."""

    def make(experiment="table3", **changes):
        usual = {"preset": lone_preset, "data_dir": news, "output_dir": tmp_path, "device": "cpu"}
        return Request(experiment, **{**usual, **changes})

    return make


class Calls(list):
    """What was trained and asked, as (verb, method, seed); ``breaks`` interrupts such a call."""

    breaks: tuple | None = None

    def add(self, call):
        self.append(call)
        if call == self.breaks:
            self.breaks = None
            raise KeyboardInterrupt

    def counted(self, told, original):
        def call(*arguments, **keywords):
            self.add(told(*arguments, **keywords))
            return original(*arguments, **keywords)

        return call


@pytest.fixture
def calls(monkeypatch):
    """Records what the runner does; it still does it."""
    made = Calls()
    told = {
        "train_bridge": lambda bridge, recipe, *_, **__: (
            "train", bridge.config.fusion, recipe.training["seed"],
        ),
        "evaluate": lambda *_, method, seed, **__: ("ask", method, seed),
        "tf_idf": lambda *_, **__: ("ask", "tf-idf", 0),
        "zero_shot": lambda *_, **__: ("ask", "zero-shot-lm", 0),
        "few_shot": lambda *_, seed, **__: ("ask", "few-shot-lm", seed),
    }  # fmt: skip
    for name, tell in told.items():
        monkeypatch.setattr(runner, name, made.counted(tell, getattr(runner, name)))
    return made


@pytest.fixture
def quick(monkeypatch):
    """What takes time and is tested elsewhere: pages, draws of a bootstrap, and the collector.

    The Trainer and statsmodels call it again and again, on a heap as large as that of all tests.
    """
    monkeypatch.setattr("gc.collect", lambda *_: 0)
    monkeypatch.setattr(accuracy, "_report", lambda request, found, path: path)
    monkeypatch.setattr(accuracy, "compare", partial(accuracy.compare, draws=50))
