import io

import pytest
from rich.console import Console

from layerbridge import progress
from layerbridge.progress import meter, say


def test_say_is_one_line_on_stderr(capsys):
    say("reading …")
    assert capsys.readouterr() == ("", "reading …\n")


def test_without_a_terminal_only_the_end_is_reported_at_once(capsys):
    with meter("training last") as bar:
        for done in range(1, 4):
            bar.update(done, 3, f"loss {done}")
    assert capsys.readouterr() == ("", "training last: 3/3  loss 3\n")


def test_by_language(capsys):
    with meter("asking") as bar:
        bar.by_language("si", 30, 60)
        bar.by_language("ta", 60, 60)
    assert capsys.readouterr().err == "asking: 60/60  ta\n"


def test_without_a_terminal_a_line_comes_now_and_then(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with meter("asking") as bar:
        for done in range(1, 10):
            now += 9.0
            bar.update(done, 100)
    # Later than 20 s since the last line: at 27, 54 and 81 s.
    assert capsys.readouterr().err.splitlines() == [
        "asking: 3/100",
        "asking: 6/100",
        "asking: 9/100",
    ]


def test_on_a_terminal_it_is_a_bar(monkeypatch, capsys):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(progress, "Console", lambda stderr: terminal if stderr else None)
    with meter("training last") as bar:
        bar.update(7, 30, "loss 0.123")
    shown = screen.getvalue()
    assert "training last" in shown
    assert "7/30" in shown
    assert "23%" in shown
    assert "loss 0.123" in shown
    assert capsys.readouterr() == ("", "")


def test_an_error_ends_the_bar_and_goes_on(monkeypatch):
    terminal = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(progress, "Console", lambda stderr: terminal)
    with pytest.raises(ValueError, match="broken"), meter("work"):
        raise ValueError("broken")
