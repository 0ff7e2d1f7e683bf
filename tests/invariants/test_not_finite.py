"""NaN and infinities never pass as an answer: one line, which names the text."""

import pytest
import torch

from layerbridge.errors import NotFiniteError, TrainingError
from layerbridge.evaluation.evaluator import evaluate
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.state_cache import StateCache
from layerbridge.tasks import Row, Task
from layerbridge.training.run import training_arguments
from layerbridge.training.trainer import BridgeTrainer

FLOAT32 = LoadOptions(dtype="float32")
TEXTS = ["the market rose", "a", "猫 of teams", "the players of both teams entertained"]
BROKEN = 2  # the only text with this character
OPTIONS = ["Business", "a", "the market"]


class Small(Task):
    name, description, licence = "small", "A task of the tests.", "none"
    options, languages, template = tuple(OPTIONS), ("en",), "{text}"

    def _train(self):
        return []

    _validation = _train

    def _test(self, language):
        return [Row(str(n), text, "a", language) for n, text in enumerate(TEXTS)]

    def version(self):
        return "1"


WAYS = {
    "classify": lambda bridge: bridge.classify(TEXTS, OPTIONS),
    "greedy": lambda bridge: bridge.generate_text(TEXTS, max_new_tokens=3),
    "sampling": lambda bridge: bridge.generate_text(TEXTS, max_new_tokens=3, do_sample=True),
    "beams": lambda bridge: bridge.generate_text(TEXTS, max_new_tokens=3, num_beams=2),
    "evaluate, score": lambda bridge: evaluate(bridge, Small()),
    "evaluate, generate": lambda bridge: evaluate(bridge, Small(), protocol="generate"),
}


@pytest.fixture
def make(folder):
    """A bridge with backbones of its own, to be broken."""

    def make(fusion="token-softmax"):
        config = BridgeConfig(fusion=fusion)
        encoder = Encoder.load(resolve(str(folder("mt5"))), FLOAT32)
        lm = LanguageModel.load(resolve(str(folder("llama"))), FLOAT32)
        return LayerBridge(config, encoder, lm).eval()

    return make


@torch.no_grad()
def break_encoder(bridge, value=torch.nan):
    """Makes the states of the one text not finite."""
    (token,) = bridge.encoder.tokenizer("猫", add_special_tokens=False)["input_ids"][-1:]
    bridge.encoder.model.get_input_embeddings().weight[token] = value


def refused(call, what):
    with pytest.raises(NotFiniteError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"NaN or infinity in {what}")
    return str(caught.value), caught.value


@pytest.mark.parametrize("way", [*WAYS, "layer weights", "states into a cache"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_the_encoder(make, way, value):
    bridge = make()
    break_encoder(bridge, value)
    what = "the encoder's hidden states"
    if way == "layer weights":
        what, call = "the layer weights", lambda bridge: bridge.layer_weights(TEXTS)
    elif way == "states into a cache":
        bridge.encoder.cache = StateCache()
        call = WAYS["classify"]
    else:
        call = WAYS[way]
    line, error = refused(lambda: call(bridge), what)
    assert f", for the text {TEXTS[BROKEN]!r}" in line
    assert error.texts == (TEXTS[BROKEN],)
    assert len(error.rows) == 1


@pytest.mark.parametrize("fusion", ["last", "uniform", "fixed", "global-softmax", "token-softmax"])
def test_every_fusion_and_padding_does_not_matter(make, fusion):
    bridge = make(fusion)
    whole = [text for row, text in enumerate(TEXTS) if row != BROKEN]
    before = bridge.classify(whole, OPTIONS)
    break_encoder(bridge)
    assert bridge.classify(whole, OPTIONS) == before
    refused(lambda: bridge.classify(TEXTS, OPTIONS), "the encoder's hidden states")
    # A pad token that is not finite is read by nobody.
    states = bridge.encode(whole)
    layers = [layer.clone() for layer in states.layers]
    for layer in layers:
        layer[~states.mask] = torch.nan
    bridge.prefix(type(states)(layers, states.mask))


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_the_language_model(make, way):
    bridge = make()
    bridge.language_model.model.get_output_embeddings().weight[3] = torch.nan
    scored = way in ("classify", "evaluate, score")
    what = "the option scores" if scored else "the language model's logits"
    with torch.enable_grad():
        line, error = refused(lambda: WAYS[way](bridge), what)
    assert error.rows == (0, 1, 2, 3)
    assert line.startswith(f"NaN or infinity in {what}, for the text 'a' and 3 more; next: ")


def test_the_bridge(make):
    bridge = make()
    with torch.no_grad():
        bridge.projection.linear.bias[0] = torch.inf
    for call in WAYS.values():
        refused(lambda call=call: call(bridge), "the soft prompts")


def test_forward(make):
    bridge = make()
    batch = bridge.encoder.tokenize(TEXTS)
    break_encoder(bridge)
    line, error = refused(lambda: bridge(**batch), "the encoder's hidden states")
    assert error.rows == (BROKEN,)
    assert ", in row 3 of the batch" in line
    bridge = make()
    with torch.no_grad():
        bridge.language_model.model.get_output_embeddings().weight[3] = torch.inf
    refused(lambda: bridge(**batch), "the logits")


@pytest.mark.parametrize("broken", ["encoder", "language model"])
def test_training(make, tmp_path, broken):
    bridge = make()
    rows = [Row(str(n), text, "a", "en") for n, text in enumerate(TEXTS)]
    arguments = training_arguments({"max_steps": 1, "use_cpu": True}, tmp_path)
    trainer = BridgeTrainer(bridge, arguments, rows)
    if broken == "encoder":
        break_encoder(bridge)
        refused(trainer.train, "the encoder's hidden states")
        return
    with torch.no_grad():
        bridge.language_model.model.get_output_embeddings().weight[3] = torch.inf
    with pytest.raises(TrainingError, match=r"^the loss is nan at step 1; next: lower"):
        trainer.train()


@pytest.mark.parametrize("overflows", [True, False])
def test_float16_that_overflows_is_said_at_load(folder, tmp_path, capfd, overflows):
    for name, cls, kind in (
        ("mt5", Encoder, "encoder"),
        ("gemma2-encoder", Encoder, "encoder"),
        ("gpt2", LanguageModel, "language model"),
    ):
        model = cls.load(resolve(str(folder(name))), FLOAT32)
        if overflows:
            with torch.no_grad():
                for parameter in model.model.parameters():
                    if parameter.ndim == 2:
                        parameter.mul_(300)
        path = tmp_path / name
        # A model that was read as part of another one does not save itself as it is.
        alone = type(model.model)(model.model.config)
        alone.load_state_dict(model.model.state_dict())
        alone.save_pretrained(path)
        model.tokenizer.save_pretrained(path)
        capfd.readouterr()
        cls.load(resolve(str(path)), FLOAT32)
        assert capfd.readouterr().err == ""
        cls.load(resolve(str(path)), LoadOptions(dtype="float16"))
        said = capfd.readouterr().err
        assert said == (
            f"warning: the {kind} {str(path)!r} overflows float16: load the models with --dtype "
            "bfloat16 or float32: float16 cannot hold values above 65504\n"
            if overflows
            else ""
        )
