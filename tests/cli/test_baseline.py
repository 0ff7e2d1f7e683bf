import json

import pytest

import tiny_translators
from layerbridge import tasks
from layerbridge.evaluation import results
from layerbridge.evaluation.baselines.few_shot import few_shot
from layerbridge.evaluation.baselines.tf_idf import tf_idf
from layerbridge.evaluation.baselines.zero_shot import zero_shot
from layerbridge.models.backbone import LoadOptions, choose_device
from layerbridge.report.tables import accuracy_table, macro_f1_table

PLACE = ("--device", "cpu", "--dtype", "float32")


@pytest.fixture
def language_model(folder):
    return ("--language-model", folder("llama"), *PLACE)


@pytest.fixture(scope="module")
def nllb(tmp_path_factory):
    return tiny_translators.write("nllb", tmp_path_factory.mktemp("nllb"))


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """Result files go into the folder one is in."""
    monkeypatch.chdir(tmp_path)


def test_the_floor(command, few_names, tmp_path):
    outcome = command(
        "baseline", "tf-idf", "--task", "names", "--languages", "en, si", "--seed", "3"
    )
    path = tmp_path / "results" / "names-tf-idf.json"
    assert outcome.code == 0
    assert outcome.err.startswith("names, tf-idf: 36/36  si\nwrote results/names-tf-idf.json\n")
    result = results.read(path)
    tables = accuracy_table([result]).markdown(intervals=True), macro_f1_table([result]).markdown()
    assert outcome.out == "\n".join(tables)
    assert result.languages == tf_idf(tasks.get("names"), ["en", "si"]).languages
    assert (result.method, result.seed) == ("tf-idf", 3)


def test_the_lm_alone(command, few_names, language_model, load_lm, tmp_path):
    output = tmp_path / "elsewhere" / "alone.json"
    outcome = command(
        "baseline", "zero-shot-lm", "--task", "names", "--languages", "si", *language_model,
        "--prompt", "{text} is a ", "--batch-size", "5", "--json", "-o", output,
    )  # fmt: skip
    assert outcome.code == 0
    assert outcome.err.startswith(f"names, zero-shot-lm: 18/18  si\nwrote {output}\n")
    assert outcome.out == output.read_text(encoding="utf-8")
    assert not (tmp_path / "results").exists()
    same = zero_shot(load_lm("llama"), tasks.get("names"), ["si"], prompt="{text} is a ")
    assert results.read(output).languages == same.languages
    assert json.loads(outcome.out)["settings"]["prompt"] == "{text} is a "


def test_with_examples(command, few_names, language_model, load_lm, tmp_path):
    outcome = command(
        "baseline", "few-shot-lm", "--task", "names", "--languages", "si", *language_model,
        "--shots", "3", "--seed", "2",
    )  # fmt: skip
    assert outcome.code == 0
    assert "wrote results/names-few-shot-lm-3.json" in outcome.err.splitlines()
    result = results.read(tmp_path / "results" / "names-few-shot-lm-3.json")
    same = few_shot(load_lm("llama"), tasks.get("names"), ["si"], shots=3, seed=2)
    assert result.languages == same.languages
    assert (result.method, result.seed) == ("few-shot LM (3)", 2)


def test_eight_examples_if_not_given(command, few_names, language_model, tmp_path):
    outcome = command(
        "baseline", "few-shot-lm", "--task", "names", "--languages", "en", *language_model
    )
    assert outcome.code == 0
    result = results.read(tmp_path / "results" / "names-few-shot-lm.json")
    assert result.method == "few-shot LM (8)"


def test_translate(command, few_names, language_model, nllb, tmp_path, monkeypatch):
    words = (
        "baseline", "translate", "--task", "names", "--languages", "en,si", *language_model,
        "--translator", nllb, "--max-new-tokens", "8", "--translations", "kept",
    )  # fmt: skip
    outcome = command(*words)
    assert outcome.code == 0
    assert outcome.err.startswith(
        "names, translations: 18/18  si\nnames, translate: 36/36  si\n"
        "wrote results/names-translate.json\n"
    )
    first = results.read(tmp_path / "results" / "names-translate.json")
    assert first.method == "translate + zero-shot LM"
    assert first.settings["translator"]["max_new_tokens"] == 8
    assert len(list((tmp_path / "kept").iterdir())) == 1

    # What was kept is all that the next one needs.
    fail = lambda *_: pytest.fail("translated again")  # noqa: E731
    monkeypatch.setattr("layerbridge.evaluation.translation.translator.Translator._translate", fail)
    assert command(*words).code == 0
    assert results.read(tmp_path / "results" / "names-translate.json").languages == first.languages
    assert command(*words, "--shots", "2").code == 0
    few = results.read(tmp_path / "results" / "names-translate-2.json")
    assert few.method == "translate + few-shot LM (2)"


def test_a_tasks_options_are_passed_and_kept(command, tmp_path):
    words = ("baseline", "tf-idf", "--task", "names", "--languages", "sw")
    outcome = command(
        *words, "--task-option", "test_per_kind=2", "--task-option", "train_per_kind=9"
    )
    assert outcome.code == 0
    result = results.read(tmp_path / "results" / "names-tf-idf.json")
    assert result.languages["sw"].n == 12
    assert result.settings["task_options"] == {"test_per_kind": 2, "train_per_kind": 9}
    outcome = command(*words, "--data-dir", tmp_path)
    assert outcome.code == 2
    assert outcome.err.startswith("error: the task names has no option 'data_dir'; allowed: ")


LM = ("--language-model", "nowhere/nothing")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tf-idf", "--task", "names", "--languages", "en,xx"), "has no test rows in 'xx'"),
        (
            ("tf-idf", "--task", "names", *LM),
            "tf-idf does not use --language-model; "
            "allowed: --language-model with zero-shot-lm, few-shot-lm, translate",
        ),
        (
            ("zero-shot-lm", "--task", "names", *LM, "--shots", "3"),
            "zero-shot-lm does not use --shots; allowed: --shots with few-shot-lm, translate",
        ),
        (
            ("zero-shot-lm", "--task", "names", *LM, "--seed", "3"),
            "zero-shot-lm does not use --seed; allowed: --seed with tf-idf, few-shot-lm, translate",
        ),
        (
            ("few-shot-lm", "--task", "names", *LM, "--translator", "x"),
            "few-shot-lm does not use --translator; allowed: --translator with translate",
        ),
        (
            ("zero-shot-lm", "--task", "names"),
            "zero-shot-lm needs --language-model; allowed: a folder, zoo:NAME or a hub ID; "
            "next: layerbridge baseline zero-shot-lm --language-model …",
        ),
        (("translate", "--task", "names", *LM), "translate needs --translator; "),
        (
            ("zero-shot-lm", "--task", "names", *LM, "--prompt", "x"),
            "the prompt 'x' has 0 placeholders {text}",
        ),
        (("zero-shot-lm", "--task", "names", *LM, "--dtype", "int4"), "unknown dtype 'int4'"),
        (("zero-shot-lm", "--task", "names", *LM), "'nowhere/nothing' is not on this machine"),
        (
            ("few-shot-lm", "--task", "names", *LM, "--shots", "9999"),
            "training rows for 9999 shots",
        ),
    ],
)
def test_a_mistake_is_one_line(command, words, message, tmp_path):
    outcome = command("baseline", *words)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "results").exists()


def test_a_method_that_there_is_not(command):
    outcome = command("baseline", "guess", "--task", "names")
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert "'tf-idf', 'zero-shot-lm', 'few-shot-lm', 'translate'" in line


def test_a_language_that_the_translator_does_not_have(command, folder, tmp_path):
    translator = tiny_translators.write("m2m100", tmp_path / "m2m100")
    outcome = command(
        "baseline", "translate", "--task", "names", "--languages", "si,as", *LM,
        "--translator", translator,
    )  # fmt: skip
    assert outcome.code == 2
    assert outcome.err == (
        f"error: the translator {translator} does not support 'as'; "
        "next: leave the language out, or choose another translator\n"
    )


def test_help(command):
    outcome = command("baseline", "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.lstrip().startswith("Usage: layerbridge baseline ")
    for method in ("tf-idf", "zero-shot-lm", "few-shot-lm", "translate"):
        assert method in outcome.out


def test_the_language_model_is_read_as_asked(command, few_names, folder, monkeypatch):
    asked = []
    from layerbridge.models.language_model import LanguageModel

    load = LanguageModel.load

    def spy(source, options):
        asked.append((source.given, options))
        return load(source, options)

    monkeypatch.setattr(LanguageModel, "load", spy)
    outcome = command(
        "baseline", "zero-shot-lm", "--task", "names", "--languages", "en", "--device", "cpu",
        "--language-model", folder("gpt2"), "--dtype", "float32", "--allow-pickle",
    )  # fmt: skip
    assert outcome.code == 0
    assert asked == [
        (str(folder("gpt2")), LoadOptions("float32", allow_pickle=True, device=choose_device()))
    ]
