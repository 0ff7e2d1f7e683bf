"""LayerBridge equals the naive bridge: loss, and the gradient of every tensor that is trained."""

from itertools import product

import pytest
import torch

from layerbridge.models import fusion
from layerbridge.models.language_model import IGNORED

ENCODERS = ("mt5", "xlm-r", "gemma2-encoder")
LANGUAGE_MODELS = ("llama", "gpt2", "gemma2")
# boundary, instruction
PAPERS = ("last", "uniform", "fixed", "global-softmax", "token-softmax")
FORMS = [(True, None), (False, None), (True, "Answer:"), (False, "The category of the text is")]

# Without the constant that its start adds, which is no tensor.
START = {"attention": {"start": "uniform"}}

# The paper's strategies with every pair of backbones, the forms in turn; and in all forms with one
# pair. The others with this one and another.
CASES = [
    (strategy, encoder, lm, *FORMS[index % 4])
    for index, (encoder, lm, strategy) in enumerate(product(ENCODERS, LANGUAGE_MODELS, PAPERS))
]
CASES += [(strategy, "m2m100", "gpt2", *form) for strategy, form in product(PAPERS, FORMS)]
CASES += [
    (strategy, encoder, lm, *FORMS[index])
    for strategy in fusion.names()
    if strategy not in PAPERS
    for index, (encoder, lm) in enumerate((("mt5", "llama"), ("m2m100", "gpt2")))
]

TEXTS = [
    "The market rose",
    "ශ්‍රී",
    "",
    "😀 the teams of the market مرحبا",
]
ANSWERS = ["Sports", "a", "Very Negative", "Political"]


def batch_of(bridge, texts, answers):
    tokenizer = bridge.language_model.tokenizer
    rows = [
        [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        for answer in answers
    ]
    width = max(map(len, rows))
    labels = torch.tensor([row + [IGNORED] * (width - len(row)) for row in rows])
    return {**bridge.encoder.tokenize(texts), "labels": labels}


def test_every_strategy_meets_every_pair():
    pairs = set(product(PAPERS, ENCODERS, LANGUAGE_MODELS))
    assert pairs <= {(strategy, encoder, lm) for strategy, encoder, lm, *_ in CASES}
    assert {strategy for strategy, *_ in CASES} == set(fusion.names())


@pytest.mark.parametrize(("strategy", "encoder", "lm", "boundary", "instruction"), CASES)
def test_loss_and_gradients(make_bridge, naive_of, strategy, encoder, lm, boundary, instruction):
    settings = {"boundary": boundary, "instruction": instruction, **START.get(strategy, {})}
    bridge = make_bridge(encoder, lm, strategy, **settings)
    naive = naive_of(bridge, encoder, lm)
    output = bridge(**batch_of(bridge, TEXTS, ANSWERS))
    expected = naive.loss(TEXTS, ANSWERS)
    assert 1 < expected.item() < 100
    torch.testing.assert_close(output.loss, expected, atol=2e-5, rtol=1e-5)

    output.loss.backward()
    expected.backward()
    found = {name: p.grad for name, p in bridge.named_parameters() if p.requires_grad}
    assert set(naive.tensors) - set(found) == {"projection.mean", "projection.std"}
    assert ("projection.boundary" in found) == boundary
    for name, gradient in found.items():
        expected_gradient = naive.tensors[name].grad
        scale = expected_gradient.abs().max()
        assert scale > 0, name
        off = (gradient - expected_gradient).abs().max()
        assert off <= 2e-4 * scale + 1e-6, (name, off, scale)


@pytest.mark.parametrize("strategy", fusion.names())
def test_with_rms_normalisation(make_bridge, naive_of, strategy):
    bridge = make_bridge("mt5", "llama", strategy, normalize="rms", **START.get(strategy, {}))
    loss = bridge(**batch_of(bridge, TEXTS, ANSWERS)).loss
    expected = naive_of(bridge).loss(TEXTS, ANSWERS)
    torch.testing.assert_close(loss, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("lm", LANGUAGE_MODELS)
def test_answers(make_bridge, naive_of, lm):
    """Label rows, the first token's logits, option scores and greedy text, from str to str."""
    bridge = make_bridge("mt5", lm, instruction="Answer:")
    naive = naive_of(bridge, "mt5", lm)
    batch = batch_of(bridge, TEXTS, ANSWERS)
    with torch.no_grad():
        rows = bridge(**batch).logits
        expected = [
            naive.label_logits(text, naive.target(answer))
            for text, answer in zip(TEXTS, ANSWERS, strict=True)
        ]
        torch.testing.assert_close(rows, torch.cat(expected), atol=3e-5, rtol=1e-5)
        batch.pop("labels")
        first = torch.stack([naive.logits(text, [])[-1] for text in TEXTS])
        torch.testing.assert_close(bridge(**batch).logits, first, atol=3e-5, rtol=1e-5)

    for text, result in zip(TEXTS, bridge.classify(TEXTS, ANSWERS), strict=True):
        scores = {answer: naive.option_score(text, answer) for answer in ANSWERS}
        assert result.scores == pytest.approx(scores, abs=2e-4)
        assert result.choice == max(scores, key=scores.get)

    decode = bridge.language_model.tokenizer.decode
    expected = [decode(naive.greedy(t, 6), skip_special_tokens=True).strip() for t in TEXTS]
    assert bridge.generate_text(TEXTS, max_new_tokens=6) == expected
