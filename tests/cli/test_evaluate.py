import json
import shutil

import pytest

from layerbridge import results, tasks
from layerbridge.evaluation import evaluate
from layerbridge.model import LayerBridge
from layerbridge.tables import accuracy_table


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_the_table_is_on_stdout_and_the_result_in_the_run(command, run, few_names):
    said = command("evaluate", run, "--task", "names", "--languages", "en, si", "--device", "cpu")
    path = run / "results" / "names-score.json"
    assert said.code == 0
    result = results.read(path)
    assert said.out == accuracy_table([result]).markdown(intervals=True)
    assert said.err == f"names, score: 36/36  si\nwrote {path}\n"
    assert list(result.languages) == ["en", "si"]
    assert [p.id for p in result.languages["si"].predictions] == [
        row.id for row in tasks.get("names").test("si")
    ]
    bridge = LayerBridge.from_pretrained(run, dtype="float32")
    same = evaluate(bridge, tasks.get("names"), ["en", "si"], batch_size=5)
    assert result.languages["si"].predictions == same.languages["si"].predictions
    assert (result.run, result.seed, result.method) == (str(run), 0, "token-softmax")


def test_json_is_the_file_and_nothing_else(command, run, few_names, tmp_path):
    output = tmp_path / "elsewhere" / "result.json"
    said = command(
        "evaluate", run, "--task", "names", "--languages", "si", "--json", "-o", output,
        "--protocol", "generate", "--seed", "3", "--device", "cpu", "--dtype", "float32",
    )  # fmt: skip
    assert said.code == 0
    assert said.out == output.read_text(encoding="utf-8")
    document = json.loads(said.out)
    assert (document["protocol"], document["seed"], list(document["languages"])) == (
        "generate",
        3,
        ["si"],
    )
    assert not (run / "results").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--task", "nmaes"], "there is no task 'nmaes'; allowed: names"),
        (
            ["--task", "names", "--languages", "en,xx"],
            "the task names has no test rows in 'xx'; allowed: en, si, ta, as, am, ka, th, sw, bn, "
            "hi, ar, zh, ru, vi, de",
        ),
        (
            ["--task", "names", "--protocol", "guess"],
            "unknown protocol 'guess'; allowed: score, generate",
        ),
        (["--task", "names", "--normalize", "max"], "unknown normalize 'max'; allowed: sum, mean"),
        (
            ["--task", "names", "--dtype", "int4"],
            "unknown dtype 'int4'; allowed: auto, float32, bfloat16, float16",
        ),
    ],
)
def test_what_is_unknown_is_one_line(command, run, words, told):
    said = command("evaluate", run, *words)
    assert (said.code, said.out, said.err) == (2, "", f"error: {told}\n")
    assert not (run / "results").exists()
