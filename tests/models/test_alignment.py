import copy
import weakref

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from layerbridge.errors import ConfigError, NotFiniteError
from layerbridge.models import alignment
from layerbridge.models.alignment import align, rescale

TEXTS = [
    "The market rose while the players of both teams entertained the crowd.",
    "Premise: a sentence Hypothesis: another sentence Label:",
    "Business and Sports, Science or Political entertainment",
    "What is the category of the text? Answer with one word.",
]


def pairs_of(bridge, texts):
    """Each encoder token's fused state and the mean embedding of LM tokens that share characters.

    Written over characters, one at a time.
    """
    lm = bridge.language_model
    embeddings = lm.model.get_input_embeddings().weight
    sources, targets = [], []
    for text in texts:
        spaced = lm.tokenizer(" " + text, add_special_tokens=False, return_offsets_mapping=True)
        owners = {}
        for token, (first, last) in enumerate(spaced["offset_mapping"]):
            for character in range(first, last):
                owners.setdefault(character - 1, []).append(token)
        fused = bridge.fusion(bridge.encode([text]))[0]
        own = bridge.encoder.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        for position, (first, last) in enumerate(own):
            tokens = sorted({t for c in range(first, last) for t in owners.get(c, [])})
            if tokens:
                sources.append(fused[position])
                targets.append(
                    sum(embeddings[spaced["input_ids"][t]] for t in tokens) / len(tokens)
                )
    return torch.stack(sources).detach(), torch.stack(targets).detach()


@pytest.mark.parametrize(("encoder", "lm"), [("bert", "llama"), ("mt5", "gpt2")])
def test_align_fits_the_projection_to_shared_characters(make_bridge, encoder, lm):
    bridge = make_bridge(encoder, lm, "global-softmax", start="last")
    found = align(
        bridge.encoder, bridge.fusion, bridge.projection, bridge.language_model, TEXTS, words=0
    )
    x, y = pairs_of(bridge, TEXTS)
    assert found.tokens == len(x)
    x = (x - x.mean(0)) / x.std(0, correction=0)
    expected = Ridge(alpha=0.1 * len(x) * x.double().var(0, unbiased=False).mean().item())
    expected.fit(x.double().numpy(), y.double().numpy())
    linear = bridge.projection.linear
    np.testing.assert_allclose(linear.weight.detach().numpy(), expected.coef_, atol=1e-4)
    np.testing.assert_allclose(linear.bias.detach().numpy(), expected.intercept_, atol=1e-4)
    residual = (y - linear(x)).square().sum() / (y - y.mean(0)).square().sum()
    assert found.explained == pytest.approx(1 - residual.item(), abs=1e-4)


def test_soft_tokens_come_near_the_words_they_stand_for(make_bridge):
    bridge = make_bridge("bert", "llama", "last")
    x, y = pairs_of(bridge, TEXTS)

    def correlation():
        soft = bridge.projection(x[None])[0].detach()
        a, b = soft - soft.mean(0), y - y.mean(0)
        return torch.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()

    before = correlation()
    align(bridge.encoder, bridge.fusion, bridge.projection, bridge.language_model, TEXTS)
    assert abs(before) < 0.1
    assert correlation() > 0.3


def test_common_words_are_whole_and_in_order(load_lm):
    lm = load_lm("llama")
    words = alignment._common_words(lm, 3000)
    assert "the" in words
    vocabulary = {lm.tokenizer.decode([i]): i for i in range(len(lm.tokenizer))}
    ids = [vocabulary[" " + word] for word in words]
    assert ids == sorted(ids)
    assert all(word.isascii() and word.isalpha() and len(word) > 2 for word in words)
    assert alignment._common_words(lm, 2) == words[:2]


def test_align_leaves_the_fusion_in_its_mode_and_reads_without_dropout(make_bridge):
    bridge = make_bridge("bert", "llama", fusion_options={"dropout": 0.5})
    fit = (bridge.encoder, bridge.fusion, bridge.projection, bridge.language_model, TEXTS)
    align(*fit)
    expected = bridge.projection.linear.weight.clone()
    bridge.fusion.train()
    align(*fit)
    assert bridge.fusion.training
    torch.testing.assert_close(bridge.projection.linear.weight, expected)
    assert bridge.projection.linear.weight.requires_grad


def test_a_text_twice_counts_once(make_bridge):
    bridge = make_bridge("bert", "llama", "last")
    fit = (bridge.encoder, bridge.fusion, bridge.projection, bridge.language_model)
    assert align(*fit, TEXTS, words=0) == align(*fit, TEXTS * 2, words=0)


def test_texts_that_are_cut(make_bridge, monkeypatch):
    bridge = make_bridge("bert", "llama", "last")
    monkeypatch.setattr(bridge.encoder, "max_text_tokens", 6)
    fit = (bridge.encoder, bridge.fusion, bridge.projection, bridge.language_model)
    assert align(*fit, TEXTS, words=0).tokens == 4 * 4  # without [CLS] and [SEP]


def start_of(bridge, begin, texts, **options):
    """The projection's tensors after a start from the same random weights."""
    torch.manual_seed(0)
    torch.nn.init.kaiming_uniform_(bridge.projection.linear.weight, a=5**0.5)
    state = torch.random.get_rng_state()
    fit = (bridge.encoder, bridge.fusion, bridge.projection, bridge.language_model)
    begin(*fit, texts, **options)
    assert torch.equal(torch.random.get_rng_state(), state)
    return {name: tensor.clone() for name, tensor in bridge.projection.state_dict().items()}


@pytest.mark.parametrize("begin", [align, rescale])
def test_batches_of_any_size_give_the_same_start(make_bridge, monkeypatch, begin):
    bridge = make_bridge("mt5", "llama", "global-softmax")
    starts = []
    for size in (1000, 128, 7, 1):
        monkeypatch.setattr(alignment, "BATCH", size)
        starts.append(start_of(bridge, begin, TEXTS))
    for start in starts[1:]:
        for name, tensor in starts[0].items():
            torch.testing.assert_close(start[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("begin", [align, rescale])
def test_no_more_states_are_kept_for_more_texts(make_bridge, monkeypatch, begin):
    bridge = make_bridge("bert", "llama", "last")
    monkeypatch.setattr(alignment, "BATCH", 2)
    alive, most = [], []
    bridge.fusion.register_forward_hook(lambda module, inputs, f: alive.append(weakref.ref(f)))
    encode = bridge.encoder.encode

    def spy(texts, **options):
        most.append(sum(reference() is not None for reference in alive))
        return encode(texts, **options)

    monkeypatch.setattr(bridge.encoder, "encode", spy)
    start_of(bridge, begin, [f"text {number}" for number in range(20)], words=0)
    assert len(most) == 10
    assert max(most) <= 1


@pytest.mark.parametrize("begin", [align, rescale])
def test_many_tokens_are_sampled_and_that_is_said(make_bridge, monkeypatch, capfd, begin):
    bridge = make_bridge("bert", "llama", "last")
    texts = [f"text number {number}" for number in range(200)]
    tokens = {text: len(bridge.encoder.tokenizer(text)["input_ids"]) for text in texts}
    read = []
    encode = bridge.encoder.encode
    monkeypatch.setattr(
        bridge.encoder, "encode", lambda batch, **options: read.extend(batch) or encode(batch)
    )

    def begun(limit):
        read.clear()
        monkeypatch.setattr(alignment, "TOKENS", limit)
        start = start_of(bridge, begin, texts, words=0)
        return list(read), start, capfd.readouterr().err

    total = sum(tokens.values())
    whole, _, said = begun(total)
    assert (whole, said) == (texts, "")
    sample, _, said = begun(total // 4)
    assert sum(tokens[text] for text in sample) <= total // 4
    assert sum(tokens[text] for text in sample) > total // 4 - 2 * max(tokens.values())
    assert sample == [text for text in texts if text in set(sample)]
    # From everywhere, not only from the start of the file.
    assert [text for text in sample if text in texts[:50]]
    assert [text for text in sample if text in texts[150:]]
    assert said == (
        f"start of the projection: reads {len(sample)} of 200 texts, {total // 4} tokens drawn at "
        "random\n"
    )
    assert begun(total // 4)[0] == sample
    one, *_ = begun(1)
    assert len(one) == 1


def test_nothing_to_fit_on(make_bridge):
    bridge = make_bridge("bert", "llama", "last")
    with pytest.raises(ConfigError) as caught:
        align(
            bridge.encoder, bridge.fusion, bridge.projection, bridge.language_model, [""], words=0
        )
    assert str(caught.value) == "projection_start 'aligned' has no text to align"


@pytest.mark.parametrize("room", ["encoder", "language_model"])
def test_slow_tokenizers_are_refused(make_bridge, monkeypatch, room):
    bridge = make_bridge("bert", "llama", "last")
    slow = copy.copy(getattr(bridge, room).tokenizer)
    slow.__class__ = type("Slow", (type(slow),), {"is_fast": False})
    monkeypatch.setattr(getattr(bridge, room), "tokenizer", slow)
    before = bridge.projection.linear.weight.clone()
    with pytest.raises(ConfigError) as caught:
        align(bridge.encoder, bridge.fusion, bridge.projection, bridge.language_model, TEXTS)
    message = {"encoder": "encoder", "language_model": "LM"}[room]
    assert str(caught.value) == (
        f"projection_start 'aligned' needs a fast tokenizer, and the {message}'s is not; "
        "allowed: projection_start random or scaled"
    )
    assert torch.equal(bridge.projection.linear.weight, before)


def test_rescale_brings_soft_tokens_to_the_scale_of_words(make_bridge):
    bridge = make_bridge("bert", "gemma2", "last")
    fit = (bridge.encoder, bridge.fusion.train(), bridge.projection, bridge.language_model)
    torch.nn.init.kaiming_uniform_(bridge.projection.linear.weight, a=5**0.5)
    rescale(*fit, TEXTS, words=0)
    assert bridge.fusion.training
    states = bridge.encode(TEXTS)
    fused = states.last[states.mask]
    torch.testing.assert_close(bridge.projection.mean, fused.mean(0), atol=1e-5, rtol=1e-5)
    soft = bridge.soft_prompt(states)[states.mask]
    rms = bridge.language_model.embedding_rms()
    assert soft.square().mean().sqrt().item() == pytest.approx(rms, rel=0.15)


@pytest.mark.parametrize("begin", [align, rescale])
def test_words_of_the_language_model_will_do(make_bridge, begin):
    bridge = make_bridge("bert", "llama", "last")
    fit = (bridge.encoder, bridge.fusion, bridge.projection, bridge.language_model)
    begin(*fit)
    words = alignment._common_words(bridge.language_model, 3000)
    begun = bridge.projection.mean.clone()
    begin(*fit, words, words=0)
    torch.testing.assert_close(bridge.projection.mean, begun)


@pytest.mark.parametrize("begin", [align, rescale])
def test_a_text_whose_states_overflow_is_named(make_bridge, monkeypatch, begin):
    bridge = make_bridge("bert", "llama", "last")
    read = bridge.encoder._read

    def overflow(texts, layers=None):
        states = read(texts, layers)
        states.layers[-1][texts.index(TEXTS[1])] = torch.inf
        return states

    monkeypatch.setattr(bridge.encoder, "_read", overflow)
    with pytest.raises(NotFiniteError, match="for the text 'Premise: a sentence"):
        start_of(bridge, begin, TEXTS, words=0)
    assert bridge.projection.linear.weight.isfinite().all()


def test_tokens_that_the_language_model_has_no_embedding_for(make_bridge, monkeypatch):
    bridge = make_bridge("bert", "llama", "last")
    lm = copy.copy(bridge.language_model)
    monkeypatch.setattr(lm, "tokenizer", copy.deepcopy(lm.tokenizer))
    lm.tokenizer.add_tokens(["market"])
    fit = (bridge.encoder, bridge.fusion, bridge.projection)
    whole = align(*fit, bridge.language_model, TEXTS, words=0).tokens
    assert 0 < align(*fit, lm, TEXTS, words=0).tokens < whole
