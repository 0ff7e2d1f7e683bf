import dataclasses

import pytest
import yaml

from layerbridge.errors import ConfigError, LayerBridgeError
from layerbridge.training.recipe import (
    BACKBONES,
    BRIDGE,
    Recipe,
    names,
    override,
    read,
    reject_unknown,
    typed,
)


def written(folder, text):
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problem(folder, text):
    path = written(folder, text)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(repr(str(path)), "FILE")


FULL = """
encoder: zoo:multilingual-e5-small
language_model: zoo:smollm2-135m-instruct
data: rows.jsonl
template: 'Review: {text} Label: '
target: label
options: ["Very Negative", "1"]
validation_data: more.jsonl
max_rows: 1e2
task_options: {seed: "3"}
bridge:
  fusion: token-softmax
  fusion_options: {heads: 2, dropout: 1e-1}
  instruction: "42"
  max_text_tokens: "64"
  boundary: no
backbones: {dtype: float32, encoder_revision: "1234567", allow_pickle: "true"}
training: {learning_rate: 1e-3, bf16: "True", num_train_epochs: 2, optim: adamw_torch}
"""


def test_read(tmp_path):
    assert read(written(tmp_path, FULL)) == Recipe(
        encoder="zoo:multilingual-e5-small",
        language_model="zoo:smollm2-135m-instruct",
        data="rows.jsonl",
        template="Review: {text} Label: ",
        target="label",
        options=["Very Negative", "1"],
        validation_data="more.jsonl",
        max_rows=100,
        task_options={"seed": 3},
        bridge={
            "fusion": "token-softmax",
            "fusion_options": {"heads": 2, "dropout": 0.1},
            # Text that looks like a number stays text where text is meant.
            "instruction": "42",
            "max_text_tokens": 64,
            "boundary": False,
        },
        backbones={"dtype": "float32", "encoder_revision": "1234567", "allow_pickle": True},
        training={
            "learning_rate": 1e-3,
            "bf16": True,
            "num_train_epochs": 2,
            "optim": "adamw_torch",
        },
    )


def test_what_is_written_is_read_again(tmp_path):
    recipe = read(written(tmp_path, FULL))
    recipe.write(tmp_path)
    assert read(tmp_path / "recipe.yaml") == recipe
    text = (tmp_path / "recipe.yaml").read_text(encoding="utf-8")
    assert "null" not in text
    assert list(yaml.safe_load(text))[:2] == ["encoder", "language_model"]


def test_other_scripts_are_written_as_they_are(tmp_path):
    recipe = Recipe(data="රූපියල.jsonl", options=["ඔව්", "නැත"])
    recipe.write(tmp_path)
    assert "ඔව්" in (tmp_path / "recipe.yaml").read_text(encoding="utf-8")
    assert read(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "fusoin: last",
            "unknown setting of the recipe FILE: 'fusoin'; allowed: encoder, language_model, task, "
            "data, text, target, template, options, free_text, validation_data, "
            "validation_share, max_rows, cache_states, language_centering, language_texts, "
            "task_options, bridge, backbones, training",
        ),
        ("taks: names", "unknown setting of the recipe FILE: 'taks'; allowed: task"),
        (
            "bridge: {fusoin: last}",
            "unknown bridge setting of the recipe FILE: 'fusoin'; allowed: fusion",
        ),
        (
            "backbones: {dtyp: float32}",
            "unknown backbones setting of the recipe FILE: 'dtyp'; allowed: dtype",
        ),
        ("", "the recipe FILE contains no settings; allowed: lines of name: value"),
        ("- a\n- b", "the recipe FILE contains no settings; allowed: lines of name: value"),
        ("training: fast", "training of the recipe FILE is 'fast'; allowed: lines of name: value"),
        ("options: a, b", "options of the recipe FILE is 'a, b'; allowed: a list of texts"),
        ("options: [1, 2]", "options of the recipe FILE is [1, 2]; allowed: a list of texts"),
        ("max_rows: many", "max_rows of the recipe FILE is 'many'; allowed: an integer"),
        ("max_rows: 1.5", "max_rows of the recipe FILE is 1.5; allowed: an integer"),
        ("max_rows: true", "max_rows of the recipe FILE is True; allowed: an integer"),
        ("max_rows: -5", "max_rows of the recipe FILE is -5; allowed: a positive integer"),
        (
            "cache_states: maybe",
            "cache_states of the recipe FILE is 'maybe'; allowed: true or false",
        ),
        (
            "text: no",
            "text of the recipe FILE is False; allowed: text; next: put it in quotes",
        ),
        (
            "backbones: {encoder_revision: 1234567}",
            "backbones.encoder_revision of the recipe FILE is 1234567; allowed: text; "
            "next: put it in quotes",
        ),
        (
            "bridge: {boundary: perhaps}",
            "bridge.boundary of the recipe FILE is 'perhaps'; allowed: true or false",
        ),
    ],
)
def test_a_recipe_that_does_not_fit(tmp_path, text, message):
    assert problem(tmp_path, text) == message


def test_what_is_no_yaml_is_reported_with_its_line(tmp_path):
    message = problem(tmp_path, "encoder: [a\nlanguage_model: b\n")
    assert message.startswith("the recipe FILE is not YAML: while parsing a flow sequence")
    assert "line 2" in message


def test_yaml_cannot_run_code(tmp_path):
    message = problem(tmp_path, "encoder: !!python/object/apply:os.getcwd []")
    assert message.startswith("the recipe FILE is not YAML: could not determine a constructor")


def test_a_recipe_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"^the recipe '.*none.yaml' cannot be read \(.*No such"):
        read(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"data: \xe9")
    with pytest.raises(ConfigError, match=r"latin.yaml' cannot be read \(.*utf-8"):
        read(tmp_path / "latin.yaml")


def test_settings_that_are_null_are_not_set(tmp_path):
    assert read(written(tmp_path, "max_rows: null\ntraining:\nencoder: x")) == Recipe(encoder="x")


def test_override_changes_what_is_given_and_leaves_the_original():
    recipe = Recipe(
        encoder="a", max_rows=5, bridge={"fusion": "last"}, training={"seed": 1, "bf16": True}
    )
    before = dataclasses.asdict(recipe)
    changed = override(
        recipe,
        {
            "encoder": "b",
            "max_rows": None,
            "fusion": "uniform",
            "boundary": False,
            "dtype": "float32",
            "training": {"seed": 2},
        },
    )
    assert changed == Recipe(
        encoder="b",
        max_rows=5,
        bridge={"fusion": "uniform", "boundary": False},
        backbones={"dtype": "float32"},
        training={"seed": 2, "bf16": True},
    )
    assert dataclasses.asdict(recipe) == before


def test_a_strategy_comes_with_its_own_steps():
    recipe = Recipe(training={"save_strategy": "steps", "save_steps": 50, "logging_steps": 5})
    changed = override(recipe, {"training": {"save_strategy": "epoch"}})
    assert changed.training == {"save_strategy": "epoch", "logging_steps": 5}
    changed = override(recipe, {"training": {"save_strategy": "steps", "save_steps": 9}})
    assert changed.training == {"save_strategy": "steps", "save_steps": 9, "logging_steps": 5}


def test_every_flag_of_a_section_reaches_it():
    for section, known in (("bridge", BRIDGE), ("backbones", BACKBONES)):
        for name in known:
            assert getattr(override(Recipe(), {name: "x"}), section) == {name: "x"}


MODELS = {"encoder": "e", "language_model": "l"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"language_model": "l", "task": "names"},
            "the run has no encoder; next: pass --encoder FOLDER, zoo:NAME or a hub id",
        ),
        (
            {"encoder": "e", "task": "names"},
            "the run has no language model; next: pass --language-model FOLDER, zoo:NAME or a hub "
            "id",
        ),
        (
            MODELS,
            "the run has neither a task nor data; allowed: --task NAME, or --data FILE with --text "
            "and --target",
        ),
        (
            {**MODELS, "task": "names", "data": "rows.jsonl"},
            "the run has both a task and data; allowed: --task NAME, or --data FILE with --text "
            "and --target",
        ),
        (
            {**MODELS, "task": "names", "validation_data": "rows.jsonl"},
            "--validation-data works only with --data; the task 'names' has its own",
        ),
        (
            {**MODELS, "task": "names", "options": ["a"]},
            "--options works only with --data; the task 'names' has its own",
        ),
        (
            {**MODELS, "data": "rows.jsonl", "task_options": {"data_dir": ["rows"]}},
            "the task option 'data_dir' works only with --task, not with --data",
        ),
    ],
)
def test_check(settings, message):
    with pytest.raises(ConfigError) as caught:
        Recipe(**settings).check()
    assert str(caught.value) == message


def test_check_passes_what_can_run():
    Recipe(**MODELS, task="names").check()
    Recipe(**MODELS, data="rows.jsonl", text="t", target="l", options=["a"]).check()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("3", 3),
        ("-2", -2),
        ("0.5", 0.5),
        ("true", True),
        ("FALSE", False),
        ("cosine", "cosine"),
        ("", ""),
        ("1e-3x", "1e-3x"),
        (7, 7),
        (None, None),
        ([1], [1]),
    ],
)
def test_typed(text, value):
    assert typed(text) == value
    assert type(typed(text)) is type(value)


def test_a_name_near_none_of_many_is_no_endless_line():
    names = [f"name-{number}" for number in range(100)]
    with pytest.raises(ConfigError) as caught:
        reject_unknown("flag", "--zzz", names)
    assert str(caught.value) == "unknown flag: '--zzz'; next: layerbridge train --help"
    with pytest.raises(ConfigError, match=r"^unknown flag: 'name-990'; allowed: name-99, name-90"):
        reject_unknown("flag", "name-990", names)


@pytest.mark.parametrize("name", names())
def test_shipped_recipes_are_read_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = read(name)
    override(recipe, {"task": "xnli"}).check()
    # A file of that name comes first.
    (tmp_path / name).write_text("encoder: mine", encoding="utf-8")
    assert read(name) == Recipe(encoder="mine")
    assert recipe != read(name)


def test_an_unknown_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        read("papre")
    assert str(caught.value) == "unknown recipe 'papre'; allowed: paper, small or a YAML file"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "options is an empty list; allowed: label words, or no options"),
        (["a", ""], "an option is empty; allowed: label words"),
        (["a", "b", "a"], "duplicate option 'a'; allowed: each option once"),
        (["é", "e\u0301"], "duplicate option 'e\u0301'; allowed: each option once"),
    ],
)
def test_options_that_no_bridge_can_choose_from(options, message):
    recipe = Recipe(encoder="e", language_model="l", data="rows.jsonl", options=options)
    with pytest.raises(LayerBridgeError) as caught:
        recipe.check()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "line",
    ['template: "{text} \\udce9"', 'options: [a, "\\ud83d"]', 'bridge: {instruction: "\\udc00"}'],
)
def test_a_recipe_with_half_a_character(tmp_path, line):
    with pytest.raises(LayerBridgeError, match="has an unpaired surrogate"):
        read(written(tmp_path, line))
