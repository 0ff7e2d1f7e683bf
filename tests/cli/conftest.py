"""The command in this process, and one trained run that every verb may ask."""

from __future__ import annotations

import dataclasses
import json
import sys
from functools import partial

import pytest

from layerbridge import tasks
from layerbridge.cli.app import main
from layerbridge.training.recipe import Recipe
from layerbridge.training.run import train

EXAMPLES = {"the market": "country", "ම ශ්": "unit", "teams": "unit", "a crowd": "country"}


@dataclasses.dataclass
class CommandResult:
    """The exit code, stdout and stderr of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs ``layerbridge`` with these words."""

    def run(*words) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["layerbridge", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return CommandResult(left.value.code, out, err)

    return run


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """A JSONL file of four rows."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [json.dumps({"text": text, "label": label}) for text, label in EXAMPLES.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(folder, rows, tmp_path_factory):
    """A run with label words and a checkpoint; a test that changes it works on a copy."""
    output = tmp_path_factory.mktemp("trained") / "run"
    recipe = Recipe(
        encoder=str(folder("xlm-r")),
        language_model=str(folder("llama")),
        data=str(rows),
        options=["country", "unit", "time zone"],
        bridge={"fusion": "token-softmax", "fusion_options": {"feedforward": 32}},
        backbones={"dtype": "float32"},
        training={"max_steps": 2, "save_strategy": "steps", "save_steps": 1},
    )
    train(recipe, output, device="cpu")
    return output


@pytest.fixture
def few_names(monkeypatch):
    """The task ``names`` with three test rows a kind: enough to see a table made of them."""
    monkeypatch.setattr(tasks, "get", partial(tasks.get, test_per_kind=3))


@pytest.fixture
def train_flags(folder, rows):
    """Flags of a small run, without its output folder."""
    return [
        *("--data", rows),
        *("--encoder", folder("xlm-r")),
        *("--language-model", folder("llama")),
        *("--dtype", "float32"),
        *("--device", "cpu"),
        *("--max-steps", "2"),
    ]
