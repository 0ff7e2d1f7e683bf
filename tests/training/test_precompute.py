import errno
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from rich.filesize import decimal

from layerbridge.errors import OutputError
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.encoder import Encoder
from layerbridge.models.state_cache import MappedStateCache, StateCache
from layerbridge.tasks import Row
from layerbridge.tasks.stored_rows import Layout, StoredRows, Texts
from layerbridge.training.precompute import StatePrecomputer

TEXTS = ["the market", "", "a crowd of players sang", "the market", "猫 🙂", "x " * 40]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def encoder(folder):
    """An encoder of its own, with the number of rows that it was given each time."""
    encoder = Encoder.load(resolve(str(folder("mt5"))), LoadOptions(dtype="float32"))
    encoder.rows = []
    encoder.model.register_forward_pre_hook(
        lambda module, arguments, kwargs: encoder.rows.append(len(kwargs["input_ids"])),
        with_kwargs=True,
    )
    return encoder


@pytest.fixture
def disk(monkeypatch):
    """Sets the bytes that are free."""
    return lambda free: monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))


def ahead(encoder, tmp_path, layers=range(3), texts=TEXTS):
    return StatePrecomputer(encoder, texts, tmp_path, layers=layers)


def nameless(folder):
    """Files of this process in the folder that have no name there (any more)."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith(str(folder)) and target.endswith(" (deleted)"):
            found.append(target)
    return found


def test_every_text_is_read_once_and_before_it_is_asked_for(encoder, tmp_path, capfd):
    plan = ahead(encoder, tmp_path)
    assert encoder.rows == []
    with plan.cached() as cache:
        assert sum(encoder.rows) == len(cache) == 5
        assert encoder.cache is cache
        read = list(encoder.rows)
        found = encoder.encode(TEXTS)
        assert encoder.rows == read
        assert cache.bytes == plan.bytes
    assert encoder.cache is None
    plain = encoder.encode(TEXTS)
    assert torch.equal(found.mask, plain.mask)
    torch.testing.assert_close(
        found.stacked[:, plain.mask], plain.stacked[:, plain.mask], atol=1e-5, rtol=1e-5
    )
    assert capfd.readouterr() == (
        "",
        f"states of 5 texts: {decimal(plan.bytes)} in {tmp_path}\nencoding texts: 5/5\n",
    )


def test_batches_are_of_a_number_of_tokens_and_the_longest_come_first(
    encoder, tmp_path, monkeypatch
):
    monkeypatch.setattr("layerbridge.training.precompute.TOKENS_PER_BATCH", 60)
    plan = ahead(encoder, tmp_path)
    lengths = dict(zip(plan.texts, plan.lengths, strict=True))
    assert lengths["x " * 40] > 30
    with plan.cached():
        assert encoder.rows[0] == 1
        assert len(encoder.rows) < 5


def test_the_same_bits_as_those_in_memory(encoder, tmp_path):
    with ahead(encoder, tmp_path).cached():
        found = encoder.encode(TEXTS)
    # In the same company: a text's last bits are of the batch that it was read in.
    encoder.cache = StateCache()
    expected = encoder.encode(TEXTS)
    assert torch.equal(found.stacked, expected.stacked)
    assert torch.equal(found.mask, expected.mask)


def test_one_layer_is_a_third_of_three(encoder, tmp_path):
    whole, one = ahead(encoder, tmp_path), ahead(encoder, tmp_path, layers=(2,))
    assert one.bytes * 3 == whole.bytes
    with whole.cached():
        expected = encoder.encode(TEXTS)
    with one.cached() as cache:
        assert cache.bytes == one.bytes
        states = encoder.encode(TEXTS)
    assert len(states) == 3
    assert torch.equal(states.last, expected.last)


def test_the_file_has_no_name(encoder, tmp_path):
    with ahead(encoder, tmp_path).cached():
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are not listed here")
def test_the_file_goes_with_the_run(encoder, tmp_path):
    with ahead(encoder, tmp_path).cached():
        assert len(nameless(tmp_path)) == 1
    assert nameless(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_it_goes_when_the_run_fails(encoder, tmp_path, error):
    encoder.cache = before = StateCache()
    with pytest.raises(error), ahead(encoder, tmp_path).cached() as cache:  # noqa: PT012
        encoder.encode(TEXTS)
        raise error
    assert cache._file.closed
    assert encoder.cache is before


def test_an_error_of_the_run_is_not_taken_for_one_of_the_file(encoder, tmp_path):
    with pytest.raises(OSError, match="elsewhere"), ahead(encoder, tmp_path).cached():
        raise OSError("elsewhere")


def test_no_room_is_reported_before_anything_is_read(encoder, tmp_path, disk):
    plan = ahead(encoder, tmp_path)
    disk(plan.bytes)
    ahead(encoder, tmp_path)
    disk(plan.bytes - 1)
    # The folder need not be there yet.
    with pytest.raises(OutputError) as caught:
        ahead(encoder, tmp_path / "new" / "run")
    assert str(caught.value) == (
        f"the states of 5 texts take {decimal(plan.bytes)}, and {str(tmp_path)!r} has "
        f"{decimal(plan.bytes - 1)} free; next: leave --cache-states out; fusion 'last' would keep "
        "one layer of 3"
    )
    disk(0)
    with pytest.raises(OutputError) as caught:
        ahead(encoder, tmp_path, layers=(2,))
    assert str(caught.value).endswith(" has 0 bytes free; next: leave --cache-states out")
    assert encoder.rows == []
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_meanwhile(encoder, tmp_path, monkeypatch):
    def full(self, text, states):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MappedStateCache, "put", full)
    with pytest.raises(OutputError) as caught, ahead(encoder, tmp_path).cached():
        pass
    assert str(caught.value) == (
        f"the states of 5 texts cannot be written to {str(tmp_path)!r} (No space left on "
        "device); next: leave --cache-states out"
    )
    assert encoder.cache is None


def test_a_folder_that_is_gone(encoder, tmp_path):
    plan = ahead(encoder, tmp_path / "gone")
    with pytest.raises(OutputError, match=r"cannot be written to .*No such"), plan.cached():
        pass


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Texts of rows on the disk."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def write(texts):
        rows = [
            Row(str(n), text, "x", "en", {"text": text, "label": "x"})
            for n, text in enumerate(texts)
        ]
        return Texts(StoredRows.write(rows, Layout(("text", "label"), None, "en")))

    return write


def test_texts_on_the_disk_have_the_same_states(encoder, tmp_path, stored):
    with ahead(encoder, tmp_path).cached() as cache:
        expected = [state.clone() for state in cache.batch(TEXTS).layers]
    with ahead(encoder, tmp_path, texts=stored(TEXTS)).cached() as cache:
        assert len(cache) == 5
        for state, other in zip(cache.batch(TEXTS).layers, expected, strict=True):
            assert torch.equal(state, other)


def test_what_is_too_large_is_refused_before_all_tokens_are_counted(
    encoder, tmp_path, stored, disk, monkeypatch
):
    counted = []
    lengths = encoder.lengths
    monkeypatch.setattr(
        encoder, "lengths", lambda texts: counted.append(len(texts)) or lengths(texts)
    )
    monkeypatch.setattr("layerbridge.training.precompute.SAMPLED", 2)
    texts = stored(TEXTS)
    disk(1000)
    with pytest.raises(OutputError, match=r"states of 5 texts take .*, and .* has 1\.0 kB free"):
        ahead(encoder, tmp_path, texts=texts)
    assert counted == [2]
    monkeypatch.setattr("layerbridge.training.precompute.MOST_TEXTS", 4)
    with pytest.raises(OutputError) as error:
        ahead(encoder, tmp_path, texts=texts)
    assert str(error.value) == (
        "--cache-states keeps the places of 5 texts in memory; allowed: 4 texts; next: leave "
        "--cache-states out, or fewer rows (--max-rows)"
    )
