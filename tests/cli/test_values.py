import pytest

from layerbridge.cli.values import task_options
from layerbridge.errors import ConfigError


def test_task_options(tmp_path):
    assert task_options(None, None) == {}
    assert task_options([tmp_path], ["max-test=100", "languages=en,si", "x=a=b", "y="]) == {
        "max_test": 100,
        "languages": "en,si",
        "x": "a=b",
        "y": "",
        "data_dir": [str(tmp_path)],
    }
    for pair in ("max_test", "=3"):
        with pytest.raises(ConfigError) as caught:
            task_options(None, [pair])
        assert str(caught.value) == (
            f"--task-option {pair!r} is not a pair; allowed: NAME=VALUE, such as max_test=100"
        )
