import json

import pytest
import torch

from layerbridge.models import cpu_speed
from layerbridge.models.cpu_speed import bfloat16_is_faster


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine whose CPU takes these seconds, and how often it was asked."""
    monkeypatch.setenv("LAYERBRIDGE_HOME", str(tmp_path / "home"))
    seconds, asked = {"float32": 2.0, "bfloat16": 1.0}, []
    monkeypatch.setattr(cpu_speed, "measure", lambda: asked.append(1) or dict(seconds))
    monkeypatch.setattr(cpu_speed, "cpu_name", lambda: "Some CPU")
    bfloat16_is_faster.cache_clear()
    yield seconds, asked, tmp_path / "home" / cpu_speed.FILE
    bfloat16_is_faster.cache_clear()


def asked_anew():
    bfloat16_is_faster.cache_clear()
    return bfloat16_is_faster()


@pytest.mark.parametrize("faster", [True, False])
def test_the_faster_dtype_is_measured_once_a_machine(machine, faster):
    seconds, asked, file = machine
    seconds["bfloat16"] = 1.0 if faster else 2.0
    assert bfloat16_is_faster() is faster
    assert json.loads(file.read_text()) == {f"Some CPU, torch {torch.__version__}": seconds}
    assert [bfloat16_is_faster(), asked_anew()] == [faster, faster]
    assert len(asked) == 1
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_another_cpu_or_torch_is_another_machine(machine, monkeypatch):
    seconds, asked, file = machine
    asked_anew()
    monkeypatch.setattr(cpu_speed, "cpu_name", lambda: "Other CPU")
    seconds["bfloat16"] = 3.0
    assert asked_anew() is False
    monkeypatch.setattr(torch, "__version__", "9.9")
    asked_anew()
    assert len(asked) == len(json.loads(file.read_text())) == 3


@pytest.mark.parametrize("content", ["{", "[]", "7", '{"Some CPU, torch V": 1}', "\udcff"])
def test_a_damaged_file_is_measured_again(machine, content):
    _, asked, file = machine
    file.parent.mkdir()
    content = content.replace("V", torch.__version__)
    file.write_text(content, encoding="utf-8", errors="surrogateescape")
    assert asked_anew() is True
    assert asked_anew() is True
    assert len(asked) == 1


def test_a_home_that_cannot_be_written_is_measured_once_a_process(machine):
    _, asked, file = machine
    file.parent.write_text("a file")
    assert [bfloat16_is_faster(), bfloat16_is_faster()] == [True, True]
    assert len(asked) == 1


def test_measuring_is_short_and_draws_no_random_numbers(monkeypatch):
    monkeypatch.setattr(cpu_speed, "ROWS", 8)
    before = torch.random.get_rng_state()
    seconds = cpu_speed.measure()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert set(seconds) == {"float32", "bfloat16"}
    assert all(0 < each < 1 for each in seconds.values())
    assert cpu_speed.cpu_name()
