"""The translation memory: what was translated before, so that nobody waits for it twice.

A JSONL file, one text and its English a line, written as the work goes on: whoever is interrupted
goes on from there. It knows texts and a file, not how they were translated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from layerbridge.errors import DataError, OutputError


class TranslationMemory:
    """Text → English.

    Args:
        path: of the file, which need not be there; None keeps it all in memory.

    Raises:
        DataError: the file is damaged.
        OutputError: the file cannot be read, or its folder not be made.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._english: dict[str, str] = {}
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._read(path)
            except OSError as error:
                raise _unusable(path, error) from None

    def __contains__(self, text: str) -> bool:
        return text in self._english

    def __len__(self) -> int:
        return len(self._english)

    def __getitem__(self, text: str) -> str:
        return self._english[text]

    def add(self, translations: Mapping[str, str]) -> None:
        """Keeps translations, on the disk at once.

        Raises:
            OutputError: the file cannot be written.
        """
        if self.path is not None:
            lines = [
                json.dumps({"text": text, "english": english}, ensure_ascii=False) + "\n"
                for text, english in translations.items()
            ]
            try:
                with self.path.open("ab") as file:
                    file.write("".join(lines).encode())
            except OSError as error:
                raise _unusable(self.path, error) from None
        self._english.update(translations)

    def _read(self, path: Path) -> None:
        if not path.exists():
            return
        written = path.read_bytes()
        whole = written[: written.rfind(b"\n") + 1]
        if len(whole) < len(written):
            # Interrupted in the middle of a line, which would run into the next one.
            with path.open("r+b") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                record = json.loads(line)
                text, english = record["text"], record["english"]
            except (ValueError, KeyError, TypeError):
                text = english = None
            if not (isinstance(text, str) and isinstance(english, str)):
                raise DataError(
                    f"{path}, line {number} is no translation",
                    allowed='{"text": "…", "english": "…"}',
                    hint="delete the line or the file; what is missing is translated again",
                )
            self._english[text] = english


def _unusable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be used ({error.strerror or error})", hint="choose another folder"
    )
