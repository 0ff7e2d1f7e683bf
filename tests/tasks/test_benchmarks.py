"""Each benchmark by itself: prompt, words, languages, where its rows are, and its traps."""

import pytest

from layerbridge import tasks
from layerbridge.errors import DataError

NLI = "Premise: {premise} Hypothesis: {hypothesis} Label: "
WORDS = ("Entailment", "Neutral", "Contradiction")

# Name → template, options, languages, parallel.
FACTS = {
    "xnli": (NLI, WORDS, "en ar bg de el es fr hi ru sw th tr ur vi zh", True),
    "indicxnli": (NLI, WORDS, "en as bn gu hi kn ml mr or pa ta te", True),
    "sinhala-news": (
        "News Sentence: {sentence} Category: ",
        ("Business", "Entertainment", "Political", "Sports", "Science"),
        "en si",
        False,
    ),
    "amazon-reviews": (
        "Review: {text} Label: ",
        ("Very Negative", "Negative", "Neutral", "Positive", "Very Positive"),
        "en es fr de zh ja",
        False,
    ),
    "sib200": (
        "Text: {text} Topic: ",
        (
            *("science/technology", "travel", "politics", "sports"),
            *("health", "entertainment", "geography"),
        ),
        "en si ta as am ka th sw bn hi ar zh ru vi de",
        True,
    ),
    "masakhanews": (
        "{text}",
        ("business", "entertainment", "health", "politics", "sports", "technology"),
        "en am ha ig lg ln om pcm rn sn so sw ti xh yo",
        False,
    ),
}


@pytest.mark.parametrize("name", FACTS)
def test_prompt_words_and_languages(name):
    template, options, languages, parallel = FACTS[name]
    task = tasks.get(name)
    assert (task.template, task.options, task.parallel) == (template, options, parallel)
    assert task.languages == tuple(languages.split())


@pytest.mark.parametrize(
    ("name", "split", "language", "source"),
    [
        ("xnli", "train", "en", "facebook/xnli:en:train"),
        ("xnli", "validation", "en", "facebook/xnli:en:validation"),
        ("xnli", "test", "ur", "facebook/xnli:ur:test"),
        ("indicxnli", "train", "en", "facebook/xnli:en:train"),
        ("indicxnli", "test", "en", "facebook/xnli:en:test"),
        (
            "indicxnli",
            "test",
            "hi",
            "hf://datasets/Divyanshu/indicxnli@refs/convert/parquet/hi/test/0000.parquet",
        ),
        # The authors' loader takes the training split for the test.
        (
            "sinhala-news",
            "test",
            "si",
            "Themira/en_si_news_classification_with_label_name::test_si",
        ),
        (
            "sinhala-news",
            "train",
            "en",
            "Themira/en_si_news_classification_with_label_name::train_en",
        ),
        ("sinhala-news", "validation", "en", None),
        (
            "amazon-reviews",
            "validation",
            "en",
            "hf://datasets/mteb/amazon_reviews_multi/en/validation.jsonl",
        ),
        ("sib200", "test", "si", "Davlan/sib200:sin_Sinh:test"),
        ("sib200", "train", "en", "Davlan/sib200:eng_Latn:train"),
        ("xsid", "test", "de-ba", None),
    ],
)
def test_where_rows_are_on_the_hub(name, split, language, source):
    assert tasks.get(name).source(split, language) == source


def pair(premise, label):
    return {"premise": premise, "hypothesis": "h", "label": label}


@pytest.mark.parametrize("style", ["{}", "{number}", "{word}"])
def test_xnli_labels_by_name_number_or_word(write, tmp_path, style):
    raw = ("entailment", "neutral", "contradiction")
    labels = [
        style.format(name, number=number, word=WORDS[number].upper())
        for number, name in enumerate(raw)
    ]
    write("test-en.jsonl", [pair(f"p{n}", label) for n, label in enumerate(labels)])
    rows = tasks.get("xnli", data_dir=tmp_path).test("en")
    assert [row.target for row in rows] == list(WORDS)
    assert [row.text for row in rows] == [f"Premise: p{n} Hypothesis: h Label: " for n in range(3)]


def test_xnli_refuses_another_label(write, tmp_path):
    path = write("test-en.jsonl", [pair("p", 3)])
    with pytest.raises(DataError) as caught:
        tasks.get("xnli", data_dir=tmp_path).test("en")
    assert str(caught.value) == (
        f"{path}, line 1 has the label '3'; allowed: entailment, neutral, contradiction"
    )


def test_indicxnli_takes_english_from_xnli_and_hindi_from_no_one_else(write, tmp_path):
    for name in ("train-en", "dev-en", "test-en", "test-hi"):
        write(f"xnli/{name}.jsonl", [pair(name, "neutral")])
    write("indicxnli/test-ta.jsonl", [pair("ta", 0)])
    task = tasks.get("indicxnli", data_dir=tmp_path)
    assert task.languages == ("en", "ta")
    assert task.train()[0].fields["premise"] == "train-en"
    assert task.test("en")[0].fields["premise"] == "test-en"
    assert task.test("ta")[0].target == "Entailment"
    with pytest.raises(DataError, match=r"^the task indicxnli has no test rows in 'hi' in "):
        task.test("hi")
    assert "12 languages" in task.description


def test_indicxnli_from_the_hub(write, hub, tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "0000.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([pair("அ", 2), pair("ஆ", 0)]), path)
    hub.files["Divyanshu/indicxnli", "ta/test/0000.parquet"] = path
    rows = tasks.get("indicxnli").test("ta")
    assert [(row.id, row.target) for row in rows] == [("1", "Contradiction"), ("2", "Entailment")]


def news(prefix, count):
    return [{"sentence": f"{prefix} {n}", "label": "sports"} for n in range(count)]


def test_sinhala_news_reads_the_test_split_and_holds_validation_rows_out(hub):
    name = "Themira/en_si_news_classification_with_label_name"
    hub.sets = {
        (name, None, "train_en"): (news("train", 50), None),
        (name, None, "test_en"): (news("test", 4), None),
        (name, None, "test_si"): (news("පුවත", 4), None),
    }
    task = tasks.get("sinhala-news")
    assert [row.text for row in task.test("si")][:2] == [
        "News Sentence: පුවත 0 Category: ",
        "News Sentence: පුවත 1 Category: ",
    ]
    assert {row.target for row in task.test("si")} == {"Sports"}
    assert (len(task.train()), len(task.validation())) == (45, 5)
    assert not {row.text for row in task.train()} & {row.text for row in task.validation()}
    assert {split for _, _, split in hub.asked} == {"train_en", "test_en", "test_si"}
    assert task.test("si")[0].id == "si/1"


def test_sinhala_news_with_validation_rows_of_its_own(write, tmp_path):
    for name, count in (("train", 20), ("valid-en", 3), ("test-en", 4)):
        write(f"{name}.jsonl", news(name, count))
    task = tasks.get("sinhala-news", data_dir=tmp_path)
    assert (len(task.train()), len(task.validation())) == (20, 3)


def test_amazon_reviews(write, hub):
    files = {
        split: write(
            f"{split}.jsonl",
            [{"id": f"en_{n}", "text": f"{split} {n}", "label": n // 4} for n in range(20)],
        )
        for split in ("train", "validation", "test")
    }
    hub.files = {
        ("mteb/amazon_reviews_multi", f"en/{split}.jsonl"): path for split, path in files.items()
    }
    task = tasks.get("amazon-reviews", train_per_label=2)
    assert {row.id for row in task.train()} == {
        f"en_{n}" for n in (0, 1, 4, 5, 8, 9, 12, 13, 16, 17)
    }
    assert [row.target for row in task.test("en")][::4] == list(task.options)
    assert task.test("en")[3].id == "en/en_3"


def test_amazon_reviews_with_stars_instead_of_labels(write, tmp_path):
    write("test-en.jsonl", [{"text": "a", "label": stars} for stars in (1, 5)])
    with pytest.raises(DataError, match=r"line 2 has the label '5'; allowed: 0, 1, 2, 3, 4$"):
        tasks.get("amazon-reviews", data_dir=tmp_path).test("en")


INTENTS = {
    "weather/find": "find weather",
    "alarm/set_alarm": "set alarm",
    "reminder/set_reminder": "set reminder",
    "PlayMusic": "play music",
}


def test_xsid(write, tmp_path):
    requests = [{"text": f"{n}", "intent": raw} for n, raw in enumerate(INTENTS)]
    for name in ("test-en", "test-ja", "test-de-ba", "test-no"):
        write(f"xsid/{name}.jsonl", requests)
    write(
        "xsid/train-en.jsonl",
        [{"text": f"train {n}", "intent": raw} for n, raw in enumerate(INTENTS)],
    )
    task = tasks.get("xsid", data_dir=tmp_path)
    assert task.languages == ("en", "de-ba", "ja", "no")
    assert [(row.text, row.target) for row in task.test("ja")] == [
        (f"Request: {n} Intent: ", word) for n, word in enumerate(INTENTS.values())
    ]
    ids = {code: [row.id for row in task.test(code)][:2] for code in task.languages}
    # Rows of these two are in another order than those of the rest.
    assert ids == {
        "en": ["1", "2"],
        "ja": ["1", "2"],
        "de-ba": ["de-ba/1", "de-ba/2"],
        "no": ["no/1", "no/2"],
    }


def test_xsid_intents_are_plain_words_and_each_its_own():
    task = tasks.get("xsid")
    assert len(task.labels.words) == len(task.options) == 18
    for word in task.options:
        assert all(part.isalpha() and part.islower() for part in word.split())
    assert task.languages[:2] == ("en", "ar")
    assert len(task.languages) == 19


def test_xsid_with_an_intent_that_is_not_in_the_training_data(write, tmp_path):
    path = write("test-en.jsonl", [{"text": "a", "intent": "OrderPizza"}])
    with pytest.raises(
        DataError, match=r"line 1 has the label 'OrderPizza'; allowed: weather/find"
    ):
        tasks.get("xsid", data_dir=tmp_path).test("en")
    assert path.is_file()


def test_xsid_without_a_folder():
    message = (
        "the task xsid is not on the hub; allowed: files train-en, valid-en, "
        "test-LANGUAGE with columns text, intent; next: give the folder that has them with "
        "--data-dir (data_dir in Python)"
    )
    task = tasks.get("xsid")
    for ask in (task.train, task.validation, lambda: task.check_language("ja")):
        with pytest.raises(DataError) as caught:
            ask()
        assert str(caught.value) == message
    assert task.dataset_info().place == "not yet, local files only"


TOPICS = [{"index_id": n, "category": "travel", "text": f"t{n}"} for n in (7, 3)]


def test_masakhanews_is_tested_in_english_only_with_a_file(write, tmp_path, capsys):
    rows = [{"text": f"t{n}", "label": "health"} for n in range(3)]
    write("train-en.jsonl", rows)
    write("valid-en.jsonl", [{"text": "v", "label": "sports"}])
    write("test-sw.jsonl", [{"text": "s", "label": "politics"}, {"text": "r", "label": "religion"}])
    task = tasks.get("masakhanews", data_dir=tmp_path)
    assert task.languages == ("sw",)
    assert (len(task.train()), len(task.validation())) == (3, 1)
    assert [row.target for row in task.test("sw")] == ["politics"]
    assert "1 with other labels (religion 1)" in capsys.readouterr().err
    write("test-en.jsonl", [{"text": "e", "label": "business"}])
    assert tasks.get("masakhanews", data_dir=tmp_path).languages == ("en", "sw")


def test_sib200_files_by_either_code(write, tmp_path):
    write("test-en.jsonl", TOPICS)
    write("test-sin_Sinh.jsonl", TOPICS)
    write("fra_Latn/test.jsonl", TOPICS)
    task = tasks.get("sib200", data_dir=tmp_path, languages=["si", "fra_Latn"])
    assert task.languages == ("en", "si", "fra_Latn")
    for code in task.languages:
        assert [(row.id, row.text, row.target, row.language) for row in task.test(code)] == [
            ("1", "Text: t7 Topic: ", "travel", code),
            ("2", "Text: t3 Topic: ", "travel", code),
        ]


def test_sib200_in_any_language_of_flores(hub):
    hub.sets["Davlan/sib200", "quy_Latn", "test"] = (TOPICS, None)
    task = tasks.get("sib200")
    task.check_language("quy_Latn")
    assert len(task.test("quy_Latn")) == 2
    assert tasks.get("sib200", languages=["quy_Latn"]).languages == ("en", "quy_Latn")


@pytest.mark.parametrize(
    ("code", "own"), [("sin_Sinh", "si"), ("sin", "si"), ("eng_Latn", "en"), ("swa", "sw")]
)
def test_sib200_has_a_language_once(code, own):
    # Under two names a language would count twice, and English as another language.
    assert set(tasks.get("sib200", languages=[code]).languages) == {"en", own}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("xx", "the task sib200 has no test rows in 'xx'; allowed: en, si, "),
        ("Sinhala", "the task sib200 has no test rows in 'Sinhala'; allowed: en, si, "),
    ],
)
def test_sib200_languages_that_are_refused(code, message):
    with pytest.raises(DataError) as caught:
        tasks.get("sib200").test(code)
    assert str(caught.value).startswith(message)
    with pytest.raises(DataError) as caught:
        tasks.get("sib200", languages=[code])
    assert str(caught.value).startswith(message)
