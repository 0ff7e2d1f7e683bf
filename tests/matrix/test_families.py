"""Every family of transformers, as an encoder and as a language model: right, or refused.

A core set in every run; all of them with ``make test-matrix``, which also writes docs/models.md.
"""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

import families
from backbones import FLOAT32, scatter
from layerbridge.errors import BackboneError
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import IGNORED, LanguageModel
from naive_bridge import NaiveBridge

TEXTS = ["The market", "a", "ශ්‍රී", "the market of teams"]
ANSWERS = ["Sp", "a", "the market", "of"]
BFLOAT16 = LoadOptions(dtype="bfloat16")
STEPS = 3


def rows(families):
    marks = {True: (), False: (pytest.mark.matrix,)}
    return [pytest.param(family, marks=marks[family.core], id=str(family)) for family in families]


@pytest.fixture
def outcome(request):
    """What was found, for the table."""

    def note(family, role, found):
        request.node.user_properties.append(("family", (str(family), role, found)))

    return note


def written(family, folder, *, causal):
    try:
        return family.write(folder, causal=causal)
    except Exception as error:
        if family.expected is not None:
            raise
        pytest.skip(f"no tiny model: {type(error).__name__}: {error}")


def loaded(cls, family, folder, note, role):
    """The backbone; None if the family is refused, in one line."""
    try:
        backbone = cls.load(resolve(str(folder)), FLOAT32)
    except BackboneError as error:
        message = str(error).replace(str(folder), "NAME")
        assert "\n" not in message
        assert family.expected is None or family.expected in message
        note(family, role, f"refused: {message}")
        return None
    assert family.expected in (None, "right")
    return backbone


def halved(cls, family, folder):
    """The backbone in bfloat16, which transformers gets wrong in a few families."""
    try:
        return cls.load(resolve(str(folder)), BFLOAT16)
    except BackboneError:
        assert family.expected is None
        return None


# --- encoders -----------------------------------------------------------------------------------


def own_encoder(folder, family):
    """The model as transformers alone reads it, and what of it reads text."""
    cls = getattr(transformers, transformers.AutoConfig.from_pretrained(folder).architectures[0])
    model = cls.from_pretrained(folder).eval()
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    for name in ("language_model", "text_model", "model", "base_model"):
        inner = getattr(model, name, None)
        if isinstance(inner, transformers.PreTrainedModel):
            model = inner
    return getattr(model, "language_model", getattr(model, "text_model", model))


@torch.no_grad()
def hooked(model, ids):
    """Input of the first layer, output of each, and the model's own output; None if unknown."""
    lists = {name: m for name, m in model.named_modules() if isinstance(m, nn.ModuleList)}
    outer = [m for name, m in lists.items() if not any(name.startswith(f"{n}.") for n in lists)]
    depth = max(map(len, outer), default=0)
    longest = [m for m in outer if len(m) == depth]
    # XLM has four lists of parts, and none of layers.
    layers = longest[0] if len(longest) == 1 else []
    seen = [None] * (len(layers) + 1)

    def first(layer, given, named):
        seen[0] = (given[0] if given else named["hidden_states"])[:, : len(ids)]

    hooks = [layers[0].register_forward_pre_hook(first, with_kwargs=True)] if len(layers) else []
    for place, layer in enumerate(layers, start=1):

        def after(layer, given, output, place=place):
            seen[place] = output if isinstance(output, torch.Tensor) else output[0]
            seen[place] = seen[place][:, : len(ids)]  # Longformer fills its window

        hooks.append(layer.register_forward_hook(after))
    try:
        output = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
    finally:
        for hook in hooks:
            hook.remove()
    last = output.last_hidden_state
    if len(layers) != len(output.hidden_states) - 1 or any(state is None for state in seen):
        return False, [*output.hidden_states[:-1], last]
    return True, [*seen[:-1], last]


@pytest.mark.parametrize("family", rows(families.ENCODERS))
def test_encoder(family, tmp_path, outcome, load_lm):
    check_encoder(family, tmp_path, outcome, load_lm)


def check_encoder(family, tmp_path, outcome, load_lm):
    folder = written(family, tmp_path / "model", causal=False)
    encoder = loaded(Encoder, family, folder, outcome, "encoder")
    if encoder is None:
        return
    model = own_encoder(folder, family)
    checked = []
    every = encoder.with_settings(embedding_layer=True)
    states = every.encode(TEXTS)  # much padding
    lengths = states.mask.sum(1).tolist()
    assert min(lengths) * 2 < max(lengths)
    for row, text in enumerate(TEXTS):
        by_hooks, expected = hooked(model, encoder.tokenizer(text)["input_ids"])
        found = states.stacked[:, row, states.mask[row]]
        expected = torch.stack([state[0] for state in expected])
        assert found.shape == expected.shape
        scale = expected.square().mean((1, 2), keepdim=True).sqrt()
        assert scale.min() > 1e-3
        torch.testing.assert_close(found / scale, expected / scale, atol=2e-4, rtol=2e-4)
    checked.append("layers by hooks" if by_hooks else "layers as reported")
    checked.append("padding")
    first = {}
    for turn in range(5):
        for layers in ([0], None, [encoder.num_layers - 1])[:: (-1) ** turn]:
            again = encoder.encode(TEXTS, layers=layers)
            for layer in range(encoder.num_layers) if layers is None else layers:
                state = again.layers[layer][again.mask]
                assert torch.equal(state, first.setdefault(layer, state)), (turn, layer)
    by_layer = torch.stack([first[layer] for layer in sorted(first)])
    assert torch.equal(by_layer, states.stacked[1:, states.mask])
    checked.append("five calls")
    half = halved(Encoder, family, folder)
    if half is not None:
        states16 = half.encode(TEXTS)
        assert states16.stacked.dtype == torch.bfloat16
        real, off = states.last[states.mask], (states16.last.float() - states.last)[states.mask]
        assert off.norm() < 0.2 * real.norm()
    checked.append("bfloat16" if half else "refused in bfloat16")
    lm = load_lm("llama")
    bridge = new_bridge(folder, encoder, lm)
    naive = naive_of(bridge, model, lm.model)
    compare_training(bridge, naive, TEXTS[:2], ANSWERS[:2])
    compare_saved(bridge, tmp_path, encoder, lm)
    outcome(family, "encoder", [*checked, "loss and gradients", "save and load"])


# --- language models ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", rows(families.LANGUAGE_MODELS))
def test_language_model(family, tmp_path, outcome, load_encoder, whole):
    check_language_model(family, tmp_path, outcome, load_encoder, whole)


def check_language_model(family, tmp_path, outcome, load_encoder, whole):
    folder = written(family, tmp_path / "model", causal=True)
    lm = loaded(LanguageModel, family, folder, outcome, "language model")
    if lm is None:
        return
    config = transformers.AutoConfig.from_pretrained(folder)
    mapped = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    model = (mapped[0] if isinstance(mapped, tuple) else mapped).from_pretrained(folder).eval()
    model.requires_grad_(False)
    if config.model_type == "falcon_h1":  # its ids are scaled after the table, embeddings are not
        multiplier = config.embedding_multiplier
        embed = model.get_input_embeddings()
        model.get_input_embeddings = lambda: lambda ids: embed(ids) * multiplier
    encoder = load_encoder("bert")
    bridge = new_bridge(folder, encoder, lm)
    naive = naive_of(bridge, whole("bert").base_model, model)
    compare_training(bridge, naive, TEXTS, ANSWERS)
    checked = ["loss and gradients"]
    with torch.no_grad():
        for text, result in zip(TEXTS, bridge.classify(TEXTS, ANSWERS), strict=True):
            scores = {answer: naive.option_score(text, answer) for answer in ANSWERS}
            assert result.scores == pytest.approx(scores, abs=5e-4, rel=5e-4)
        checked.append("scores")
        states = bridge.encode(TEXTS)
        greedy = bridge.generate(
            hidden_states=states,
            max_new_tokens=STEPS,
            do_sample=False,
            eos_token_id=None,
            forced_eos_token_id=None,  # BART's own ends every answer
        )
        for row, text in zip(greedy.tolist(), TEXTS, strict=True):
            ids = []
            while len(ids) < STEPS:
                ids.append(int(naive.logits(text, ids)[-1].argmax()))
            assert row == ids
        checked.append("greedy tokens")
        batch = batch_of(bridge, TEXTS, ANSWERS)
        losses = {bridge(**batch).loss.item() for _ in range(5)}
        assert len(losses) == 1
        checked.append("five calls")
        half = halved(LanguageModel, family, folder)
        if half is not None:
            other = new_bridge(folder, encoder, half)(**batch).loss.item()
            assert other == pytest.approx(losses.pop(), rel=0.1)
        checked.append("bfloat16" if half else "refused in bfloat16")
    compare_saved(bridge, tmp_path, encoder, lm)
    ways = [f"slower: it {way}" for way in lm.traits.slow_ways]
    outcome(family, "language model", [*checked, "save and load", *ways])


# --- bridges ------------------------------------------------------------------------------------


def new_bridge(folder, encoder, lm):
    config = BridgeConfig(encoder=str(folder), language_model=str(folder), fusion="global-softmax")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bridge = LayerBridge(config, encoder, lm)
        scatter(bridge)
    return bridge.eval()


def naive_of(bridge, encoder, language_model):
    trained = {name for name, p in bridge.named_parameters() if p.requires_grad}
    return NaiveBridge(
        encoder=encoder,
        language_model=language_model,
        encoder_tokenizer=bridge.encoder.tokenizer,
        lm_tokenizer=bridge.language_model.tokenizer,
        tensors={
            name: tensor.clone().requires_grad_(name in trained)
            for name, tensor in bridge.trained_state_dict().items()
        },
        fusion="global-softmax",
    )


def batch_of(bridge, texts, answers):
    lm = bridge.language_model
    targets = [[*lm.token_ids(answer), lm.eos_id] for answer in answers]
    width = max(map(len, targets))
    labels = torch.tensor([row + [IGNORED] * (width - len(row)) for row in targets])
    return {**bridge.encoder.tokenize(texts), "labels": labels}


def compare_training(bridge, naive, texts, answers):
    loss = bridge(**batch_of(bridge, texts, answers)).loss
    expected = naive.loss(texts, answers)
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)
    loss.backward()
    expected.backward()
    for name, parameter in bridge.named_parameters():
        if parameter.requires_grad:
            wanted = naive.tensors[name].grad
            off = (parameter.grad - wanted).abs().max()
            assert off <= 2e-3 * wanted.abs().max() + 1e-6, (name, off, wanted.abs().max())
    assert bridge.projection.linear.weight.grad.abs().max() > 0


@torch.no_grad()
def compare_saved(bridge, folder, encoder, lm):
    bridge.save_pretrained(folder / "bridge")
    # Of the backbones, whose fingerprints have been recorded, none is read again.
    again = LayerBridge.from_pretrained(folder / "bridge", encoder=encoder, language_model=lm)
    batch = batch_of(bridge, TEXTS[:2], ANSWERS[:2])
    assert torch.equal(again(**batch).loss, bridge(**batch).loss)


# --- all others, after those above ----------------------------------------------------------------


@pytest.mark.parametrize("family", rows(families.others(families.ENCODERS, causal=False)))
def test_other_encoder(family, tmp_path, outcome, load_lm):
    check_encoder(family, tmp_path, outcome, load_lm)


@pytest.mark.parametrize("family", rows(families.others(families.LANGUAGE_MODELS, causal=True)))
def test_other_language_model(family, tmp_path, outcome, load_encoder, whole):
    check_language_model(family, tmp_path, outcome, load_encoder, whole)
