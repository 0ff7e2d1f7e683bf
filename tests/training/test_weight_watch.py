import dataclasses
import json
import math
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from layerbridge.training import run
from layerbridge.training.output import prepare_output
from layerbridge.training.recipe import Recipe
from layerbridge.training.run import train
from layerbridge.training.weight_log import FILE, append, read
from layerbridge.training.weight_watch import LINES, WeightWatch

ROWS = {"the market": "Sports", "the players": "Science", "a star": "Sports", "teams": "Science"}


@pytest.fixture(scope="module")
def recipe(folder, tmp_path_factory):
    """Fusion and settings of training → a recipe of four steps on four rows."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS.items()]
    path.write_text("".join(lines), encoding="utf-8")

    def make(fusion, **training):
        return Recipe(
            encoder=str(folder("xlm-r")),
            language_model=str(folder("llama")),
            data=str(path),
            target="label",
            options=["Sports", "Science"],
            bridge={"fusion": fusion, "start": "uniform"},
            backbones={"dtype": "float32"},
            training={"max_steps": 4, "learning_rate": 1e-2, "save_strategy": "no", **training},
        )

    return make


@pytest.fixture(scope="module")
def straight(recipe, tmp_path_factory):
    """Fusion → its settings, and the bridge and the folder of a run with them, straight through."""

    @cache
    def run(fusion):
        settings = recipe(fusion, save_strategy="steps", save_steps=2)
        folder = tmp_path_factory.mktemp(fusion) / "run"
        return settings, train(settings, folder, device="cpu"), folder

    return run


def test_the_weights_of_the_first_step_and_of_the_last(straight):
    _, _, folder = straight("global-softmax")
    log = read(folder)
    assert log.steps == (0, 1, 2, 3, 4)
    assert log.weights[0] == pytest.approx([0.25] * 4)
    tensors = load_file(folder / "model.safetensors")
    tau = 1e2 + 1e5 * tensors["fusion.theta"].item()
    e = [math.exp(tau * w) for w in tensors["fusion.w"].tolist()]
    assert log.weights[-1] == pytest.approx([x / sum(e) for x in e], rel=1e-4)
    assert log.weights[-1] != pytest.approx(log.weights[0])


def test_weights_that_depend_on_the_token_are_averaged(straight):
    _, bridge, folder = straight("token-softmax")
    log = read(folder)
    # By the public way, and weighted by each text's number of tokens.
    rows = torch.cat([weights.weights for weights in bridge.layer_weights(list(ROWS))])
    assert log.weights[-1] == pytest.approx(rows.mean(0).tolist(), rel=1e-4)
    assert log.weights[-1] != pytest.approx(log.weights[0], rel=1e-2)


def test_weights_that_cannot_change_are_not_logged(recipe, tmp_path):
    train(recipe("uniform", max_steps=1), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / FILE).exists()


def test_a_run_that_is_watched_is_the_same_run(straight, tmp_path, monkeypatch):
    settings, watched, _ = straight("token-softmax")
    monkeypatch.setattr(WeightWatch, "on_train_begin", lambda *_, **__: None)
    alone = train(settings, tmp_path / "alone", device="cpu")
    assert not (tmp_path / "alone" / FILE).exists()
    for name, tensor in watched.trained_state_dict().items():
        assert torch.equal(tensor, alone.trained_state_dict()[name]), name


@pytest.mark.parametrize("fusion", ["global-softmax", "token-softmax"])
def test_a_resumed_run_goes_on_with_the_file(straight, tmp_path, monkeypatch, fusion):
    settings, _, folder = straight(fusion)

    def interrupted(self, args, state, control, **_):
        if state.global_step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run.ProgressCallback, "on_step_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(settings, tmp_path / "run", device="cpu")
    assert read(tmp_path / "run").steps == (0, 1, 2)
    # Steps after the checkpoint may have been logged, and come again.
    with (tmp_path / "run" / FILE).open("a") as file:
        file.write('{"step": 3, "weights": [9, 9, 9, 9]}\n{"step": 4, "we')
    train(settings, tmp_path / "run", resume=True, device="cpu")
    assert (tmp_path / "run" / FILE).read_text() == (folder / FILE).read_text()


def test_a_new_run_in_the_folder_starts_anew(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    append(tmp_path / "run" / FILE, 0, [9.0])
    append(tmp_path / "run" / FILE, 7, [9.0])
    train(recipe("global-softmax", max_steps=1), tmp_path / "run", overwrite=True, device="cpu")
    log = read(tmp_path / "run")
    assert (log.steps, log.weights[0]) == ((0, 1), pytest.approx([0.25] * 4))
    # And a fusion that writes none leaves none behind.
    prepare_output(tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run" / FILE).exists()


@pytest.mark.parametrize(("steps", "every"), [(7, 1), (198, 1), (199, 2), (100_000, 506)])
def test_a_long_run_has_few_lines(make_bridge, tmp_path, steps, every):
    bridge = make_bridge("xlm-r", fusion="global-softmax")
    watch = WeightWatch(bridge, [], tmp_path)
    state = SimpleNamespace(max_steps=steps, global_step=0, is_world_process_zero=True)
    watch.on_train_begin(None, state, None)
    for state.global_step in range(1, steps + 1):
        watch.on_step_end(None, state, None)
    watch.on_train_end(None, state, None)
    logged = read(tmp_path).steps
    assert len(logged) <= LINES
    assert (logged[0], logged[-1]) == (0, steps)
    assert logged[1] == every


def test_a_full_disk_does_not_end_the_run(make_bridge, tmp_path, monkeypatch, capfd):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("layerbridge.training.weight_watch.append", full)
    watch = WeightWatch(make_bridge("xlm-r", fusion="global-softmax"), [], tmp_path)
    state = SimpleNamespace(max_steps=2, global_step=0, is_world_process_zero=True)
    watch.on_train_begin(None, state, None)
    for state.global_step in (1, 2):
        watch.on_step_end(None, state, None)
    watch.on_train_end(None, state, None)
    assert capfd.readouterr().err == (
        f"cannot write {tmp_path / FILE} (No space left on device): layer weights are not logged\n"
    )


def test_another_process_writes_nothing(make_bridge, tmp_path):
    watch = WeightWatch(make_bridge("xlm-r", fusion="global-softmax"), [], tmp_path)
    state = SimpleNamespace(max_steps=2, global_step=0, is_world_process_zero=False)
    watch.on_train_begin(None, state, None)
    watch.on_train_end(None, state, None)
    assert list(tmp_path.iterdir()) == []


def test_cached_states_make_no_difference(straight, tmp_path):
    settings, _, folder = straight("token-softmax")
    cached = dataclasses.replace(settings, cache_states=True)
    train(cached, tmp_path / "cached", device="cpu")
    plain, other = read(folder), read(tmp_path / "cached")
    assert plain.steps == other.steps
    for row, again in zip(plain.weights, other.weights, strict=True):
        assert row == pytest.approx(again, abs=1e-5)
