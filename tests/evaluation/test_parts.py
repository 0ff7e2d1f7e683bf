"""Evaluations that end early: what is kept, and what they go on with."""

import json
import signal

import pytest
from small_task import SmallTask

from layerbridge.errors import ConfigError, OutputError
from layerbridge.evaluation import evaluator
from layerbridge.evaluation.evaluator import evaluate
from layerbridge.evaluation.parts import Batch, Parts, going_on
from layerbridge.training.interrupt import Interrupted

TEXTS = {"en": ["the market rose", "", "teams", "Premise"], "si": ["ම", "මම", "ශ්"]}


class Small(SmallTask):
    options = ("s", "en")
    texts = TEXTS


@pytest.fixture
def bridge(make_bridge):
    return make_bridge("mt5", "llama", "token-softmax")


@pytest.fixture
def ended(bridge, tmp_path, monkeypatch):
    """The path of an evaluation of seven batches that ended in its fourth."""
    with monkeypatch.context() as patched:
        do = evaluator._batch

        def ends(bridge, number, *more):
            if number == 3:
                raise MemoryError
            return do(bridge, number, *more)

        patched.setattr(evaluator, "_batch", ends)
        with pytest.raises(MemoryError):
            evaluate(bridge, Small(), batch_size=1, parts=Parts(tmp_path / "result.json"))
    return tmp_path / "result.json"


def part(path, number=1):
    return path.with_name(f"{path.name}.part-{number}")


@pytest.fixture
def counted(monkeypatch):
    """The numbers of the batches that are done."""
    done, do = [], evaluator._batch

    def counting(bridge, number, *more):
        done.append(number)
        return do(bridge, number, *more)

    monkeypatch.setattr(evaluator, "_batch", counting)
    return done


@pytest.mark.parametrize("torn", [0, 1, 30])
def test_it_goes_on_where_it_ended(bridge, ended, counted, torn):
    whole = part(ended).read_bytes()
    part(ended).write_bytes(whole[: len(whole) - torn])
    progress = []
    parts = Parts(ended, resume=True)
    result = evaluate(
        bridge, Small(), batch_size=1, parts=parts, progress=lambda *at: progress.append(at)
    )
    assert counted == [3, 4, 5, 6] if not torn else [2, 3, 4, 5, 6]
    assert progress[-1] == ("si", 7, 7)
    counted.clear()
    assert result.languages == evaluate(bridge, Small(), batch_size=1).languages
    assert counted == [*range(7)]
    files = sorted(path.name for path in ended.parent.iterdir())
    assert files == [part(ended).name, part(ended, 2).name]
    parts.remove()
    assert list(ended.parent.iterdir()) == []


def test_it_may_end_again(bridge, ended, counted):
    lines = part(ended).read_text().splitlines(keepends=True)
    part(ended, 7).write_text("".join([lines[0], lines[3]]))
    part(ended).write_text("".join(lines[:2]) + "{")
    evaluate(bridge, Small(), batch_size=1, parts=Parts(ended, resume=True))
    assert counted == [1, 3, 4, 5, 6]
    assert part(ended, 8).is_file()


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 2},
        {"protocol": "generate"},
        {"length_normalization": "mean"},
        {"languages": ["si"]},
        {"center": "batch"},
        "bridge",
        "text",
        "first line",
    ],
)
def test_another_evaluation_is_not_gone_on_with(bridge, make_bridge, ended, monkeypatch, change):
    settings = {"batch_size": 1}
    if change == "bridge":
        bridge.projection.boundary.data += 1
    elif change == "text":
        monkeypatch.setitem(Small.texts, "si", ["ම", "මම", "ශ"])
    elif change == "first line":
        part(ended).write_text("[]\n")
    else:
        settings |= change
    with pytest.raises(ConfigError) as caught:
        evaluate(bridge, Small(), **settings, parts=Parts(ended, resume=True))
    assert str(caught.value) == (
        f"the evaluation in {ended}.part-… had another bridge, other rows or other settings; "
        "next: leave --resume out to begin again, or restore them"
    )


def test_without_resume_it_begins_again_and_says_so(bridge, ended, counted, capsys):
    (ended.parent / "other.json.part-1").write_text("kept")
    evaluate(bridge, Small(), batch_size=1, parts=Parts(ended))
    assert counted == [*range(7)]
    said = f"an evaluation that did not end is begun again ({ended}.part-…)\n"
    assert said in capsys.readouterr().err
    files = sorted(path.name for path in ended.parent.iterdir())
    assert files == ["other.json.part-1", part(ended, 2).name]


def test_there_must_be_something_to_go_on_with(bridge, tmp_path):
    path = tmp_path / "result.json"
    with pytest.raises(OutputError) as caught:
        evaluate(bridge, Small(), parts=Parts(path, resume=True))
    assert str(caught.value) == (
        f"there is no evaluation to go on with: {path}.part-1 does not exist; next: leave "
        "--resume out"
    )
    (tmp_path / "file").touch()
    with pytest.raises(
        OutputError, match=r"result\.json cannot be written \(Not a directory\)|File exists"
    ):
        Parts(tmp_path / "file" / "result.json").begin()


def test_a_part_is_whole_after_each_batch(tmp_path):
    parts = Parts(tmp_path / "[r].json")
    parts.begin("facts")
    for number in range(3):
        parts.add(Batch(batch=number, answers=["ම\n"], weights=[0.1, 1 / 3], tokens=2))
        *_, last = (tmp_path / "[r].json.part-1").read_text().splitlines()
        assert json.loads(last)["batch"] == number
    resumed = Parts(tmp_path / "[r].json", resume=True)
    resumed.begin("facts")
    assert resumed.joined() == parts.joined()
    assert resumed.own(5) == [3, 4]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_says_how_to_go_on(ctrl_c, number):
    with pytest.raises(Interrupted) as caught, going_on():
        signal.raise_signal(number)
    assert str(caught.value) == "interrupted; next: the same command with --resume"
    assert caught.value.number == number
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
