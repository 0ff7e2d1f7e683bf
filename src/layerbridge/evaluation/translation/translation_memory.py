"""The translation memory: earlier translations, so that an interrupted run continues.

A JSONL file with one text and its English per line, written as translating goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from layerbridge.errors import DataError, OutputError


class TranslationMemory(dict[str, str]):
    """Text → English.

    Args:
        path: of the file, which is created if it does not exist; None keeps all in memory.

    Raises:
        DataError: the file is damaged.
        OutputError: the file cannot be read, or its folder cannot be created.
    """

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        self.path = path
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._read(path)
            except OSError as error:
                raise _unusable(path, error) from None

    def add(self, translations: Mapping[str, str]) -> None:
        """Adds translations and appends them to the file at once.

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
        self.update(translations)

    def _read(self, path: Path) -> None:
        if not path.exists():
            return
        content = path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if len(complete) < len(content):
            # An interrupted line would run into the next one.
            with path.open("r+b") as file:
                file.truncate(len(complete))
        for number, line in enumerate(complete.splitlines(), start=1):
            try:
                record = json.loads(line)
                text, english = record["text"], record["english"]
            except (ValueError, KeyError, TypeError):
                text = english = None
            if not (isinstance(text, str) and isinstance(english, str)):
                raise DataError(
                    f"{path}, line {number} is not a translation",
                    allowed='{"text": "…", "english": "…"}',
                    hint="delete the line or the file; missing translations are redone",
                )
            self[text] = english


def _unusable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be used ({error.strerror or error})", hint="choose another folder"
    )
