import importlib
import subprocess
import sys

import pytest

import layerbridge


def python(*words):
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, timeout=120
    )


def test_importing_it_loads_no_framework():
    said = python(
        "-c",
        "import sys, layerbridge, layerbridge.errors, layerbridge.zoo, layerbridge.results\n"
        "dir(layerbridge); layerbridge.__version__\n"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])",
    )
    assert (said.returncode, said.stdout, said.stderr) == (0, "[]\n", "")


def test_importing_the_model_warns_of_nothing():
    said = python("-W", "error", "-c", "import layerbridge.model")
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


@pytest.mark.parametrize("name", layerbridge.__all__)
def test_every_public_name_is_there(name):
    value = getattr(layerbridge, name)
    if name != "__version__":
        assert value is getattr(importlib.import_module(value.__module__), name)
        assert value.__module__.startswith("layerbridge.")
        assert value.__doc__


def test_dir_and_star_give_the_same_names():
    assert dir(layerbridge) == sorted(layerbridge.__all__)
    space = {}
    exec("from layerbridge import *", space)
    assert set(layerbridge.__all__) <= set(space)
    assert set(layerbridge._PUBLIC) | {"__version__"} == set(layerbridge.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'layerbridge' has no attribute 'Layerbridge'"):
        _ = layerbridge.Layerbridge
