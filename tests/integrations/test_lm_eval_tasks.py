"""The shipped task files say what layerbridge's own tasks say."""

import re
import tomllib
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml

from layerbridge import tasks
from layerbridge.integrations.lm_eval import TASKS

BENCHMARKS = ("xnli", "indicxnli", "sinhala-news", "amazon-reviews", "sib200")


def read(path):
    """A task file with what it includes."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    base = settings.pop("include", None)
    return settings if base is None else {**read(path.parent / base), **settings}


def source(settings):
    """The rows in the words of ``layerbridge.tasks.hub``."""
    files = settings.get("dataset_kwargs", {}).get("data_files")
    if files and settings["dataset_path"] in ("json", "parquet"):
        return files[settings["test_split"]]
    parts = settings["dataset_path"], settings.get("dataset_name", ""), settings["test_split"]
    return ":".join(parts)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_same_rows_text_and_words_in_every_language(name):
    task = tasks.get(name)
    prefix = f"layerbridge_{name.replace('-', '_')}"
    files = {path.stem: read(path) for path in (TASKS / name).glob("*_*.yaml")}
    group = files.pop(prefix)
    assert set(files) == {f"{prefix}_{code}" for code in task.languages}
    assert group["group"] == prefix
    assert group["task"] == [f"{prefix}_{code}" for code in task.languages[1:]]
    template = re.sub(r"\{(\w+)\}", r"{{\1}}", task.template)
    for code in task.languages:
        settings = files[f"{prefix}_{code}"]
        assert settings["task"] == f"{prefix}_{code}"
        assert source(settings) == task.source("test", code)
        assert settings["doc_to_text"] == template
        assert settings["doc_to_choice"] == list(task.options)
        assert settings["target_delimiter"] == ""


def test_every_file_is_a_task_or_the_group_of_its_folder():
    for folder in TASKS.iterdir():
        files = {path.stem: read(path) for path in folder.glob("*.yaml")}
        (group,) = (settings for settings in files.values() if "group" in settings)
        names = {name for name, settings in files.items() if settings.get("task") == name}
        assert set(files) == names | {group["group"]}
        english = f"{group['group']}_en"
        assert set(group["task"]) == names - {english}
        assert english in names


def test_the_harness_reads_every_file():
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=TASKS, include_defaults=False)
    names = {path.stem for path in TASKS.rglob("*.yaml")}
    assert set(manager.all_tasks) == names
    groups = {f"layerbridge_{folder.name.replace('-', '_')}" for folder in TASKS.iterdir()}
    assert set(manager.all_groups) == groups


def test_the_harness_finds_the_model_by_its_entry_point():
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    found = project["entry-points"]["lm_eval.models"]["layerbridge"]
    assert resolve_name(found).__name__ == "BridgeLM"


BUILT_IN = {
    "refused": ("xnli/xnli_*", "indicxnli/indicxnli_*", "paws-x/paws_*"),
    "fit": (
        *("belebele/belebele_*", "afrixnli/direct/prompt_1/*", "afrobench/sib/prompt_1/*"),
        *("afrobench/masakhanews/prompt_1/*", "afrobench/afrisenti/prompt_1/*"),
        *("afrobench/nollysenti/prompt_1/*", "global_mmlu/default/*/*"),
    ),
}


@pytest.mark.parametrize("kind", BUILT_IN)
def test_which_of_the_harness_s_own_tasks_are_fit(kind):
    """docs/lm-eval.md says so, by their files."""
    from lm_eval import tasks as built_in
    from lm_eval.tasks._yaml_loader import load_yaml

    root = Path(built_in.__file__).parent
    for pattern in BUILT_IN[kind]:
        # A few languages of each: there are hundreds of files.
        paths = sorted(root.glob(f"{pattern}.yaml"))[:9]
        files = [load_yaml(path, resolve_func=False) for path in paths]
        found = [settings for settings in files if isinstance(settings.get("task"), str)]
        assert found, pattern
        for settings in found:
            if kind == "refused":
                assert settings["doc_to_text"] == "", settings["task"]
            else:
                assert "{{" in settings["doc_to_text"], settings["task"]
                assert all(choice.isascii() for choice in settings["doc_to_choice"])
