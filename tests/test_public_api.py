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
    result = python(
        "-c",
        "import sys, layerbridge, layerbridge.errors, layerbridge.hub.zoo\n"
        "import layerbridge.evaluation.results\n"
        "dir(layerbridge); layerbridge.__version__\n"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])",
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize("name", layerbridge.__all__)
def test_every_public_name_is_there(name):
    value = getattr(layerbridge, name)
    if name != "__version__":
        module = getattr(value, "__module__", None)  # a room has none
        assert module is None or value is getattr(importlib.import_module(module), name)
        assert (module or value.__name__).startswith("layerbridge.")
        assert value.__doc__


def test_dir_and_star_give_the_same_names():
    assert dir(layerbridge) == sorted(layerbridge.__all__)
    space = {}
    exec("from layerbridge import *", space)
    assert set(layerbridge.__all__) <= set(space)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No layerbridge attribute Layerbridge"):
        _ = layerbridge.Layerbridge
