from collections import Counter

import pytest
import torch

from layerbridge import tasks
from layerbridge.errors import ConfigError, DataError
from layerbridge.evaluation.baselines import few_shot as module
from layerbridge.evaluation.baselines.few_shot import draw, few_shot
from layerbridge.evaluation.results import read
from layerbridge.tasks import Row, Task

OPTIONS = ("b", "on", "Political debate", "the")
TEXTS = [
    "the market rose",
    "",
    "teams entertained the crowd " * 3,
    "{options}",
    "猫 🙂",
    "a {text}",
]
PROMPT = 'Category of "{text}": '


class Small(Task):
    """Training rows in English, the same test rows in two languages."""

    name = "small"
    description = "A task of the tests."
    options = OPTIONS
    languages = ("en", "si")
    template = "{text}"
    licence = "none"
    words = ("players", "market", "teams", "crowd", "sports")

    def _train(self):
        return [
            Row(f"train-{n}", f"{self.words[n % 5]} {n}", OPTIONS[n % len(OPTIONS)], "en")
            for n in range(24)
        ]

    def _validation(self):
        raise AssertionError("no choice is made here")

    def _test(self, language):
        return [
            Row(f"{language}-{n}", text, OPTIONS[n % len(OPTIONS)], language)
            for n, text in enumerate(TEXTS)
        ]


def naive_choice(lm, before, text):
    """The option that the text raises most, each scored alone through the whole model."""
    if not text:
        return OPTIONS[0]
    gains = naive_scores(lm, before, text) - naive_scores(lm, before, "")
    return OPTIONS[int(gains.argmax())]


def naive_scores(lm, before, text):
    def ids(words):
        return lm.tokenizer(words, add_special_tokens=False).input_ids

    read_first = [] if lm.bos_id is None else [lm.bos_id]
    for row in before:
        read_first += ids(PROMPT.replace("{text}", row.text)) + ids(row.target) + ids("\n")
    read_first += ids(PROMPT.replace("{text}", text))
    scores = []
    for option in OPTIONS:
        after = ids(option) + ids("\n")
        logits = lm.model(torch.tensor([read_first + after])).logits[0].log_softmax(-1)
        at = len(read_first) - 1
        scores.append(sum(logits[at + n, token] for n, token in enumerate(after)))
    return torch.stack(scores)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@torch.no_grad()
def test_it_is_the_naive_score(load_lm, family):
    lm = load_lm(family)
    shots = draw(Small(), 5, 0)
    result = few_shot(lm, Small(), ["en"], shots=5)
    answers = [answer.prediction for answer in result.languages["en"].predictions]
    assert answers == [naive_choice(lm, shots, text) for text in TEXTS]
    assert len(set(answers)) > 1


def test_the_batch_size_changes_no_prediction(load_lm):
    lm = load_lm("llama")
    whole = few_shot(lm, Small(), shots=4)
    for size in (1, 4):
        assert few_shot(lm, Small(), shots=4, batch_size=size).languages == whole.languages
    assert [a.id for a in whole.languages["si"].predictions] == [f"si-{n}" for n in range(6)]


def test_what_the_result_remembers(load_lm, folder, tmp_path):
    message = []
    result = few_shot(
        load_lm("llama"), Small(), ["si"], shots=3, seed=7, batch_size=4,
        progress=lambda *facts: message.append(facts),
    )  # fmt: skip
    assert message == [("si", 4, 6), ("si", 6, 6)]
    assert (result.method, result.protocol, result.seed) == ("few-shot LM (3)", "score", 7)
    assert result.settings["shots"] == [row.id for row in draw(Small(), 3, 7)]
    assert result.settings["language_model"] == folder("llama").name
    assert read(result.write(tmp_path / "few.json")) == result


# --- the examples --------------------------------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 3, 4, 6, 8, 24])
def test_labels_are_balanced(shots):
    counts = Counter(row.target for row in draw(Small(), shots, 0))
    assert sum(counts.values()) == shots
    assert len(counts) == min(shots, len(OPTIONS))
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_label_that_runs_out_leaves_its_place_to_the_others():
    class Rare(Small):
        def _train(self):
            return [row for row in super()._train() if row.target != "on" or row.id == "train-1"]

    counts = Counter(row.target for row in draw(Rare(), 10, 0))
    assert counts == {"on": 1, "b": 3, "the": 3, "Political debate": 3}


def test_examples_are_drawn_by_the_seed_alone():
    class Backwards(Small):
        def _train(self):
            return super()._train()[::-1]

    drawn = {seed: [row.id for row in draw(Small(), 6, seed)] for seed in range(6)}
    assert [row.id for row in draw(Backwards(), 6, 3)] == drawn[3]
    assert len({tuple(ids) for ids in drawn.values()}) == 6
    # Neither are the examples sorted by label, nor is one label always the one with more.
    labels = {row.id: row.target for row in Small().train()}
    assert any([labels[i] for i in ids] != sorted(labels[i] for i in ids) for ids in drawn.values())
    assert len({Counter(labels[i] for i in ids).most_common(1)[0][0] for ids in drawn.values()}) > 1


def test_examples_are_training_rows_of_the_task():
    task = tasks.get("names")
    drawn = draw(task, 12, 0)
    assert {row.id for row in drawn} <= {row.id for row in task.train()}
    assert set(Counter(row.target for row in drawn).values()) == {2}


# --- what does not fit ---------------------------------------------------------------------------


class Long(Small):
    """One long example among short ones, and a long text."""

    def _train(self):
        rows = [Row(f"t{n}", "the crowd", OPTIONS[n], "en") for n in range(4)]
        rows[2] = Row("t2", "teams entertained " * 40, OPTIONS[2], "en")
        return rows

    def _test(self, language):
        return [
            Row("0", "the market rose " * 60, "b", language),
            Row("1", "the market", "b", language),
        ]


@torch.no_grad()
def test_texts_are_cut_to_the_models_positions(load_lm, monkeypatch):
    lm = load_lm("gpt2")
    most = 200
    monkeypatch.setattr(lm, "max_tokens", most)
    reads = []
    scores = module.SharedPrefix.option_scores

    def spy(self, rows, options):
        reads.extend((self.ids + self.last, list(row)) for row in rows)
        return scores(self, rows, options)

    monkeypatch.setattr(module.SharedPrefix, "option_scores", spy)
    result = few_shot(lm, Long(), ["en"], shots=4)
    longest = max(len(lm.token_ids(option) + lm.token_ids("\n")) for option in OPTIONS)
    answers = sum(len(lm.token_ids(option) + lm.token_ids("\n")) for option in OPTIONS)
    share = (most - longest - answers) // 5

    # Example by example: the short ones whole, of the long one a part, every answer whole.
    expected, cut = [], []
    for row in draw(Long(), 4, 0):
        ids = lm.token_ids(PROMPT.replace("{text}", row.text))
        if len(ids) > share:
            end = lm.token_ids('": ')
            ids = ids[: share - len(end)] + end
            cut.append(row.id)
        expected += ids + lm.token_ids(row.target) + lm.token_ids("\n")
    assert cut == ["t2"]
    shared = {tuple(first) for first, _ in reads}
    assert shared == {tuple(expected)}

    # What the short ones leave is the row's, and not a position is left unused.
    row = max((row for _, row in reads), key=len)
    assert len(expected) + len(row) + longest == most
    assert row[-len(lm.token_ids('": ')) :] == lm.token_ids('": ')
    assert lm.token_ids(PROMPT.replace("{text}", "the market")) in [row for _, row in reads]
    assert len(result.languages["en"].predictions) == 2
    assert result.text_counts == {"en": {"cut": 1}}


def test_too_many_shots_are_reported(load_lm, monkeypatch):
    lm = load_lm("gpt2")
    monkeypatch.setattr(lm, "max_tokens", 120)
    with pytest.raises(ConfigError) as caught:
        few_shot(lm, Small(), ["en"], shots=12)
    assert str(caught.value) == (
        "12 shots exceed the language model's context of 120 tokens; next: fewer shots"
    )


def test_more_shots_than_rows(load_lm):
    with pytest.raises(DataError) as caught:
        few_shot(load_lm("llama"), Small(), shots=25)
    assert str(caught.value) == "the task small has 24 training rows for 25 shots"


def test_fewer_shots_than_none(load_lm):
    with pytest.raises(ConfigError, match="shots is -1; allowed: 0 or more"):
        few_shot(load_lm("llama"), Small(), shots=-1)


def test_an_unknown_language_is_reported_first(load_lm):
    with pytest.raises(DataError, match="no test rows in 'xx'"):
        few_shot(load_lm("llama"), Small(), ["en", "xx"])


def test_a_model_without_a_bound(load_lm, monkeypatch):
    lm = load_lm("llama")
    whole = few_shot(lm, Small(), ["en"], shots=4)
    monkeypatch.setattr(lm, "max_tokens", None)
    assert few_shot(lm, Small(), ["en"], shots=4).languages == whole.languages
