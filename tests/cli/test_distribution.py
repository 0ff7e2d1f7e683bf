"""The wheel and the sdist: all files are in them, and the wheel runs without the source tree."""

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import core_install
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "src/layerbridge/"

wheel_builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")


@pytest.fixture(scope="module")
def tracked():
    """The files of the repository, as git knows them."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("this is no checkout")
    return {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    (file,) = wheel_builder.WheelBuilder(str(ROOT)).build(directory=str(folder))
    return Path(file)


def test_the_wheel_has_the_package_and_nothing_else(wheel, tracked):
    """Also what is no Python: task files, recipes, page and fonts, the zoo's list, stubs."""
    names = {
        name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("layerbridge-")
    }
    package = {name.removeprefix("src/") for name in tracked if name.startswith(PACKAGE)}
    assert names == package
    kinds = {Path(name).suffix for name in names}
    assert kinds >= {".yaml", ".json", ".html", ".js", ".css", ".woff2", ".pyi", ".typed"}
    licenses = [name for name in zipfile.ZipFile(wheel).namelist() if "/licenses/" in name]
    assert sorted(Path(name).name for name in licenses) == ["LICENSE", "OFL.txt"]


def test_the_sdist_has_what_tests_and_docs_need(tracked, tmp_path):
    from hatchling.builders.sdist import SdistBuilder

    (file,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path))
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = tracked - names
    assert missing == set()
    assert names - tracked == {"PKG-INFO"}


RUN = """
import contextlib, io, json, sys
from layerbridge.cli.app import main
printed = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["layerbridge", *words]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main()
        except SystemExit as left:
            assert not left.code, words
    printed.append(out.getvalue())
import layerbridge
print(json.dumps([layerbridge.__file__, *printed]))
"""


def test_the_wheel_runs_without_the_source(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    core = tmp_path / "core"
    core.mkdir()
    core_install.link(core)
    verbs = [["env", "--json"], ["tasks"], ["zoo", "list"]]
    done = subprocess.run(
        [sys.executable, "-S", "-c", RUN, json.dumps(verbs)],
        env={"PYTHONPATH": f"{site}:{core}", "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    file, env, tasks, zoo = json.loads(done.stdout.splitlines()[-1])
    assert Path(file).is_relative_to(site)
    assert json.loads(env)["folder"] == str(site / "layerbridge")
    assert all(name in tasks for name in ("xnli", "sib200", "sinhala-news"))
    assert "smollm2-135m-instruct" in zoo
