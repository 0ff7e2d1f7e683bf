"""Ways of answering on a bridge that is trained for a moment; no speed is tested."""

from functools import partial

import pytest

from layerbridge.benchmarking import evaluate, sample
from layerbridge.benchmarking.evaluate import WAYS, EvaluateCase
from layerbridge.benchmarking.pair import Pair

PAIR = Pair("shape:tiny-encoder", "shape:tiny-lm", "float32", "cpu")


def test_all_ways_answer_the_task():
    found = evaluate.run(EvaluateCase(PAIR, per_kind=1, training_steps=4), 1)
    assert (found["options"], found["rows"]) == (6, 15 * 6)
    assert set(found["rows_per_second"]) == set(WAYS)


def test_ways_that_do_the_same_answer_alike():
    bridge = PAIR.bridge("token-softmax").eval()
    rows = sample.rows(bridge.encoder, 12)
    ways = evaluate._ways(bridge, sample.LABELS, 4)
    found = {
        name: [text for i in (0, 4, 8) for text in answer([row.text for row in rows[i : i + 4]])]
        for name, (answer, _) in ways.items()
    }
    # Greedily, with the same tensors in float32.
    assert found["reference"] == found["generate"] == found["generate, grouped"]
    assert found["score"] == found["score, pruned"]
    assert set(found["score"]) <= set(sample.LABELS)
    assert len(set(found["generate"])) > 1


@pytest.mark.parametrize(
    ("generated", "expected"),
    [
        # Of four of six rows an option is generated: two of them are scored alike, three generated.
        (["Neutral", "Neutral", "x", "Entailment", "", "Neutral"], (2 / 4, 3 / 4, 4 / 6)),
        (["x"] * 6, (None, None, 0)),
    ],
)
def test_agreement_is_of_rows_where_an_option_is_generated(monkeypatch, generated, expected):
    answers = {
        **dict.fromkeys(WAYS, ["?"] * 6),
        "reference": generated,
        "generate": ["Neutral", "Neutral", "y", "Entailment", "", "x"],
        "score, pruned": ["Neutral", "Entailment", "Neutral", "Entailment", "Neutral", "?"],
    }

    def look_up(answer_to, batch):
        return [answer_to[text] for text in batch]

    def ways(bridge, options, size):
        texts = [row.text for row in sample.rows(bridge.encoder, 6)]
        return {
            name: (partial(look_up, dict(zip(texts, of, strict=True))), True)
            for name, of in answers.items()
        }

    monkeypatch.setattr(evaluate, "_ways", ways)
    found = evaluate.run(EvaluateCase(PAIR, rows=6, batch=4), 1)
    assert (found["agreement"], found["agreement_generated"], found["valid"]) == expected
