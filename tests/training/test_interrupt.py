import json
import os
import signal
import threading

import pytest
import torch

from layerbridge.training.interrupt import Interrupted, Interruption
from layerbridge.training.output import LOG
from layerbridge.training.recipe import Recipe
from layerbridge.training.resume import RowsRecord
from layerbridge.training.run import train
from layerbridge.training.trainer import BridgeTrainer

pytestmark = pytest.mark.usefixtures("ctrl_c")
LINES = [("the market", "a"), ("the players", "b"), ("a star", "a"), ("teams", "b")]


@pytest.fixture(scope="module")
def make_recipe(folder, tmp_path_factory):
    """A recipe of four steps in two epochs; settings of the Trainer change it."""
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": x, "label": y}) + "\n" for x, y in LINES))

    def make(**training):
        training = {"num_train_epochs": 2, "per_device_train_batch_size": 2, **training}
        return Recipe(
            encoder=str(folder("xlm-r")),
            language_model=str(folder("llama")),
            data=str(file),
            validation_data=str(file),
            target="label",
            options=["a", "b"],
            # With dropout, so that the random numbers count.
            bridge={"fusion": "token-softmax", "fusion_options": {"feedforward": 16}},
            backbones={"dtype": "float32"},
            training={"learning_rate": 1e-2, "logging_steps": 2, **training},
        )

    return make


@pytest.fixture(scope="module")
def whole(make_recipe, tmp_path_factory):
    """The weights of a run that nobody interrupted."""
    bridge = train(make_recipe(), tmp_path_factory.mktemp("whole") / "run", device="cpu")
    return bridge.trained_state_dict()


@pytest.fixture
def press(monkeypatch):
    """Has a signal arrive in the middle of a step, or several."""

    def at(step, *numbers):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == step:
                for number in numbers:
                    signal.raise_signal(number)

        monkeypatch.setattr(RowsRecord, "on_step_end", on_step_end, raising=False)

    return at


def same(bridge, weights):
    return all(torch.equal(bridge.trained_state_dict()[name], weights[name]) for name in weights)


EVERY_STEP = {"eval_strategy": "steps", "eval_steps": 1}
CASES = {
    "in an epoch": (1, {}),
    "at the end of an epoch": (2, {}),
    "in the next one": (3, {}),
    "checkpoints are not kept": (3, {"save_strategy": "no"}),
    "checkpoints are of the best": (2, {"save_strategy": "best", **EVERY_STEP}),
    "checkpoints cannot be resumed": (
        1, {"save_strategy": "steps", "save_steps": 1, "save_only_model": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_resumed_run_is_the_uninterrupted_one(make_recipe, whole, tmp_path, press, capfd, case):
    step, training = CASES[case]
    output = tmp_path / "my run"
    press(step, signal.SIGINT)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted) as stopped:
        train(make_recipe(**training), output, device="cpu")
    checkpoint = output / f"checkpoint-{step}"
    assert str(stopped.value) == (
        f"interrupted at step {step} of 4, saved in {checkpoint}; "
        f"next: layerbridge train --resume -o '{output}'"
    )
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    said = "interrupted: saving a checkpoint after this step; Ctrl-C again ends at once\n"
    assert capfd.readouterr().err.count(said) == 1
    press(0)
    assert same(train(None, output, resume=True, device="cpu"), whole)
    assert f"resuming from {checkpoint}: step {step} of 4\n" in capfd.readouterr().err
    log = json.loads((output / LOG).read_text())
    # No loss was left out, whether of a step or of the validation rows.
    assert [line["step"] for line in log if "eval_loss" in line] == (
        [1, 2, 3, 4] if "eval_steps" in training else [2, 4]
    )
    assert [line["step"] for line in log if "loss" in line] == sorted({step, 2, 4})


def test_after_the_last_step_the_run_is_written(make_recipe, whole, tmp_path, press, capfd):
    press(4, signal.SIGTERM)
    with pytest.raises(Interrupted, match="after the last step: the run is complete") as stopped:
        train(make_recipe(save_strategy="no"), tmp_path / "run", device="cpu")
    assert stopped.value.number == signal.SIGTERM
    assert {"model.safetensors", LOG} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_a_second_signal_ends_at_once(make_recipe, whole, tmp_path, press, monkeypatch):
    monkeypatch.setattr("layerbridge.training.interrupt._SAME", -1)
    press(3, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(make_recipe(), tmp_path / "run", device="cpu")
    assert not isinstance(stopped.value, Interrupted)
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"]


def test_no_half_of_a_checkpoint_stays(make_recipe, whole, tmp_path, press, monkeypatch):
    def aborted(self, folder):
        raise KeyboardInterrupt

    press(3, signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(BridgeTrainer, "_save_rng_state", aborted)
        with pytest.raises(KeyboardInterrupt):
            train(make_recipe(save_strategy="no"), tmp_path / "none", device="cpu")
    assert not list((tmp_path / "none").glob("checkpoint-*"))


def test_signals_that_are_one():
    interruption = Interruption("again").__enter__()
    try:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # the launcher's
        assert interruption.number == signal.SIGINT
        interruption._first -= 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        interruption.__exit__(KeyboardInterrupt, None, None)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_the_programs_own_handlers_stay(handler):
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with Interruption("again") as interruption:
            assert signal.getsignal(signal.SIGTERM) == handler
            signal.raise_signal(signal.SIGTERM)
            assert interruption.number == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_a_thread_signals_stay_the_main_threads():
    ended = []

    def work():
        with Interruption("again") as interruption:
            ended.append(interruption.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_data_loaders_process_works_on_until_it_is_ended(number, code, capfd):
    with Interruption("again"):
        process = os.fork()
        if not process:
            signal.raise_signal(number)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == code
    assert capfd.readouterr().err == ""
