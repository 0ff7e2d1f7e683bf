from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from layerbridge.errors import ResultError
from layerbridge.evaluation.comparison import compare, methods
from layerbridge.evaluation.method_names import distinguish, recorded
from layerbridge.evaluation.results import find, read
from layerbridge.report.layer_weights import by_method
from layerbridge.report.tables import accuracy_table
from made_results import result

BRIDGE = {
    "encoder": "zoo:small",
    "encoder_fingerprint": "abcdef",
    "fusion": "token-softmax",
    "fusion_options": {},
    "start": "last",
    "training_seed": 0,
}
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def made(seed=0, *, bridge=(), training=(), right="1100", **settings):
    """A result of one method with these settings beside the usual ones."""
    settings = {
        "normalize": "sum",
        "bridge": {**BRIDGE, "training_seed": seed, **dict(bridge)},
        "recipe": {"training": {"max_steps": 100, **dict(training)}},
        **settings,
    }
    return replace(result("token-softmax", seed, si=right), settings=settings)


def names(*results):
    return [each.method for each in distinguish(results)]


@pytest.mark.parametrize(
    ("one", "other", "suffixes"),
    [
        (
            {"training": {"learning_rate": 1e-3}},
            {"training": {"learning_rate": 3e-4}},
            ("learning_rate 0.001", "learning_rate 0.0003"),
        ),
        ({"training": {"gamma": 1e-3}}, {}, ("gamma 0.001", "gamma default")),
        ({"bridge": {"start": "uniform"}}, {}, ("start uniform", "start last")),
        (
            {"bridge": {"instruction": None}},
            {"bridge": {"instruction": "x" * 40}},
            ("instruction none", f"instruction {'x' * 23}…"),
        ),
        ({"bridge": {"fusion_options": {"heads": 2}}}, {}, ("heads 2", "heads default")),
        (
            {"bridge": {"encoder_fingerprint": "12345"}},
            {},
            ("encoder small 1234", "encoder small abcd"),
        ),
        ({"normalize": "mean"}, {}, ("length_normalization mean", "length_normalization sum")),
        (
            {"training": {"max_steps": 50}, "bridge": {"start": "uniform"}},
            {},
            ("start uniform, max_steps 50", "start last, max_steps 100"),
        ),
        (
            {"recipe": {"max_rows": 10, "training": {"max_steps": 100}}},
            {},
            ("max_rows 10", "max_rows default"),
        ),
    ],
)  # fmt: skip
def test_other_settings_are_another_method(one, other, suffixes):
    results = [made(0, **one), made(1, **other, right="1110")]
    expected = [f"token-softmax ({suffix})" for suffix in suffixes]
    assert names(*results) == expected
    # Wherever seeds are pooled, and with equal seeds as well.
    assert list(methods(results)) == list(by_method(results)) == expected
    assert [row.labels[0] for row in accuracy_table(results).rows] == expected
    same_seed = [results[0], replace(results[1], seed=0)]
    assert [each.method for each in compare(same_seed, expected[0])] == expected[1:]
    again = distinguish(results)
    assert distinguish(again) == again


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"bridge": {"usual_any_option": 0.9}},  # measured after training
        {"bridge": {"layerbridge_version": "0.3", "encoder": "/home/me/small"}},  # the same weights
        {"task_options": {"data_dir": ["elsewhere"]}, "command": ["evaluate"]},
        {"bridge": {"a_later_setting": 1}},
    ],
)
def test_what_is_no_setting_does_not_matter(other):
    assert names(made(0), made(1, **other)) == ["token-softmax"] * 2


def test_a_share_of_the_steps_is_their_number():
    watching = {"load_best_model_at_end": True}
    one = made(0, training={**watching, "eval_steps": 0.2, "save_steps": 0.2})
    same = made(1, training={**watching, "eval_steps": 20, "save_steps": 20})
    other = made(2, training={**watching, "eval_steps": 50, "save_steps": 0.2})
    assert names(one, same) == ["token-softmax"] * 2
    assert len(set(names(one, same, other))) == 2


def test_files_without_settings_pool_as_before():
    old = replace(result("token-softmax", 1, si="1000"), settings={})
    assert names(made(0), old, replace(old, seed=2)) == ["token-softmax"] * 3
    assert methods([made(0), old])["token-softmax"].seeds == (0, 1)


def test_a_file_that_may_have_either_setting_joins_neither():
    given = [
        made(0, training={"learning_rate": 1e-3}),
        replace(made(1), settings={"bridge": BRIDGE}),
        made(2, training={"learning_rate": 1e-4}),
        replace(made(3), settings={"bridge": BRIDGE}),
        made(4, training={"learning_rate": 1e-4}),
    ]
    expected = {
        0: "token-softmax (learning_rate 0.001)",
        1: "token-softmax",
        2: "token-softmax (learning_rate 0.0001)",
        3: "token-softmax",
        4: "token-softmax (learning_rate 0.0001)",
    }
    for order in permutations(given):
        assert {each.seed: each.method for each in distinguish(order)} == expected


def test_many_differences_are_not_all_shown():
    changes = {"learning_rate": 1e-4, "warmup_steps": 5, "weight_decay": 0.1, "max_steps": 7}
    assert names(made(0), made(0, training=changes)) == [
        "token-softmax (max_steps 100, …)",
        "token-softmax (max_steps 7, …)",
    ]


def test_names_are_unique_where_settings_look_alike():
    texts = ["x" * 40 + end for end in "ab"]
    found = names(*(made(0, bridge={"instruction": text}) for text in texts))
    assert len(set(found)) == 2


def test_recorded_is_what_decides_a_run():
    recipe = {
        **dict.fromkeys(("task", "data", "text", "target"), None),
        "data": "train.csv",
        "max_rows": 10,
        "task_options": {},
        "backbones": {"dtype": "float32", "trust_remote_code": True},
        "training": {"seed": 3, "learning_rate": 1e-3, "logging_steps": 5, "save_steps": 5},
    }
    assert recorded(recipe) == {
        "data": "train.csv",
        "max_rows": 10,
        "backbones": {"dtype": "float32"},
        "training": {"learning_rate": 1e-3},
    }
    # Then when is saved decides what is kept.
    recipe["training"]["load_best_model_at_end"] = True
    assert recorded(recipe)["training"]["save_steps"] == 5


def test_a_name_is_given_with_the_path(tmp_path):
    made(0, training={"learning_rate": 1e-3}).write(tmp_path / "a" / "x.json")
    made(0, training={"learning_rate": 1e-4}, right="1110").write(tmp_path / "b" / "x.json")
    found = find([f"fast={tmp_path / 'a'}", f"slow={tmp_path / 'b' / 'x.json'}"])
    assert [each.method for each in found] == ["fast", "slow"]
    # One name for two settings: they still are not one method.
    found = find([f"mine={tmp_path / 'a'}", f"mine={tmp_path / 'b'}"])
    assert [each.method for each in found] == [
        "mine (learning_rate 0.001)",
        "mine (learning_rate 0.0001)",
    ]
    # A folder's name may contain "=".
    made(0).write(tmp_path / "x=y" / "x.json")
    assert [each.method for each in find(tmp_path / "x=y")] == ["token-softmax"]


def test_one_name_for_two_methods(tmp_path):
    for method in ("last", "uniform"):
        result(method, si="10").write(tmp_path / f"{method}.json")
    with pytest.raises(ResultError) as error:
        find(f"mine={tmp_path}")
    assert str(error.value) == (
        f"mine={tmp_path} gives one name to 2 methods: last, uniform; "
        "next: give each a name with NAME=RUN"
    )


def test_a_language_has_one_code_in_all_results(tmp_path):
    one = result("a", eng="10", swa="10", pt="11", ids="{i}")
    other = result("b", **{"en": "11", "swh_Latn": "11", "por": "10", "pt-BR": "11"}, ids="{i}")
    for each in (one, other):
        each.write(tmp_path / f"{each.method}.json")
    found = find(tmp_path)
    assert [list(each.languages) for each in found] == [
        ["en", "swa", "pt"],
        ["en", "swh_Latn", "por", "pt-BR"],  # two test sets, which one code would merge
    ]
    del other.languages["pt-BR"]
    other.write(tmp_path / "b.json")
    found = find(tmp_path)
    assert [list(each.languages) for each in found] == [["en", "swa", "pt"]] * 2
    assert accuracy_table(found).averaged == ("swa", "pt")
    (compared,) = compare(found, "a", languages=["sw", "eng"])
    assert list(compared.languages) == ["en", "swa"]
    assert found[0].average_non_english(["sw"]).languages == ("swa",)


def test_committed_results_keep_their_names():
    folders = {file.parents[2] for file in RESULTS.glob("*/*/seed-0/*.json")}
    assert len(folders) > 3
    for folder in folders:
        files = [
            file for file in folder.rglob("*.json")
            if b"layerbridge/result/" in file.read_bytes()[:100]
        ]  # fmt: skip
        results = [read(file) for file in files]
        assert [each.method for each in distinguish(results)] == [each.method for each in results]
