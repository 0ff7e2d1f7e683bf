import json

import pytest

from layerbridge.cli.plan_table import show
from layerbridge.training.plan import Plan
from layerbridge.training.plan_changes import Change

PLAN = Plan(
    rows={"training": 9000, "validation": 1000, "about": True},
    parameters={"encoder": 117_000_000, "trained": 222_336},
    steps=330,
    batch={"rows": 16, "text_tokens": 40, "target_tokens": 3},
    dtype="float32",
    device="cpu",
    memory={"process": 600_000_000, "logits": 0, "optimizer": 400_000_000},
    peak=1_000_000_000,
    available=900_000_000,
    disk={"checkpoints": 5_000_000, "free": 70_000_000},
    changes=[Change("--dtype bfloat16", 700_000_000, True), Change("--x 1", 950_000_000, False)],
)


def test_people_get_a_table(capsys):
    show(PLAN, as_json=False)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "parameters encoder 117,000,000",
        "rows training about 9,000",
        "steps 330",
        "memory (cpu, float32) process 600.0 MB",
        "peak 1.0 GB",
        "available 900.0 MB",
        "disk checkpoints 5.0 MB",
        "The step with the most memory: 16 rows of 40 + 3 tokens.",
        "It does not fit. Each of these alone would take:",
        "--dtype bfloat16: 700.0 MB, fits",
        "--x 1: 950.0 MB, does not fit",
    ):
        assert line in lines, line
    assert not any("logits" in line for line in lines)


def test_programs_get_bytes(capsys):
    show(PLAN, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is False
    assert (found["peak"], found["available"]) == (1_000_000_000, 900_000_000)
    assert found["changes"][0] == {"flags": "--dtype bfloat16", "peak": 700_000_000, "fits": True}


def test_a_dry_run_trains_nothing(command, train_flags, tmp_path):
    flags = ("train", *train_flags, "-o", tmp_path / "run")
    result = command(*flags, "--dry-run", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert (found["rows"]["training"], found["steps"], found["fits"]) == (4, 2, True)
    assert found["peak"] == sum(found["memory"].values())
    result = command(*flags, "--dry-run")
    assert "It fits." in result.out
    refused = command(*flags, "--json")
    assert (refused.code, refused.err) == (2, "error: --json works only with --dry-run\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [["--target", "none"], ["--encoder", "/nowhere/e5"]])
def test_a_mistake_is_one_line(command, train_flags, tmp_path, words):
    result = command("train", *train_flags, *words, "--dry-run", "-o", tmp_path / "run")
    assert result.code == 2
    assert result.err.splitlines()[-1].startswith("error: ")
