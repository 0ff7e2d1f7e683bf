import math

import pytest
import torch

from layerbridge.errors import DataError
from layerbridge.models.inference import classification, option_ids
from layerbridge.models.state_cache import StateCache

TEXTS = ["The market rose", "ශ්‍රී ලංකාව", ""]
OPTIONS = ["Business", "a", "Very Negative"]


def refused(bridge, *arguments, **options):
    with pytest.raises(DataError) as caught:
        bridge.classify(*arguments, **options)
    return str(caught.value)


def test_classify_ranks_by_the_sum_or_the_mean(make_bridge):
    bridge = make_bridge()
    tokenizer = bridge.language_model.tokenizer
    lengths = [len(tokenizer(o, add_special_tokens=False)["input_ids"]) + 1 for o in OPTIONS]
    assert len(set(lengths)) > 1
    ids = [option_ids(bridge.language_model, option) for option in OPTIONS]
    assert [len(i) for i in ids] == lengths
    assert all(i[-1] == tokenizer.eos_token_id for i in ids)
    summed = bridge.option_scores(bridge.encode(TEXTS), ids).tolist()
    for normalize, divisors in (("sum", [1, 1, 1]), ("mean", lengths)):
        found = bridge.classify(TEXTS, OPTIONS, length_normalization=normalize)
        for result, row in zip(found, summed, strict=True):
            scores = [score / n for score, n in zip(row, divisors, strict=True)]
            assert list(result.scores) == OPTIONS
            assert list(result.scores.values()) == pytest.approx(scores, rel=1e-5)
            assert result.choice == OPTIONS[scores.index(max(scores))]
            total = sum(math.exp(score - max(scores)) for score in scores)
            expected = [math.exp(score - max(scores)) / total for score in scores]
            assert list(result.probabilities.values()) == pytest.approx(expected, rel=1e-4)
    assert bridge.classify(TEXTS, OPTIONS) == bridge.classify(
        TEXTS, OPTIONS, length_normalization="sum"
    )
    choices = [
        [r.choice for r in bridge.classify(TEXTS, OPTIONS, length_normalization=n)]
        for n in ("sum", "mean")
    ]
    assert choices[0] != choices[1]


def test_the_first_of_equals_wins():
    result = classification(["x", "y", "z"], torch.tensor([-2.0, -1.0, -1.0]))
    assert result.choice == "y"
    assert result.scores == {"x": -2.0, "y": -1.0, "z": -1.0}
    assert result.probabilities["y"] == result.probabilities["z"]
    assert sum(result.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("normalize", ["sum", "mean"])
def test_how_likely_any_option_is(make_bridge, normalize):
    """The sum of all options' probabilities, whatever ranks them; no rounding takes it above 1."""
    bridge = make_bridge()
    ids = [option_ids(bridge.language_model, option) for option in OPTIONS]
    expected = bridge.option_scores(bridge.encode(TEXTS), ids).exp().sum(1).tolist()
    found = bridge.classify(TEXTS, OPTIONS, length_normalization=normalize)
    assert [each.any_option for each in found] == pytest.approx(expected, rel=1e-4)
    # With more options it can only grow.
    more = bridge.classify(TEXTS, [*OPTIONS, "b"], length_normalization=normalize)
    assert all(m.any_option > f.any_option for m, f in zip(more, found, strict=True))
    assert classification(["a", "b"], torch.log(torch.tensor([0.5, 0.5000001]))).any_option == 1.0


@pytest.mark.parametrize(
    ("any_option", "usual", "far"),
    [
        (0.6, None, False),
        (0.4, None, True),
        (0.4, 0.9, True),
        (0.4, 0.7, False),
        (1e-9, 0.0, False),
    ],
)
def test_what_is_far_from_training(make_bridge, any_option, usual, far):
    scores = torch.log(torch.tensor([any_option / 2, any_option / 2]))
    assert classification(["a", "b"], scores, usual=usual).far_from_training == far


def test_what_is_usual_is_the_bridges(make_bridge):
    bridge = make_bridge(options=OPTIONS)
    (before,) = bridge.classify("a")
    for factor, far in ((1.9, False), (2.1, True)):
        bridge.config.usual_any_option = factor * before.any_option
        assert bridge.classify("a")[0].far_from_training == far


def test_one_text_and_the_options_of_training(make_bridge):
    bridge = make_bridge(options=OPTIONS)
    (alone,) = bridge.classify("The market rose")
    assert alone == bridge.classify(["The market rose"], OPTIONS)[0]
    (one,) = bridge.classify("a", ["only"])
    assert (one.choice, one.probabilities) == ("only", {"only": 1.0})


def test_what_options_cannot_be(make_bridge):
    bridge = make_bridge()
    no_options = (
        "there are no options to choose from; allowed: options=[…], or a bridge trained with "
        "label words"
    )
    assert refused(bridge, TEXTS) == no_options
    assert refused(bridge, TEXTS, []) == no_options
    assert refused(bridge, TEXTS, "yes") == (
        "options is a string, 'yes'; allowed: a list of strings"
    )
    assert refused(bridge, TEXTS, ["a", " "]) == "an option is empty; allowed: label words"
    assert refused(bridge, TEXTS, ["a", "b", "a"]) == (
        "duplicate option 'a'; allowed: each option once"
    )
    assert refused(bridge, TEXTS, OPTIONS, length_normalization="max") == (
        "unknown length normalization 'max'; allowed: sum, mean"
    )


def test_answers_are_given_in_eval_mode(make_bridge):
    """A dropout mask in the fusion would make each answer another one."""
    bridge = make_bridge(fusion_options={"dropout": 0.5})
    expected = bridge.classify(TEXTS, OPTIONS)
    text = bridge.generate_text(TEXTS, max_new_tokens=4)
    bridge.train()
    assert bridge.classify(TEXTS, OPTIONS) == expected
    assert bridge.generate_text(TEXTS, max_new_tokens=4) == text
    assert bridge.training
    with pytest.raises(TypeError):
        bridge.generate_text(TEXTS, max_new_tokens="four")
    assert bridge.training


def test_generate_text_decodes_and_strips(make_bridge, monkeypatch):
    bridge = make_bridge()
    tokenizer = bridge.language_model.tokenizer
    asked = []

    def generate(**arguments):
        asked.append(arguments)
        ids = tokenizer("  Sports \n", add_special_tokens=False)["input_ids"]
        return torch.tensor([ids + [tokenizer.eos_token_id] * 2] * arguments["rows"])

    states = bridge.encode
    monkeypatch.setattr(
        bridge, "generate", lambda **kw: generate(rows=len(kw["hidden_states"].mask), **kw)
    )
    assert bridge.generate_text(TEXTS, batch_size=2, num_beams=3) == ["Sports"] * 3
    assert [call["rows"] for call in asked] == [2, 1]
    assert {(call["num_beams"], call["max_new_tokens"]) for call in asked} == {(3, 64)}
    assert {(call["do_sample"], call["instruction"]) for call in asked} == {(False, None)}
    bridge.generate_text("a", do_sample=True, max_new_tokens=5, instruction="Answer:")
    assert (asked[-1]["do_sample"], asked[-1]["max_new_tokens"]) == (True, 5)
    assert asked[-1]["instruction"] == "Answer:"
    torch.testing.assert_close(asked[-1]["hidden_states"].stacked, states(["a"]).stacked)


def test_texts_of_one_length_go_together_and_answers_keep_their_order(make_bridge, monkeypatch):
    bridge = make_bridge()
    texts = ["sports " * times for times in (9, 1, 8, 2)]
    alone = [bridge.generate_text(text, max_new_tokens=4) for text in texts]
    reads = []
    encode = bridge.encode
    monkeypatch.setattr(
        bridge, "encode", lambda batch, *_: reads.append(list(batch)) or encode(batch)
    )
    together = bridge.generate_text(texts, max_new_tokens=4, batch_size=2)
    assert reads == [[texts[1], texts[3]], [texts[2], texts[0]]]
    assert together == [answer for (answer,) in alone]
    several = bridge.generate_text(
        texts, max_new_tokens=4, batch_size=2, num_beams=2, num_return_sequences=2
    )
    assert len(several) == 8
    best = bridge.generate_text(texts, max_new_tokens=4, num_beams=2)
    assert several[::2] == best


@pytest.mark.parametrize("fusion", ["last", "uniform", "global-softmax", "token-softmax"])
@pytest.mark.parametrize("encoder", ["mt5", "bert"])
def test_layer_weights(make_bridge, fusion, encoder):
    bridge = make_bridge(encoder, fusion=fusion)
    tokenizer = bridge.encoder.tokenizer
    results = bridge.layer_weights(TEXTS, batch_size=2)
    assert len(results) == 3
    for text, result in zip(TEXTS, results, strict=True):
        ids = tokenizer(text)["input_ids"]
        assert result.tokens == tokenizer.convert_ids_to_tokens(ids)
        assert result.weights.shape == (len(ids), bridge.encoder.num_layers)
        torch.testing.assert_close(result.weights.sum(-1), torch.ones(len(ids)))
        assert not result.weights.requires_grad
    expected = {
        "last": torch.eye(bridge.encoder.num_layers)[-1],
        "uniform": torch.full((bridge.encoder.num_layers,), 1 / bridge.encoder.num_layers),
    }.get(fusion)
    if expected is not None:
        torch.testing.assert_close(results[0].weights, expected.expand(len(results[0].tokens), -1))
    (alone,) = bridge.layer_weights(TEXTS[0])
    torch.testing.assert_close(alone.weights, results[0].weights, atol=1e-5, rtol=1e-5)


def test_layer_weights_say_what_is_mixed(make_bridge):
    bridge = make_bridge(normalize="rms")
    (result,) = bridge.layer_weights(TEXTS[0])
    states = bridge.encode(TEXTS[:1]).rms_normalized().stacked[:, 0]
    with torch.no_grad():
        fused = bridge.fusion(bridge.encode(TEXTS[:1]))[0]
    torch.testing.assert_close(
        torch.einsum("sl,lse->se", result.weights, states), fused, atol=1e-5, rtol=1e-5
    )


def test_with_a_cache_the_answers_are_the_same(make_bridge, monkeypatch):
    bridge = make_bridge()
    expected = bridge.classify(TEXTS, OPTIONS)
    monkeypatch.setattr(bridge.encoder, "cache", StateCache())
    for _ in range(2):
        for mine, other in zip(bridge.classify(TEXTS, OPTIONS), expected, strict=True):
            assert mine.scores == pytest.approx(other.scores, abs=1e-4)
    assert len(bridge.encoder.cache) == 3
    assert [len(r.tokens) for r in bridge.layer_weights(TEXTS)] == [
        len(r.weights) for r in bridge.layer_weights(TEXTS)
    ]
