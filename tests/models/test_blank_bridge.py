"""A bridge without weights tokenizes and counts as the whole one does."""

import pytest

import tiny
from layerbridge.errors import CheckpointError
from layerbridge.models.blank_bridge import blank_bridge
from layerbridge.models.prompt_room import fixed_tokens

TEXTS = ["The market rose", "ශ්‍රී ලංකාව", "", "the teams of the market " * 30]


@pytest.mark.parametrize("encoder", tiny.ENCODERS)
def test_it_reads_as_the_whole_bridge_does(encoder, make_bridge, tmp_path):
    bridge = make_bridge(encoder, max_text_tokens=24, template="{text} Label:")
    bridge.save_pretrained(tmp_path)
    blank = blank_bridge(str(tmp_path))
    whole = bridge.encoder.tokenize(TEXTS)
    for name, tensor in blank.encoder.tokenize(TEXTS).items():
        assert tensor.tolist() == whole[name].tolist(), name
    assert blank.encoder.num_layers == bridge.encoder.num_layers
    assert blank.encoder.first_layer == bridge.encoder.first_layer
    assert {tensor.device.type for tensor in blank.encoder.state_dict().values()} == {"meta"}


@pytest.mark.parametrize("language_model", tiny.LANGUAGE_MODELS)
def test_it_has_the_language_models_tokens(language_model, make_bridge, tmp_path):
    bridge = make_bridge(language_model=language_model, instruction="Say: ")
    bridge.save_pretrained(tmp_path)
    blank, whole = blank_bridge(str(tmp_path)).language_model, bridge.language_model
    assert blank.token_ids("the market") == whole.token_ids("the market")
    for name in ("bos_id", "eos_id", "known_ids", "max_tokens", "width"):
        assert getattr(blank, name) == getattr(whole, name), name
    assert fixed_tokens(bridge.config, blank) == fixed_tokens(bridge.config, whole)


def test_another_language_model_is_refused(make_bridge, tmp_path):
    bridge = make_bridge()
    bridge.config.language_model_fingerprint = "0" * 64
    bridge.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"the language model .* is not the one this bridge"):
        blank_bridge(str(tmp_path))
