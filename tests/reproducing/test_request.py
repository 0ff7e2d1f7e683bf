"""What can be asked for, and what is told where it cannot."""

from __future__ import annotations

import pytest

from layerbridge.errors import ConfigError
from layerbridge.reproducing import Request, catalog, reproduce
from layerbridge.reproducing.jobs import jobs


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        (
            "table6",
            {},
            "unknown experiment 'table6'; allowed: table1, table2, table3, table4, table5, "
            "figure2, xsid, sib200",
        ),
        ("xsid", {"seeds": ()}, "seeds are []; allowed: non-negative integers"),
        ("xsid", {"seeds": (0, -1)}, "seeds are [0, -1]; allowed: non-negative integers"),
        ("xsid", {"max_rows": 0}, "max_rows is 0; allowed: a positive integer"),
        (
            "xsid",
            {"methods": ["last", "first"]},
            "unknown method 'first'; allowed: tf-idf, zero-shot-lm, few-shot-lm, last, "
            "global-softmax, token-softmax, uniform",
        ),
        (
            "xsid",
            {"methods": ["tf-idf", "token-softmax"]},
            "the methods are tf-idf, token-softmax; allowed: last among them: the others are "
            "compared with it",
        ),
        (
            "xsid",
            {"methods": ["last", "translate"]},
            "the method translate needs a model; next: --translator MODEL",
        ),
        (
            "figure2",
            {"methods": ["last"]},
            "figure2 has no methods; next: leave --methods out",
        ),
        ("xsid", {"max_test": -1}, "max_test is -1; allowed: a positive integer"),
        (
            "xsid",
            {"dtype": "int8"},
            "unknown dtype 'int8'; allowed: auto, float32, bfloat16, float16",
        ),
        (
            "table5",
            {"instruction": " (label:"},
            "table5 has no instruction; next: leave --instruction out",
        ),
    ],
)
def test_what_cannot_be_asked_for(name, given, told):
    with pytest.raises(ConfigError) as error:
        Request(name, **given)
    assert str(error.value) == told


def test_seeds_count_once():
    assert Request("xsid", seeds=(1, 0, 1)).seeds == (1, 0)
    assert Request("xsid").seeds == (0, 1, 2)


def test_methods_come_in_the_order_of_the_table():
    some = Request("xsid", methods=["uniform", "last", "tf-idf"])
    assert some.methods == ("tf-idf", "last", "uniform")
    assert some.recipe("uniform", 0).bridge["fusion"] == "uniform"
    usual = ("tf-idf", "zero-shot-lm", "few-shot-lm", "last", "global-softmax", "token-softmax")
    assert Request("xsid").methods == usual
    assert "translate" in Request("xsid", translator="t").methods


def test_jobs_of_the_methods():
    request = Request("xsid", seeds=(0, 1), methods=["few-shot-lm", "last", "tf-idf"])
    assert [(job.method, job.seed) for job in jobs(request, None)] == [
        *(("tf-idf", 0), ("few-shot-lm", 0), ("few-shot-lm", 1), ("last", 0), ("last", 1)),
    ]


def test_folders():
    request = Request("table2", preset="demo", output_dir="out", seeds=(4,))
    assert str(request.folder) == str(request.runs) == "out/table2/demo"
    # The picture is of the table's runs.
    request = Request("figure2", output_dir="out")
    assert (str(request.folder), str(request.runs)) == ("out/figure2/small", "out/table1/small")


def test_what_the_user_wants_goes_before_the_preset():
    request = Request("table1", max_rows=90, max_test=7, encoder="e", language_model="l")
    assert request.task_options() == {"train_per_label": 30, "max_test": 7}
    made = request.recipe("last", 5)
    assert (made.encoder, made.language_model, made.max_rows) == ("e", "l", 90)
    assert made.training["max_steps"] == 6  # 90 rows, 16 a step
    assert made.training["seed"] == 5


def test_the_instruction_is_the_tasks_or_the_users_or_none():
    def instruction(**given):
        return Request("xsid", **given).recipe("last", 0).bridge.get("instruction")

    assert instruction() == " (intent:"
    assert instruction(instruction=" means") == " means"
    assert instruction(instruction="") is None
    assert instruction(preset="paper") is None
    assert instruction(preset="paper", instruction=" means") == " means"


def test_the_dtype_is_the_presets_or_the_users():
    assert Request("xsid", device="cpu").dtype == "float32"
    chosen = Request("xsid", device="cpu", dtype="bfloat16")
    assert chosen.recipe("last", 0).backbones == {"dtype": "bfloat16"}
    assert Request("xsid", preset="paper", dtype="float32").dtype == "float32"


def test_pickles_need_a_yes(news, tmp_path):
    with pytest.raises(ConfigError) as error:
        reproduce(Request("table3", preset="paper", data_dir=news, output_dir=tmp_path))
    assert str(error.value) == (
        "google/mt5-large is published as a pickle, and loading a pickle can run code; "
        "next: --allow-pickle if you trust it, or --encoder with safetensors"
    )
    assert list(tmp_path.iterdir()) == []


def test_every_experiment_has_its_task():
    for name in catalog.experiments():
        found = catalog.experiment(name)
        assert bool(found.task) == (found.kind != "latency")
        assert catalog.experiment(found.runs or name).task == found.task


def test_old_method_names_are_accepted_with_a_note(capsys):
    found = Request("xsid", methods=["floor", "lm-alone", "lm-few-shot", "last"])
    assert found.methods == ("tf-idf", "zero-shot-lm", "few-shot-lm", "last")
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "note: the method floor is now called tf-idf",
        "note: the method lm-alone is now called zero-shot-lm",
        "note: the method lm-few-shot is now called few-shot-lm",
    ]


def test_runs_in_folders_with_old_names_are_found(tmp_path):
    request = Request("xsid", output_dir=tmp_path, seeds=(0,), methods=["last", "tf-idf"])
    assert jobs(request, None)[0].folder == request.runs / "tf-idf" / "seed-0"
    (request.runs / "floor" / "seed-0").mkdir(parents=True)
    assert jobs(request, None)[0].folder == request.runs / "floor" / "seed-0"
