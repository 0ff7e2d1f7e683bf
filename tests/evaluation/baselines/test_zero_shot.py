import pytest
import torch

from layerbridge.errors import DataError
from layerbridge.evaluation.baselines.zero_shot import zero_shot
from layerbridge.evaluation.results import read
from layerbridge.tasks import Row, Task

OPTIONS = ("b", "on", "Political debate", "the", "a", "s")
TEXTS = [
    "the market rose",
    " ",
    "teams entertained the crowd " * 9,
    "{options}",
    "猫 🙂",
    "a {text}",
]


class Small(Task):
    """The same rows in two languages."""

    name = "small"
    description = "A task of the tests."
    options = OPTIONS
    languages = ("en", "si")
    template = "{text}"
    licence = "none"

    def _train(self):
        raise AssertionError("the zero-shot LM is not trained")

    _validation = _train

    def _test(self, language):
        return [
            Row(f"{language}-{n}", text, OPTIONS[n % len(OPTIONS)], language)
            for n, text in enumerate(TEXTS)
        ]


def naive_choice(lm, text, prompt):
    """The option that the text raises most over what it is without the text."""
    gains = naive_scores(lm, text, prompt) - naive_scores(lm, "", prompt)
    return OPTIONS[int(gains.argmax())]


def naive_scores(lm, text, prompt):
    """Each option's score, one at a time, through the whole model and its own BOS."""
    scores = []
    words = ", ".join(OPTIONS)
    read_text = f'Category of "{text}": ' if prompt is None else f"{text} of {words} -> "
    for option in OPTIONS:
        before = lm.tokenizer(read_text, add_special_tokens=False).input_ids
        before = ([] if lm.bos_id is None else [lm.bos_id]) + before
        after = [*lm.tokenizer(option, add_special_tokens=False).input_ids, lm.eos_id]
        logits = lm.model(torch.tensor([before + after])).logits[0].log_softmax(-1)
        scores.append(sum(logits[len(before) - 1 + n, token] for n, token in enumerate(after)))
    return torch.stack(scores)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("prompt", [None, "{text} of {options} -> "])
@torch.no_grad()
def test_it_is_the_naive_score(load_lm, family, prompt):
    lm = load_lm(family)
    result = zero_shot(lm, Small(), ["en"], **({"prompt": prompt} if prompt else {}))
    answers = [answer.prediction for answer in result.languages["en"].predictions]
    assert answers == [naive_choice(lm, text, prompt) for text in TEXTS]


def test_answers_differ_from_text_to_text(load_lm):
    answers = zero_shot(load_lm("gpt2"), Small(), ["en"]).languages["en"].predictions
    assert len({answer.prediction for answer in answers}) > 1


def test_the_batch_size_changes_no_prediction(load_lm):
    lm = load_lm("llama")
    whole = zero_shot(lm, Small())
    for size in (1, 4):
        assert zero_shot(lm, Small(), batch_size=size).languages == whole.languages
    assert [a.id for a in whole.languages["si"].predictions] == [f"si-{n}" for n in range(6)]


def test_what_the_result_remembers(load_lm, folder, tmp_path):
    message = []
    result = zero_shot(
        load_lm("llama"),
        Small(),
        ["si"],
        batch_size=4,
        progress=lambda *facts: message.append(facts),
    )
    assert message == [("si", 4, 6), ("si", 6, 6)]
    assert (result.method, result.task, result.protocol, result.run) == (
        "zero-shot LM",
        "small",
        "score",
        None,
    )
    assert result.settings["language_model"] == folder("llama").name
    assert result.settings["prompt"] == 'Category of "{text}": '
    assert result.languages["si"].layer_weights is None
    for answer in result.languages["si"].predictions:
        assert answer.correct == (answer.label == answer.prediction)
    assert read(result.write(tmp_path / "alone.json")) == result


def test_an_unknown_language_is_reported_first(load_lm):
    with pytest.raises(DataError) as caught:
        zero_shot(load_lm("llama"), Small(), ["en", "xx"], progress=lambda *_: pytest.fail("read"))
    assert str(caught.value) == "the task small has no test rows in 'xx'; allowed: en, si"


@torch.no_grad()
def test_a_text_that_is_too_long_loses_its_end_and_not_the_prompts(load_lm, monkeypatch):
    """What the model reads is the prompt's head, as much text as fits, and the prompt's tail."""
    lm = load_lm("gpt2")
    prompt = "{text} of {options} -> "
    widths = []
    handle = lm.model.base_model.register_forward_pre_hook(
        lambda module, arguments, kwargs: widths.append(kwargs["attention_mask"].shape[1]),
        with_kwargs=True,
    )
    tail = lm.token_ids(f" of {', '.join(OPTIONS)} -> ")
    longest = max(len(lm.token_ids(option)) for option in OPTIONS) + 1
    room = 12
    monkeypatch.setattr(lm, "max_tokens", room + len(tail) + longest)
    try:
        result = zero_shot(lm, Small(), ["en"], prompt=prompt)
    finally:
        handle.remove()
    assert max(widths) <= lm.max_tokens

    bos = 0 if lm.bos_id is None else 1
    cut = lm.tokenizer.decode(lm.token_ids(TEXTS[2])[: room - bos])
    answers = [answer.prediction for answer in result.languages["en"].predictions]
    assert answers[2] == naive_choice(lm, cut, prompt)
    assert answers[0] == naive_choice(lm, TEXTS[0], prompt)
