"""Whichever jobs fail, and whatever together: each failure is told to those who caused it."""

import random

import pytest
import torch

from layerbridge.errors import BackboneError
from layerbridge.serving.jobs import Job, LostDeviceError, as_failure, check_device, isolated

CPU = torch.device("cpu")


@pytest.mark.parametrize("seed", range(30))
def test_only_what_fails_alone_fails(seed):
    draw = random.Random(seed)
    jobs = [Job(number) for number in range(draw.randint(1, 33))]
    bad = {job.request for job in jobs if draw.random() < draw.choice([0.05, 0.5, 1.0])}
    most = draw.choice([2, 7, 99])  # as with too little memory: more fail together only
    sizes = []

    def run(part):
        sizes.append(len(part))
        if len(part) > most or bad & {job.request for job in part}:
            raise RuntimeError([job.request for job in part])
        return [job.request for job in part]

    outcomes = isolated(jobs, run, CPU)
    assert [job for part, _ in outcomes for job in part] == jobs
    for part, outcome in outcomes:
        numbers = [job.request for job in part]
        if isinstance(outcome, Exception):
            assert outcome.args == (numbers,)
            assert set(numbers) <= bad
            assert len(numbers) == 1
        else:
            assert outcome == numbers
            assert not bad & set(numbers)
    assert len(sizes) < 2 * len(jobs)


def test_a_lost_device_is_not_tried_again(monkeypatch):
    def gone(device):
        raise LostDeviceError(str(device))

    runs = []

    def fail(part):
        runs.append(part)
        raise RuntimeError

    monkeypatch.setattr("layerbridge.serving.jobs.check_device", gone)
    with pytest.raises(LostDeviceError):
        isolated([Job(0), Job(1)], fail, CPU)
    assert len(runs) == 1


def test_a_device_is_lost_only_if_it_fails_again():
    check_device(CPU)
    with pytest.raises(LostDeviceError, match="meta no longer works: "):
        check_device(torch.device("meta"))


def test_failures_are_told_by_their_cause():
    assert type(as_failure(torch.OutOfMemoryError("x"))) is MemoryError
    for error in (IndexError(), BackboneError("x")):
        assert as_failure(error) is error
