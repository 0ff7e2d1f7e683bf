import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from layerbridge import progress
from layerbridge.progress import is_first_process, meter, say, speaks_for_all


def test_say_is_one_line_on_stderr(capsys):
    say("reading …")
    assert capsys.readouterr() == ("", "reading …\n")


def test_without_a_terminal_only_the_end_is_reported_at_once(capsys):
    with meter("training last") as bar:
        for done in range(1, 4):
            bar.update(done, 3, f"loss {done}")
    assert capsys.readouterr() == ("", "training last: 3/3  loss 3\n")


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "1", "LOCAL_RANK": "1"}, False),
        # The first of its machine, and not of the run.
        ({"RANK": "4", "LOCAL_RANK": "0"}, False),
        # Not torchrun's.
        ({"RANK": "1"}, True),
    ],
)
def test_only_the_first_process_reports(capsys, monkeypatch, variables, first):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() == first
    say("a line")
    with meter("work") as bar:
        bar.update(2, 2)
    assert capsys.readouterr().err == ("a line\nwork: 2/2\n" if first else "")


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


class Store:
    """Counts, as torch's does; or its process has ended."""

    def __init__(self, ended=False):
        self.value, self.ended = 0, ended

    def add(self, key, amount):
        if self.ended:
            raise RuntimeError("Connection reset by peer")
        self.value += amount
        return self.value


@pytest.fixture
def joined(monkeypatch):
    """Makes this one of two processes that have found each other in a store."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")

    def make(store):
        distributed = SimpleNamespace(
            is_available=lambda: True,
            is_initialized=lambda: store is not None,
            distributed_c10d=SimpleNamespace(_get_default_store=lambda: store),
        )
        monkeypatch.setitem(sys.modules, "torch.distributed", distributed)

    return make


def test_the_first_process_that_ends_says_why(joined):
    joined(Store())
    assert [speaks_for_all() for _ in range(3)] == [True, False, False]
    joined(Store(ended=True))
    assert speaks_for_all()


def test_before_processes_have_met_the_first_of_them_speaks_first(joined, monkeypatch):
    joined(None)
    slept = []
    monkeypatch.setattr(progress.time, "sleep", slept.append)
    assert speaks_for_all()
    assert slept == [progress.SPEAKS_FIRST]
    monkeypatch.setenv("RANK", "0")
    assert speaks_for_all()
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "1")
    assert speaks_for_all()
    assert len(slept) == 1
