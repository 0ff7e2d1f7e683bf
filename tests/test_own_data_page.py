"""Every block of docs/own-data.md, as it is printed, with tiny models in place of the zoo's."""

import csv
import json
import re
import shlex
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient

from layerbridge.__main__ import main
from layerbridge.hub import zoo
from layerbridge.training import defaults, schedule

PAGE = Path(__file__).parents[1] / "docs" / "own-data.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
TINY = {"multilingual-e5-small": "xlm-r", "smollm2-135m-instruct": "llama"}
WORDS = {"business": "the market rose", "sports": "the players won"}


def blocks(kind):
    return [text for name, text in BLOCKS if name == kind]


def commands(text):
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines() if line]


@pytest.fixture
def desk(folder, tmp_path, monkeypatch):
    """A folder with the files that the page names, and tiny models instead of the zoo's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zoo, "pull", lambda name: folder(TINY[name]))
    monkeypatch.setattr(zoo, "path", lambda name: folder(TINY[name]))
    monkeypatch.setattr(zoo, "checksums", lambda name: defaultdict(lambda: name))
    monkeypatch.setattr(defaults, "steps", lambda rows: 5)
    (task,) = blocks("yaml")
    Path("news.yaml").write_text(task, encoding="utf-8")
    labels = yaml.safe_load(task)["labels"]
    (sample,) = blocks("csv")
    first = list(csv.DictReader(sample.splitlines()))
    assert {row["label"] for row in first} <= set(labels)
    for name, number in (("train", 10), ("test-sw", 2), ("test-am", 2)):
        with Path(f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["text", "label"])
            writer.writeheader()
            writer.writerows(first if name == "train" else [])
            for label in labels:
                words = WORDS.get(label, "a star shines")
                writer.writerows({"text": f"{words} {n}", "label": label} for n in range(number))
    return tmp_path


def test_the_page(desk, monkeypatch, capsys):
    served = []

    def serve(app, *_, **__):
        with TestClient(app) as client:
            asked = {"model": "news", "text": "Timu ya taifa ilishinda fainali."}
            while (answer := client.post("/v1/classify", json=asked)).status_code == 503:
                time.sleep(0.05)  # it loads
            served.append(answer.json()["choice"])

    monkeypatch.setattr("layerbridge.serving.server.serve", serve)
    labels = yaml.safe_load(Path("news.yaml").read_text())["labels"]
    uploads = []
    for text in blocks("bash"):
        for words in commands(text):
            if words[0] == "hf":
                uploads.append(words)
                continue
            monkeypatch.setattr(sys, "argv", words)
            with pytest.raises(SystemExit) as left:
                main()
            out, err = capsys.readouterr()
            assert left.value.code == 0, (words, err)
            if words[1] == "ask":
                assert all(any(label in line for label in labels) for line in out.splitlines())
    assert len(served) == 1
    assert served[0] in labels
    assert Path("report.html").is_file()
    # All of a run is in its folder; `hf upload NAME FOLDER` is huggingface_hub's own.
    assert uploads == [["hf", "upload", "me/news-bridge", "runs/news"]]
    for name in ("config.json", "model.safetensors", "README.md", "recipe.yaml"):
        assert Path("runs/news", name).is_file()
    config = json.loads(Path("runs/news/config.json").read_text())
    assert config["encoder"] == "zoo:multilingual-e5-small"


def test_the_python_block(desk, capsys):
    (code,) = blocks("python")
    exec(compile(code, str(PAGE), "exec"), {"__name__": "__main__"})
    choice, probability = capsys.readouterr().out.split()
    assert choice in yaml.safe_load(Path("news.yaml").read_text())["labels"]
    assert 0 < float(probability) <= 1


def test_the_defaults_that_the_page_names():
    text = PAGE.read_text(encoding="utf-8")
    for rows, steps in ((850, 100), (3_000, 190), (30_000, 610)):
        assert schedule.steps(rows) == steps
        assert str(steps) in text
