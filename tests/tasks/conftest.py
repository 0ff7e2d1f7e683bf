"""Small data sets, written to a folder or offered by a stand-in for the hub."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def write(tmp_path):
    """Name and records → the path of a JSONL file in a folder of the test's own."""

    def make(name, records):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        path.write_text("".join(lines), encoding="utf-8")
        return path

    return make


class Hub:
    """What the hub has, and what it was asked for."""

    def __init__(self):
        self.sets = {}
        self.files = {}
        self.asked = []

    def load_dataset(self, name, config=None, split=None):
        import datasets

        self.asked.append((name, config, split))
        if (name, config, split) not in self.sets:
            raise ConnectionError("no network\nat all")
        records, features = self.sets[name, config, split]
        made = datasets.Dataset.from_list(records)
        return made.cast(datasets.Features(features)) if features else made

    def hf_hub_download(self, repo_id, filename, *, repo_type, revision=None):
        self.asked.append((repo_id, filename, repo_type, revision))
        if (repo_id, filename) not in self.files:
            raise OSError("no network\nat all")
        return str(self.files[repo_id, filename])


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the hub: ``sets`` and ``files`` to fill, ``asked`` to look at."""
    import datasets
    import huggingface_hub

    stand_in = Hub()
    monkeypatch.setattr(datasets, "load_dataset", stand_in.load_dataset)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", stand_in.hf_hub_download)
    return stand_in
