import pytest

from layerbridge.tasks.labels import Labels

NLI = Labels({"entailment": "Yes", "neutral": "Maybe", "contradiction": "No"}, numbered=True)


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        ("entailment", "Yes"),
        ("ENTAILMENT", "Yes"),
        (" Neutral ", "Maybe"),
        ("maybe", "Maybe"),
        ("No", "No"),
        ("2", "No"),
        ("0", "Yes"),
        ("3", None),
        ("-1", None),
        ("entail", None),
        ("", None),
    ],
)
def test_word(raw, word):
    assert NLI.word(raw) == word


def test_numbers_mean_places_only_where_classes_are_numbered():
    assert Labels(NLI.words).word("0") is None
    assert Labels({"1": "bad", "2": "good"}).word("1") == "bad"


def test_what_the_data_says_comes_before_the_words():
    swapped = Labels({"a": "b", "b": "a"})
    assert [swapped.word(raw) for raw in ("a", "b", "A", "B")] == ["b", "a", "b", "a"]
    case = Labels({"us": "pronoun", "US": "country"})
    assert (case.word("us"), case.word("US")) == ("pronoun", "country")


def test_options_are_the_words_each_once():
    labels = Labels({"1": "bad", "2": "bad", "3": "good"})
    assert labels.options == ("bad", "good")
    assert labels.word("2") == "bad"
