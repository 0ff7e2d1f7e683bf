import io
import json
import shutil
import sys

import pytest

from fake_hub import TOKEN, hub  # noqa: F401
from layerbridge.models.bridge import LayerBridge

CPU = ("--dtype", "float32", "--device", "cpu")


@pytest.fixture
def bridge(trained):
    return LayerBridge.from_pretrained(trained, dtype="float32")


@pytest.fixture
def sure(trained, tmp_path):
    """A run for which no text is far from training."""
    folder = shutil.copytree(trained, tmp_path / "sure")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "usual_any_option": 0.0}))
    return folder


def test_the_best_of_its_own_options(command, sure, bridge):
    texts = ["ම ශ්", "the market"]
    result = command("ask", sure, *texts, *CPU)
    assert (result.code, result.err) == (0, "")
    expected = bridge.classify(texts)
    assert result.out == "".join(
        f"{answer.choice}\t{answer.probabilities[answer.choice]:.3f}\t{text}\n"
        for answer, text in zip(expected, texts, strict=True)
    )


@pytest.mark.parametrize("usual", [0.0, 1e-4, None])
def test_texts_far_from_training_are_marked(command, sure, bridge, usual):
    """Instead of a probability, and counted once; JSON has all the numbers."""
    texts = ["ම ශ්", "the market", "a"]
    config = json.loads((sure / "config.json").read_text())
    (sure / "config.json").write_text(json.dumps({**config, "usual_any_option": usual}))
    bridge.config.usual_any_option = usual
    answers = bridge.classify(texts)
    far = [answer.any_option for answer in answers if answer.far_from_training]
    assert len(far) == {0.0: 0, None: 3}.get(usual, len(far))
    result = command("ask", sure, *texts, *CPU)
    rows = [line.split("\t") for line in result.out.splitlines()]
    for (_, sureness, _), answer in zip(rows, answers, strict=True):
        probability = f"{answer.probabilities[answer.choice]:.3f}"
        assert sureness == ("far from training" if answer.far_from_training else probability)
    said = f"far from training: {len(far)} of 3 in the input; all options together have"
    assert result.err.startswith(said if far else "")
    assert result.err.count("\n") == bool(far)
    result = command("ask", sure, *texts, "--json", *CPU)
    for line, answer in zip(result.out.splitlines(), answers, strict=True):
        record = json.loads(line)
        assert record["any_option"] == pytest.approx(answer.any_option, rel=1e-4)
        assert record["far_from_training"] == answer.far_from_training


def test_options_of_ones_own_and_json(command, sure, bridge):
    result = command("ask", sure, "ම ශ්", "--options", "a, on ,the", "--json", *CPU)
    assert (result.code, result.err) == (0, "")
    (line,) = result.out.splitlines()
    record = json.loads(line)
    (expected,) = bridge.classify(["ම ශ්"], ["a", "on", "the"])
    assert record["text"] == "ම ශ්"
    assert "ම ශ්" in line
    assert record["answer"] == expected.choice
    assert record["scores"] == pytest.approx(expected.scores)
    assert sum(record["probabilities"].values()) == pytest.approx(1)


def test_an_instruction_changes_the_scores(command, trained):
    plain, message = (
        json.loads(command("ask", trained, "the market", "--json", *words, *CPU).out)["scores"]
        for words in ((), ("--instruction", "Answer with one word."))
    )
    assert plain != pytest.approx(message, abs=1e-3)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_free_answer(command, trained, bridge, as_json):
    words = ["--json"] if as_json else []
    result = command(
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
    assert result.code == 0
    if as_json:
        assert json.loads(result.out) == {"text": "the market", "answer": expected}
    else:
        assert result.out == f"{expected}\n"


def test_texts_from_stdin(command, trained, bridge, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("the market\nම ශ්\n"))
    result = command("ask", trained, "--json", *CPU)
    answers = [json.loads(line) for line in result.out.splitlines()]
    assert [answer["text"] for answer in answers] == ["the market", "ම ශ්"]
    expected = bridge.classify(["the market", "ම ශ්"])
    for answer, right in zip(answers, expected, strict=True):
        assert answer["scores"] == pytest.approx(right.scores, abs=1e-5)


@pytest.mark.parametrize("lines", ["", "\n \n"])
def test_no_text_at_all(command, trained, monkeypatch, lines):
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    result = command("ask", trained)
    assert (result.code, result.out) == (2, "")
    skipped = "empty lines skipped: 2 of 2 on stdin\n" if lines else ""
    assert result.err == (
        f'{skipped}error: no text given; allowed: layerbridge ask RUN "text", or lines on stdin\n'
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("a,,b", "an option is empty; allowed: label words"),
        ("a,b,a", "duplicate option 'a'; allowed: each option once"),
        ("", "an option is empty; allowed: label words"),
        (" ", "an option is empty; allowed: label words"),
    ],
)
@pytest.mark.parametrize("verb", ["ask", "chat", "train"])
def test_options_that_do_not_fit(command, train_flags, tmp_path, verb, options, message):
    words = (*train_flags, "-o", tmp_path / "run") if verb == "train" else ("no/such/run",)
    result = command(verb, *words, "--options", options)
    assert (result.code, result.out, result.err) == (2, "", f"error: {message}\n")
    assert not (tmp_path / "run").exists()


def test_models_are_loaded_as_asked(command, sure):
    result = command("ask", sure, "a", "--load-in-4bit", *CPU)
    assert (result.code, result.out.count("\n")) == (0, 1)
    result = command("ask", sure, "a", "--load-in-4bit", "--load-in-8bit", *CPU)
    assert (result.code, result.err) == (
        2, "error: load_in_4bit and load_in_8bit contradict each other; allowed: one of them\n"
    )  # fmt: skip


def test_texts_that_are_cut_or_empty_are_said(command, sure):
    result = command("ask", sure, "a", "the market " * 400, "", " ", *CPU)
    assert (result.code, result.out.count("\n")) == (0, 4)
    assert result.err == (
        "texts cut at 512 tokens: 1 of 4 in the input\nempty texts: 2 of 4 in the input\n"
    )


def test_a_revision_on_the_hub(command, bridge, hub):  # noqa: F811
    first = bridge.push_to_hub("bridge", token=TOKEN).oid
    bridge.config.options = ["unit", "elsewhere"]
    bridge.push_to_hub("bridge", token=TOKEN)
    found = {}
    for revision in (first, "main"):
        words = ("me/bridge", "the market", "--revision", revision, "--json", *CPU)
        done = command("ask", *words)
        assert done.code == 0, done.err
        found[revision] = list(json.loads(done.out)["probabilities"])
    assert found == {first: ["country", "unit", "time zone"], "main": ["unit", "elsewhere"]}
    done = command("ask", "me/bridge", "x", "--revision", "v9")
    assert (done.code, done.err) == (
        2,
        "error: there is no folder 'me/bridge', and bridge 'me/bridge' has no revision 'v9'; "
        "allowed: one of its branches, tags or commits; next: omit the revision to get the "
        "latest\n",
    )
