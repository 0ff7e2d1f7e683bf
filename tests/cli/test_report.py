import pytest

from layerbridge.evaluation.results import LanguageResult, Prediction, Result
from layerbridge.report.drawings import Drawing


@pytest.fixture
def results(tmp_path):
    for method, right in (("last", 3), ("token-softmax", 7)):
        answers = [Prediction(str(n), "ab"[n % 2], "a", n < right) for n in range(10)]
        languages = {code: LanguageResult.of(answers, [0.2, 0.8]) for code in ("en", "si")}
        made = Result(method, "names", "score", "test", 0, languages)
        made.write(tmp_path / "runs" / f"{method}.json")
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Empty figures: drawing them is tested elsewhere."""

    def draw(id_, plot, data, **options):
        return Drawing(id_, "<svg></svg>", "<svg></svg>")

    monkeypatch.setattr("layerbridge.report.drawings.draw", draw)


def test_a_report_and_its_path(command, results, tmp_path):
    output = tmp_path / "new" / "report.html"
    result = command("report", results, "-o", output, "--title", "A & B", "--against", "last")
    assert (result.code, result.out, result.err) == (0, f"{output}\n", "")
    text = output.read_text(encoding="utf-8")
    assert "<h1>A &amp; B</h1>" in text
    assert f"layerbridge report {results} -o {output} --title &#39;A &amp; B&#39;" in text


def test_a_run_is_named_on_the_command_line(command, results, tmp_path):
    output = tmp_path / "report.html"
    runs = [f"my run={results / 'last.json'}", results / "token-softmax.json"]
    result = command("report", *runs, "-o", output, "--against", "my run")
    assert (result.code, result.err) == (0, "")
    text = output.read_text(encoding="utf-8")
    assert "Gain over my run" in text


def test_sentences_are_read_by_the_bridge(command, trained, results, tmp_path):
    output = tmp_path / "report.html"
    words = ["--sentence", "ම ශ්", "--sentence", "teams", "--bridge", trained]
    result = command("report", results, "-o", output, *words, "--dtype", "float32")
    assert (result.code, result.out) == (0, f"{output}\n")
    text = output.read_text(encoding="utf-8")
    assert text.count('<table class="tokens">') == 2
    assert f"--sentence teams --bridge {trained}" in text


def test_several_runs_and_no_bridge(command, results, tmp_path):
    files = sorted(results.iterdir())
    result = command("report", *files, "-o", tmp_path / "r.html", "--sentence", "teams")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "error: --sentence needs one run, several were given; next: --bridge RUN\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("absent",), "cannot be read"),
        (("RUNS", "-o", "r.pdf"), "cannot write a page to r.pdf; allowed: .html, .htm"),
    ],
)
def test_mistakes_are_one_line(command, results, words, message):
    result = command("report", *(results if word == "RUNS" else word for word in words))
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert message in result.err
