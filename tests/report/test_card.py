from dataclasses import replace

import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from layerbridge.models.config import BridgeConfig
from layerbridge.models.model_card import plain_card
from layerbridge.report.card import update_card
from made_results import result

BRIDGE = {"bridge": {"fusion": "last"}}


def run_with(folder, *results, card=None):
    folder.mkdir()
    config = BridgeConfig(encoder="google/mt5-large", language_model="gpt2", options=["a", "b"])
    (folder / "README.md").write_text(plain_card(config) if card is None else card)
    for number, each in enumerate(results):
        each.write(folder / "results" / f"{each.task}-{number}.json")
    return folder


def test_results_are_in_the_metadata_the_text_and_the_files_of_the_hub(tmp_path):
    mine = replace(result("last", en="1101", si="1000"), task="mine", settings=BRIDGE)
    xnli = replace(mine, task="xnli", languages=result("last", en="11", fr="10").languages)
    baseline = replace(mine, task="other", settings={})
    run = run_with(tmp_path / "run", mine, xnli, baseline)
    for _ in range(2):  # again replaces what is there
        update_card(run)
    card = ModelCard.load(run / "README.md")
    values = [
        (one.dataset_type, one.dataset_config, one.metric_type, one.metric_value)
        for one in card.data.eval_results
    ]
    assert values == [
        ("mine", "en", "accuracy", 0.75),
        ("mine", "si", "accuracy", 0.25),
        ("facebook/xnli", "en", "accuracy", 1.0),
        ("facebook/xnli", "fr", "accuracy", 0.5),
    ]
    assert card.data.model_name == "run"
    assert card.data.base_model == ["google/mt5-large", "gpt2"]
    assert card.text.count("## Results") == 1
    assert card.text.count("### mine, test split, protocol `score`") == 1
    assert "| si | 25.0% | 4.6%–69.9% | 4 |" in card.text
    assert "LayerBridge.from_pretrained" in card.text
    # Only data sets of the hub have leaderboards.
    (file,) = (run / ".eval_results").iterdir()
    assert file.name == "xnli-1.yaml"
    entries = parse_eval_result_entries(yaml.safe_load(file.read_text()))
    assert [(one.dataset_id, one.task_id, one.value) for one in entries] == [
        ("facebook/xnli", "en", 1.0),
        ("facebook/xnli", "fr", 0.5),
    ]
    assert entries[0].date == xnli.created


def test_a_card_of_ones_own_and_a_run_without_results_are_left_alone(tmp_path):
    mine = replace(result("last", en="1"), task="mine", settings=BRIDGE)
    run = run_with(tmp_path / "run", mine, card="# Mine\n")
    update_card(run)
    assert (run / "README.md").read_text() == "# Mine\n"
    empty = run_with(tmp_path / "empty")
    before = (empty / "README.md").read_text()
    update_card(empty)
    assert (empty / "README.md").read_text() == before
