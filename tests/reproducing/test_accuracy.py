"""The whole loop on tiny models: what it leaves, and that nothing is done twice."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

import tiny_translators
from layerbridge.errors import DataError, OutputError
from layerbridge.evaluation import results
from layerbridge.models.encoder import Encoder
from layerbridge.reproducing import Request, accuracy, backbones, jobs, reproduce
from layerbridge.training.interrupt import Interrupted
from layerbridge.training.trainer import BridgeTrainer

BASELINES = [("ask", "tf-idf", 0), ("ask", "zero-shot-lm", 0), ("ask", "few-shot-lm", 0)]
LAST = [("train", "last", 0), ("ask", "last", 0)]
GLOBAL = [("train", "global-softmax", 0), ("ask", "global-softmax", 0)]


@pytest.fixture(scope="module")
def done(news, tiny_preset, tmp_path_factory):
    """Two bridges, two seeds, with its report."""
    output = tmp_path_factory.mktemp("runs")
    two = {name: tiny_preset.fusions[name] for name in ("last", "token-softmax")}
    preset = replace(tiny_preset, fusions=two)
    request = Request("table3", preset=preset, data_dir=news, output_dir=output, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        # As in ``quick``, with the page.
        patch.setattr("gc.collect", lambda *_: 0)
        patch.setattr(accuracy, "compare", partial(accuracy.compare, draws=50))
        return request, reproduce(request)


def answered(folder, method, seed, code):
    """Right answers and rows, straight from a result's file."""
    (path,) = (folder / method / f"seed-{seed}" / "results").glob("*.json")
    entry = json.loads(path.read_text())["languages"][code]
    right = [p["prediction"] == p["label"] for p in entry["predictions"]]
    return sum(right), len(right)


def test_it_leaves_a_folder_a_method_and_seed(done):
    request, outcome = done
    folder = request.output_dir / "table3" / "tiny"
    runs = {str(path.parent.parent.relative_to(folder)) for path in outcome.paths[:-2]}
    assert runs == {
        "tf-idf/seed-0", "zero-shot-lm/seed-0", "few-shot-lm/seed-0", "few-shot-lm/seed-1",
        "last/seed-0", "last/seed-1", "token-softmax/seed-0", "token-softmax/seed-1",
    }  # fmt: skip
    assert [path.name for path in outcome.paths[-2:]] == ["table.md", "report.html"]
    assert all(path.is_file() for path in outcome.paths)
    assert "token-softmax" in (folder / "report.html").read_text(encoding="utf-8")
    for name in ("recipe.yaml", "model.safetensors", "config.json", "training.json"):
        assert (folder / "last" / "seed-1" / name).is_file()
    json.dumps(outcome.document)


def test_the_table_pools_the_seeds_and_has_the_papers_numbers_beside(done):
    request, outcome = done
    text = (request.folder / "table.md").read_text(encoding="utf-8")
    for method, paper in (("last", 71.66), ("token-softmax", 75.86)):
        counts = [answered(request.folder, method, seed, "si") for seed in (0, 1)]
        ours = 50 * sum(right / n for right, n in counts)
        rows = [row for row in outcome.document["paper"] if row["method"] == method]
        assert [row["what"] for row in rows] == ["en", "si"]
        found = rows[1]
        assert found["here"] == pytest.approx(ours)
        assert found["paper"] == paper
        assert found["difference"] == pytest.approx(ours - paper)
        assert found["low"] <= ours <= found["high"]
        (line,) = re.findall(rf"^\| {method} \| si \| .*$", text, re.MULTILINE)
        assert f"| {paper} | −{paper - ours:.1f} |" in line
        line = re.findall(rf"^\| {method} \| 2 \| .*$", text, re.MULTILINE)[0]
        assert f"{ours:.1f} (" in line
    assert "### Against last" in text
    assert "Preset `tiny` has other models" in text


def test_every_bridge_was_tested_on_the_same_rows(done):
    request, _ = done
    found = results.find(request.folder)
    ids = {tuple(p.id for p in result.languages["si"].predictions) for result in found}
    assert len(found) == 8
    assert len(ids) == 1
    recipe = (request.folder / "last" / "seed-1" / "recipe.yaml").read_text(encoding="utf-8")
    assert "seed: 1" in recipe
    assert "instruction: ' (category:'" in recipe


def test_what_is_there_is_not_done_again(done, calls, quick, monkeypatch):
    request, before = done
    # Neither model is read, nor looked for.
    monkeypatch.setattr(backbones, "resolve", None)
    outcome = reproduce(request)
    assert calls == []
    assert outcome.paths == before.paths
    assert outcome.document["paper"] == before.document["paper"]


def test_another_seed_alone_is_done(request_of, calls, quick):
    reproduce(request_of())
    calls.clear()
    outcome = reproduce(request_of(seeds=(0, 3)))
    more = [(verb, name, 3) for verb, name, _ in (BASELINES[2], *LAST)]
    assert calls == more
    assert outcome.document["tables"][0]["methods"][-1]["seeds"] == "2"


@pytest.mark.parametrize("place", ["ask", "train"])
def test_an_interruption_repeats_nothing_that_was_done(
    request_of, pair_preset, calls, quick, place
):
    calls.breaks = (place, "last", 0)
    with pytest.raises(KeyboardInterrupt):
        reproduce(request_of(preset=pair_preset))
    reproduce(request_of(preset=pair_preset))
    again = LAST if place == "train" else LAST[1:]
    assert calls == [*BASELINES, *LAST[: 1 + (place == "ask")], *again, *GLOBAL]


def test_a_training_goes_on_from_its_checkpoint(request_of, quick, monkeypatch, tmp_path, ctrl_c):
    """Interrupted in step 3 of 4, it ends with the tensors of a run that was not."""
    whole, broken = (request_of(output_dir=tmp_path / name) for name in ("whole", "broken"))
    reproduce(whole)
    steps = []
    original = BridgeTrainer.training_step

    def step(trainer, *arguments, **keywords):
        steps.append(trainer.state.global_step)
        if len(steps) == 3:
            ctrl_c()
        return original(trainer, *arguments, **keywords)

    monkeypatch.setattr(BridgeTrainer, "training_step", step)
    checkpoint = broken.runs / "last" / "seed-0" / "checkpoint-3"
    message = f"at step 3 of 4, saved in {checkpoint}; next: the same command again"
    with pytest.raises(Interrupted, match=message):
        reproduce(broken)
    reproduce(broken)
    assert steps == [0, 1, 2, 3]
    run = "last/seed-0/model.safetensors"
    ours, theirs = load_file(broken.runs / run), load_file(whole.runs / run)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_checkpoint_that_was_cut_short_is_passed_over(request_of, quick, calls, capsys):
    calls.breaks = ("ask", "last", 0)
    with pytest.raises(KeyboardInterrupt):
        reproduce(request_of())
    folder = request_of().runs / "last" / "seed-0"
    # As if it had been broken off while it wrote its first checkpoint.
    record = json.loads((folder / "reproduce.json").read_text())
    (folder / "reproduce.json").write_text(json.dumps({**record, "trained": False}))
    (last,) = folder.glob("checkpoint-*")
    (last / "optimizer.pt").write_bytes(b"PK")
    reproduce(request_of())
    assert calls == [*BASELINES, *LAST, *LAST]
    assert "optimizer.pt' is missing or truncated; skipping it" in capsys.readouterr().err


def test_a_damaged_result_is_made_again(request_of, calls, quick):
    outcome = reproduce(request_of())
    calls.clear()
    (path,) = [path for path in outcome.paths if "/last/" in str(path)]
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    assert reproduce(request_of()).document == outcome.document
    assert calls == LAST[1:]


def test_other_settings_are_refused_before_anything_is_done(request_of, calls, quick):
    reproduce(request_of())
    calls.clear()
    folder = request_of().runs
    for changes, place, told in (
        ({"max_test": 3}, "tf-idf", "test_rows 5, and now it is 3"),
        ({"max_rows": 10}, "tf-idf", "rows 20, and now it is 10"),
    ):
        with pytest.raises(OutputError) as error:
            reproduce(request_of(**changes))
        assert str(error.value) == (
            f"{str(folder / place / 'seed-0')!r} was made with {told}; "
            "next: --overwrite to replace it, or another --output"
        )
    assert calls == []


def test_overwrite_does_again_what_has_changed_and_no_more(request_of, calls, quick):
    reproduce(request_of())
    calls.clear()
    reproduce(request_of(max_test=3, overwrite=True))
    assert calls == [*BASELINES, LAST[1]]
    calls.clear()
    # Nothing is left of the old training to be gone on with.
    outcome = reproduce(request_of(max_test=3, max_rows=10, overwrite=True))
    assert calls == [BASELINES[0], BASELINES[2], *LAST]
    assert outcome.document["training_rows"] == 10
    assert answered(request_of().runs, "last", 0, "si")[1] == 3
    assert len(list((request_of().runs / "last" / "seed-0").glob("checkpoint-*"))) == 1


def test_other_rows_are_other_settings(request_of, calls, quick, news, tmp_path):
    reproduce(request_of())
    calls.clear()
    moved = shutil.copytree(news, tmp_path / "moved")
    reproduce(request_of(data_dir=moved))
    assert calls == []  # where they lie does not matter
    file = moved / "sinhala-news" / "train-en.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace("market", "trade"), encoding="utf-8")
    with pytest.raises(OutputError, match="was made with training_rows '"):
        reproduce(request_of(data_dir=moved))


def test_rows_too_few_for_the_shots_are_told_first(request_of, calls):
    with pytest.raises(DataError, match="the task sinhala-news has 5 training rows for 8 shots"):
        reproduce(request_of(max_rows=5))
    assert calls == []


def test_a_folder_of_something_else_is_left_alone(request_of, calls):
    folder = request_of().runs / "last" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(OutputError) as error:
        reproduce(request_of())
    assert str(error.value) == (
        f"{str(folder)!r} holds something that layerbridge reproduce did not write; "
        "next: another --output"
    )
    assert calls == []


def test_a_training_text_is_read_once_for_all_bridges(request_of, pair_preset, quick, monkeypatch):
    read = []
    original = Encoder.tokenize

    def tokenize(encoder, texts):
        read.extend(texts)
        return original(encoder, texts)

    monkeypatch.setattr(Encoder, "tokenize", tokenize)
    request = request_of(preset=pair_preset)
    reproduce(request)
    texts = [row.text for row in request.task().train()]
    assert len(texts) == 20
    assert [read.count(text) for text in texts] == [1] * 20


def test_two_protocols_are_two_tables(request_of, lone_preset, quick):
    preset = replace(lone_preset, protocols=("generate", "score"))
    outcome = reproduce(request_of(preset=preset))
    first, second = outcome.document["tables"]
    floor = "tf-idf"
    assert [row["method"] for row in first["methods"]] == [floor, "last"]
    assert [row["method"] for row in second["methods"]] == [
        floor, "zero-shot LM", "few-shot LM (8)", "last",
    ]  # fmt: skip
    names = [path.name for path in outcome.paths]
    assert names[-3:] == ["table.md", "report.html", "report-score.html"]
    assert names.count("sinhala-news-generate.json") == 1


def test_a_translator_adds_a_method(request_of, quick, tmp_path):
    folder = tiny_translators.write("m2m100", tmp_path / "m2m")
    outcome = reproduce(request_of(translator=str(folder)))
    methods = [row["method"] for row in outcome.document["tables"][0]["methods"]]
    assert methods[3] == "translate + zero-shot LM"
    assert list((tmp_path / "translations").glob("m2m.si.*.jsonl"))
    # Another translator is another setting.
    with pytest.raises(OutputError, match="was made with translator "):
        reproduce(request_of(translator="some/other"))


def test_without_data_or_hub_it_is_told_what_to_give(request_of, monkeypatch):
    import datasets

    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError) as error:
        reproduce(request_of("table1", data_dir=()))
    assert str(error.value) == (
        "cannot load the data set facebook/xnli:en:train from the hub (no network); "
        "next: --data-dir FOLDER with its files (docs/tasks.md), or check the network"
    )
    with pytest.raises(DataError) as error:
        reproduce(request_of("xsid", data_dir=()))
    assert str(error.value) == (
        "the task xsid is not on the hub; allowed: files train-en, valid-en, "
        "test-LANGUAGE with columns text, intent; "
        "next: --data-dir FOLDER with its files (docs/tasks.md)"
    )


def test_the_order_is_baselines_then_seeds(request_of, tiny_preset):
    made = jobs.jobs(request_of(preset=tiny_preset), None)
    assert [job.label for job in made][2:6] == [
        "few-shot-lm, seed 0", "few-shot-lm, seed 1", "last, seed 0", "global-softmax, seed 0",
    ]  # fmt: skip
