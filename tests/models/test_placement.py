"""Backbones spread over devices, as far as a CPU shows: maps, hooks, and what stays where it is."""

import pytest
import torch
from accelerate import dispatch_model
from transformers import PreTrainedConfig, PreTrainedModel

from layerbridge.errors import ConfigError
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.placement import input_device, offloaded, put, stays
from layerbridge.training.collation import pad_labels

TEXTS = ["The market rose.", "Both teams entertained the crowd while it rained."]
OPTIONS = ["Business", "Sports"]
# Layers on "disk" have hooks on a CPU, too: their weights are on the meta device until they run.
LLAMA = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.layers.0": "cpu",
         "model.layers.1": "disk", "model.norm": "cpu", "lm_head": "disk"}  # fmt: skip
XLMR = {"embeddings": "cpu", "encoder.layer.0": "disk", "encoder.layer.1": "cpu",
        "encoder.layer.2": "disk", "encoder.layer.3": "cpu"}  # fmt: skip


def numbers(bridge):
    """States, loss, gradients, scores and an answer."""
    encoder, model = bridge.encoder, bridge.language_model
    states = bridge.encode(TEXTS)
    targets = [[*model.token_ids(word), model.eos_id] for word in OPTIONS]
    bridge.zero_grad()
    loss = bridge(**encoder.tokenize(TEXTS), labels=pad_labels(targets)).loss
    loss.backward()
    gradients = [p.grad.clone() for p in bridge.projection.parameters()]
    scores = torch.tensor([list(each.scores.values()) for each in bridge.classify(TEXTS, OPTIONS)])
    answers = bridge.generate_text(TEXTS, max_new_tokens=3)
    return [states.stacked, loss.detach(), *gradients, scores], answers


@pytest.fixture
def spread(folder, make_bridge):
    """A bridge whose backbones are partly on disk, and the same one in memory."""
    whole = make_bridge("xlm-r", "llama")
    options = LoadOptions("float32", device_map={"encoder": XLMR, "language_model": LLAMA})
    bridge = LayerBridge(
        whole.config,
        Encoder.load(resolve(str(folder("xlm-r"))), options),
        LanguageModel.load(resolve(str(folder("llama"))), options),
    ).to("cpu")
    bridge.load_trained(whole.trained_state_dict())
    return bridge.eval(), whole


def test_spread_backbones_give_the_same_numbers(spread):
    bridge, whole = spread
    found, answers = numbers(bridge)
    expected, expected_answers = numbers(whole)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert answers == expected_answers
    assert bridge.language_model.model.lm_head.weight.is_meta


def test_spread_layers_can_be_checkpointed(spread):
    bridge, whole = spread
    bridge.language_model.checkpoint_layers()
    torch.testing.assert_close(numbers(bridge)[0], numbers(whole)[0], rtol=1e-6, atol=1e-6)


def test_lower_layers_of_a_spread_encoder_alone_are_run(spread):
    bridge, whole = spread
    runs = []
    for number, layer in enumerate(bridge.encoder.model.encoder.layer):
        layer.register_forward_hook(lambda *_, number=number: runs.append(number))
    found = bridge.encoder.encode(TEXTS, layers=[0]).layers[0]
    torch.testing.assert_close(found, whole.encoder.encode(TEXTS, layers=[0]).layers[0])
    assert max(runs) == 1


def test_a_spread_model_stays_where_it_is(spread):
    bridge, _ = spread
    placed = [*bridge.language_model.parameters(), *bridge.encoder.parameters()]
    before = [(p.device, p.dtype) for p in placed]
    bridge.to("cpu", torch.bfloat16)
    placed = [*bridge.language_model.parameters(), *bridge.encoder.parameters()]
    assert [(p.device, p.dtype) for p in placed] == before
    assert {p.dtype for p in bridge.projection.parameters()} == {torch.bfloat16}
    # The bridge is where the language model takes its input.
    assert bridge.encoder.states_device == bridge.language_model.device == torch.device("cpu")


@pytest.mark.parametrize("device_map", ["auto", {"language_model": "cpu"}])
def test_maps_by_name(folder, device_map):
    options = LoadOptions("float32", device_map=device_map)
    model = LanguageModel.load(resolve(str(folder("llama"))), options)
    assert model.device == torch.device("cpu")
    assert stays(model.model)


def test_hooks_of_accelerate_do_not_change_numbers(folder, make_bridge, load_encoder):
    whole = make_bridge("mt5", "gpt2")
    model = LanguageModel.load(resolve(str(folder("gpt2"))), LoadOptions("float32"))
    dispatch_model(model.model, {"": "cpu"}, main_device="cpu", force_hooks=True)
    bridge = LayerBridge(whole.config, load_encoder("mt5"), model).to("cpu")
    bridge.load_trained(whole.trained_state_dict())
    torch.testing.assert_close(numbers(bridge.eval())[0], numbers(whole)[0], rtol=0, atol=0)


def test_the_encoder_alone_has_a_device_of_its_own(folder):
    bridge = LayerBridge.from_backbones(
        str(folder("mt5")), str(folder("llama")), dtype="float32", projection_start="random",
        encoder_device="cpu",
    )  # fmt: skip
    assert stays(bridge.encoder.model)
    assert not stays(bridge.language_model.model)
    assert LoadOptions(device="cuda", encoder_device="cpu").device_of("language_model") == "cuda"


def test_states_go_where_the_bridge_is(load_encoder):
    encoder = load_encoder("mt5").with_settings(max_text_tokens=9)
    encoder.states_device = torch.device("meta")
    assert encoder.encode(TEXTS).mask.is_meta


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"device_map": "everywhere"},
            "device_map='everywhere' is no map; allowed: auto, balanced, balanced_low_0, "
            "sequential, a device, or one of these or a map of modules to devices for each of "
            "encoder and language_model",
        ),
        (
            {"device_map": {"model.layers.0": 0}},
            "device_map={'model.layers.0': 0} is no map; allowed: auto, balanced, balanced_low_0, "
            "sequential, a device, or one of these or a map of modules to devices for each of "
            "encoder and language_model",
        ),
        (
            {"device_map": "auto", "encoder_device": "cpu"},
            "encoder_device and a device_map of the encoder contradict each other; allowed: one of "
            'them; next: device_map={"language_model": …} maps the language model alone',
        ),
    ],
)
def test_maps_that_cannot_be_used(options, message):
    with pytest.raises(ConfigError) as caught:
        LoadOptions(**options)
    assert str(caught.value) == message


class Elsewhere(PreTrainedModel):
    """A model on a device that this machine lacks: it only records where it is moved."""

    device = torch.device("xpu")

    def __init__(self, **attributes):
        super().__init__(PreTrainedConfig())
        self.moves = []
        self.__dict__.update(attributes)

    def get_input_embeddings(self):
        raise NotImplementedError

    def to(self, device):
        self.moves.append(str(device))
        return self


def test_an_encoder_rests_on_the_cpu():
    model = Elsewhere()
    with offloaded(model):
        assert model.moves == ["cpu"]
    assert model.moves == ["cpu", "xpu"]
    for kept in (Elsewhere(hf_device_map={"a": 0, "b": 1}), Elsewhere(device=torch.device("cpu")),
                 Elsewhere(is_quantized=True, quantization_method="gptq")):  # fmt: skip
        with offloaded(kept):
            assert kept.moves == []


def test_a_model_is_put_on_its_device_once():
    model = Elsewhere()
    assert put(model, "xpu", None).moves == ["xpu"]
    assert not stays(model)
    assert put(model, None, "xpu").hf_device_map == {"": torch.device("xpu")}
    assert input_device(model) == torch.device("xpu")
