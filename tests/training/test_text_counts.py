import pytest

from layerbridge.tasks import Row
from layerbridge.training.text_counts import TextCounts, input_notes, log_entry, notes


def row(prompt, **fields):
    return Row("1", prompt, "x", "en", fields)


@pytest.mark.parametrize(
    ("rows", "template", "empty"),
    [
        ([row("a"), row(""), row(" \n")], None, 2),
        ([row("a"), row("")], "", 1),
        ([row("Review:  Label: ", text=""), row("Review: a Label: ", text="a")], "{text}", 1),
        ([row("P:  H: b", p="", h="b"), row("P: a H: ", p="a", h="\t")], "P: {p} H: {h}", 2),
        # A text that was made in another way.
        ([row("a", name=""), row("", name="b")], "{text}", 1),
        ([row("a", text=""), row("", text="a")], "{te{xt}", 1),
    ],
)
def test_empty_texts(rows, template, empty):
    assert TextCounts.of(rows, template, cut=0) == TextCounts(len(rows), 0, empty)


def test_what_is_said_and_kept():
    counts = {"en": TextCounts(10, 0, 0), "si": TextCounts(9, 2, 0), "ta": TextCounts(8, 1, 3)}
    assert notes(counts, 512) == [
        "texts cut at 512 tokens: 2 of 9 in si, 1 of 8 in ta",
        "empty texts: 3 of 8 in ta",
    ]
    assert notes({"en": counts["en"]}, 512) == []
    assert [count.changed() for count in counts.values()] == [
        {},
        {"cut": 2},
        {"cut": 1, "empty": 3},
    ]
    assert log_entry({"training": counts["ta"], "validation": counts["en"]}) == {
        "training_rows": 8,
        "training_texts_cut": 1,
        "training_texts_empty": 3,
        "validation_rows": 10,
        "validation_texts_cut": 0,
        "validation_texts_empty": 0,
    }


def test_typed_texts(load_encoder):
    encoder = load_encoder("mt5").with_settings(max_text_tokens=8)
    assert input_notes(["a", "the market"], encoder) == []
    assert input_notes(["a " * 9, "", " ", "a"], encoder) == [
        "texts cut at 8 tokens: 1 of 4 in the input",
        "empty texts: 2 of 4 in the input",
    ]


def test_counts_of_a_sample():
    rows = [Row(str(n), text, "x", "en") for n, text in enumerate(["a", "", "b"])]
    counts = {"training": TextCounts.of(rows, None, cut=2, all_rows=900)}
    assert counts["training"] == TextCounts(900, 2, 1, 3)
    assert notes(counts, 5) == [
        "texts cut at 5 tokens: 2 of a sample of 3 in training",
        "empty texts: 1 of a sample of 3 in training",
    ]
    assert log_entry(counts) == {
        "training_rows": 900,
        "training_texts_cut": 2,
        "training_texts_empty": 1,
        "training_rows_sampled": 3,
    }
    assert TextCounts.of(rows, None, cut=0, all_rows=3).sampled is None
