import json

import pytest

from layerbridge.errors import ConfigError
from layerbridge.models.config import BridgeConfig
from layerbridge.version import __version__


def refused(**settings):
    with pytest.raises(ConfigError) as caught:
        BridgeConfig(**settings)
    return str(caught.value)


def test_defaults():
    config = BridgeConfig()
    assert (config.fusion, config.start, config.normalize) == ("token-softmax", None, None)
    assert (config.projection_start, config.boundary, config.instruction) == ("aligned", True, None)
    assert (config.max_text_tokens, config.fusion_options) == (512, {})
    assert config.model_type == "layerbridge"
    assert config.layerbridge_version == __version__


def test_settings_that_do_not_fit():
    assert refused(normalize="layer") == "unknown normalize 'layer'; allowed: rms, none"
    assert refused(start="first") == "unknown start 'first'; allowed: uniform, last"
    assert refused(projection_start="zero") == (
        "unknown projection_start 'zero'; allowed: random, scaled, aligned"
    )
    assert refused(max_text_tokens=0) == ("max_text_tokens=0 is too small; allowed: 1 or more")


def test_save_and_load_keep_every_setting(tmp_path):
    settings = {
        "encoder": "google/mt5-small",
        "encoder_revision": "a" * 40,
        "encoder_fingerprint": "b" * 64,
        "language_model": "zoo:smollm2-135m-instruct",
        "language_model_fingerprint": "c" * 64,
        "encoder_width": 512,
        "encoder_layers": 8,
        "language_model_width": 576,
        "fusion": "global-softmax",
        "fusion_options": {"base": 10.0},
        "normalize": "rms",
        "start": "last",
        "projection_start": "aligned",
        "boundary": False,
        "instruction": "Answer: ශ්‍රී",
        "max_text_tokens": 128,
        "options": ["Business", "ක්‍රීඩා"],
        "template": "News Sentence: {sentence} Category: ",
        "usual_any_option": 0.9375,
    }
    BridgeConfig(**settings).save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    loaded = BridgeConfig.from_pretrained(tmp_path)
    for name, value in settings.items():
        assert getattr(loaded, name) == value, name
        assert stored[name] == value, name
    assert stored["model_type"] == "layerbridge"
    assert stored["layerbridge_version"] == __version__


def test_options_of_two_configs_are_apart():
    shared = {"heads": 2}
    first, second = BridgeConfig(fusion_options=shared), BridgeConfig(fusion_options=shared)
    first.fusion_options["heads"] = 4
    assert (second.fusion_options, shared) == ({"heads": 2}, {"heads": 2})
