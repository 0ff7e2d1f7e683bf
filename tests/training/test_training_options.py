"""Noise, language means and averages as options of a run: reproducible, resumable, or refused."""

import dataclasses
import shutil

import pytest
import torch

from layerbridge.errors import ConfigError, TrainingError
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.checkpoint import read_checkpoint, read_config
from layerbridge.models.language_means import LanguageMean, LanguageMeans, TextMeans
from layerbridge.training.recipe import Recipe
from layerbridge.training.run import train

ROWS = ("the market rose\tx", "a crowd\ty", "players of both teams\tx", "sang\ty", "while\tx",
        "the players\ty")  # fmt: skip
# Each alone changes a run in test_argument_checks.py, but for language noise.
NOISE = {"encoder_dropout": True, "state_noise": 0.5, "language_noise": 0.5, "state_mixup": 0.4,
         "average_last": 0.5}  # fmt: skip


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "si.txt").write_text("ම ශ්\nශ්ම ම\nම\n", encoding="utf-8")
    (folder / "zh.txt").write_text("猫\n猫猫 a\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def make(folder, texts, tmp_path_factory):
    """Trains four steps of two rows, and returns the run's folder."""
    data = tmp_path_factory.mktemp("data") / "rows.tsv"
    data.write_text("text\tlabel\n" + "\n".join(ROWS) + "\n")
    base = Recipe(
        encoder=str(folder("xlm-r")),
        language_model=str(folder("llama")),
        data=str(data),
        target="label",
        options=["x", "y"],
        bridge={"fusion": "global-softmax", "projection_start": "scaled"},
        backbones={"dtype": "float32"},
    )

    def run(training, output=None, *, resume=False, **changes):
        output = output or tmp_path_factory.mktemp("run") / "run"
        settings = {"max_steps": 4, "per_device_train_batch_size": 2, "learning_rate": 1e-2,
                    "save_strategy": "no", **training}  # fmt: skip
        if "language_noise" in training:
            changes.setdefault("language_texts", str(texts))
        recipe = dataclasses.replace(base, training=settings, **changes)
        train(recipe, output, resume=resume, device="cpu")
        return output

    return run


@pytest.fixture(scope="module")
def plain(make):
    return make({})


def same(one, other):
    one, other = read_checkpoint(one), read_checkpoint(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_is_the_uninterrupted_run(make, plain):
    saving = {**NOISE, "save_strategy": "steps", "save_steps": 3, "save_total_limit": 0}
    whole = make(saving)
    # As if it had been interrupted after the third step.
    shutil.rmtree(whole / "checkpoint-4")
    before = shutil.copytree(whole, whole.parent / "copy")
    (whole / "model.safetensors").unlink()
    make(saving, whole, resume=True)
    assert same(whole, before)
    config, first = read_config(str(whole))[0], read_config(str(plain))[0]
    assert config.training_start == first.training_start is not None


def test_cached_states_have_the_same_noise(make, plain):
    training = {"language_noise": 0.5, "state_mixup": 0.4}
    one, other = (read_checkpoint(make(training, cache_states=way)) for way in (False, True))
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, atol=1e-4, rtol=1e-3)
    language = read_checkpoint(make({"language_noise": 0.5}))
    before = read_checkpoint(plain)
    assert any(not torch.equal(language[name], before[name]) for name in before)


def test_the_means_of_the_texts_are_kept(make, texts, plain, capsys):
    run = make({}, language_texts=str(texts))
    assert same(run, plain)
    bridge = LayerBridge.from_pretrained(run, dtype="float32")
    means = bridge.centering.means
    assert list(means.by_code) == ["en", "si", "zh"]
    assert bridge.config.encoder_fingerprint == means.encoder
    expected = LanguageMean.of(TextMeans.read(bridge.encoder, ["猫", "猫猫 a"], means.layers))
    torch.testing.assert_close(means.by_code["zh"].mean, expected.mean)
    english = [row.split("\t")[0] for row in ROWS]
    expected = LanguageMean.of(TextMeans.read(bridge.encoder, english, means.layers))
    torch.testing.assert_close(means.english.mean, expected.mean)
    # A run without them in the same folder does not keep them.
    train(dataclasses.replace(_recipe(run), language_texts=None), run, overwrite=True, device="cpu")
    assert LayerBridge.from_pretrained(run, dtype="float32").centering is None
    (texts / "en.txt").write_text("not read\n")
    capsys.readouterr()
    other = make({"max_steps": 1}, language_texts=str(texts), template="{text}.")
    (texts / "en.txt").unlink()
    assert (
        "en.txt is not read: the mean of English is that of the training" in capsys.readouterr().err
    )
    assert LanguageMeans.read(other).english.texts == 6


def _recipe(run):
    from layerbridge.training.recipe import read

    return read(run / "recipe.yaml")


def test_english_alone_is_kept_for_later_and_moves_nothing(make, plain):
    run = make({}, language_centering=True)
    assert same(run, plain)
    bridge = LayerBridge.from_pretrained(run, dtype="float32")
    assert list(bridge.centering.means.by_code) == ["en"]
    other = LayerBridge.from_pretrained(plain, dtype="float32")
    assert bridge.classify(["ම"]) == other.classify(["ම"])


@pytest.mark.parametrize(
    ("training", "changes", "error", "message"),
    [
        (
            {"language_noise": 0.5},
            {"language_texts": None},
            ConfigError,
            "language_noise=0.5 needs unlabeled text of other languages; next: --language-texts "
            "FOLDER, with files such as si.txt",
        ),
        (
            {"encoder_dropout": True},
            {"cache_states": True},
            TrainingError,
            "encoder_dropout cannot be combined with cached states, which are read without it; "
            "next: leave the cache out, or use --state-noise 0.25 instead",
        ),
        (
            {"average_last": 0.5, "load_best_model_at_end": True, "eval_strategy": "epoch",
             "save_strategy": "epoch"},
            {},
            TrainingError,
            "average_last=0.5 cannot be combined with load_best_model_at_end; next: leave one of "
            "them out",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together(training, changes, error, message, make, tmp_path):
    with pytest.raises(error) as caught:
        make(training, tmp_path / "run", **changes)
    assert str(caught.value) == message
    assert not (tmp_path / "run").exists()


def test_an_encoder_without_dropout(make, folder, tmp_path):
    with pytest.raises(
        ConfigError, match=r"encoder_dropout has no effect on .*, which has no drop"
    ):
        make({"encoder_dropout": True}, tmp_path / "run", encoder=str(folder("gemma2-encoder")))
    assert not (tmp_path / "run").exists()


def test_the_average_is_that_of_the_last_steps(make, capsys):
    """Checkpoints hold the weights of their step."""
    saving = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 0}
    capsys.readouterr()
    run = make({**saving, "average_last": 0.6})
    assert "the bridge is the average of the last 2 steps\n" in capsys.readouterr().err
    steps = [read_checkpoint(run / f"checkpoint-{step}") for step in (3, 4)]
    for name, tensor in read_checkpoint(run).items():
        expected = sum(step[name].double() for step in steps) / 2
        torch.testing.assert_close(tensor, expected.float(), atol=1e-7, rtol=1e-6)
    last = make(saving)
    assert same(last / "checkpoint-4", run / "checkpoint-4")
    # A longer run cannot have an average that began before it was known to be longer.
    with pytest.raises(ConfigError, match="is at step 4, and an average from step 4 on would lack"):
        make({**saving, "average_last": 0.6, "max_steps": 6}, run, resume=True)


def test_one_start_for_several_seeds(make):
    runs = [make({"seed": seed, "start_seed": 3, "max_steps": 2}) for seed in (0, 1)]
    starts = {read_config(str(run))[0].training_start for run in runs}
    assert len(starts) == 1
    assert not same(*runs)
    other = make({"seed": 0, "max_steps": 2})
    assert read_config(str(other))[0].training_start not in starts
