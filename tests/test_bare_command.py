"""`train` with nothing but the required flags, on three small tasks, with the real models.

The rows are names of the CLDR, of things that training did not name: kinds of things, units by
what they measure, cities by continent. `make test-defaults` runs it: each task takes minutes.
"""

from __future__ import annotations

import csv
import sys

import pytest
import yaml
from babel import Locale

from layerbridge import tasks
from layerbridge.__main__ import main
from layerbridge.errors import ZooError
from layerbridge.evaluation import results
from layerbridge.hub import zoo

pytestmark = [pytest.mark.real, pytest.mark.defaults]

LANGUAGES = ("en", "hi", "ru")
UNITS = {
    "length": "length", "mass": "weight", "duration": "time", "volume": "volume", "digital": "data",
}  # fmt: skip
NUMBERS = (2, 5, 12, 30)
CONTINENTS = ("Africa", "America", "Asia", "Europe", "Pacific")


def names():
    """Kinds of things: countries, languages, currencies, …"""
    task = tasks.get("names", languages=LANGUAGES, train_per_kind=100, test_per_kind=25)
    train = [(row.text, row.target) for row in [*task.train(), *task.validation()]]
    return train, {code: [(r.text, r.target) for r in task.test(code)] for code in LANGUAGES}


def units():
    """Units by what they measure: `12 light years` → length."""

    def rows(code, numbers, remainder):
        found = Locale(code)._data["unit_patterns"]
        keys = sorted(key for key in found if key.split("-")[0] in UNITS)
        return [
            (found[key]["long"]["other"].format(number), UNITS[key.split("-")[0]])
            for index, key in enumerate(keys)
            if (index % 3 == 0) == remainder and "other" in found[key].get("long", {})
            for number in numbers
        ]

    return rows("en", NUMBERS, False), {code: rows(code, (7,), True) for code in LANGUAGES}


def cities():
    """Cities by continent."""
    english = {
        key: key.split("/")[-1].replace("_", " ") for key in Locale("ru")._data["time_zones"]
    }
    keys = [key for key in sorted(english) if key.split("/")[0] in CONTINENTS]

    def city(code, key):
        return english[key] if code == "en" else Locale(code)._data["time_zones"][key]["city"]

    train = [(english[key], key.split("/")[0]) for index, key in enumerate(keys) if index % 4]
    test = {code: [(city(code, key), key.split("/")[0]) for key in keys[::4]] for code in LANGUAGES}
    return train, test


@pytest.fixture(scope="module", autouse=True)
def _models():
    try:
        for name in ("multilingual-e5-small", "smollm2-135m-instruct"):
            zoo.pull(name)
    except ZooError as error:
        pytest.skip(f"the zoo cannot be fetched here: {error}")


def layerbridge(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["layerbridge", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path.name


@pytest.mark.parametrize("make", [names, units, cities])
def test_the_bare_command_beats_the_floor(make, tmp_path, monkeypatch):
    train, test = make()
    files = {"train": write(tmp_path / "train.csv", train)}
    files["test"] = {
        code: write(tmp_path / f"test-{code}.csv", rows) for code, rows in test.items()
    }
    labels = sorted({label for _, label in train})
    name = f"small-{make.__name__}"  # `names` is a task of the library
    task = {"name": name, "template": "{text}", "labels": labels, "files": files}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    run, floor = tmp_path / "run", tmp_path / "floor.json"
    layerbridge(
        monkeypatch, "train", "--data", tmp_path / "train.csv", "--target", "label",
        "--encoder", "zoo:multilingual-e5-small",
        "--language-model", "zoo:smollm2-135m-instruct", "-o", run,
    )  # fmt: skip
    layerbridge(monkeypatch, "evaluate", run, "--task", tmp_path / "task.yaml")
    layerbridge(monkeypatch, "baseline", "tf-idf", "--task", tmp_path / "task.yaml", "-o", floor)
    bridge = results.read(run / "results" / f"{name}-score.json")
    tf_idf = results.read(floor)
    assert bridge.languages["en"].accuracy > tf_idf.languages["en"].accuracy + 0.05
    assert bridge.average_non_english().accuracy > tf_idf.average_non_english().accuracy + 0.15
