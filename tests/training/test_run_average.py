import shutil

import pytest
import torch

from layerbridge.errors import ConfigError
from layerbridge.evaluation.method_names import distinguish
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.checkpoint import read_checkpoint, read_config
from layerbridge.training.recipe import Recipe
from layerbridge.training.run_average import average_runs
from layerbridge.training.shared_start import start_hash


@pytest.fixture(scope="module")
def runs(load_encoder, load_lm, folder, tmp_path_factory):
    """Two runs as training leaves them behind, moved from one start; and one from another."""
    from layerbridge.models.config import BridgeConfig

    found = []
    for number, start in enumerate((0, 0, 1)):
        torch.manual_seed(start)
        config = BridgeConfig(
            encoder=str(folder("mt5")), language_model=str(folder("llama")), fusion="scalar-mix"
        )
        bridge = LayerBridge.from_parts(config, load_encoder("mt5"), load_lm("llama"))
        bridge.config.training_start = start_hash(bridge)
        bridge.config.training_seed = number
        bridge.config.usual_any_option = 0.1 * number
        with torch.no_grad():
            for parameter in (*bridge.fusion.parameters(), *bridge.projection.parameters()):
                parameter.add_(torch.randn_like(parameter) + number)
        run = tmp_path_factory.mktemp("runs") / f"run-{number}"
        bridge.save_pretrained(run)
        training = {"seed": number, "learning_rate": 1e-3}
        Recipe(encoder="e", language_model="l", task="names", training=training).write(run)
        found.append(str(run))
    return found


def test_is_the_mean_and_answers_so(runs, tmp_path):
    average_runs(runs[:2], tmp_path / "average")
    one, two = (read_checkpoint(_path(run)) for run in runs[:2])
    found = read_checkpoint(tmp_path / "average")
    assert found.keys() == one.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, (one[name] + two[name]) / 2)
        assert tensor.dtype == torch.float32
    bridge = LayerBridge.from_pretrained(tmp_path / "average", dtype="float32")
    assert (bridge.config.averaged_runs, bridge.config.training_seed) == (2, 0)
    expected = LayerBridge.from_pretrained(runs[0], dtype="float32")
    expected.load_trained({name: (one[name] + two[name]) / 2 for name in one})
    before, after = (b.classify(["the market"], ["a", "b"])[0] for b in (expected, bridge))
    assert after.scores == pytest.approx(before.scores, abs=1e-5)
    assert (tmp_path / "average" / "recipe.yaml").is_file()
    # Three runs in two turns count as three, though not with one weight.
    average_runs([str(tmp_path / "average"), runs[0]], tmp_path / "again")
    assert read_config(str(tmp_path / "again"))[0].averaged_runs == 3


def _path(run):
    from pathlib import Path

    return Path(run)


def test_an_average_is_another_method_than_its_runs(runs, tmp_path):
    from dataclasses import replace

    from made_results import result

    average_runs(runs[:2], tmp_path / "average")
    results = [
        replace(result("m", 0, si="1100"), settings={"bridge": read_config(run)[0].to_diff_dict()})
        for run in (runs[0], str(tmp_path / "average"))
    ]
    names = [each.method for each in distinguish(results)]
    assert names == ["m (averaged_runs none)", "m (averaged_runs 2)"]


def test_other_settings_of_training_are_said(runs, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    training = {"seed": 5, "learning_rate": 1e-2}
    Recipe(encoder="e", language_model="l", task="names", training=training).write(other)
    average_runs([runs[0], str(other)], tmp_path / "average")
    assert capsys.readouterr().err == (
        f"the runs differ in learning_rate; the average has the recipe of {runs[0]}\n"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"training_start": None},
            "has no record of where it started: it was trained before 0.2, ",
        ),
        ({"start": "uniform"}, "has start='uniform', and "),
        ({"encoder_fingerprint": "f00", "encoder_revision": None}, "has another encoder than "),
    ],
)
def test_runs_that_do_not_fit(change, message, runs, tmp_path):
    other = shutil.copytree(runs[1], tmp_path / "other")
    config, _ = read_config(str(other))
    for name, value in change.items():
        setattr(config, name, value)
    config.save_pretrained(other)
    with pytest.raises(ConfigError) as caught:
        average_runs([runs[0], str(other)], tmp_path / "average")
    assert message in str(caught.value)
    assert not (tmp_path / "average").exists()


def test_runs_of_other_starts_and_a_single_one(runs, tmp_path):
    with pytest.raises(ConfigError) as caught:
        average_runs([runs[0], runs[2]], tmp_path / "average")
    assert str(caught.value) == (
        f"{runs[2]!r} and {runs[0]!r} started from other tensors, so that their average is worth "
        "nothing; allowed: runs that share their start; next: train them with one --start-seed"
    )
    with pytest.raises(ConfigError, match="an average needs two runs, and there is 1"):
        average_runs(runs[:1], tmp_path / "average")
    assert not (tmp_path / "average").exists()
