"""What ``report_to`` sends beyond numbers, by TensorBoard itself and stand-ins for the others."""

import json
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from layerbridge import tasks
from layerbridge.training.language_watch import ROWS, watched_rows
from layerbridge.training.recipe import Recipe
from layerbridge.training.run import train
from layerbridge.training.tracking import send_weights
from layerbridge.training.weight_log import read

WORDS = ("the market", "teams", "ම ශ්", "猫", "rose while", "a crowd")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A folder with validation rows in two languages, and in none of a third."""
    folder = tmp_path_factory.mktemp("xnli")
    for name in ("train-en", "valid-en", "valid-sw", "test-en", "test-sw", "test-de"):
        lines = [
            json.dumps({"premise": f"{word} {name}", "hypothesis": "h", "label": n % 3})
            for n, word in enumerate(WORDS)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(rows, folder, tmp_path_factory):
    """Whether it reports → a run of four steps, and its folder."""

    def make(report_to):
        recipe = Recipe(
            encoder=str(folder("xlm-r")),
            language_model=str(folder("llama")),
            task="xnli",
            task_options={"data_dir": str(rows)},
            bridge={"fusion": "global-softmax", "projection_start": "random"},
            backbones={"dtype": "float32"},
            cache_states=True,
            training={
                **{"max_steps": 4, "learning_rate": 1e-2, "report_to": report_to},
                **{"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps"},
                **{"save_steps": 2, "load_best_model_at_end": True, "disable_tqdm": True},
            },
        )
        output = tmp_path_factory.mktemp("run") / "run"
        return train(recipe, output, device="cpu"), output

    return make


def test_tensorboard_has_weights_and_accuracies_and_the_run_is_the_same(run, rows, capsys):
    bridge, folder = run("tensorboard")
    said = capsys.readouterr().err
    assert "of other languages, which are watched and choose nothing: sw 6\n" in said
    (events,) = {path.parent for path in folder.rglob("events.out.tfevents*")}
    everything = {"histograms": 0, "scalars": 0, "tensors": 0}
    found = EventAccumulator(str(events), everything).Reload()
    log = read(folder)
    histograms = found.Histograms("layer_weights")
    assert [event.step for event in histograms] == list(log.steps)
    for event, weights in zip(histograms, log.weights, strict=True):
        value = event.histogram_value
        counts = [count for count in value.bucket if count]
        assert counts == pytest.approx([weight for weight in weights if weight], rel=1e-4)
        assert value.bucket_limit[-1] == len(weights) + 0.5
    table = found.Tensors("layer_weights_table/text_summary")[-1].tensor_proto.string_val[0]
    assert table.decode().splitlines()[2] == f"| 1 | {log.weights[-1][0]:.4f} |"
    task = tasks.get("xnli", data_dir=rows)
    assert [event.step for event in found.Scalars("eval/accuracy_sw")] == [2, 4]
    assert "eval/accuracy_de" not in found.Tags()["scalars"]
    answers = bridge.classify([row.text for row in task.watched("sw")])
    right = [a.choice == row.target for a, row in zip(answers, task.watched("sw"), strict=True)]
    of_each = {event.step: event.value for event in found.Scalars("eval/accuracy_sw")}
    losses = {event.step: event.value for event in found.Scalars("eval/loss")}
    assert of_each[min(losses, key=losses.get)] == pytest.approx(sum(right) / len(right))

    plain, plain_folder = run("none")
    assert "are watched" not in capsys.readouterr().err
    for name, tensor in bridge.trained_state_dict().items():
        assert torch.equal(tensor, plain.trained_state_dict()[name]), name
    assert not list(plain_folder.rglob("events.out.tfevents*"))


class Module:
    """What trackio and wandb have in common."""

    def __init__(self, run):
        self.run, self.logged = run, []
        self.Histogram = lambda np_histogram: ("histogram", *np_histogram)
        self.Table = lambda columns, data: ("table", columns, data)

    def log(self, values):
        self.logged.append(values)


@pytest.mark.parametrize(
    ("kind", "name"), [(WandbCallback, "_wandb"), (TrackioCallback, "_trackio")]
)
def test_trackio_and_wandb(kind, name):
    module = Module(run="a run")
    callback = kind.__new__(kind)
    setattr(callback, name, module)
    send_weights([SimpleNamespace(), callback], 7, [0.25, 0.75], first_layer=0)
    assert module.logged == [
        {
            "layer_weights": ("histogram", [0.25, 0.75], [-0.5, 0.5, 1.5]),
            "layer_weights_table": ("table", ["layer", "weight"], [[0, 0.25], [1, 0.75]]),
            "train/global_step": 7,
        }
    ]
    module.run = None
    send_weights([callback], 8, [0.25, 0.75], first_layer=0)
    setattr(callback, name, None)
    send_weights([callback], 9, [0.25, 0.75], first_layer=0)
    assert len(module.logged) == 1


def test_a_tensorboard_that_is_closed_is_left_alone():
    send_weights([TensorBoardCallback()], 1, [1.0], first_layer=1)


def test_watched_rows_are_few_and_of_other_languages(tmp_path):
    lines = [
        json.dumps({"premise": f"{n}", "hypothesis": "h", "label": n // 100}) for n in range(300)
    ]
    for name in ("train-en", "valid-en", "test-en", "test-sw", "valid-sw"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    found = watched_rows(Recipe(task="xnli", task_options={"data_dir": str(tmp_path)}))
    assert list(found) == ["sw"]
    targets = [row.target for row in found["sw"]]
    assert len(targets) == ROWS
    assert {targets.count(word) for word in targets} == {ROWS // 3}
    assert watched_rows(Recipe(data="rows.csv")) == {}
    # Nothing is asked of a hub.
    assert watched_rows(Recipe(task="names")) == watched_rows(Recipe(task="sib200")) == {}
