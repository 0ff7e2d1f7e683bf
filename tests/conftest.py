"""The fixtures of every test, and what keeps a test to itself."""

from __future__ import annotations

import gc
import signal

import pytest


def pytest_configure(config):
    # With -n, the first process runs no test: it need not wait for the frameworks' imports.
    if hasattr(config, "workerinput") or config.getoption("dist", "no") == "no":
        config.pluginmanager.import_plugin("backbones")


def pytest_collection_modifyitems(items):
    # The demo takes longest by far: begun last, it would keep one core busy and leave one idle.
    items.sort(key=lambda item: item.get_closest_marker("real") is None)


def pytest_collection_finish():
    # transformers' Trainer collects garbage before each training. With a million objects of the
    # imported modules to look through, this would take half a second each time.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _alone(request, tmp_path_factory, monkeypatch):
    """No test finds or leaves anything in the user's cache, or asks a hub."""
    if request.node.get_closest_marker("real"):
        return
    monkeypatch.setenv("LAYERBRIDGE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def ctrl_c():
    """Ctrl-C counts, also where the shell that started the tests has its children ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
