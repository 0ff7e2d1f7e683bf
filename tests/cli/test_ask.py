import io
import json
import sys

import pytest

from layerbridge.models.bridge import LayerBridge

CPU = ("--dtype", "float32", "--device", "cpu")


@pytest.fixture
def bridge(trained):
    return LayerBridge.from_pretrained(trained, dtype="float32")


def test_the_best_of_its_own_options(command, trained, bridge):
    texts = ["ම ශ්", "the market"]
    said = command("ask", trained, *texts, *CPU)
    assert (said.code, said.err) == (0, "")
    expected = bridge.classify(texts)
    assert said.out == "".join(
        f"{answer.choice}\t{answer.probabilities[answer.choice]:.3f}\t{text}\n"
        for answer, text in zip(expected, texts, strict=True)
    )


def test_options_of_ones_own_and_json(command, trained, bridge):
    said = command("ask", trained, "ම ශ්", "--options", "a, on ,the", "--json", *CPU)
    assert (said.code, said.err) == (0, "")
    (line,) = said.out.splitlines()
    record = json.loads(line)
    (expected,) = bridge.classify(["ම ශ්"], ["a", "on", "the"])
    assert record["text"] == "ම ශ්"
    assert "ම ශ්" in line
    assert record["answer"] == expected.choice
    assert record["scores"] == pytest.approx(expected.scores)
    assert sum(record["probabilities"].values()) == pytest.approx(1)


def test_an_instruction_changes_the_scores(command, trained):
    plain, told = (
        json.loads(command("ask", trained, "the market", "--json", *words, *CPU).out)["scores"]
        for words in ((), ("--instruction", "Answer with one word."))
    )
    assert plain != pytest.approx(told, abs=1e-3)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_free_answer(command, trained, bridge, as_json):
    words = ["--json"] if as_json else []
    said = command(
        "ask",
        trained,
        "the market",
        "--protocol",
        "generate",
        "--max-new-tokens",
        "5",
        *words,
        *CPU,
    )
    (expected,) = bridge.generate_text("the market", max_new_tokens=5)
    assert said.code == 0
    if as_json:
        assert json.loads(said.out) == {"text": "the market", "answer": expected}
    else:
        assert said.out == f"{expected}\n"


def test_texts_from_stdin(command, trained, bridge, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("the market\nම ශ්\n"))
    said = command("ask", trained, "--json", *CPU)
    answers = [json.loads(line) for line in said.out.splitlines()]
    assert [answer["text"] for answer in answers] == ["the market", "ම ශ්"]
    expected = bridge.classify(["the market", "ම ශ්"])
    for answer, right in zip(answers, expected, strict=True):
        assert answer["scores"] == pytest.approx(right.scores, abs=1e-5)


def test_no_text_at_all(command, trained, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    said = command("ask", trained)
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        'error: no text given; allowed: layerbridge ask RUN "text", or lines on stdin\n'
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("a,,b", "an option is empty; allowed: label words"),
        ("a,b,a", "duplicate option 'a'; allowed: each option once"),
    ],
)
def test_options_that_do_not_fit(command, trained, options, told):
    said = command("ask", trained, "x", "--options", options, *CPU)
    assert (said.code, said.out, said.err) == (2, "", f"error: {told}\n")
