import base64
import hashlib
import json
import re
import shlex
from itertools import pairwise

import pytest
from html_tree import tree

from layerbridge import report
from layerbridge.errors import OutputError, ResultError
from layerbridge.evaluation.comparison import compare
from layerbridge.evaluation.results import SCHEMA, Result, find
from layerbridge.report.contents import gather
from layerbridge.report.page import render
from layerbridge.report.plots import style
from layerbridge.report.tables import accuracy_table

# The elements of our pages; any other was injected.
HTML = {
    *("html", "head", "meta", "link", "title", "style", "body", "script", "header", "main"),
    *("footer", "nav", "section", "div", "span", "p", "h1", "h2", "h3", "ul", "li", "a", "button"),
    *("figure", "figcaption", "table", "caption", "thead", "tbody", "tr", "th", "td", "small"),
    *("details", "summary", "dl", "dt", "dd", "pre", "code", "bdi"),
}
SVG = {"svg", "g", "path", "text", "tspan", "use", "defs", "clippath", "image", "rect"}
SVG |= {"lineargradient", "stop", "marker"}


@pytest.fixture(scope="module")
def page(written):
    return tree(written.read_text(encoding="utf-8"))


def rows_of(table):
    return [[cell.text for cell in row.children if not isinstance(cell, str)]
            for row in table.all("tr")]  # fmt: skip


def test_headings_are_in_order(page):
    levels = [int(e.tag[1]) for e in page.iter() if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert [h.text for h in page.all("h2")] == [
        "Summary",
        "Accuracy",
        "Gain over last",
        "Layer weights",
        "Settings",
        "Reproduce",
    ]
    assert page.all("h1")[0].text == page.all("title")[0].text == "names: 3 methods in 3 languages"


def test_links_and_labels_lead_somewhere(page):
    ids = [e.attributes["id"] for e in page.iter() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for element in page.iter():
        for name in ("aria-labelledby", "href", "xlink:href"):
            target = element.attributes.get(name, "")
            if target.startswith("#") or (name == "aria-labelledby" and target):
                assert target.removeprefix("#") in ids, (element.tag, target)


def test_every_figure_has_a_caption_and_words(page):
    figures = page.all("figure")
    assert [figure.attributes["id"] for figure in figures] == [
        "accuracy-by-language",
        "gain-by-script",
        "gain-by-share",
        "layer-weights-2",
        "layer-weights-2-1",
        "training-0",
        "tokens-1",
    ]
    for figure in figures:
        assert figure.all("figcaption")[0].text
        drawings = [svg for svg in figure.all("svg") if svg.attributes.get("role") == "img"]
        if figure.attributes["id"].startswith("tokens"):
            assert figure.all("table")
            continue
        assert [svg.attributes["class"] for svg in drawings] == ["wide", "narrow"]
        assert all(len(svg.attributes["aria-label"]) > 20 for svg in drawings)


def test_tables_have_heads_and_boxes_of_their_own(page):
    assert len(page.all("table")) == 5
    for box in (e for e in page.iter() if "scroll" in e.attributes.get("class", "").split()):
        assert box.attributes["role"] == "region"
        assert box.attributes["tabindex"] == "0"
        assert "aria-labelledby" in box.attributes or "aria-label" in box.attributes
    boxes = [e for e in page.iter() if e.attributes.get("class") == "scroll"]
    assert sum(len(box.all("table")) for box in boxes) == 5
    for table in page.all("table"):
        for cell in table.all("th"):
            assert cell.attributes["scope"] in ("row", "col")


def test_the_numbers_are_the_results(page, results):
    table = page.id("accuracy-table")
    (table,) = [t for t in page.all("table") if table in t.iter()]
    rows = rows_of(table)
    # Baselines first, then the method compared with, then the rest.
    assert rows[0] == ["language", "tf-idf seeds 1", "last seeds 1", "token-softmax seeds 2"]
    assert rows[2][0] == "Sinhala si, Sinhala"
    low, high = results[3].languages["si"].interval
    assert rows[2][2].split() == ["25.0", f"{100 * low:.1f}–{100 * high:.1f}"]
    assert rows[2][3].split()[0] == "65.0"  # the mean of two seeds
    assert rows[-1][0] == "average of 2"
    assert rows[-1][3].split()[0] == f"{100 * (12 + 14 + 11 + 9) / 80:.1f}"
    best = [cell.text.split()[0] for cell in table.iter() if cell.attributes.get("class") == "best"]
    assert best == ["85.0", "65.0", "50.0", "57.5"]


def test_gains_are_of_the_same_rows(page, results):
    caption = page.id("gains-table")
    (table,) = [t for t in page.all("table") if caption in t.iter()]
    rows = rows_of(table)
    assert rows[0] == [
        "language",
        "tf-idf 1 seed, others not covered",
        "token-softmax 2 seeds against 1, others not covered",
    ]
    expected = {found.method: found for found in compare(results)}
    effect = expected["token-softmax"].languages["si"]
    assert f"{effect.effect:+.1f}" == "+40.0"
    assert rows[2][2].startswith(f"+40.0 {effect.low:+.1f} to".replace("-", "−"))
    assert rows[2][2].endswith(f"p {effect.p_holm:.3f}")
    assert rows[2][1].split()[0] == "−10.0"
    assert [row[0] for row in rows[-2:]] == ["average of 2", "other languages too"]


@pytest.fixture
def clear(result):
    """Twenty rows, all won or all lost, with two seeds of each method."""
    return [
        result(method, seed, **right)
        for method, right in (("last", {"en": 20, "si": 0}), ("token-softmax", {"en": 0, "si": 20}))
        for seed in (0, 1)
    ]


def test_what_is_significant_is_marked(clear, undrawn):
    page = tree(render(gather(clear), ""))
    caption = page.id("accuracy-table")
    (table,) = [t for t in page.all("table") if caption in t.iter()]
    rows = rows_of(table)
    assert rows[1][2].startswith("0.0 ▼ significantly worse than last ")
    assert rows[2][2].startswith("100.0 ▲ significantly better than last ")
    assert "▲" not in "".join(row[1] for row in rows)
    assert "not covered" not in page.text


@pytest.mark.parametrize("seeds", [(0, 2), (0, 1, 2), (0, 2, 3), (1, 2)])
def test_without_several_seeds_there_is_no_mark(clear, undrawn, seeds):
    """One seed of either method: the sentence about other seeds is beside every such number."""
    page = tree(render(gather([clear[number] for number in seeds]), ""))
    assert not set("▲▼") & set(page.text)
    assert "significantly" not in page.text
    text = page.text
    note = "; one seed: others are not covered"
    card, best = (
        re.search(pattern, text)
        for pattern in (r"\+100.0 over last \([^)]*\)(.{34})", r"points over last on.{20,120}?\)\.")
    )
    assert card[1] == note
    assert note in best[0]
    assert ", others not covered" in rows_of(page.all("table")[2])[0][1]
    sentence = "With one seed of a method, other seeds are not covered and no difference is marked."
    assert text.count(sentence) == 2  # below the accuracies, and below the gains


def test_a_row_for_every_result(page, results):
    caption = page.id("results-table")
    (table,) = [t for t in page.all("table") if caption in t.iter()]
    rows = rows_of(table)
    assert rows[0] == ["method", "seed", "average", "en", "si", "sw", "created"]
    assert [row[:2] for row in rows[1:]] == [
        ["tf-idf", "0"], ["last", "0"], ["token-softmax", "0"], ["token-softmax", "1"],
    ]  # fmt: skip
    assert rows[4][-1] == "2026-11-21T10:00:00+00:00"


def test_weights_and_tokens(page):
    caption = page.id("weights-table-1")
    (table,) = [t for t in page.all("table") if caption in t.iter()]
    assert rows_of(table) == [
        ["layer", "last", "token-softmax"],
        ["1", "0.0000", "0.3000"],
        ["2", "1.0000", "0.7000"],
    ]
    (tokens,) = page.id("tokens-1").all("table")
    assert rows_of(tokens)[2:4] == [["▁ශ්‍රී", "25", "75"], ["▁العربية", "50", "50"]]
    for cell in tokens.all("td"):
        assert re.fullmatch(r"background: #[0-9a-f]{6}", cell.attributes["style"])


def test_settings_versions_and_commands(page, runs):
    text = page.text
    for words in (
        "encoder: zoo:x task: names # <b>",
        "bridge.encoder zoo:multilingual-e5-small",
        "options a, b",
        "task_version 1",
        "torch 2.13.0",
        "results from 2026-11-20T10:00:00+00:00 to 2026-11-21T10:00:00+00:00",
        f"layerbridge train --recipe {runs}/token-softmax/recipe.yaml "
        f"-o {runs}-again/token-softmax",
        "layerbridge evaluate runs/last --protocol score --training-seed 0 --task names "
        f"--languages en,si,sw -o {runs}-again/results/3.json",
        f"layerbridge baseline tf-idf --seed 0 --task names --languages en,si,sw "
        f"-o {runs}-again/results/2.json",
        f"layerbridge report {runs}-again -o {runs.parent}/out/report-again.html",
        "CC-100 shares by size, before sampling: Conneau et al., arXiv 1911.02116",
    ):
        assert words in text, words


def test_the_summary_counts_seeds(page):
    (section,) = [s for s in page.all("section") if s.attributes["aria-labelledby"] == "summary"]
    text = section.text
    assert "Mean accuracy in percent over 2 languages other than English" in text
    assert "Chance level is 50.0 %" in text
    assert "Best on average: token-softmax, 57.5 %; +25.0 points over last" in text
    assert "Seeds: tf-idf 1, last 1, token-softmax 2." in text
    assert "token-softmax 2 of 2 (0.70)" in text


# Nothing is fetched, and text stays text


def test_nothing_is_fetched(page, written):
    text = written.read_text(encoding="utf-8")
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    for element in page.iter():
        assert element.tag not in ("iframe", "object", "embed", "base", "form")
        for name, value in element.attributes.items():
            if name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster"):
                assert value.startswith(("#", "data:")), (element.tag, name, value[:40])
        for url in re.findall(r"url\(([^)]*)\)", element.attributes.get("style", "")):
            assert url.startswith("#"), url
    for url in re.findall(r"url\(([^)]*)\)", page.all("style")[0].text):
        pytest.fail(f"the style sheet loads {url}")


def test_the_content_security_policy(page):
    (policy,) = [
        m.attributes["content"] for m in page.all("meta")
        if m.attributes.get("http-equiv") == "Content-Security-Policy"
    ]  # fmt: skip
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    (script,) = page.all("script")
    digest = base64.b64encode(hashlib.sha256(script.children[0].encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></pre></svg><b>",
    "{{ 7 * 7 }}{% raw %}",
    "]]><!--",
    "$\\frac{x$ _a_ &amp; &#60;",
    "\x00\x1b[31m\u202e\ud800\uffff\n",
    "_under",
    "x" * 5000,
]


def test_text_of_a_result_file_stays_text(tmp_path, sentence):
    codes = ["si", HOSTILE[0], HOSTILE[1], HOSTILE[5]]
    folder = tmp_path / "runs"
    folder.mkdir()
    # Few methods, since comparing is slow; every word is in one of them.
    methods = ["last", "".join(HOSTILE[:4]), "".join(HOSTILE[4:8]), "".join(HOSTILE[8:])]
    for number, method in enumerate(methods):
        entry = {
            "n": 4,
            "correct": 4 - number % 3,
            "predictions": [
                {"id": w, "label": HOSTILE[i % 2], "prediction": w, "correct": i >= number % 3}
                for i, w in enumerate(HOSTILE[:4])
            ],
            "layer_weights": [0.5, 0.5] if number % 2 else [0.25, 0.75],
        }
        document = {
            "schema": SCHEMA,
            **{"method": method, "task": HOSTILE[0], "protocol": HOSTILE[1], "split": HOSTILE[2]},
            **{"seed": 0, "run": method, "created": method, "versions": {method: method}},
            "settings": {method: {method: method}, "bridge": {"encoder": method}, "x": [method]},
            "languages": dict.fromkeys(codes, entry),
        }
        # With escapes, as a stranger's JSON may have them; an unpaired surrogate is not JSON.
        text = json.dumps(document).replace("\\ud800", "\\u0000")
        (folder / f"{number}.json").write_text(text, encoding="utf-8")
    recipe = "\n".join(HOSTILE)
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8", errors="replace")
    path = report.write(
        folder,
        tmp_path / "r.html",
        title="".join(HOSTILE),
        sentences=[(word, sentence[1]) for word in HOSTILE],
    )
    page = tree(path.read_text(encoding="utf-8"))
    assert {element.tag for element in page.iter()} - {""} <= HTML | SVG
    assert len(page.all("script")) == 1
    for element in page.iter():
        assert not [name for name in element.attributes if name.startswith("on")]
    words = page.text
    for word in HOSTILE:
        shown = " ".join(style.clean(word).split())
        # As a method, a setting, a version, a title …
        assert words.count(shown) > 10, word


def test_a_task_in_the_title(result, undrawn):
    made = Result(**{**vars(result("last", si=3)), "task": "<b>\x00\ud800"})
    page = tree(render(gather([made]), ""))
    assert page.all("h1")[0].text == "<b>\ufffd\ufffd: 1 method in 1 language"


def test_a_language_code_that_is_not_printable(tmp_path, result):
    made = result("last", si=3)
    entry = made.languages["si"]
    document = {
        **vars(made),
        "languages": {
            "s\x1b": vars(entry) | {"predictions": [vars(answer) for answer in entry.predictions]}
        },
    }
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ResultError) as error:
        report.write(tmp_path, tmp_path / "r.html")
    assert str(error.value) == (
        "the result of 'last' has a language 's\\x1b'; allowed: codes of printable characters"
    )


def test_a_command_that_is_copied_does_what_it_says(tmp_path, result, undrawn):
    evil = "x; rm -rf ~ #\n`id`"
    made = result("last", en=10)
    made = Result(**{**vars(made), "run": evil})
    made.write(tmp_path / "runs" / "a.json")
    page = tree(report.write(tmp_path / "runs", tmp_path / "r.html").read_text("utf-8"))
    code = page.all("code")[0]._raw()
    assert shlex.split(code)[:3] == ["layerbridge", "evaluate", evil]


# Less than everything


def test_results_alone(tmp_path, results, undrawn):
    path = results[3].write(tmp_path / "last.json")
    page = tree(report.write(path, tmp_path / "r.html").read_text("utf-8"))
    assert [h.text for h in page.all("h2")] == [
        "Summary", "Accuracy", "Layer weights", "Settings", "Reproduce",
    ]  # fmt: skip
    assert "One seed per method" in page.text


def test_english_alone(tmp_path, result, undrawn):
    result("last", en=10).write(tmp_path / "a.json")
    result("uniform", en=12).write(tmp_path / "b.json")
    page = tree(report.write([tmp_path], tmp_path / "r.html").read_text("utf-8"))
    assert "All results are in English." in page.text
    assert page.id("gain-by-script")
    assert "Layer weights" not in [h.text for h in page.all("h2")]


def test_encoders_of_different_depth_are_drawn_apart(tmp_path, result, undrawn):
    result("small", en=10, si=5, weights=[0.5, 0.5]).write(tmp_path / "a.json")
    result("large", en=12, si=6, weights=[0.2, 0.3, 0.5]).write(tmp_path / "b.json")
    page = tree(report.write(tmp_path, tmp_path / "r.html", against="small").read_text("utf-8"))
    assert page.id("layer-weights-2")
    assert page.id("layer-weights-3")
    assert page.id("gain-by-script")


def test_another_method_to_compare_with(runs, tmp_path, undrawn):
    path = report.write(runs, tmp_path / "r.html", against="token-softmax", title="<Mine>")
    page = tree(path.read_text("utf-8"))
    assert "Gain over token-softmax" in [h.text for h in page.all("h2")]
    assert page.all("h1")[0].text == "<Mine>"
    assert "--against token-softmax --title '<Mine>'" in page.text


def test_nothing_is_compared_with_an_absent_method(runs, tmp_path, undrawn):
    page = tree(report.write(runs, tmp_path / "r.html", against="absent").read_text("utf-8"))
    assert not [h for h in page.all("h2") if h.text.startswith("Gain")]


def test_baselines_that_were_run_with_every_seed_count_once(tmp_path, result, undrawn):
    for seed in (0, 1):
        result("last", seed, en=10 + seed, si=5).write(tmp_path / f"{seed}" / "last.json")
        baseline = result("tf-idf", 0, "classifier", False, en=8, si=4)
        Result(**{**vars(baseline), "created": f"{seed}"}).write(tmp_path / f"{seed}" / "b.json")
    page = tree(report.write(tmp_path, tmp_path / "r.html").read_text("utf-8"))
    assert "last seeds 2" in page.text
    assert "tf-idf seeds 1" in page.text


# Files


def test_paths_that_are_not_pages(runs, tmp_path):
    with pytest.raises(OutputError) as error:
        report.write(runs, tmp_path / "report.pdf")
    assert str(error.value) == (
        f"cannot write a page to {tmp_path}/report.pdf; allowed: .html, .htm"
    )
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(OutputError, match="is a folder; allowed: a file"):
        report.write(runs, tmp_path / "folder.html")


def test_results_that_cannot_be_shown_together(runs, result, tmp_path):
    other = result("other", en=10)
    path = Result(**{**vars(other), "task": "xnli"}).write(tmp_path / "other.json")
    with pytest.raises(ResultError, match="has the task"):
        report.write([runs, path], tmp_path / "r.html")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultError, match="has no result files"):
        report.write(tmp_path / "empty", tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_a_damaged_log_is_reported(results, tmp_path):
    results[0].write(tmp_path / "run" / "results" / "a.json")
    (tmp_path / "run" / "layer-weights.jsonl").write_text("{\n")
    with pytest.raises(ResultError, match=r"layer-weights.jsonl is damaged \(line 1\)"):
        report.write(tmp_path / "run", tmp_path / "r.html")


def test_the_tables_agree_with_the_command(page, runs):
    made = accuracy_table(find(runs))
    assert {f"{100 * row.average.accuracy:.1f}" for row in made.rows} <= set(
        re.findall(r"\d+\.\d", page.text)
    )


def test_token_maps_alone(tmp_path, sentence):
    path = report.write_tokens([sentence, sentence], tmp_path / "t.html", title="Two <texts>")
    page = tree(path.read_text("utf-8"))
    assert page.all("h1")[0].text == "Two <texts>"
    assert [figure.attributes["id"] for figure in page.all("figure")] == ["tokens-1", "tokens-2"]
    assert page.all("th")[3].text == "<s>"
