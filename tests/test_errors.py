import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from layerbridge import errors
from layerbridge.errors import LayerBridgeError, MissingExtraError, missing_extra


def test_one_line_of_three_parts():
    assert str(LayerBridgeError("no such thing")) == "no such thing"
    assert str(LayerBridgeError("no x", allowed="a or b")) == "no x; allowed: a or b"
    assert str(LayerBridgeError("no x", allowed=["a", "b"])) == "no x; allowed: a, b"
    assert str(LayerBridgeError("no x", hint="do y")) == "no x; next: do y"
    whole = LayerBridgeError("no x", allowed=(c for c in "ab"), hint="do y")
    assert str(whole) == "no x; allowed: a, b; next: do y"
    assert str(whole) == whole.args[0]  # a generator is read once only
    assert (whole.problem, whole.allowed, whole.hint) == ("no x", "a, b", "do y")


def test_line_breaks_never_come_through():
    error = LayerBridgeError("a\n  b", allowed=["c\n"], hint="d\t e")
    assert str(error) == "a b; allowed: c ; next: d e"
    assert "\n" not in str(error)
    assert "\t" not in str(error)


@pytest.mark.parametrize(
    "name",
    [
        "ConfigError",
        "BackboneError",
        "CheckpointError",
        "DataError",
        "ResultError",
        "OutputError",
        "ZooError",
        "TrainingError",
        "MissingExtraError",
    ],
)
def test_a_library_user_catches_value_error(name):
    with pytest.raises(ValueError, match=r"^x$") as caught:
        raise getattr(errors, name)("x")
    assert isinstance(caught.value, LayerBridgeError)


def test_a_module_of_an_extra_that_is_not_installed():
    error = missing_extra(ModuleNotFoundError("No module named 'fastapi'", name="fastapi"))
    assert isinstance(error, MissingExtraError)
    assert str(error) == (
        "this needs fastapi, which is not installed; next: pip install 'layerbridge[serve]'"
    )


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("sklearn.feature_extraction", "eval"),
        ("scipy.stats", "eval"),
        ("statsmodels", "eval"),
        ("matplotlib.pyplot", "plots"),
        ("jinja2", "plots"),
        ("starlette.types", "serve"),
        ("uvicorn", "serve"),
        ("prometheus_client", "serve"),
        ("babel", "zoo"),
        ("gguf", "zoo"),
        ("filelock", "zoo"),
        ("sentencepiece", "translate"),
        ("vllm", "vllm"),
    ],
)
def test_extra_of_each_module(module, extra):
    error = missing_extra(ModuleNotFoundError(name=module))
    assert error is not None
    assert error.hint == f"pip install 'layerbridge[{extra}]'"


def test_other_import_errors_are_not_about_an_extra():
    assert missing_extra(ModuleNotFoundError(name="layerbridge.no_such_module")) is None
    assert missing_extra(ModuleNotFoundError("no name")) is None
    # The package is there and broken: installing it again would not help.
    assert missing_extra(ImportError("cannot import name 'x'", name="scipy")) is None


def test_every_package_of_an_extra_is_known():
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = metadata.packages_distributions()
    for extra, modules in errors._EXTRAS.items():
        packages = {
            line.partition(">")[0].lower() for line in project["optional-dependencies"][extra]
        } - {"layerbridge[serve]"}
        known = {
            name.lower().replace("_", "-")
            for module in modules
            for name in installed.get(module, [module])
        }
        assert packages <= known, extra


@pytest.mark.parametrize(
    ("rows", "texts", "line"),
    [
        ((), None, "NaN or infinity in the scores; next: again"),
        ((2,), None, "NaN or infinity in the scores, in row 3 of the batch; next: again"),
        ((0, 2), "abc", "NaN or infinity in the scores, for the text 'a' and 1 more; next: again"),
        ((1,), ["", "x" * 70], f"NaN or infinity in the scores, for the text {'x' * 60 + ' …'!r}"),
    ],
)
def test_numbers_that_are_not_finite(rows, texts, line):
    error = errors.NotFiniteError("the scores", rows, hint="again")
    error = error if texts is None else error.of(texts)
    assert str(error).startswith(line)
    assert error.rows == rows
    assert error.texts == (None if texts is None else tuple(texts[row] for row in rows))
