import pytest

from layerbridge.evaluation.results import LanguageResult, Prediction, Result
from layerbridge.training.weight_log import FILE, append


@pytest.fixture
def write(tmp_path):
    def make(method, weights):
        answers = [Prediction(str(n), "yes", "yes" if n < 6 else "no", n < 6) for n in range(10)]
        languages = {code: LanguageResult.of(answers, weights) for code in ("en", "si")}
        made = Result(method, "names", "score", "test", 0, languages)
        return made.write(tmp_path / "runs" / f"{method}.json")

    return make


def test_both_pictures_and_their_paths(command, write, tmp_path):
    write("last", None)
    write("token-softmax", [0.2, 0.8])
    output = tmp_path / "plots"
    result = command("plot", tmp_path / "runs", "-o", output)
    assert (result.code, result.err) == (0, "")
    expected = [output / "accuracy-by-language.png", output / "layer-weights.png"]
    assert result.out.splitlines() == list(map(str, expected))
    for path in expected:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_run_is_named_on_the_command_line(command, write, tmp_path):
    path = write("token-softmax", [0.2, 0.8])
    log = tmp_path / "runs" / FILE
    for step in range(3):
        append(log, step, [0.5, 0.5])
    result = command("plot", "weights", f"mine={path}", "-o", tmp_path)
    assert result.out.splitlines()[1] == str(tmp_path / "layer-weights-mine.png")
    result = command("plot", "training", f"mine={tmp_path / 'runs'}", "-o", tmp_path)
    assert result.out == f"{tmp_path / 'layer-weights-in-training-mine.png'}\n"


def test_without_layer_weights_there_is_one_picture(command, write, tmp_path):
    write("last", None)
    result = command("plot", tmp_path / "runs", "-o", tmp_path, "--format", "svg")
    assert result.out == f"{tmp_path / 'accuracy-by-language.svg'}\n"
    assert "<svg" in (tmp_path / "accuracy-by-language.svg").read_text(encoding="utf-8")
    assert not (tmp_path / "layer-weights.svg").exists()


def test_another_format(command, write, tmp_path):
    write("last", None)
    result = command("plot", tmp_path / "runs", "-o", tmp_path / "plots", "--format", "gif")
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert result.err.startswith("error: ")
    assert not (tmp_path / "plots").exists()


def test_no_results(command, tmp_path):
    result = command("plot", tmp_path, "-o", tmp_path / "plots")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"error: {tmp_path} has no result files; next: create one with layerbridge evaluate\n"
    )
    assert not (tmp_path / "plots").exists()


def test_the_usual_pictures_by_their_name(command, write, tmp_path):
    write("token-softmax", [0.2, 0.8])
    result = command("plot", "results", tmp_path / "runs", "-o", tmp_path)
    assert result.out == command("plot", tmp_path / "runs", "-o", tmp_path).out
    assert result.out == command("plot", "-o", tmp_path, tmp_path / "runs").out
    assert len(result.out.splitlines()) == 2


def test_nothing_to_draw_is_a_mistake(command):
    result = command("plot")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: Missing argument ")
    assert result.err.endswith("; next: layerbridge plot results --help\n")


def test_help_names_every_picture(command):
    result = command("plot", "--help")
    for name in ("results", "weights", "training", "gains", "sentence"):
        assert f"│ {name} " in result.out


def test_weights(command, write, tmp_path):
    write("token-softmax", [0.2, 0.8])
    write("last", None)
    result = command("plot", "weights", tmp_path / "runs", "-o", tmp_path, "--format", "svg")
    expected = [tmp_path / "layer-weights.svg", tmp_path / "layer-weights-token-softmax.svg"]
    assert result.out.splitlines() == list(map(str, expected))
    assert all("<svg" in path.read_text(encoding="utf-8") for path in expected)


def test_no_weights(command, write, tmp_path):
    write("last", None)
    result = command("plot", "weights", tmp_path / "runs", "-o", tmp_path / "plots")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: no result has layer weights; next: evaluate a bridge")


def test_training(command, tmp_path):
    for folder in ("a/run", "b/run"):
        path = tmp_path / folder / FILE
        path.parent.mkdir(parents=True)
        append(path, 0, [0.5, 0.5])
        append(path, 1, [0.4, 0.6])
    result = command("plot", "training", tmp_path, "-o", tmp_path / "plots")
    names = ("layer-weights-in-training-run.png", "layer-weights-in-training-run-2.png")
    assert result.out.splitlines() == [str(tmp_path / "plots" / name) for name in names]


def test_training_without_a_log(command, tmp_path):
    result = command("plot", "training", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"error: no layer-weights.jsonl in {tmp_path}; next: a run has one if its fusion "
        "learns weights, such as global-softmax\n"
    )


def test_gains(command, write, tmp_path):
    write("last", None)
    write("token-softmax", [0.2, 0.8])
    result = command("plot", "gains", tmp_path / "runs", "-o", tmp_path, "--by", "share")
    assert result.out == f"{tmp_path / 'gain-by-share.png'}\n"
    result = command("plot", "gains", tmp_path / "runs", "--against", "uniform")
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert "uniform" in result.err


def test_one_text(command, trained, tmp_path):
    words = ["plot", "sentence", trained, "the market", "ම ශ්", "-o", tmp_path]
    result = command(*words, "--dtype", "float32")
    assert result.out.splitlines() == [str(tmp_path / f"tokens-{n}.png") for n in (1, 2)]
    result = command(*words, "--dtype", "float32", "--format", "html")
    assert (result.out, result.err) == (f"{tmp_path / 'tokens.html'}\n", "")
    text = (tmp_path / "tokens.html").read_text(encoding="utf-8")
    assert text.count('<table class="tokens">') == 2
    assert "ම ශ්</bdi>" in text


def test_one_text_in_no_format(command, trained, tmp_path):
    result = command("plot", "sentence", trained, "x", "-o", tmp_path, "--format", "gif")
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert result.err.startswith("error: cannot write a figure to")
