import json
from itertools import zip_longest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerbridge.errors import CheckpointError, DataError
from layerbridge.tasks.task import Row
from layerbridge.training import examples
from layerbridge.training.examples import Example


def rows(*pairs):
    return [Row(str(n), text, target, "en") for n, (text, target) in enumerate(pairs)]


def test_the_first_rows_of_each_label_in_turn():
    pairs = [(f"{label}{n}", label) for label in "abc" for n in range(4)]
    found = examples.chosen(rows(*pairs))
    assert [example.text for example in found] == ["a0", "b0", "c0", "a1", "b1", "c1"]
    assert [example.target for example in found] == list("abcabc")
    assert {(example.language, example.meaning) for example in found} == {("en", None)}


def test_empty_and_long_texts_are_no_examples():
    limit = examples.MOST_CHARS
    found = examples.chosen(rows((" ", "a"), ("x" * (limit + 1), "a"), ("x" * limit, "b")))
    assert [example.text for example in found] == ["x" * limit]
    assert examples.chosen([]) == []


def test_what_is_written_is_read(tmp_path):
    written = [Example("ශ්‍රී", "currency", "si", "rupee"), Example("good", "positive")]
    examples.write(written, tmp_path)
    assert examples.read(tmp_path) == written
    assert "ශ්‍රී" in (tmp_path / examples.FILE).read_text("utf-8")
    examples.write([], tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert examples.read(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("[", "all"),
        ("{}", "all"),
        ('[{"text": "a"}]', "0/target"),
        ('[{"text": 1, "target": "a"}]', "0/text"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, content, where):
    (tmp_path / examples.FILE).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        examples.read(tmp_path)
    assert str(caught.value) == (
        f"'{tmp_path}/examples.json' is damaged (at {where}); allowed: a list of "
        '{"text": …, "target": …}; next: remove it, and there are no examples'
    )


def test_a_file_with_less_or_more_than_today(tmp_path):
    """Written by hand, or by a later version."""
    content = [{"text": "a", "target": "b", "split": "validation"}]
    (tmp_path / examples.FILE).write_text(json.dumps(content))
    assert examples.read(tmp_path) == [Example("a", "b")]


def test_how_likely_any_option_usually_is(make_bridge):
    bridge = make_bridge(options=["a", "on", "the"])
    of = rows(*((f"{number} the market", "a") for number in range(100)))
    sample = of[::3][:32]
    values = sorted(each.any_option for each in bridge.classify([row.text for row in sample]))
    middle = (values[15] + values[16]) / 2
    assert examples.usual_any_option(bridge, of) == pytest.approx(middle, rel=1e-4)
    assert examples.usual_any_option(bridge, []) is None
    bridge.config.options = None
    assert examples.usual_any_option(bridge, of) is None


def test_rows_that_cannot_be_classified_do_not_cost_the_run(make_bridge, monkeypatch, capsys):
    bridge = make_bridge(options=["a", "on"])

    def fail(texts):
        raise DataError("a mistake")

    monkeypatch.setattr(bridge, "classify", fail)
    assert examples.usual_any_option(bridge, rows(("a", "a"))) is None
    assert capsys.readouterr().err == (
        "note: the validation rows cannot be classified: a mistake\n"
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefghij"), st.sampled_from(["", "a", "x" * 1001]))))
def test_few_rows_are_kept_to_choose_from(pairs):
    rows = [Row(str(n), text, target, "en") for n, (target, text) in enumerate(pairs)]
    fine = [row for row in rows if 0 < len(row.text) <= examples.MOST_CHARS]
    targets = dict.fromkeys(row.target for row in fine)
    turns = [[row for row in fine if row.target == target] for target in targets]
    by_turn = [row for turn in zip_longest(*turns) for row in turn if row is not None]
    assert [e.target for e in examples.chosen(rows)] == [row.target for row in by_turn[:6]]
