import io
import os
import re
import select
import signal
import sys

import forked
import pytest
import torch
from rich.console import Console

from layerbridge.cli import chat as chat_module
from layerbridge.cli.heat_map import heat_map
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.inference import LayerWeights
from layerbridge.models.language_model import LanguageModel
from layerbridge.report.plots.style import clean
from layerbridge.serving.decoding import Decoding

CPU = ("--dtype", "float32", "--device", "cpu")


@pytest.fixture(scope="module")
def bridge(trained):
    return LayerBridge.from_pretrained(trained, dtype="float32")


class Terminal(io.StringIO):
    """What a person types; the line ``^C`` is Ctrl-C."""

    def isatty(self):
        return True

    def readline(self, *_):
        line = super().readline()
        if line == "^C\n":
            raise KeyboardInterrupt
        return line


@pytest.fixture
def chat(command, trained, monkeypatch):
    """Types these lines, and says what came of it."""

    def run(*lines, words=()):
        monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{line}\n" for line in lines)))
        return command("chat", trained, "--max-new-tokens", 5, *words, *CPU)

    return run


FREE = ("--protocol", "generate")


def free(bridge, text, most=5, **settings):
    return bridge.generate_text(text, max_new_tokens=most, **settings)[0]


def label(bridge, text):
    return bridge.classify(text)[0].choice


def shown(*arguments, **settings):
    """The same as a terminal is given it: tiny models write control characters too."""
    return clean(free(*arguments, **settings)).rstrip()


def bars_in(result):
    """The bars; where nobody types the prompt stands before the first of them."""
    return [line.removeprefix("> ") for line in result.err.splitlines() if " %" in line]


@pytest.mark.parametrize("words", [(), FREE])
def test_lines_from_a_pipe(command, trained, bridge, monkeypatch, words):
    texts = ["the market", "", "/quit", "ම ශ්"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(texts)))
    result = command("chat", trained, "--max-new-tokens", 5, *words, *CPU)
    empty, *far = result.err.splitlines()
    assert (result.code, empty) == (0, "empty lines skipped: 1 of 4 on stdin")
    write = free if words else label
    read = [text for text in texts if text]
    assert result.out.splitlines() == [" ".join(write(bridge, text).split()) for text in read]
    count = sum(each.far_from_training for each in bridge.classify(read))
    assert count > 0
    said = [f"far from training: {count} of 3 in the input"]
    assert [line.partition(";")[0] for line in far] == ([] if words else said)


def test_a_line_that_is_not_utf8_ends_only_itself(chat, bridge):
    result = chat("caf\udce9", "the market")
    assert result.code == 0
    assert "error: the line is not UTF-8; next: set the terminal to UTF-8" in result.err
    assert result.out.rstrip() == label(bridge, "the market")


def test_a_text_that_is_cut(chat, command, trained, monkeypatch):
    text, limit = "the market " * 400, 512
    note = f"texts cut at {limit} tokens: 1 of 1 in the input"
    assert f"> {note}" in chat(text).err.splitlines()
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"a\n{text}\n"))
    result = command("chat", trained, "--max-new-tokens", 1, *FREE, *CPU)
    assert result.err == f"texts cut at {limit} tokens: 1 of 2 in the input\n"


def test_what_was_cut_before_an_error_is_said(command, trained, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(b"the market " * 400 + b"\n\xe9\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    result = command("chat", trained, "--max-new-tokens", 1, *FREE, *CPU)
    assert result.code == 2
    assert len(result.out.splitlines()) == 1
    cut, error = result.err.splitlines()
    assert cut == "texts cut at 512 tokens: 1 of 1 in the input"
    assert error.startswith("error: stdin, line 2 is not UTF-8")


def test_an_answer_that_is_not_finite_names_its_text(chat, monkeypatch):
    prefill = LanguageModel.prefill

    def overflow(self, packed):
        logits, cache = prefill(self, packed)
        return torch.full_like(logits, torch.nan), cache

    monkeypatch.setattr(LanguageModel, "prefill", overflow)
    result = chat("the market", words=FREE)
    assert result.code == 0
    assert (
        "error: NaN or infinity in the language model's logits, for the text 'the market'; next: "
        "check the weights" in result.err
    )


def test_an_answer_and_its_options(chat, bridge):
    result = chat("ම ශ්")
    assert result.code == 0
    # The answer alone is on stdout.
    (found,) = bridge.classify("ම ශ්")
    assert result.out == f"{found.choice}\n"
    assert ("far from training: 1 of 1" in result.err) == found.far_from_training
    ranked = sorted(found.probabilities.items(), key=lambda pair: -pair[1])
    lines = bars_in(result)
    assert len(lines) == 3
    for line, (option, probability) in zip(lines, ranked, strict=True):
        assert re.fullmatch(rf"  {option} +{100 * probability:.1f} %( +█+)?", line), line
    assert "options: country, unit, time zone" in result.err


def test_it_streams(chat, bridge, monkeypatch):
    parts = []
    whole = chat_module.Chat.answer

    def answer(self, text):
        for part in whole(self, text):
            parts.append(part)
            yield part

    monkeypatch.setattr(chat_module.Chat, "answer", answer)
    result = chat("the market", words=FREE)
    assert clean("".join(parts)).rstrip() == result.out.rstrip() == shown(bridge, "the market")
    assert len(list(filter(None, parts))) > 1


def test_options_and_instruction(chat, bridge):
    message = "Answer with one word."
    result = chat("/options a, on ,the", f"/instruction {message}", "the market", "/options")
    (found,) = bridge.classify("the market", ["a", "on", "the"], instruction=message)
    lines = bars_in(result)
    assert lines[0].split()[:2] == [found.choice, f"{100 * found.probabilities[found.choice]:.1f}"]
    assert len(lines) == 3
    assert result.out == f"{found.choice}\n"
    assert "options: a, on, the\n" in result.err
    assert f"instruction: {message}\n" in result.err
    assert result.err.count("options: country, unit, time zone\n") == 2


def test_free_text_and_back(chat, bridge):
    result = chat("/free", "the market", "/options", "the market")
    written, chosen = shown(bridge, "the market"), label(bridge, "the market")
    assert result.out.rstrip() == f"{written}\n{chosen}"
    assert "answers are free text; /options ends that\n" in result.err
    assert len(bars_in(result)) == 3


def test_the_protocol(chat, command, trained, bridge, monkeypatch):
    result = chat("x", words=("--protocol", "score", "--options", "a,on"))
    assert result.out.rstrip() in ("a", "on")
    result = chat("x", words=(*FREE, "--options", "a,on"))
    assert (result.out.rstrip(), bars_in(result)) == (shown(bridge, "x"), [])
    monkeypatch.setattr(sys, "stdin", io.StringIO("x"))
    result = command("chat", trained, "--protocol", "best", *CPU)
    assert result.code == 2
    assert result.err == "error: unknown protocol 'best'; allowed: score, generate\n"


def test_options_given_at_the_start(chat):
    result = chat("x", words=("--options", "a,on"))
    assert [line.split()[0] for line in bars_in(result)] in (
        ["a", "on"],
        ["on", "a"],
    )


def test_tokens(chat, bridge):
    result = chat("/tokens 2", "the market", "/tokens", words=FREE)
    assert result.out.rstrip() == shown(bridge, "the market", 2)
    assert result.err.count("maximum tokens per answer: 2\n") == 2


def test_weights_of_the_last_text(chat, bridge):
    result = chat("the market", "/weights")
    (weights,) = bridge.layer_weights("the market")
    rows = result.err[result.err.index("time zone") :].splitlines()
    for token, row in zip(weights.tokens, weights.weights.tolist(), strict=True):
        figures = [f"{100 * weight:.0f}" for weight in row]
        (line,) = [line for line in rows if line.split()[:1] == [token]]
        assert line.split()[1:] == ["·" if figure == "0" else figure for figure in figures]
    assert "\x1b" not in result.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/weights", "no text yet; allowed: /weights after a text"),
        ("/tokens 0", "/tokens 0; allowed: a positive integer"),
        ("/tokens many", "/tokens many; allowed: a positive integer"),
        ("/options a, ,b", "an option is empty; allowed: label words"),
        ("/option a", "unknown command '/option'; allowed: /options, /free, /instruction, "),
    ],
)
def test_a_mistake_does_not_end_it(chat, line, message):
    result = chat(line, "x")
    assert result.code == 0
    assert f"error: {message}" in result.err
    assert result.out != ""


def test_more_than_the_language_model_can_read(chat, bridge):
    result = chat(f"/instruction {'the market ' * bridge.language_model.max_tokens}", "x", "/help")
    assert result.code == 0
    assert "error: row 1 of the batch takes" in result.err
    assert "/instruction TEXT" in result.err


def test_help_and_quit(chat):
    result = chat("/help", "", "/quit", "x")
    assert (result.code, result.out) == (0, "")
    assert "/weights " in result.err


def test_ctrl_c_ends_an_answer_alone(chat, bridge, monkeypatch):
    advance = Decoding.advance
    calls = []

    def interrupted(self, tokens):
        calls.append(tokens)
        if len(calls) == 2:
            raise KeyboardInterrupt
        advance(self, tokens)

    monkeypatch.setattr(Decoding, "advance", interrupted)
    result = chat("the market", "the market", words=FREE)
    assert result.code == 0
    assert result.err.count("(interrupted)") == 1
    first, second = result.out.split("\n", 1)
    assert second.rstrip() == shown(bridge, "the market")
    assert second.startswith(first)
    assert len(first) < len(second.rstrip("\n"))


def test_ctrl_c_at_the_prompt_does_not_end_it(chat):
    result = chat("^C", "/tokens 3")
    assert result.code == 0
    assert "(/quit or Ctrl-D quits)" in result.err
    assert "per answer: 3" in result.err


def test_a_bridge_without_options(trained, bridge):
    from layerbridge.serving.bridges import Bridges

    bridges = Bridges.load([f"one={trained}"])
    bridges["one"].config.options = None
    session = chat_module.Chat(bridges, 3)
    assert "options" not in session.introduction
    session.handle("/options")
    assert session.options is None


def test_what_a_model_writes_does_not_command_the_terminal(trained, capsys, monkeypatch):
    from layerbridge.serving.bridges import Bridges

    session = chat_module.Chat(Bridges.load([f"one={trained}"]), 3)
    monkeypatch.setattr(session, "answer", lambda text: iter(["\x1b[2J", "ok\x9b"]))
    session.handle("x")
    assert capsys.readouterr().out == "\ufffd[2Jok\ufffd\n"


def test_bars_of_letters_of_any_width():
    drawn = chat_module.bars({"국가": 0.25, "a": 0.75})
    assert drawn == "  a      75.0 %  ██████████████████\n  국가   25.0 %  ██████"


@pytest.mark.parametrize("width", [80, 20])
def test_a_heat_map_that_fits(width):
    weights = torch.full((2, 12), 0.5 / 11)
    weights[:, 9] = 0.5
    weights[1] = torch.eye(12)[11]
    drawn = heat_map(LayerWeights(["▁the", "</s>"], weights, 1), width)
    lines = drawn.plain.splitlines()
    if width == 80:
        assert lines[0].split() == [str(layer) for layer in range(1, 13)]
        assert lines[1].split()[1:] == ["5"] * 9 + ["50"] + ["5"] * 2
        assert lines[2].endswith("  ·" * 11 + "100")
        assert "percent" in lines[3]
    else:
        assert [line.split()[-1] for line in lines[:2]] == ["111", "123456789012"]
        assert lines[2].split()[1] == "·········5··"
        assert lines[3].split()[1] == "···········X"
        assert "tenths (X is ten)" in lines[4]
    assert all(len(line) <= width for line in lines[:-1])
    coloured = io.StringIO()
    Console(file=coloured, force_terminal=True, color_system="truecolor").print(drawn)
    assert "\x1b[" in coloured.getvalue()


def test_a_real_terminal(trained, tmp_path):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    words = ["chat", trained, *CPU, "--max-new-tokens", "3"]
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    home = {"LAYERBRIDGE_HOME": str(tmp_path), "TERM": "xterm"}
    process = forked.fork(words, **streams, terminal=True, **home)
    os.close(theirs)
    seen = ""

    def until(mark, again=b""):
        nonlocal seen
        waits = 0
        while mark not in seen:
            ready, _, _ = select.select([ours], [], [], 5)
            if ready:
                seen += os.read(ours, 4096).decode(errors="replace")
                continue
            waits += 1
            assert waits < 20, f"no {mark!r} after {seen!r}"
            os.write(ours, again)
        seen = seen[seen.index(mark) + len(mark) :]

    try:
        until("> ")
        os.write(ours, b"the market\n")
        until(" %")
        until("> ")
        os.write(ours, b"not this")
        until("not this")
        # Python loses a signal that comes between the prompt and its waiting for a key.
        os.write(ours, b"\x03")
        until("(/quit or Ctrl-D quits)", again=b"\x03")
        until("> ")
        # The arrow key brings the last line back.
        os.write(ours, b"\x1b[A")
        until("the market")
        os.write(ours, b"\n")
        until(" %")
        until("> ")
        os.write(ours, b"\x04")
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
        process = 0
    finally:
        if process:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        os.close(ours)
    history = tmp_path / "chat-history"
    assert history.read_text().splitlines()[-1] == "the market"
    assert history.stat().st_mode & 0o077 == 0
