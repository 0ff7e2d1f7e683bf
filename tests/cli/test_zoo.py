import json
from pathlib import Path

import pytest

from layerbridge.hub import zoo

NAMES = ["multilingual-e5-small", "smollm2-135m-instruct", "gemma-3-270m"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERBRIDGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_list_json(command, home):
    result = command("zoo", "list", "--json")
    assert (result.code, result.err) == (0, "")
    listed = json.loads(result.out)
    assert [row["name"] for row in listed] == NAMES
    assert [row["present"] for row in listed] == [False] * 3
    assert {row["kind"] for row in listed} == {zoo.entry(name).kind for name in NAMES}
    assert all(row["download_mb"] > 0 and row["licence"] for row in listed)
    assert not home.exists()


def test_list(command, home):
    lines = command("zoo", "list").out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [f"zoo:{name}" for name in NAMES]
    assert all(" MB to download\t" in line for line in lines)


@pytest.mark.parametrize("prefix", ["", "zoo:"])
def test_path_of_an_absent_model(command, home, prefix):
    result = command("zoo", "path", f"{prefix}{NAMES[0]}")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"error: zoo model {NAMES[0]}: not in {home / 'zoo'}; next: layerbridge zoo pull "
        f"{NAMES[0]}\n"
    )


def test_path_and_pull_of_a_model_that_is_here(command, monkeypatch):
    asked = []
    monkeypatch.setattr(zoo, "path", lambda name: Path("/zoo") / name)
    monkeypatch.setattr(
        zoo, "pull", lambda name, *, force: asked.append((name, force)) or Path("/zoo") / name
    )
    assert command("zoo", "path", f"zoo:{NAMES[0]}").out == f"/zoo/{NAMES[0]}\n"
    result = command("zoo", "pull", NAMES[0], f"zoo:{NAMES[1]}", "--force")
    assert result.out.splitlines() == [f"/zoo/{name}" for name in NAMES[:2]]
    assert asked == [(NAMES[0], True), (NAMES[1], True)]


def test_a_misspelt_name_stops_before_the_first_pull(command, home, monkeypatch):
    monkeypatch.setattr(zoo, "pull", lambda *_, **__: pytest.fail("pulled"))
    result = command("zoo", "pull", NAMES[0], "smollm3")
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert "'smollm3'" in result.err
    assert ", ".join(NAMES) in result.err
    assert not home.exists()
