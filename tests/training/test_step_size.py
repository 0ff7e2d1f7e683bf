import pytest

from layerbridge.errors import ConfigError
from layerbridge.training.step_size import SETTINGS, StepSize, processes_of

SIZE, BATCHES = SETTINGS


@pytest.mark.parametrize(
    ("training", "processes", "expected"),
    [
        ({}, 1, StepSize(16)),  # the default
        ({SIZE: 4, BATCHES: 3}, 2, StepSize(24)),
        ({SIZE: 4, "tokens_per_batch": 100, BATCHES: 3}, 2, StepSize(6, "batches")),
        ({"tokens_per_batch": None}, 4, StepSize(64)),
    ],
)
def test_the_size_of_a_step(training, processes, expected):
    size = StepSize.of(training, processes)
    assert size == expected
    assert StepSize.logged([{"step": 0}, {"step": 0, **size.entry()}]) == size
    assert StepSize.logged([{"rows": 4}]) is None


@pytest.mark.parametrize("tokens", [None, 100])
@pytest.mark.parametrize("processes", range(1, 9))
@pytest.mark.parametrize("before", [(1, 16, 1), (2, 3, 4), (4, 8, 1), (8, 2, 3)])
def test_other_processes_share_the_same_step_or_are_refused(before, processes, tokens):
    count, size, batches = before
    training = {SIZE: size, BATCHES: batches, "tokens_per_batch": tokens}
    step = StepSize.of(training, count)
    if step.count % processes:
        with pytest.raises(ConfigError) as caught:
            step.shared(training, processes)
        assert str(caught.value).startswith(
            f"{processes} processes cannot share a step of {step}, which the run began with; "
            "allowed: 1"
        )
        assert "\n" not in str(caught.value)
    else:
        shared = {**training, **step.shared(training, processes)}
        assert StepSize.of(shared, processes) == step
        assert 1 <= shared[SIZE] <= size
        assert shared[BATCHES] >= 1


def test_checkpoints_tell_how_many_processes_wrote_them(tmp_path):
    (tmp_path / "rng_state.pth").touch()
    assert processes_of(tmp_path) == 1
    for rank in range(3):
        (tmp_path / f"rng_state_{rank}.pth").touch()
    assert processes_of(tmp_path) == 3
