import json

import pytest
import torch
from small_task import SmallTask

from layerbridge.errors import ConfigError, DataError
from layerbridge.evaluation.evaluator import evaluate, training_seed
from layerbridge.evaluation.method_names import distinguish
from layerbridge.evaluation.results import read
from layerbridge.models.packing import Segment

# Of one token and of several; a random model prefers the short ones, but not always the same.
OPTIONS = ("s", "en", "the", "Political debate", "a", "on", "no")
TEXTS = {
    "en": ["the market rose", "", "teams entertained the crowd " * 9, "Premise", "a b c", "猫 🙂"],
    "si": ["ශ්‍රී ලංකා", "ම", "ම ශ් " * 12, "🙂", "මම", "ශ්"],
    "ar": ["ال سوق", "x"],
}


class Small(SmallTask):
    """A few rows in three languages; the targets go round the options."""

    options = OPTIONS
    texts = TEXTS

    def version(self):
        return "7"


@pytest.fixture
def bridge(make_bridge):
    return make_bridge("mt5", "llama", "token-softmax")


def naive_scores(bridge, text):
    """log p(option, EOS | text), one row and one option at a time, through the whole model."""
    lm = bridge.language_model
    scores = []
    for option in OPTIONS:
        ids = [*lm.tokenizer(option, add_special_tokens=False).input_ids, lm.eos_id]
        batch = bridge.encoder.tokenizer(text, return_tensors="pt")
        states = bridge.encoder(batch.input_ids, batch.attention_mask)
        soft = bridge.projection(bridge.fusion(states))[0]
        word = lm.model.get_input_embeddings()
        inputs = torch.cat(
            [
                word(torch.tensor([lm.bos_id])),
                soft,
                bridge.projection.boundary[None],
                word(torch.tensor(ids)),
            ]
        )
        logits = lm.model(inputs_embeds=inputs[None]).logits[0]
        following = logits[-len(ids) - 1 : -1].log_softmax(-1)
        scores.append([following[step, token].item() for step, token in enumerate(ids)])
    return scores


@pytest.mark.parametrize("normalize", ["sum", "mean"])
@torch.no_grad()
def test_score_is_the_naive_score(bridge, normalize):
    result = evaluate(bridge, Small(), length_normalization=normalize)
    assert result.protocol == "score"
    chosen = []
    for language, texts in TEXTS.items():
        for n, text in enumerate(texts):
            scores = [
                sum(parts) / (len(parts) if normalize == "mean" else 1)
                for parts in naive_scores(bridge, text)
            ]
            answer = result.languages[language].predictions[n]
            assert answer.prediction == OPTIONS[scores.index(max(scores))]
            assert answer.label == OPTIONS[n % len(OPTIONS)]
            assert answer.correct == (answer.prediction == answer.label)
            chosen.append(answer.prediction)
    assert len(set(chosen)) > 1


def test_length_normalization_matters(bridge):
    one, other = (evaluate(bridge, Small(), length_normalization=how) for how in ("sum", "mean"))
    assert one.languages != other.languages


@pytest.mark.parametrize("protocol", ["score", "generate"])
def test_the_batch_size_changes_no_prediction(bridge, protocol):
    whole = evaluate(bridge, Small(), protocol=protocol, batch_size=64)
    for size in (1, 2, 5):
        other = evaluate(bridge, Small(), protocol=protocol, batch_size=size)
        for code, entry in whole.languages.items():
            assert other.languages[code].predictions == entry.predictions
            assert other.languages[code].layer_weights == pytest.approx(entry.layer_weights)


def test_predictions_are_in_the_tasks_order(bridge):
    result = evaluate(bridge, Small(), ["si", "en"], batch_size=2)
    assert list(result.languages) == ["si", "en"]
    for code, entry in result.languages.items():
        assert [answer.id for answer in entry.predictions] == [
            f"{code}-{n}" for n in range(len(TEXTS[code]))
        ]
        assert entry.n == len(TEXTS[code])
        assert entry.accuracy == sum(a.correct for a in entry.predictions) / entry.n


@torch.no_grad()
def test_generate_is_greedy_and_exact(bridge):
    result = evaluate(bridge, Small(), ["en"], protocol="generate")
    lm = bridge.language_model
    longest = max(len(lm.token_ids(option)) + 1 for option in OPTIONS)
    for text, answer in zip(TEXTS["en"], result.languages["en"].predictions, strict=True):
        batch = bridge.encoder.tokenize([text])
        tokens = []
        # One token at a time, without a cache.
        for _ in range(longest + 4):
            states = bridge.encoder(**batch)
            prefix = bridge.prefix(states)
            if tokens:
                words = lm.embed(torch.tensor([tokens]))
                prefix.append(Segment(words, torch.ones(1, len(tokens), dtype=torch.bool)))
            tokens.append(int(lm.next_logits(prefix).argmax()))
            if tokens[-1] == lm.eos_id:
                break
        assert answer.prediction == lm.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        assert answer.correct == (answer.prediction == answer.label)


@pytest.mark.parametrize(
    ("generated", "right"),
    [("s", True), ("  s \n", True), ("S", False), ("s!", False), ("", False)],
)
def test_only_an_exact_match_is_right(bridge, monkeypatch, generated, right):
    tokenizer = bridge.language_model.tokenizer
    monkeypatch.setattr(
        type(bridge), "generate", lambda self, **arguments: torch.zeros(1, 1, dtype=torch.long)
    )
    monkeypatch.setattr(
        type(tokenizer), "batch_decode", lambda self, ids, **options: [generated] * len(ids)
    )
    result = evaluate(bridge, Small(), ["en"], protocol="generate", batch_size=1)
    first = result.languages["en"].predictions[0]
    assert (first.label, first.prediction, first.correct) == ("s", generated.strip(), right)


@torch.no_grad()
def test_layer_weights_are_the_mean_over_real_tokens(bridge):
    result = evaluate(bridge, Small(), batch_size=4)
    for code, texts in TEXTS.items():
        rows = [bridge.layer_weights([text])[0].weights for text in texts]
        mean = torch.cat(rows).mean(0)
        assert result.languages[code].layer_weights == pytest.approx(mean.tolist(), abs=1e-6)
        assert sum(result.languages[code].layer_weights) == pytest.approx(1, abs=1e-5)
    en, si = (result.languages[code].layer_weights for code in ("en", "si"))
    assert en != pytest.approx(si, abs=1e-5)


def test_what_the_result_remembers(bridge, tmp_path):
    result = evaluate(bridge, Small(), ["ar"], seed=3, run="runs/x", settings={"steps": 5})
    assert (result.method, result.task, result.split, result.seed, result.run) == (
        "token-softmax",
        "small",
        "test",
        3,
        "runs/x",
    )
    assert result.settings["options"] == list(OPTIONS)
    assert result.settings["normalize"] == "sum"
    assert result.settings["task_version"] == "7"
    assert result.settings["dtype"] == "float32"
    assert result.settings["steps"] == 5
    assert result.settings["bridge"]["encoder"] == bridge.config.encoder
    assert read(result.write(tmp_path / "result.json")) == result
    json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert evaluate(bridge, Small(), ["ar"], method="mine").method == "mine"


@pytest.mark.parametrize(
    ("in_config", "in_recipe", "expected"),
    [
        (7, None, 7),  # from the hub, where there is no recipe
        (0, "training: {seed: 0}\n", 0),
        (None, "training: {seed: 5}\n", 5),  # a run of 0.1
        (None, "training: {seed: '5'}\n", 5),
        (None, "training: {learning_rate: 1.0}\n", 0),
        (None, None, None),
    ],
)
def test_the_training_seed(bridge, tmp_path, in_config, in_recipe, expected):
    bridge.config.training_seed = in_config
    if in_recipe is not None:
        (tmp_path / "recipe.yaml").write_text(in_recipe)
    assert training_seed(bridge, str(tmp_path)) == expected
    assert training_seed(bridge, None) == in_config
    one = evaluate(bridge, Small(), ["ar"], run=str(tmp_path))
    assert one.seed == (expected or 0)
    assert evaluate(bridge, Small(), ["ar"], run=str(tmp_path), seed=9).seed == 9


def test_the_result_holds_the_settings_of_the_run_without_its_seed(bridge, tmp_path):
    runs = []
    for number, rate in enumerate(("1e-3", "1e-3", "1e-4")):
        runs.append(tmp_path / str(number))
        runs[-1].mkdir()
        training = f"{{seed: {number}, learning_rate: {rate}, logging_steps: {number}}}"
        (runs[-1] / "recipe.yaml").write_text(f"task: small\ntraining: {training}\n")
    found = [
        evaluate(bridge, Small(), ["ar"], run=str(run), seed=number)
        for number, run in enumerate(runs)
    ]
    assert found[0].settings["recipe"] == {"task": "small", "training": {"learning_rate": 0.001}}
    assert [one.method for one in distinguish(found)] == [
        "token-softmax (learning_rate 0.001)",
        "token-softmax (learning_rate 0.001)",
        "token-softmax (learning_rate 0.0001)",
    ]


def test_progress_is_reported_after_every_batch(bridge):
    message = []
    evaluate(
        bridge, Small(), ["en", "ar"], batch_size=4, progress=lambda *facts: message.append(facts)
    )
    assert message == [("en", 4, 8), ("en", 6, 8), ("ar", 8, 8)]


def test_a_training_bridge_answers_without_dropout(make_bridge):
    bridge = make_bridge("mt5", "llama", "token-softmax").train()
    assert evaluate(bridge, Small()).languages == evaluate(bridge.train(), Small()).languages


def test_an_unknown_protocol(bridge):
    with pytest.raises(ConfigError) as caught:
        evaluate(bridge, Small(), protocol="guess")
    assert str(caught.value) == "unknown protocol 'guess'; allowed: score, generate"


def test_an_unknown_length_normalization(bridge):
    with pytest.raises(DataError) as caught:
        evaluate(bridge, Small(), length_normalization="max")
    assert str(caught.value) == "unknown length normalization 'max'; allowed: sum, mean"


def test_an_unknown_language_is_reported_before_the_first_row_is_read(bridge, monkeypatch):
    monkeypatch.setattr(
        type(bridge.encoder), "encode", lambda *_, **__: pytest.fail("a row was read")
    )
    with pytest.raises(DataError) as caught:
        evaluate(bridge, Small(), ["en", "xx"])
    assert str(caught.value) == ("the task small has no test rows in 'xx'; allowed: en, si, ar")


def test_texts_that_are_cut_or_empty_are_counted(make_bridge, capsys, tmp_path):
    bridge = make_bridge("mt5", "llama", "last")
    whole = evaluate(bridge, Small(), ["ar"])
    capsys.readouterr()
    bridge.encoder = bridge.encoder.with_settings(max_text_tokens=12)
    lengths = {
        code: [len(bridge.encoder.tokenizer(text).input_ids) for text in texts]
        for code, texts in TEXTS.items()
    }
    cut = {code: sum(length > 12 for length in of) for code, of in lengths.items()}
    assert (cut["en"], cut["si"]) >= (1, 1)
    result = evaluate(bridge, Small(), ["en", "si"])
    assert result.text_counts == {
        "en": {"cut": cut["en"], "empty": 1},
        "si": {"cut": cut["si"]},
    }
    assert capsys.readouterr().err == (
        f"texts cut at 12 tokens: {cut['en']} of 6 in en, {cut['si']} of 6 in si\n"
        "empty texts: 1 of 6 in en\n"
    )
    assert read(result.write(tmp_path / "cut.json")) == result
    assert whole.text_counts == {}
    assert "text_counts" not in whole.write(tmp_path / "whole.json").read_text()
    assert read(tmp_path / "whole.json") == whole


def test_a_broken_recipe_is_an_error_before_the_work(bridge, tmp_path):
    (tmp_path / "recipe.yaml").write_text("taks: small\n")
    bridge.config.training_seed = 3
    batches = []
    with pytest.raises(ConfigError, match="taks"):
        evaluate(bridge, Small(), run=str(tmp_path), progress=lambda *batch: batches.append(batch))
    assert batches == []
