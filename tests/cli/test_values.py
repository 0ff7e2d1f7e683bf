import json

import pytest

from layerbridge.cli.values import load_options, map_of_devices, task_options
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


def test_device_maps():
    assert map_of_devices(None) is None
    assert map_of_devices("auto") == "auto"
    mapping = {"encoder": "cpu", "language_model": {"model": 0}}
    assert map_of_devices(json.dumps(mapping)) == mapping
    with pytest.raises(ConfigError) as caught:
        map_of_devices("{encoder: cpu}")
    assert str(caught.value) == (
        "--device-map '{encoder: cpu}' is not valid JSON (Expecting property name enclosed in "
        "double quotes: line 1 column 2 (char 1)); allowed: auto, or a mapping such as "
        """'{"encoder": "cpu", "language_model": "auto"}'"""
    )


def test_how_models_are_loaded():
    params = {"device": "cpu", "load_in_8bit": True, "device_map": '{"encoder": "cpu"}', "run": "x"}
    options = load_options(params)
    assert options.device_map == {"encoder": "cpu"}
    assert options.quantization("language_model") == "8bit"
