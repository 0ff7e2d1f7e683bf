import pytest

from layerbridge import errors
from layerbridge.errors import LayerBridgeError


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
    ],
)
def test_a_library_user_catches_value_error(name):
    with pytest.raises(ValueError, match=r"^x$") as caught:
        raise getattr(errors, name)("x")
    assert isinstance(caught.value, LayerBridgeError)
