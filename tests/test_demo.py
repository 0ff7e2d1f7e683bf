"""The quick demo on the real models: what a newcomer sees first must work."""

from __future__ import annotations

import pytest
from PIL import Image

from layerbridge import tasks
from layerbridge.demo import QUICK, demo, examples_of
from layerbridge.errors import OutputError, ZooError
from layerbridge.evaluation import results
from layerbridge.hub import zoo
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.checkpoint import read_config
from layerbridge.training import examples

FUSIONS = tuple(QUICK.fusions)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    try:
        for entry in zoo.entries():
            zoo.pull(entry.name)
    except ZooError as error:
        pytest.skip(f"the zoo cannot be fetched here: {error}")
    folder = tmp_path_factory.mktemp("demo")
    demo(folder, QUICK)
    return folder


def test_demo_leaves_a_folder_of_something_else_alone(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mine.json").write_text("{}")
    with pytest.raises(OutputError) as error:
        demo(tmp_path)
    assert str(error.value) == (
        f"{str(tmp_path)!r} is not empty and not from an earlier demo; "
        "next: --output with another folder"
    )
    assert [path.name for path in tmp_path.rglob("*")] == ["results", "mine.json"]


@pytest.mark.parametrize("languages", [None, ("en", "si", "sw")])
def test_the_examples_are_the_tasks_own_rows(languages):
    task = tasks.get("names", languages=languages, test_per_kind=5)
    found = examples_of(task)
    assert [each.language for each in found] == [code for code in task.languages if code != "en"]
    rows = {(row.language, row.text): row for code in task.languages for row in task.test(code)}
    assert all(rows[each.language, each.text].target == each.target for each in found)
    assert len({each.target for each in found}) == min(len(found), len(task.options))
    english = {row.item: row.text for row in tasks.get("names").test("en")}
    for each in found:
        assert each.meaning == english.get(rows[each.language, each.text].item)
    trained_on = {row.text for row in task.train()}
    assert not trained_on & {each.text for each in found}


@pytest.mark.real
def test_quick_demo_leaves_all_it_promises(folder):
    found = {result.method: result for result in results.find(folder)}
    assert set(found) == {"tf-idf", "zero-shot LM", *FUSIONS}
    for result in found.values():
        assert list(result.languages) == ["en", "si", "sw"]
        assert len({language.n for language in result.languages.values()}) == 1
    for picture in ("accuracy-by-language.png", "layer-weights.png"):
        with Image.open(folder / picture) as image:
            assert min(image.size) > 300
    for fusion in FUSIONS:
        assert [each.language for each in examples.read(folder / fusion)] == ["si", "sw"]
        config, _ = read_config(str(folder / fusion))
        assert 0 < config.usual_any_option < 1
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert all(method in table for method in found)


@pytest.mark.real
def test_quick_demo_transfers(folder):
    """Well above chance and the zero-shot LM in languages of which no bridge saw a word.

    The floor is for the whole demo to beat: this one has fewer steps.
    """
    found = {result.method: result for result in results.find(folder)}
    alone = found["zero-shot LM"].average_non_english().accuracy
    best = max(found[fusion].average_non_english().accuracy for fusion in FUSIONS)
    assert best > max(alone, 1 / 6) + 0.15
    assert max(found[fusion].languages["en"].accuracy for fusion in FUSIONS) > 0.4


@pytest.mark.real
def test_checkpoints_of_the_demo_answer(folder):
    bridge = LayerBridge.from_pretrained(folder / "global-softmax", dtype="float32")
    answers = bridge.classify(["Schweizer Franken", "ශ්‍රී ලංකා රුපියල"])
    expected = {"country", "language", "currency", "script", "unit", "time zone"}
    assert all(set(answer.scores) == expected for answer in answers)
    weights = bridge.layer_weights(["ශ්‍රී ලංකා රුපියල"])[0]
    assert weights.weights.shape == (len(weights.tokens), 12)
