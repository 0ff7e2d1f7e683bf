"""Backbones in 4 and 8 bits: loading, gradients, logits, records, and what is refused."""

import json
import logging

import bitsandbytes
import pytest
import torch
import transformers
from torch import nn
from transformers import BitsAndBytesConfig

from layerbridge.errors import BackboneError, ConfigError, MissingExtraError
from layerbridge.hub.sources import resolve
from layerbridge.models import quantization
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.packing import pack
from layerbridge.training.collation import pad_labels

TEXTS = ["The market rose.", "Both teams entertained the crowd while it rained."]
OPTIONS = ["Business", "Sports"]
BITS = {"4bit": bitsandbytes.nn.Linear4bit, "8bit": bitsandbytes.nn.Linear8bitLt}


@pytest.fixture(scope="module")
def quantized(folder):
    """The pair in 4 or 8 bits, with the same bridge each time."""
    made = {}

    def make(bits, dtype="float32", encoder="mt5", language_model="llama"):
        key = (bits, dtype, encoder, language_model)
        if key not in made:
            torch.manual_seed(0)
            made[key] = LayerBridge.from_backbones(
                str(folder(encoder)),
                str(folder(language_model)),
                dtype=dtype,
                projection_start="random",
                options=OPTIONS,
                quantization_config=bits,
            )
        return made[key]

    return make


def plain(model):
    """A copy of a model in 4 bits with the weights it computes with in plain layers."""
    for module in list(model.modules()):
        for child_name, child in list(module.named_children()):
            if isinstance(child, bitsandbytes.nn.Linear4bit):
                layer = nn.Linear(child.in_features, child.out_features, child.bias is not None)
                weight = child.weight
                layer.weight.data = bitsandbytes.functional.dequantize_4bit(
                    weight.data, weight.quant_state
                ).to(torch.float32)
                if child.bias is not None:
                    layer.bias.data = child.bias.data
                setattr(module, child_name, layer.requires_grad_(False))
    return model


def loss_and_gradients(bridge, states):
    bridge.eval()  # dropout of the fusion would differ
    model = bridge.language_model
    targets = [[*model.token_ids(word), model.eos_id] for word in OPTIONS]
    bridge.zero_grad()
    loss = bridge(hidden_states=states, labels=pad_labels(targets)).loss
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in bridge.projection.parameters()])


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("encoder", "language_model"), [("mt5", "llama"), ("xlm-r", "gemma2")])
def test_both_backbones_are_loaded_in_few_bits(quantized, bits, encoder, language_model):
    bridge = quantized(bits, "float32", encoder, language_model)
    for model in (bridge.encoder.model, bridge.language_model.model):
        kinds = [type(module) for module in model.modules()]
        assert kinds.count(BITS[bits]) >= 2 * 4
        assert quantization.described(model.config) == f"bitsandbytes {bits}"
    assert bridge.language_model.traits.head_is_separable
    assert bridge.classify(TEXTS[0])[0].choice in OPTIONS
    assert len(bridge.generate_text(TEXTS, max_new_tokens=2)) == 2
    assert bridge.config.encoder_quantization == bits
    assert bridge.config.language_model_quantization == bits


@pytest.mark.parametrize("language_model", ["llama", "gemma2"])
def test_gradients_of_4_bits_are_those_of_the_weights_it_computes_with(
    quantized, folder, language_model
):
    bridge = quantized("4bit", "float32", "xlm-r", language_model)
    states = bridge.encode(TEXTS)
    loss, gradients = loss_and_gradients(bridge, states)
    source = resolve(str(folder(language_model)))
    model = LanguageModel.load(source, LoadOptions("float32", load_in_4bit=True))
    plain(model.model)
    again = LayerBridge.from_parts(bridge.config, bridge.encoder, model, texts=None)
    again.load_trained(bridge.trained_state_dict())
    expected_loss, expected = loss_and_gradients(again, states)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-6)
    assert gradients.abs().max() > 1e-3


def test_gradients_of_8_bits_are_close_to_those_of_the_whole_model(quantized, make_bridge):
    bridge = quantized("8bit")
    states = bridge.encode(TEXTS)
    _, gradients = loss_and_gradients(bridge, states)
    whole = make_bridge(projection_start="random")
    whole.load_trained(bridge.trained_state_dict())
    _, expected = loss_and_gradients(whole, states)
    assert torch.cosine_similarity(gradients, expected, dim=0) > 0.99


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_head_gives_the_quantized_models_own_logits(quantized, bits, dtype):
    bridge = quantized(bits, dtype)
    model = bridge.language_model
    ids = torch.tensor([[model.bos_id, *model.token_ids(TEXTS[0])]])
    mask = torch.ones_like(ids)
    own = model.model(input_ids=ids, attention_mask=mask).logits[:, -1]
    found, _ = model.last_logits(model.embed(ids), mask)
    torch.testing.assert_close(found[:, 0], own, rtol=1e-5, atol=1e-6)
    rows = torch.tensor([5, 7, 9])
    exact, _ = model.last_logits(model.embed(ids), mask, exact=rows)
    hidden = model.model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state[:, -1]
    expected = hidden.float() @ model.model.lm_head.weight[rows].float().T
    torch.testing.assert_close(exact[:, 0, rows].float(), expected, rtol=1e-5, atol=1e-5)
    others = [index for index in range(own.shape[1]) if index not in rows.tolist()]
    torch.testing.assert_close(exact[:, 0, others].float(), own[:, others].float())
    # In training: the rows that predict a label.
    labels = torch.tensor([[5, 7, 2]])
    prefix = model.prefix(model.embed(ids), mask.bool())
    packed = pack([*prefix, model.target(labels)])
    whole = model.model(
        inputs_embeds=packed.inputs_embeds, attention_mask=packed.attention_mask
    ).logits[0, -3:]
    torch.testing.assert_close(model.label_logits(prefix, labels), whole, rtol=1e-4, atol=1e-4)


def test_a_quantized_head_is_run_whole(folder):
    config = BitsAndBytesConfig(
        load_in_4bit=True, llm_int8_skip_modules=["none"], bnb_4bit_compute_dtype=torch.bfloat16
    )
    options = LoadOptions("bfloat16", quantization_config=config)
    model = LanguageModel.load(resolve(str(folder("llama"))), options)
    head = model.model.get_output_embeddings()
    assert isinstance(head, bitsandbytes.nn.Linear4bit)
    ids = torch.tensor([[model.bos_id, *model.token_ids(TEXTS[0])]])
    mask = torch.ones_like(ids)
    own = model.model(input_ids=ids, attention_mask=mask).logits[:, -1]
    found, _ = model.last_logits(model.embed(ids), mask, exact=torch.tensor([5, 7]))
    torch.testing.assert_close(found[:, 0], own, rtol=0, atol=0)


def test_a_run_keeps_how_its_backbones_were_loaded(quantized, tmp_path):
    bridge = quantized("4bit")
    bridge.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["encoder_quantization"] == saved["language_model_quantization"] == "4bit"

    def loaded(**loading):
        found = LayerBridge.from_pretrained(tmp_path, dtype="float32", **loading)
        assert found.config.language_model_quantization == "4bit"  # that of training
        models = (found.encoder.model, found.language_model.model)
        return [quantization.described(model.config) for model in models]

    assert loaded() == ["bitsandbytes 4bit"] * 2
    assert loaded(load_in_8bit=True) == ["bitsandbytes 8bit"] * 2
    assert loaded(unquantized=True) == [None, None]
    assert loaded(quantization_config={"encoder": "none"}) == [None, "bitsandbytes 4bit"]


def test_configs_of_transformers_are_kept_for_one_backbone(folder, tmp_path):
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4")
    bridge = LayerBridge.from_backbones(
        str(folder("mt5")), str(folder("llama")), dtype="float32", projection_start="random",
        quantization_config={"language_model": config},
    )  # fmt: skip
    assert bridge.config.encoder_quantization is None
    bridge.save_pretrained(tmp_path)
    found = LayerBridge.from_pretrained(tmp_path, dtype="float32")
    assert found.encoder.model.config.to_dict().get("quantization_config") is None
    kept = found.language_model.model.config.quantization_config
    assert kept.bnb_4bit_quant_type == "fp4"


def test_quantized_checkpoints_are_loaded_as_they_are(folder, tmp_path, capsys):
    config = BitsAndBytesConfig(load_in_8bit=True)
    path = folder("llama")
    model = transformers.AutoModelForCausalLM.from_pretrained(path, quantization_config=config)
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(path).save_pretrained(tmp_path)
    found = LanguageModel.load(resolve(str(tmp_path)), LoadOptions("float32"))
    assert quantization.described(found.model.config) == "bitsandbytes 8bit"
    again = LanguageModel.load(resolve(str(tmp_path)), LoadOptions("float32", load_in_4bit=True))
    assert quantization.described(again.model.config) == "bitsandbytes 8bit"
    assert "is quantized already (bitsandbytes), and loaded as it is" in capsys.readouterr().err


def test_what_a_quantized_checkpoint_lacks_is_said_in_one_line(folder, tmp_path):
    path = folder("llama")
    settings = json.loads((path / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    for file in path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BackboneError, match="quantized with gptq, cannot be loaded here") as caught:
        LanguageModel.load(resolve(str(tmp_path)))
    assert "\n" not in str(caught.value)
    assert "next: install what is missing" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"load_in_4bit": True, "load_in_8bit": True},
            "load_in_4bit and load_in_8bit contradict each other; allowed: one of them",
        ),
        (
            {"quantization_config": "3bit"},
            f"unknown quantization_config '3bit'; allowed: {quantization.ALLOWED}",
        ),
        (
            {"quantization_config": {"encoder": "4bit", "llm": "4bit"}},
            "unknown quantization_config {'encoder': '4bit', 'llm': '4bit'}; allowed: "
            f"{quantization.ALLOWED}",
        ),
        (
            {"load_in_4bit": True, "device": "meta"},
            "the device 'meta' cannot run models in 4 bits; allowed: cpu, cuda, xpu, hpu, npu, "
            "mps; next: another --device, or leave the option out",
        ),
    ],
)  # fmt: skip
def test_options_that_cannot_be_used(options, message):
    with pytest.raises(ConfigError) as caught:
        LoadOptions(**options)
    assert str(caught.value) == message


def test_an_unknown_config_of_transformers_is_refused(folder):
    options = LoadOptions("float32", quantization_config={"quant_method": "other"})
    with pytest.raises(ConfigError, match="invalid quantization_config: Unknown quantization"):
        LanguageModel.load(resolve(str(folder("llama"))), options)


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_a_missing_package_is_named_before_anything_is_loaded(monkeypatch, bits):
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        LoadOptions(quantization_config={"language_model": bits})
    assert str(caught.value) == (
        f"loading models in {bits[0]} bits needs bitsandbytes, which is not installed; next: "
        "pip install 'layerbridge[quantize]'"
    )
    LoadOptions(unquantized=True)


def test_8_bits_are_quiet(quantized, caplog):
    bridge = quantized("8bit")
    with caplog.at_level(logging.WARNING):
        bridge.classify(TEXTS)
    assert "MatMul8bitLt" not in caplog.text
