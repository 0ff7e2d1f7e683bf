import pytest

from layerbridge.results import LanguageResult, Prediction, Result


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
    said = command("plot", tmp_path / "runs", "-o", output)
    assert (said.code, said.err) == (0, "")
    expected = [output / "accuracy-by-language.png", output / "layer-weights.png"]
    assert said.out.splitlines() == list(map(str, expected))
    for path in expected:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_without_layer_weights_there_is_one_picture(command, write, tmp_path):
    write("last", None)
    said = command("plot", tmp_path / "runs", "-o", tmp_path, "--format", "svg")
    assert said.out == f"{tmp_path / 'accuracy-by-language.svg'}\n"
    assert "<svg" in (tmp_path / "accuracy-by-language.svg").read_text(encoding="utf-8")
    assert not (tmp_path / "layer-weights.svg").exists()


def test_another_format(command, write, tmp_path):
    write("last", None)
    said = command("plot", tmp_path / "runs", "-o", tmp_path / "plots", "--format", "gif")
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert said.err.startswith("error: ")
    assert not (tmp_path / "plots").exists()


def test_no_results(command, tmp_path):
    said = command("plot", tmp_path, "-o", tmp_path / "plots")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"error: {tmp_path} holds no result files; next: make one with layerbridge evaluate\n"
    )
    assert not (tmp_path / "plots").exists()
