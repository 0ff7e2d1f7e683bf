import copy
import hashlib
import json
import math
import shutil
import statistics

import jaxtyping
import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from safetensors.torch import load_file
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from layerbridge.errors import CheckpointError, ConfigError, OutputError, TrainingError
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.state_cache import StateCache
from layerbridge.tasks import Row
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.batching import TokenBatches
from layerbridge.training.collation import Collator, RowDataset
from layerbridge.training.output import check_output, prepare_output, write_log
from layerbridge.training.recipe import read
from layerbridge.training.resume import check_resumable
from layerbridge.training.run import training_arguments
from layerbridge.training.trainer import BridgeTrainer

WORDS = ("the", "market", "rose", "while", "players", "of", "both", "teams", "sang", "a", "crowd")
TARGETS = ("Business", "no", "a target of several words", "Sports")
ROWS = [
    Row(str(n), " ".join(WORDS[: 1 + n * 7 % len(WORDS)] * (1 + n % 3)), TARGETS[n % 4], "en")
    for n in range(20)
]
STILL = {"dropout": 0.0, "feedforward": 64}


@pytest.fixture(scope="module")
def new(load_encoder, load_lm, folder):
    """A bridge that starts the same each time."""

    def make(seed=0, fusion="token-softmax", encoder="xlm-r", **options):
        torch.manual_seed(seed)
        options = STILL if fusion == "token-softmax" and not options else options
        config = BridgeConfig(
            encoder=str(folder(encoder)),
            language_model=str(folder("llama")),
            fusion=fusion,
            fusion_options=options,
            projection_start="scaled",
        )
        return LayerBridge.from_parts(config, load_encoder(encoder), load_lm("llama"))

    return make


@pytest.fixture
def trainer(tmp_path):
    """A trainer of a bridge in a folder of its own."""

    def make(bridge, name="run", rows=ROWS, validation=None, callbacks=None, **settings):
        settings = {
            "learning_rate": 1e-3,
            "num_train_epochs": 2,
            "per_device_train_batch_size": 8,
            "save_strategy": "no",
            "use_cpu": True,
            **settings,
        }
        arguments = BridgeTrainingArguments(output_dir=str(tmp_path / name), **settings)
        return BridgeTrainer(bridge, arguments, rows, validation, callbacks=callbacks)

    return make


@pytest.fixture
def trained(new, trainer):
    """Final tensors of a bridge that starts the same each time."""

    def make(name, resume=None, bridge=None, **settings):
        bridge = bridge or new()
        trainer(bridge, name, **settings).train(resume_from_checkpoint=resume)
        return tensors(bridge)

    return make


def tensors(bridge):
    return {name: tensor.clone() for name, tensor in bridge.trained_state_dict().items()}


def distance(one, other):
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


class Watch(TrainerCallback):
    """Calls a function with the state and whatever the Trainer tells, before every step."""

    def __init__(self, before=None, after=None, epoch_end=None):
        self.before, self.after, self.epoch_end = before, after, epoch_end

    def on_step_begin(self, args, state, control, **message):
        if self.before:
            self.before(state, **message)

    def on_step_end(self, args, state, control, **message):
        if self.after:
            self.after(state, **message)

    def on_epoch_end(self, args, state, control, **message):
        if self.epoch_end:
            self.epoch_end(state, control)


# What the bridge remembers


def test_the_bridge_knows_the_seed_it_was_trained_with(new, trainer, tmp_path):
    bridge = new()
    assert bridge.config.training_seed is None
    trainer(bridge, seed=3)._save()
    saved = LayerBridge.from_pretrained(
        tmp_path / "run", encoder=bridge.encoder, language_model=bridge.language_model
    )
    assert saved.config.training_seed == bridge.config.training_seed == 3


# Defaults


def test_the_papers_recipe(tmp_path):
    settings = read("paper").training
    arguments = training_arguments(settings, tmp_path)
    paper = {
        "num_train_epochs": 3,
        "learning_rate": 3e-5,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "adam_beta1": 0.8,
        "adam_beta2": 0.999,
        "weight_decay": 3e-7,
        "max_grad_norm": 1.0,
        "clip_by_part": False,
        "seed": 0,
        "fusion_learning_rate_scale": 1.0,
    }
    assert {name: getattr(arguments, name) for name in paper} == paper
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps == 8
    assert arguments.optim.startswith("adamw_torch")
    assert arguments.get_warmup_steps(1000) == 50  # 5 %
    assert arguments.report_to == []


def test_a_negative_scale_is_refused(tmp_path):
    with pytest.raises(ConfigError) as caught:
        BridgeTrainingArguments(output_dir=str(tmp_path), fusion_learning_rate_scale=-1)
    assert str(caught.value) == (
        "fusion_learning_rate_scale=-1 is not valid; allowed: 0 (the fusion stays as it starts) "
        "or more"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(
            (
                {"tokens_per_batch": tokens},
                f"tokens_per_batch={tokens!r} is not valid; allowed: a positive integer",
            )
            for tokens in (0, -5, 1.5, True, "many")
        ),
        (
            {"tokens_per_batch": 9, "train_sampling_strategy": "random"},
            "tokens_per_batch=9 groups rows by length, but train_sampling_strategy is 'random'; "
            "next: leave one of them out",
        ),
        (
            {"tokens_per_batch": 9, "auto_find_batch_size": True},
            "tokens_per_batch=9 cannot be combined with auto_find_batch_size; next: leave one "
            "of them out",
        ),
    ],
)
def test_a_budget_that_does_not_fit_is_refused(tmp_path, settings, message):
    with pytest.raises((ConfigError, TrainingError)) as caught:
        BridgeTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **settings)
    assert str(caught.value) == message


def test_cached_states_and_loader_workers(new, trainer, monkeypatch):
    bridge = new()
    monkeypatch.setattr(bridge.encoder, "cache", StateCache())
    with pytest.raises(TrainingError) as caught:
        trainer(bridge, dataloader_num_workers=2)
    assert str(caught.value) == (
        "dataloader_num_workers=2 cannot be combined with cached states: workers have nothing to "
        "tokenize and cannot fill the cache; next: leave --dataloader-num-workers or the cache out"
    )


def test_no_rows_are_refused(new, trainer):
    with pytest.raises(TrainingError, match=r"^there are no rows to train on$"):
        trainer(new(), rows=[])


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (
            24,
            {"per_device_train_batch_size": 64},
            "24 rows do not fill a batch of 64, and dataloader_drop_last drops the rest; next: "
            "--per-device-train-batch-size 24 or smaller, or leave --dataloader-drop-last out",
        ),
        (
            3,
            {"per_device_train_batch_size": 4, "max_steps": 5},
            "3 rows do not fill a batch of 4, and dataloader_drop_last drops the rest; next: "
            "--per-device-train-batch-size 3 or smaller, or leave --dataloader-drop-last out",
        ),
    ],
)
def test_rows_that_fill_no_batch_are_refused(new, trainer, tmp_path, rows, settings, message):
    with pytest.raises(TrainingError) as caught:
        trainer(new(), rows=(ROWS * 2)[:rows], dataloader_drop_last=True, **settings)
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_step_is_an_error(new, trainer, monkeypatch):
    made = trainer(new(), num_train_epochs=1)
    # Whatever the reason: here, a loader that has nothing.
    monkeypatch.setattr(TokenBatches, "__iter__", lambda self: iter(()))
    monkeypatch.setattr(made.args, "tokens_per_batch", 100)
    with pytest.raises(TrainingError, match=r"^the run ended without a step of the optimizer"):
        made.train()


def test_steps_that_the_loss_scaler_skips_do_not_train(new, trainer, monkeypatch):
    made = trainer(new(), max_steps=2)
    monkeypatch.setattr(type(made.accelerator), "optimizer_step_was_skipped", True)
    with pytest.raises(TrainingError, match=r"^the run ended without a step of the optimizer"):
        made.train()


def test_several_gpus_need_several_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(BridgeTrainingArguments, "n_gpu", 2)
    with pytest.raises(TrainingError) as caught:
        BridgeTrainingArguments(output_dir=str(tmp_path))
    assert str(caught.value) == (
        "2 GPUs need one process each; next: torchrun --nproc-per-node 2 -m layerbridge train …, "
        "or choose one with CUDA_VISIBLE_DEVICES=0"
    )


def test_a_bridge_may_be_trained_again_in_another_precision(new, trainer, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)

    def losses(bridge, name, **settings):
        made = trainer(bridge, name, num_train_epochs=1, logging_steps=1, **settings)
        made.train()
        return [line["loss"] for line in made.state.log_history if "loss" in line]

    alone = losses(new(), "alone")
    again = new()
    assert losses(again, "bf16", bf16=True) != alone
    again.load_trained(tensors(new()))
    assert losses(again, "again") == alone


@pytest.mark.parametrize("strategy", ["group_by_length", "random"])
def test_two_processes_resume_in_the_order_of_the_epoch(new, trainer, strategy):
    made = trainer(new(), train_sampling_strategy=strategy, per_device_train_batch_size=2)
    sampler = made._get_train_sampler(made.train_dataset)
    loader = DataLoader(made.train_dataset, 2, sampler=sampler, collate_fn=lambda items: items)

    def order(epoch, *, skipped=0):
        """The texts of the first of two processes, as the Trainer asks for them."""
        shard = prepare_data_loader(
            loader, num_processes=2, process_index=0, put_on_device=False,
            use_seedable_sampler=True, data_seed=0,
        )  # fmt: skip
        made.callback_handler.train_dataloader = shard
        made.state.epoch = epoch + 0.4
        made.callback_handler.on_epoch_begin(made.args, made.state, made.control)
        if skipped:
            shard = skip_first_batches(shard, skipped)
        shard.set_epoch(epoch)
        return [[item["text"] for item in batch] for batch in shard]

    whole = order(1)
    assert len(whole) == 5
    assert whole != order(0)
    assert order(1, skipped=2) == whole[2:]


# The same numbers


@pytest.mark.parametrize("fusion", ["last", "global-softmax", "token-softmax"])
def test_accumulation_changes_nothing(trained, new, fusion):
    # 20 rows: the last step of each epoch has four. Targets have two to ten tokens, so a mean of
    # means would differ from the mean.
    # With its own epsilon AdamW makes a full step of a gradient that is rounding noise, as that of
    # theta is at the start.
    settings = {"fusion_learning_rate_scale": 0.01, "adam_epsilon": 1e-4, "num_train_epochs": 1}
    whole = trained("8", bridge=new(fusion=fusion), per_device_train_batch_size=8, **settings)
    single = trained(
        "1",
        bridge=new(fusion=fusion),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=8,
        **settings,
    )
    assert distance(tensors(new(fusion=fusion)), whole) > 1e-3
    assert distance(whole, single) < 1e-6


def test_the_loss_it_logs_is_the_mean_over_the_labels(new, trainer):
    bridge = new()
    batch = Collator(bridge)([RowDataset(ROWS[:4], bridge)[n] for n in range(4)])
    with torch.no_grad():
        output = bridge(**batch)
    expected = F.cross_entropy(output.logits, batch["labels"][batch["labels"] != -100]).item()
    for size, steps in ((4, 1), (1, 4)):
        made = trainer(
            new(),
            f"{size}",
            ROWS[:4],
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_steps=1,
            logging_steps=1,
        )
        made.train()
        assert made.state.log_history[0]["loss"] == pytest.approx(expected, abs=1e-3)


def test_the_same_seed_is_the_same_and_another_is_another(trained, new):
    dropout = {"dropout": 0.1, "feedforward": 64}
    settings = {"num_train_epochs": 1, "per_device_train_batch_size": 5}
    one = trained("one", bridge=new(**dropout), seed=1, **settings)
    torch.manual_seed(99)  # the state before the run does not matter
    again = trained("again", bridge=new(**dropout), seed=1, **settings)
    other = trained("other", bridge=new(**dropout), seed=2, **settings)
    assert distance(one, again) == 0
    assert distance(one, other) > 1e-5


# 20 rows in batches of 4, or in five or nine batches of so many tokens: 5 steps an epoch.
FIVE_STEPS = {
    "tokens": {"tokens_per_batch": 205},
    "tokens, accumulated": {"tokens_per_batch": 95, "gradient_accumulation_steps": 2},
}


@pytest.mark.parametrize(
    ("stop_at", "by"),
    [
        # By rows: in the tests of interrupted runs.
        ("end of an epoch", "tokens"),
        ("middle of an epoch", "tokens, accumulated"),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_run(trained, new, tmp_path, stop_at, by):
    options = {"dropout": 0.1, "feedforward": 64}
    settings = {"save_strategy": "steps", "save_total_limit": None, "logging_steps": 1}
    settings |= FIVE_STEPS[by]
    saved = 5 if stop_at == "end of an epoch" else 7
    settings["save_steps"] = saved
    straight = trained("straight", bridge=new(**options), **settings)

    def stop(state, model, **_):
        if state.global_step == saved + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained("broken", bridge=new(**options), callbacks=[Watch(after=stop)], **settings)
    checkpoint = str(tmp_path / "broken" / f"checkpoint-{saved}")
    torch.manual_seed(1234)
    resumed = trained("broken", checkpoint, bridge=new(seed=5, **options), **settings)
    assert distance(straight, resumed) == 0
    assert distance(straight, load_file(f"{checkpoint}/model.safetensors")) > 1e-4


# Batches of a number of tokens


@pytest.fixture
def collated(monkeypatch):
    """The texts of every batch that is made."""
    seen = []
    inner = Collator.__call__

    def spy(self, items):
        seen.append([item["text"] for item in items])
        return inner(self, items)

    monkeypatch.setattr(Collator, "__call__", spy)
    return seen


def test_batches_of_tokens_hold_every_row_of_each_epoch(new, trainer, collated):
    made = trainer(new(), tokens_per_batch=100, per_device_train_batch_size=999)
    made.train()
    batches = len(made.get_train_dataloader())
    assert made.state.max_steps == made.state.global_step == 2 * batches
    assert len(collated) == 2 * batches
    lengths = dict(zip([row.text for row in ROWS], made.train_dataset.lengths, strict=True))
    epochs = collated[:batches], collated[batches:]
    for epoch in epochs:
        assert sorted(text for batch in epoch for text in batch) == sorted(r.text for r in ROWS)
        for batch in epoch:
            assert len(batch) * max(lengths[text] for text in batch) <= 100 or len(batch) == 1
        assert any(len(batch) > 1 for batch in epoch)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(
    ("settings", "steps", "epochs", "rows_per_step"),
    [
        # Transformers counts the rows of all epochs, over the steps that they take.
        ({"num_train_epochs": 2}, 10, 2.0, 40 / 10),
        ({"num_train_epochs": 0.5}, 3, 0.6, 10 / 3),
        ({"num_train_epochs": 2, "gradient_accumulation_steps": 2}, 6, 2.0, 40 / 6),
        # Or so many steps of a mean batch, which has four rows.
        ({"max_steps": 7}, 7, 1.4, 4),
        ({"max_steps": 4, "gradient_accumulation_steps": 2}, 4, 1.4, 8),
    ],
)
def test_steps_of_batches_of_tokens(new, trainer, settings, steps, epochs, rows_per_step):
    made = trainer(new(fusion="last"), tokens_per_batch=205, **settings)
    assert len(made.get_train_dataloader()) == 5
    assert made.total_steps == steps
    made.train()
    assert made.state.global_step == steps
    assert made.state.epoch == pytest.approx(epochs)
    speeds = made.state.log_history[-1]
    rows = speeds["train_samples_per_second"] / speeds["train_steps_per_second"]
    assert rows == pytest.approx(rows_per_step, rel=0.02)


def test_a_step_of_batches_of_tokens_is_normalised_by_all_its_labels(new, trainer):
    bridge = new()
    batch = Collator(bridge)([RowDataset(ROWS, bridge)[n] for n in range(20)])
    with torch.no_grad():
        expected = bridge(**batch).loss.item()
    # One step of all rows, in as many batches of as different sizes as the budget makes of them.
    for tokens in (60, 100_000):
        made = trainer(
            new(), f"{tokens}", tokens_per_batch=tokens, max_steps=1, logging_steps=1,
            gradient_accumulation_steps=99,
        )  # fmt: skip
        made.train()
        assert made.state.log_history[0]["loss"] == pytest.approx(expected, abs=1e-3)


def test_a_budget_of_everything_is_one_batch_of_all_rows(trained):
    settings = {"num_train_epochs": 2, "adam_epsilon": 1e-4}
    everything = trained("tokens", tokens_per_batch=100_000, **settings)
    rows = trained("rows", per_device_train_batch_size=20, **settings)
    assert distance(everything, rows) < 1e-6


# Loader workers


@pytest.mark.parametrize("by", [{"per_device_train_batch_size": 4}, {"tokens_per_batch": 205}])
def test_loader_workers_change_nothing(trained, by, capfd):
    by = {**by, "num_train_epochs": 1}
    alone = trained("alone", **by)
    assert distance(alone, trained("helped", dataloader_num_workers=2, **by)) == 0
    assert capfd.readouterr() == ("", "")


def test_loader_workers_tokenise(new, trainer, collated):
    made = trainer(new(), dataloader_num_workers=2, num_train_epochs=1)
    made.train()
    # In other processes, that is.
    assert collated == []


# What is trained


def test_compiled_layers_train_the_same(trained, new, load_lm):
    # All rows in one batch. Backends that compile are tested with the layers themselves.
    settings = {"max_steps": 3, "rows": ROWS[:4]}
    plain = trained("plain", **settings)
    lm = load_lm("llama")
    twin = new()
    twin.language_model = LanguageModel(copy.deepcopy(lm.model), lm.tokenizer)
    torch._dynamo.reset()
    compiled = trained("compiled", bridge=twin, torch_compile_backend="eager", **settings)
    assert twin.language_model.compiled
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    assert distance(plain, compiled) < 1e-5


def test_the_backbones_never_change(new, trainer):
    bridge = new()

    def hashes():
        return {
            name: hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()
            for name, tensor in [*bridge.named_parameters(), *bridge.named_buffers()]
            if not name.startswith(("fusion.", "projection."))
        }

    changeable = []

    def note(state, model, **_):
        for name, parameter in model.named_parameters():
            if parameter.grad is not None or parameter.requires_grad:
                changeable.append(name)

    before, start = hashes(), tensors(bridge)
    assert len(before) > 50
    made = trainer(bridge, callbacks=[Watch(after=note)], max_steps=3, learning_rate=1e-2)
    made.train()
    assert hashes() == before
    assert set(changeable) == {name for name in start if not name.endswith((".mean", ".std"))}
    end = bridge.trained_state_dict()
    unmoved = {name for name in start if torch.equal(start[name], end[name])}
    # The projection's standardisation is taken once, before training.
    assert unmoved == {"projection.mean", "projection.std"}
    optimized = {p for group in made.optimizer.param_groups for p in group["params"]}
    assert optimized == {p for p in bridge.parameters() if p.requires_grad}
    assert len(optimized) == len(start) - 2


def test_a_tenth_of_the_learning_rate_for_the_fusion_at_every_step(new, trainer):
    seen = []

    def note(state, optimizer, **_):
        seen.append([group["lr"] for group in optimizer.param_groups])

    bridge = new()
    made = trainer(bridge, callbacks=[Watch(before=note)], fusion_learning_rate_scale=0.1)
    made.train()
    projection, fusion = made.optimizer.param_groups
    assert set(map(id, projection["params"])) == set(map(id, bridge.projection.parameters()))
    assert set(map(id, fusion["params"])) == set(map(id, bridge.fusion.parameters()))
    total = made.state.max_steps
    assert len(seen) == total == 6
    for step, (fast, slow) in enumerate(seen):
        # Cosine after a warm-up of one step (5 % of 6, rounded up).
        expected = 1e-3 * (step if step < 1 else 0.5 * (1 + math.cos(math.pi * (step - 1) / 5)))
        assert fast == pytest.approx(expected, abs=1e-9)
        assert slow == pytest.approx(0.1 * expected, abs=1e-9)
    assert {group["weight_decay"] for group in made.optimizer.param_groups} == {3e-7}


def test_a_scale_of_zero_leaves_the_fusion_alone(new, trained):
    start = tensors(new())
    end = trained("run", fusion_learning_rate_scale=0, learning_rate=1e-2)
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert moved == {f"projection.{name}" for name in ("linear.weight", "linear.bias", "boundary")}


def test_a_fusion_without_parameters_trains(trained, new):
    start = tensors(new(fusion="last"))
    assert distance(start, trained("run", bridge=new(fusion="last"))) > 1e-4


def test_clipping_is_applied(new, trainer):
    made = trainer(new(), max_grad_norm=1e-3, max_steps=2, logging_steps=1, optim="sgd")
    start = tensors(made.model)
    made.train()
    # Two SGD steps of length lr · clip at most (the first has warm-up's lr of 0).
    moved = sum((tensors(made.model)[n] - start[n]).square().sum().item() for n in start)
    assert 0 < math.sqrt(moved) <= 2 * 1e-3 * 1e-3 * 1.01
    assert made.state.log_history[0]["grad_norm"] > 1e-2


def test_bf16(new, trainer, monkeypatch):
    # Accelerate builds the output anew from a dict, as transformers' ModelOutput allows.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    losses = {}
    for bf16 in (True, False):
        bridge = new()
        made = trainer(bridge, f"bf16 {bf16}", bf16=bf16, logging_steps=1, num_train_epochs=1)
        made.train()
        losses[bf16] = [line["loss"] for line in made.state.log_history if "loss" in line]
        assert {tensor.dtype for tensor in bridge.trained_state_dict().values()} == {torch.float32}
    assert losses[True] == pytest.approx(losses[False], rel=0.05)
    assert losses[True] != losses[False]


# Order


def test_batches_are_of_one_length_and_every_epoch_has_its_order(new, trainer):
    rows = [Row(str(n), "the market " * (1 + n * 37 % 97), "no", "en") for n in range(97)]
    made = trainer(new(), rows=rows, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    sampler = made._get_train_sampler()
    lengths = made.train_dataset.lengths
    sampler.set_epoch(0)
    order = list(sampler)
    assert sorted(order) == list(range(97))
    spread = [
        statistics.pstdev(lengths[place] for place in order[start : start + 8])
        for start in range(0, 88, 8)
    ]
    assert statistics.mean(spread) < 0.5 * statistics.pstdev(lengths)
    assert list(sampler) == order
    sampler.set_epoch(1)
    assert list(sampler) != order
    other = trainer(new(), "other", rows=rows, data_seed=1)._get_train_sampler()
    assert list(other) != order


def test_the_epochs_really_differ(new, trainer):
    seen = []

    def collate(items):
        seen.append([item["text"] for item in items])
        return inner(items)

    made = trainer(new(), num_train_epochs=2, per_device_train_batch_size=10)
    inner, made.data_collator = made.data_collator, collate
    made.train()
    assert len(seen) == 4
    for epoch in (seen[:2], seen[2:]):
        assert sorted(text for batch in epoch for text in batch) == sorted(r.text for r in ROWS)
    assert seen[:2] != seen[2:]


def test_any_other_order_of_the_trainer_can_be_had(new, trainer):
    made = trainer(new(), train_sampling_strategy="sequential")
    assert list(made._get_train_sampler(made.train_dataset)) == list(range(20))


# Validation


def test_eval_strategy_watches_the_validation_rows(new, trainer):
    bridge = new()
    validation = [Row(str(n), text, "Sports", "en") for n, text in enumerate(WORDS)]
    made = trainer(bridge, validation=validation, eval_strategy="epoch", num_train_epochs=1)
    made.train()
    message = [line["eval_loss"] for line in made.state.log_history if "eval_loss" in line]
    bridge.eval()
    dataset = RowDataset(validation, bridge)
    with torch.no_grad():
        naive = [bridge(**Collator(bridge)([dataset[n]])).loss.item() for n in range(len(dataset))]
    assert message == [pytest.approx(statistics.mean(naive), rel=1e-4)]


def test_one_pass_over_the_validation_rows_gives_loss_and_accuracy(new, trainer, monkeypatch):
    bridge = new()
    bridge.config.options = ["Business", "Sports", "late news"]
    # Targets of different lengths: the loss is over tokens, not over rows.
    validation = [
        Row(str(n), text, bridge.config.options[n % 3], "en") for n, text in enumerate(WORDS)
    ]
    read = []
    encode = type(bridge.encoder).encode
    monkeypatch.setattr(
        type(bridge.encoder),
        "encode",
        lambda self, texts, **kw: read.extend(texts) or encode(self, texts, **kw),
    )
    found = trainer(
        bridge, validation=validation, eval_strategy="epoch", per_device_eval_batch_size=4
    ).evaluate()
    assert sorted(read) == sorted(row.text for row in validation)
    dataset = RowDataset(validation, bridge)
    with torch.no_grad():
        total = sum(
            bridge(**Collator(bridge)([dataset[n]])).loss.item() * len(dataset[n]["target"])
            for n in range(len(dataset))
        )
    assert found["eval_loss"] == pytest.approx(
        total / sum(len(dataset[n]["target"]) for n in range(len(dataset))), rel=1e-5
    )
    answers = bridge.classify([row.text for row in validation])
    right = [answer.choice == row.target for answer, row in zip(answers, validation, strict=True)]
    assert found["eval_accuracy"] == statistics.mean(right)
    assert found["eval_any_option"] == pytest.approx(
        statistics.median(answer.any_option for answer in answers)
    )


def test_a_validation_row_with_another_target_has_a_loss(new, trainer):
    bridge = new()
    bridge.config.options = ["Business", "Sports"]
    found = trainer(bridge, validation=[Row("1", "the market", "Science", "en")]).evaluate()
    assert found["eval_loss"] > 0
    assert "eval_accuracy" not in found


def test_validation_has_no_effect_on_training(trained, new):
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 5}
    dropout = {"dropout": 0.1, "feedforward": 64}
    alone = trained("alone", bridge=new(**dropout), **settings)
    watch = {"validation": ROWS[:3], "eval_strategy": "steps", "eval_steps": 1}
    watched = trained("watched", bridge=new(**dropout), eval_on_start=True, **watch, **settings)
    assert distance(alone, watched) == 0


def test_dropping_the_last_batch_drops_no_validation_rows(new, trainer):
    settings = {"validation": ROWS[:3], "eval_strategy": "epoch"}
    whole = trainer(new(), **settings).evaluate()["eval_loss"]
    dropped = trainer(new(), dataloader_drop_last=True, **settings).evaluate()["eval_loss"]
    assert dropped == whole


def test_a_validation_loss_that_is_no_number_is_an_error(new, trainer):
    bridge = new()
    made = trainer(bridge, validation=ROWS, eval_strategy="epoch")
    with torch.no_grad():
        next(bridge.projection.parameters()).fill_(math.nan)
    with pytest.raises(TrainingError, match=r"^the validation loss is nan at step 0; next: "):
        made.evaluate()


def test_the_loss_of_validation_rows_is_that_of_cached_states(new, trainer, monkeypatch):
    # Eleven rows in batches of eight: the mean is over rows, not over batches.
    validation = [Row(str(n), text, "Sports", "en") for n, text in enumerate(WORDS)]
    plain = trainer(new(), validation=validation).evaluate()["eval_loss"]
    bridge = new()
    monkeypatch.setattr(bridge.encoder, "cache", StateCache())
    cached = trainer(bridge, validation=validation).evaluate()["eval_loss"]
    assert cached == pytest.approx(plain, rel=1e-5)


def test_the_best_checkpoint_comes_back(new, trainer):
    bridge = new()
    seen = {}

    def note(state, model, **_):
        seen[state.global_step] = tensors(model)

    validation = [Row("1", "the market", "Sports", "en")]
    made = trainer(
        bridge,
        validation=validation,
        callbacks=[Watch(after=note)],
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        learning_rate=0.3,
        max_steps=4,
    )
    made.train()
    losses = {x["step"]: x["eval_loss"] for x in made.state.log_history if "eval_loss" in x}
    best = min(losses, key=losses.get)
    assert distance(tensors(bridge), seen[best]) == 0


# What goes wrong


def test_a_loss_that_is_no_number_stops_the_run(new, trainer, tmp_path):
    bridge = new()
    good = {}

    def spoil(state, model, **_):
        if state.global_step == 3:
            good.update(tensors(model))
            with torch.no_grad():
                next(model.projection.parameters()).fill_(math.nan)

    made = trainer(
        bridge, save_strategy="steps", save_steps=1, save_total_limit=1, callbacks=[Watch(spoil)]
    )
    with pytest.raises(TrainingError) as caught:
        made.train()
    kept = tmp_path / "run" / "checkpoint-3"
    assert str(caught.value) == (
        "the loss is nan at step 4; next: lower --learning-rate or raise --warmup-steps, or train "
        f"in float32; the last good checkpoint is {kept}"
    )
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-3"]
    loaded = LayerBridge.from_pretrained(kept, dtype="float32")
    assert distance(tensors(loaded), good) == 0
    check_resumable(new(), tmp_path / "run")


def test_a_gradient_that_is_no_number_does_not_reach_the_weights(new, trainer):
    bridge = new()
    weight = next(bridge.projection.parameters())
    weight.register_hook(lambda gradient: gradient * math.inf)
    start = tensors(bridge)
    with pytest.raises(TrainingError) as caught:
        trainer(bridge).train()
    assert str(caught.value).startswith("a gradient is ")
    assert str(caught.value).endswith(
        " at step 1; next: lower --learning-rate or raise --warmup-steps, or train in float32; "
        "no checkpoint was written yet"
    )
    assert distance(start, tensors(bridge)) == 0


# What is left behind


@pytest.fixture(scope="module")
def saved(new, tmp_path_factory):
    """A run of one epoch."""
    run = tmp_path_factory.mktemp("saved") / "run"
    settings = {"save_strategy": "epoch", "num_train_epochs": 1, "use_cpu": True}
    settings |= {"per_device_train_batch_size": 8}
    BridgeTrainer(new(), BridgeTrainingArguments(output_dir=str(run), **settings), ROWS).train()
    return run


@pytest.fixture
def checkpoint(saved, tmp_path):
    """A copy of that run's checkpoint."""
    return shutil.copytree(saved, tmp_path / "run") / "checkpoint-3"


def test_checkpoints_hold_no_pickled_arguments(checkpoint, new):
    assert sorted(path.name for path in checkpoint.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "optimizer.pt",
        "rng_state.pth",
        "scheduler.pt",
        "trainer_state.json",
    ]
    # The bridge's own tensors and no backbone's.
    assert load_file(checkpoint / "model.safetensors").keys() == new().trained_state_dict().keys()


def test_nothing_is_printed_to_stdout(new, trainer, capfd):
    validation = ROWS[:3]
    trainer(
        new(),
        validation=validation,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_steps=1,
        disable_tqdm=False,
    ).train()
    assert capfd.readouterr() == ("", "")


def test_the_log_is_json(new, trainer, tmp_path):
    made = trainer(new(), logging_steps=2)
    made.train()
    write_log(made.state.log_history, tmp_path)
    log = json.loads((tmp_path / "training.json").read_text())
    assert [line["step"] for line in log if "loss" in line] == [2, 4, 6]
    assert all({"loss", "learning_rate", "grad_norm", "epoch"} <= set(line) for line in log[:-1])


# The output folder


def test_an_empty_or_new_folder_is_made_ready(tmp_path):
    assert check_output(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()
    assert prepare_output(tmp_path / "a" / "b").is_dir()
    assert prepare_output(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "notes").touch()
    with pytest.raises(OutputError) as caught:
        prepare_output(tmp_path)
    assert str(caught.value) == (
        f"{str(tmp_path)!r} is not empty; next: --overwrite to replace what is in it, --resume to "
        "continue, or another folder"
    )


def test_overwrite_removes_old_checkpoints_and_nothing_else(tmp_path):
    for name in ("checkpoint-9", "checkpoint-best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    prepare_output(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-best"]
    assert (tmp_path / "checkpoint-best" / "file").exists()


def test_resume_wants_a_checkpoint(tmp_path):
    message = (
        f"{str(tmp_path)!r} has no checkpoint to resume from; next: --overwrite instead of --resume"
    )
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(OutputError, match="has no checkpoint to resume from") as caught:
            prepare_output(folder, resume=True)
    (tmp_path / "notes").touch()
    with pytest.raises(OutputError) as caught:
        prepare_output(tmp_path, resume=True)
    assert str(caught.value) == message
    (tmp_path / "checkpoint-3").mkdir()
    assert prepare_output(tmp_path, resume=True) == tmp_path
    assert prepare_output(tmp_path, resume=True, overwrite=True) == tmp_path
    assert (tmp_path / "checkpoint-3").is_dir()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputError) as caught:
            prepare_output(folder, overwrite=True)
        assert str(caught.value) == f"{str(tmp_path / 'file')!r} is a file; allowed: a folder"


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(OutputError) as caught:
        check_output(tmp_path / "run")
    assert str(caught.value) == (
        f"{str(tmp_path)!r} cannot be written; next: choose another folder"
    )


# Whether a checkpoint can be resumed from


def test_a_good_checkpoint_can_be_resumed_from(new, checkpoint):
    bridge = new(seed=7)
    check_resumable(bridge, checkpoint.parent)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"]
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_checkpoint_is_reported(new, checkpoint, name, damage):
    file = checkpoint / name
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        file.unlink()
    with pytest.raises(CheckpointError) as caught:
        check_resumable(new(), checkpoint.parent)
    message = str(caught.value)
    if name == "model.safetensors":
        assert message.endswith("; next: train or copy it again")
        assert str(checkpoint) in message
    else:
        assert message == (
            f"{str(file)!r} is missing or truncated; next: remove {checkpoint} and resume from the "
            "one before it, or train again"
        )


def test_a_checkpoint_of_another_bridge_is_reported(new, checkpoint):
    with pytest.raises(CheckpointError) as caught:
        check_resumable(new(fusion="last"), checkpoint.parent)
    assert str(caught.value) == (
        f"{str(checkpoint)!r} has the fusion 'token-softmax'; allowed: last"
    )
    with pytest.raises(CheckpointError, match=r"was trained with another encoder: its weights are"):
        check_resumable(new(encoder="mt5"), checkpoint.parent)
