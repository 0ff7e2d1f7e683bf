"""What ``train --dry-run`` says, against a run."""

import json
import shutil

import pytest

from layerbridge.errors import BackboneError, ConfigError, DataError
from layerbridge.models.bridge import LayerBridge
from layerbridge.tasks import records
from layerbridge.training import plan as plans
from layerbridge.training import plan_rows
from layerbridge.training.plan import plan
from layerbridge.training.recipe import Recipe
from layerbridge.training.run import train

ROWS = [
    {"text": f"row {n} " + "the market rose " * (n % 5), "label": "yn"[n % 2]} for n in range(60)
]


@pytest.fixture
def without_weights(folder, tmp_path):
    """Name → a copy of that tiny backbone without its weights."""

    def copy(name):
        bare = tmp_path / f"bare-{name}"
        if not bare.exists():
            shutil.copytree(folder(name), bare, ignore=shutil.ignore_patterns("*.safetensors"))
        return str(bare)

    return copy


@pytest.fixture
def recipe(without_weights, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return lambda **changes: Recipe(
        **{
            "encoder": without_weights("xlm-r"),
            "language_model": without_weights("llama"),
            "data": str(data),
            "target": "label",
            "backbones": {"dtype": "float32"},
            "training": {"num_train_epochs": 1, "per_device_train_batch_size": 4},
            **changes,
        }
    )


def test_a_run_is_as_it_was_planned(recipe, folder, tmp_path, capfd):
    given = recipe()
    found = plan(given, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    assert "6 rows are held out for validation" in capfd.readouterr().err
    given.encoder, given.language_model = str(folder("xlm-r")), str(folder("llama"))
    bridge = train(given, tmp_path / "run", device="cpu")
    log = json.loads((tmp_path / "run" / "training.json").read_text())
    assert found.steps == max(line["step"] for line in log if "step" in line)
    assert found.rows == {
        "training": log[0]["training_rows"],
        "validation": log[0]["validation_rows"],
        "about": False,
    }
    numbers = {name: tensor.numel() for name, tensor in bridge.trained_state_dict().items()}
    parameters = found.parameters
    trained = sum(each.numel() for each in (*bridge.fusion.parameters(),
                                            *bridge.projection.parameters()))  # fmt: skip
    assert parameters["trained"] == parameters["fusion"] + parameters["projection"] == trained
    assert trained <= sum(numbers.values())
    every = sum(each.numel() for each in bridge.parameters())
    assert parameters["frozen"] == every - trained
    lengths = bridge.encoder.lengths([row["text"] for row in ROWS])
    assert found.batch["text_tokens"] == max(lengths)
    assert found.batch["rows"] == 4
    assert found.peak == sum(found.memory.values())
    written = (tmp_path / "run" / "model.safetensors").stat().st_size
    assert found.disk["trained bridge"] == pytest.approx(written, rel=0.1)
    checkpoints = [*(tmp_path / "run").glob("checkpoint-*")]
    size = sum(file.stat().st_size for each in checkpoints for file in each.iterdir())
    assert found.disk["checkpoints"] / 2 * len(checkpoints) == pytest.approx(size, rel=0.35)


def test_changes_that_would_make_it_fit(recipe, tmp_path, monkeypatch):
    given = recipe(training={"per_device_train_batch_size": 32})
    full = plan(given, tmp_path / "run", device="cpu")
    assert (full.fits, full.changes) == (True, [])
    enough = full.peak - full.memory["language model activations"] // 2
    monkeypatch.setattr(plans, "_available", lambda device: enough)
    tight = plan(given, tmp_path / "run", device="cpu")
    assert not tight.fits
    flags = [change.flags for change in tight.changes]
    assert flags[0].startswith("--per-device-train-batch-size ")
    assert "--dtype bfloat16" in flags
    assert any(flag.startswith("--max-text-tokens ") for flag in flags)
    for change in tight.changes:
        assert change.peak < tight.peak
        assert change.fits == (change.peak <= enough)
    # The batch is what the change says it is.
    fewer = int(flags[0].split()[1])
    assert 32 <= fewer * int(flags[0].split()[3]) < 64
    smaller = plan(
        recipe(training={"per_device_train_batch_size": fewer}), tmp_path / "run", device="cpu"
    )
    own = full.peak - full.memory["process"], smaller.peak - smaller.memory["process"]
    assert own[0] - own[1] == pytest.approx(tight.peak - tight.changes[0].peak, rel=0.25)
    monkeypatch.setattr(plans, "_available", lambda device: None)
    unknown = plan(given, tmp_path / "run", device="cpu")
    assert (unknown.fits, unknown.changes) == (None, [])


def test_of_a_large_file_the_first_rows_are_read(recipe, tmp_path, monkeypatch, capfd):
    exact = plan(recipe(cache_states=True), tmp_path / "run", device="cpu")
    monkeypatch.setattr(records, "LARGE", 0)
    monkeypatch.setattr(plan_rows, "FIRST", 50)
    found = plan(recipe(cache_states=True), tmp_path / "run", device="cpu")
    assert "rows.jsonl is large: only its first 50 rows are read" in capfd.readouterr().err
    assert found.rows == {"training": 54, "validation": 6, "about": True}
    assert found.steps == exact.steps == 14
    assert found.disk["copy of the rows"] == (tmp_path / "rows.jsonl").stat().st_size
    assert found.disk["cached states"] == pytest.approx(exact.disk["cached states"], rel=0.1)
    no_epochs = plan(recipe(training={}), tmp_path / "run", device="cpu")
    assert no_epochs.steps == 100


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"encoder": None}, ConfigError, "the run has no encoder"),
        ({"data": "nowhere.jsonl"}, DataError, "the file nowhere.jsonl does not exist"),
        ({"language_model": "/nowhere/llama"}, BackboneError, "does not exist"),
        ({"bridge": {"fusion": "sum"}}, ConfigError, "unknown fusion 'sum'"),
        ({"training": {"max_step": 3}}, ConfigError, "unknown training argument: 'max_step'"),
    ],
)
def test_mistakes_are_those_of_a_run(recipe, tmp_path, changes, error, words):
    for run in (plan, train):
        with pytest.raises(error, match=words):
            run(recipe(**changes), tmp_path / "run", device="cpu")
        assert not (tmp_path / "run").exists()


def test_nothing_is_loaded(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(LayerBridge, "__init__", None)
    by_tokens = recipe(training={"tokens_per_batch": 64, "max_steps": 3})
    found = plan(by_tokens, tmp_path / "run", device="cpu")
    assert found.steps == 3
    longest = found.batch["text_tokens"] + found.batch["target_tokens"]
    assert found.batch["rows"] == max(1, 64 // longest)
