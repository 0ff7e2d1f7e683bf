"""Two processes do what one does: losses, weights, validation, order of rows."""

import json
import os
import signal
import sys
from contextlib import ExitStack
from functools import cache

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import TrainerCallback

import two_processes
from backbones import FLOAT32
from layerbridge.cli.app import main
from layerbridge.models import backbone
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.models.language_model import LanguageModel
from layerbridge.progress import say_once
from layerbridge.tasks import Row
from layerbridge.training import precompute
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.batching import BLANK, ProcessBatches
from layerbridge.training.collation import Collator, RowDataset
from layerbridge.training.node import agreed_dtype
from layerbridge.training.precompute import StatePrecomputer
from layerbridge.training.recipe import Recipe
from layerbridge.training.resume import RowsRecord
from layerbridge.training.run import train
from layerbridge.training.step_size import processes_of
from layerbridge.training.trainer import BridgeTrainer

WORDS = ("the", "market", "rose", "while", "players", "of", "both", "teams", "sang", "a", "crowd")
TARGETS = ("Business", "no", "a target of several words", "Sports")
ROWS = [
    Row(str(n), " ".join(WORDS[: 1 + n * 7 % len(WORDS)] * (1 + n % 3)), TARGETS[n % 4], "en")
    for n in range(19)
]
VALIDATION = [Row(str(n), " ".join(WORDS[n : n + 3]), TARGETS[n % 4], "en") for n in range(7)]

# What two processes do, and what one does instead. With AdamW's own epsilon a gradient that is
# rounding noise would make a full step.
COMMON = {"adam_epsilon": 1e-4, "num_train_epochs": 2, "logging_steps": 1, "use_cpu": True}
COMMON |= {"learning_rate": 1e-3, "warmup_steps": 0}
VALIDATED = {"eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 2}
BY_TOKENS = {"tokens_per_batch": 95}
CASES = {
    # 19 rows: 8, 8 and 3, for which one process is enough.
    "rows": ({"per_device_train_batch_size": 4}, {"per_device_train_batch_size": 8}),
    "accumulated": (
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, **VALIDATED},
        {"per_device_train_batch_size": 12, **VALIDATED},
    ),
    "random": (
        {"per_device_train_batch_size": 4, "train_sampling_strategy": "random"},
        {"per_device_train_batch_size": 8, "train_sampling_strategy": "random"},
    ),
    "tokens": (BY_TOKENS, {**BY_TOKENS, "gradient_accumulation_steps": 2}),
    "cached": ({"per_device_train_batch_size": 4}, {"per_device_train_batch_size": 8}),
    "sharded": (
        {"per_device_train_batch_size": 4, "fsdp": True, **VALIDATED},
        {"per_device_train_batch_size": 8, **VALIDATED},
    ),
    "whole": (
        {"per_device_train_batch_size": 4, "dataloader_drop_last": True},
        {"per_device_train_batch_size": 8, "dataloader_drop_last": True},
    ),
}


@pytest.fixture(scope="module")
def new(load_encoder, load_lm, folder):
    """A bridge that starts the same each time."""

    def make(lm=None):
        torch.manual_seed(0)
        config = BridgeConfig(
            encoder=str(folder("xlm-r")),
            language_model=str(folder("llama")),
            fusion="token-softmax",
            fusion_options={"dropout": 0.0, "feedforward": 64},
            projection_start="scaled",
            options=list(TARGETS),
        )
        return LayerBridge.from_parts(config, load_encoder("xlm-r"), lm or load_lm("llama"))

    return make


@pytest.fixture
def make_recipe(folder, tmp_path):
    """A recipe on eight rows."""
    rows = [{"text": row.text, "label": row.target} for row in ROWS[:8]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(training):
        return Recipe(
            encoder=str(folder("xlm-r")),
            language_model=str(folder("llama")),
            data=str(tmp_path / "rows.jsonl"),
            target="label",
            bridge={"fusion": "global-softmax", "projection_start": "random"},
            backbones={"dtype": "float32"},
            training={"per_device_train_batch_size": 2, **training},
        )

    return make


def trained(new, folder, name, settings, resume=None, broken=False):
    """Trains, and writes tensors, log, and how many texts were read; ``broken`` ends it early."""
    settings = {"save_strategy": "no", **COMMON, **settings}
    if broken or resume:
        settings |= {"save_strategy": "steps", "save_steps": 2}
    arguments = BridgeTrainingArguments(output_dir=str(folder / name), **settings)
    bridge = new()
    if arguments.shards_language_model:
        source = bridge.language_model.source
        bridge = new(LanguageModel.load(source, FLOAT32, shard=True))
        weights = list(bridge.language_model.parameters())
        held = sum(w.to_local().numel() for w in weights if isinstance(w, DTensor))
        (folder / f"held-{arguments.process_index}").write_text(str(held))
    trainer = BridgeTrainer(bridge, arguments, ROWS, VALIDATION)
    with ExitStack() as stack:
        if name == "cached":
            texts = [row.text for row in ROWS]
            layers = bridge.fusion.required_layers
            states = StatePrecomputer(bridge.encoder, texts, folder, layers=layers)
            cache = stack.enter_context(states.cached())
            assert not any(path.is_file() for path in folder.glob("tmp*"))
            (folder / f"read-{arguments.process_index}").write_text(str(len(cache)))
        if broken:
            trainer.add_callback(Break())
            stack.enter_context(pytest.raises(KeyboardInterrupt))
        trainer.train(resume_from_checkpoint=resume)
    if trainer.is_world_process_zero() and not broken:
        folder.mkdir(exist_ok=True)
        save_file(bridge.trained_state_dict(), folder / f"{name}.safetensors")
        (folder / f"{name}.json").write_text(json.dumps(trainer.state.log_history))


class Break(TrainerCallback):
    """Ends a run after its third step."""

    def on_step_end(self, args, state, control, **_):
        if state.global_step == 3:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def two(new, tmp_path_factory):
    """The folder of what two processes have done: all of it in one pair, which takes time."""
    folder = tmp_path_factory.mktemp("two") / "runs"
    folder.mkdir()
    both, alone = CASES["rows"]
    trained(new, folder, "from one", alone, broken=True)

    def work():
        PartialState(cpu=True)
        # Measured, so that processes may find different ones.
        backbone.bfloat16_is_faster = lambda: PartialState().process_index == 0
        dtypes = agreed_dtype("auto", "cpu"), agreed_dtype("float16", "cpu")
        (folder / f"dtypes-{PartialState().process_index}").write_text(" ".join(dtypes))
        precompute.TOKENS_PER_BATCH = 64
        for name, (settings, _) in CASES.items():
            trained(new, folder, name, settings)
        trained(new, folder, "from two", both, broken=True)
        trained(new, folder, "from one", both, resume=str(folder / "from one" / "checkpoint-2"))

    two_processes.run(work, folder)
    return folder


def read(folder, name):
    """The tensors and what the log has, without times."""
    log = json.loads((folder / f"{name}.json").read_text())
    kept = ("loss", "eval_loss", "eval_accuracy", "grad_norm", "step")
    lines = [{key: line[key] for key in kept if key in line} for line in log]
    return load_file(folder / f"{name}.safetensors"), lines


def assert_same(one, other):
    """Two runs have the same losses and tensors."""
    (tensors, log), (others, other_log) = one, other
    assert len(log) == len(other_log) > 4
    for line, same in zip(log, other_log, strict=True):
        assert line == pytest.approx(same, abs=1e-5)
    for name, tensor in tensors.items():
        assert torch.allclose(tensor, others[name], atol=1e-5, rtol=0), name


@pytest.fixture(scope="module")
def one(new, tmp_path_factory):
    """Name → what one process does."""
    folder = tmp_path_factory.mktemp("one")

    @cache
    def make(name):
        trained(new, folder, name, CASES[name][1])
        return read(folder, name)

    return make


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_what_one_does(new, one, two, name):
    assert_same(read(two, name), one(name))
    start = new().trained_state_dict()
    moved = max((tensor - start[key]).abs().max() for key, tensor in one(name)[0].items())
    assert moved > 1e-3


def test_a_run_goes_on_in_another_number_of_processes(new, one, two):
    checkpoint = two / "from two" / "checkpoint-2"
    assert processes_of(checkpoint) == 2
    trained(new, two, "from two", CASES["rows"][1], resume=str(checkpoint))
    for name in ("from two", "from one"):
        assert_same(read(two, name), one("rows"))


def test_each_process_holds_half_of_the_layers(two, load_lm):
    layers = sum(w.numel() for w in load_lm("llama").model.model.layers.parameters())
    held = [int((two / f"held-{rank}").read_text()) for rank in (0, 1)]
    assert held == [layers // 2, layers // 2]


def test_the_processes_agree_on_a_dtype(two):
    for rank in (0, 1):
        assert (two / f"dtypes-{rank}").read_text() == "bfloat16 float16"
    assert agreed_dtype("auto", "cpu") == "auto"


def test_each_process_reads_its_part_of_the_texts(two):
    read = [int((two / f"read-{rank}").read_text()) for rank in (0, 1)]
    assert sum(read) == len({row.text for row in ROWS})
    assert min(read) > 0


def test_processes_share_the_batches_and_blanks_fill_a_step():
    batches = BatchSampler(SequentialSampler(range(9)), 2, drop_last=False)
    shares = [list(ProcessBatches(batches, processes=3, process=n)) for n in range(3)]
    assert shares == [[[0, 1], [6, 7]], [[2, 3], [8]], [[4, 5], [BLANK]]]
    shares = [
        list(ProcessBatches(batches, processes=3, process=n, drop_last=True)) for n in range(3)
    ]
    assert shares == [[[0, 1]], [[2, 3]], [[4, 5]]]
    for drop_last in (False, True):
        share = ProcessBatches(batches, processes=3, process=2, drop_last=drop_last)
        assert len(share) == len(list(share))


@pytest.mark.parametrize("fusion", ["last", "token-softmax"])
def test_a_blank_row_adds_nothing(make_bridge, fusion):
    bridge = make_bridge("xlm-r", "gpt2", fusion).train()
    dataset = RowDataset(ROWS, bridge)
    batch = Collator(bridge)([dataset[BLANK]])
    loss = bridge(**batch, num_items_in_batch=7).loss
    loss.backward()
    assert loss == 0
    gradients = [p.grad for p in bridge.parameters() if p.requires_grad]
    # DistributedDataParallel would wait for one that is missing.
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
    assert dataset[BLANK]["text"] == min((row.text for row in ROWS), key=len)


def test_a_killed_process_ends_the_run_in_one_line(make_recipe, tmp_path, monkeypatch, capsys):
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6, "fsdp": True}
    recipe = make_recipe(training=settings)
    recipe.write(tmp_path)
    runs = tmp_path / "runs"
    runs.mkdir()

    def killed(self, args, state, control, **_):
        if state.global_step == 3 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)

    def work():
        words = ["layerbridge", "train", "--recipe", str(tmp_path / "recipe.yaml")]
        monkeypatch.setattr(sys, "argv", [*words, "-o", str(runs / "run"), "--device", "cpu"])
        monkeypatch.setattr(RowsRecord, "on_step_end", killed)
        main()

    two_processes.run(work, runs, exits=(2, -signal.SIGKILL))
    *_, last = (tmp_path / "err-0").read_text().splitlines()
    assert last == (
        "error: another process of the run has ended; next: torchrun --nproc-per-node 2 -m "
        f"layerbridge train --resume -o {runs / 'run'}"
    )
    assert "Traceback" not in (tmp_path / "err-0").read_text()
    assert (tmp_path / "err-1").read_text() == ""
    assert [path.name for path in (runs / "run").glob("check*")] == ["checkpoint-2"]
    assert not (runs / "run" / "model.safetensors").exists()
    say_once.cache_clear()  # as in a process of its own
    bridge = train(None, runs / "run", resume=True, device="cpu")  # what is left is whole
    said = capsys.readouterr().err
    assert "fsdp has no effect: there is one process\n" in said
    assert (
        "resuming in 1 process, with the run's steps of 4 rows: per_device_train_batch_size=2, "
        "gradient_accumulation_steps=2\n"
    ) in said
    assert not bridge.language_model.is_sharded
