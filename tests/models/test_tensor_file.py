import os

import pytest
import torch

from layerbridge.errors import CheckpointError
from layerbridge.models.tensor_file import read_tensors, write_tensors


def test_what_is_written_is_read(tmp_path):
    tensors = {"a": torch.randn(2, 3).T, "b": torch.tensor([4, 5])}
    path = tmp_path / "new" / "file.safetensors"
    write_tensors(path, tensors, {"of": [1, None], "by": "x"})
    found, facts = read_tensors(path, hint="again")
    assert facts == {"of": [1, None], "by": "x"}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    once = path.read_bytes()
    write_tensors(path, tensors, {"by": "x", "of": [1, None]})
    assert path.read_bytes() == once
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


@pytest.mark.parametrize("content", [b"", b"text", b"\x10\0\0\0\0\0\0\0{}"])
def test_a_damaged_or_missing_file(content, tmp_path):
    path = tmp_path / "file.safetensors"
    with pytest.raises(CheckpointError, match=r"there is no file .*; next: again"):
        read_tensors(path, hint="again")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is damaged or truncated .*; next: again"):
        read_tensors(path, hint="again")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot be written .*; next: choose another folder"):
        write_tensors(tmp_path / "file" / "x.safetensors", {"a": torch.zeros(1)})
