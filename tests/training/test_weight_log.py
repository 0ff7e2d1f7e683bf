import json

import pytest

from layerbridge.errors import ResultError
from layerbridge.training.weight_log import FILE, WeightLog, append, keep, read


@pytest.fixture
def log(tmp_path):
    path = tmp_path / FILE
    for step in (0, 5, 10):
        append(path, step, [0.25 + step / 100, 0.75 - step / 100])
    return path


def test_what_is_written_is_read(log):
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [0, 5, 10]
    expected = WeightLog((0, 5, 10), ((0.25, 0.75), (0.3, 0.7), (0.35, 0.65)))
    assert read(log) == read(log.parent) == expected


def test_the_lowest_layer(tmp_path):
    append(tmp_path / FILE, 0, [0.5, 0.5], first_layer=0)
    assert read(tmp_path).first_layer == 0
    (tmp_path / FILE).write_text('{"step": 0, "weights": [0.5, 0.5]}\n')  # as it was once written
    assert read(tmp_path).first_layer == 1


def test_a_line_that_is_being_written_is_passed_over(log):
    with log.open("a") as file:
        file.write('{"step": 15, "wei')
    assert read(log).steps == (0, 5, 10)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "no JSON"),
        ("[]", "no object"),
        ('{"step": 11}', "no weights"),
        ('{"step": 11, "weights": []}', "no layers"),
        ('{"step": 11, "weights": [0.5]}', "another number of layers"),
        ('{"step": 11, "weights": [NaN, 0.5]}', "no number"),
        ('{"step": 10, "weights": [0.5, 0.5]}', "a step twice"),
        ('{"step": -1, "weights": [0.5, 0.5]}', "no step"),
        ('{"step": 11, "weights": [0.5, 0.5], "lowest": 0}', "other layers"),
        ('{"step": 11, "weights": [0.5, 0.5], "lowest": 7}', "no such layer"),
        ('{"step": true, "weights": [0.5, 0.5]}', "no step"),
    ],
)
def test_damage(log, line, why):
    with log.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ResultError) as error:
        read(log)
    assert str(error.value) == f"{log} is damaged (line 4); next: train again", why


def test_no_log_and_an_empty_one(tmp_path):
    with pytest.raises(ResultError, match=r"cannot be read .*; next: only a run whose fusion"):
        read(tmp_path)
    (tmp_path / FILE).write_text("")
    with pytest.raises(ResultError, match="is empty; next: train again"):
        read(tmp_path)


def test_going_on_from_a_step(log):
    lines = log.read_text().splitlines(keepends=True)
    assert keep(log, 7)
    assert log.read_text() == "".join(lines[:2])
    assert keep(log, 0)
    assert log.read_text() == lines[0]
    log.write_text(lines[0] + '{"step": 5, "we\n' + lines[2])
    assert keep(log, 10)
    assert log.read_text() == lines[0]  # what follows damage is not to be trusted


def test_going_on_without_a_file(tmp_path):
    assert not keep(tmp_path / FILE, 3)
    assert (tmp_path / FILE).read_text() == ""
