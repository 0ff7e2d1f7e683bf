import json
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from layerbridge.cli import env
from layerbridge.version import __version__


@pytest.fixture
def gpus(monkeypatch):
    """What nvidia-smi prints, or the error it ends with."""

    def say(outcome):
        def run(*_, **__):
            if isinstance(outcome, Exception):
                raise outcome
            return SimpleNamespace(stdout=outcome)

        monkeypatch.setattr("shutil.which", lambda name: outcome and f"/usr/bin/{name}")
        monkeypatch.setattr("subprocess.run", run)

    return say


def test_what_is_installed_and_where_it_runs(command, gpus, monkeypatch):
    gpus("NVIDIA H200, 570.1, 143771 MiB\n\n")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = command("env", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert found["layerbridge"] == __version__
    assert found["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert found["gpus"] == ["NVIDIA H200, 570.1, 143771 MiB"]
    assert found["environment"]["HF_HUB_OFFLINE"] == "1"
    for name in ("torch", "transformers", "huggingface-hub", "scipy"):
        assert found["packages"][name] == metadata.version(name)
    assert "layerbridge" not in found["packages"]
    lines = command("env").out.splitlines()
    assert f"layerbridge: {__version__}" in lines
    assert f"  torch: {metadata.version('torch')}" in lines
    assert "gpus: NVIDIA H200, 570.1, 143771 MiB" in lines


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "hf_token", "VLLM_API_KEY", "HTTPS_PROXY", "LAYERBRIDGE_API_KEYS"]
)
def test_secrets_are_not_shown(command, gpus, monkeypatch, name):
    gpus("")
    monkeypatch.setenv(name, "hf_secret")
    for form in ([], ["--json"]):
        out = command("env", *form).out
        assert "hf_secret" not in out
        assert name in out
    assert "gpus: none" in command("env").out


def test_a_driver_that_fails_is_said(gpus):
    gpus(subprocess.TimeoutExpired("nvidia-smi", 5))
    (said,) = env._gpus()
    assert said.startswith("nvidia-smi failed (")


def test_without_an_installed_package(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    assert env._packages()["torch"] == metadata.version("torch")
    monkeypatch.setattr(metadata, "version", absent)
    assert env._packages()["torch"] == "missing"
