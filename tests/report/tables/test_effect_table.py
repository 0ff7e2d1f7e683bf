import csv
import io

from rich.console import Console

from layerbridge.evaluation.comparison import compare
from layerbridge.report.tables import effect_table
from made_results import result

LAST, MORE, LESS = "1" * 10 + "0" * 30, "1" * 30 + "0" * 10, "1" * 9 + "0" * 31
GIVEN = [
    result(method, seed, en=english, si=others, ta=others)
    for method, english, others in (("last", LAST, LAST), ("a|b & c", LESS, MORE))
    for seed in (0, 1)
]


def table(given=GIVEN, **options):
    return effect_table(compare(given, "last", **options))


def test_markdown():
    lines = table().markdown().splitlines()
    # Bonett and Price: (1 - 2)/42, and (21 - 1)/42, ± 1.96 standard errors.
    assert lines[0] == (
        "| method | seeds | language | effect | 95 % interval | p | p (Holm) | won / lost |"
    )
    assert lines[2] == "| a\\|b & c | 2 | en | −2.5 | −10.4 to +5.7 | 0.562 | 0.562 | 0 / 1 |"
    assert lines[3] == "| a\\|b & c | 2 | si | +50.0▲ | +31.1 to +64.1 | <0.001 | <0.001 | 20 / 0 |"
    assert lines[5].startswith(
        "| a\\|b & c | 2 | average of 2 | +50.0▲ | +35.0 to +65.0 | <0.001 | – |"
    )
    assert lines[6].startswith("| a\\|b & c | 2 | other languages too | +50.0▲ |")
    assert lines[7:] == [
        "",
        "Percentage points over last. ▲ better, ▼ worse (p < 0.05; Holm-corrected in a language). "
        "won / lost: rows.",
    ]


def test_one_seed_has_no_marks_and_says_so_beside_every_number():
    for given in (GIVEN[::2], GIVEN[1:]):
        text = table(given).markdown()
        lines = text.splitlines()[2:7]
        assert len(lines) == 5
        assert all("(others not covered) |" in line for line in lines)
        assert "| si | +50.0 | +31.1 to +64.1 | <0.001 |" in lines[1]
        assert not set("▲▼") & set(text)
        assert text.endswith(
            "\nPercentage points over last. won / lost: rows. "
            "With one seed of a method, other seeds are not covered and no difference is marked.\n"
        )
        assert "textsuperscript" not in table(given).latex()
        rows = csv.DictReader(io.StringIO(table(given).csv()))
        assert {row["mark"] for row in rows} == {""}
        out = io.StringIO()
        Console(file=out, width=80).print(table(given).rich())
        assert "(others not covered)" in out.getvalue()
        assert not set("▲▼") & set(out.getvalue())


def test_csv():
    text = table().csv()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["language"] for row in rows] == ["en", "si", "ta", "average_fixed", "average"]
    assert rows[1]["method"] == "a|b & c"
    assert (rows[1]["effect"], rows[1]["mark"], rows[1]["rows"]) == ("50.00", "better", "40")
    assert float(rows[1]["p_holm"]) < 0.001
    assert (rows[0]["effect"], rows[0]["won"], rows[0]["lost"]) == ("-2.50", "0", "1")
    assert (rows[3]["p_holm"], rows[3]["rows"], rows[3]["mark"]) == ("", "", "better")
    assert (rows[0]["seeds"], rows[0]["against_seeds"], rows[0]["paired_seeds"]) == (
        "2",
        "2",
        "true",
    )


def test_latex():
    text = table().latex()
    assert text.startswith("\\begin{tabular}{lllrrrrr}\n\\toprule\n")
    assert "a|b \\& c & 2 & si & +50.0\\textsuperscript{+} & +31.1 to +64.1 & $<$0.001 &" in text
    assert "& en & $-$2.5 & $-$10.4 to +5.7 &" in text
    assert text.splitlines()[-2:][0] == "\\end{tabular}"


def test_a_terminal_of_80_columns():
    out = io.StringIO()
    Console(file=out, width=80).print(table().rich())
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert lines[1] == ["language", "a|b", "&", "c"]
    assert lines[3] == ["seeds", "2"]
    assert ["en", "−2.5", "(−10.4", "to", "+5.7)", "0.562"] in lines
    assert next(x for x in lines if x and x[0] == "other")[:3] == ["other", "languages", "too"]


def test_seeds_and_what_the_legend_says_of_them():
    def seeds(method, *answers, first=0):
        return [result(method, first + i, si=a, ta=a) for i, a in enumerate(answers)]

    pairs = [*seeds("last", LAST, LESS), *seeds("token", MORE, LAST)]
    text = table(pairs).markdown()
    assert "| token | 2 | si |" in text
    assert "other seeds" not in text
    text = table(pairs, other_seeds=False).markdown()
    assert text.endswith(" The effects are those of these runs alone, not of other seeds.\n")
    apart = [*pairs[:2], *seeds("token", MORE, LAST, LESS, first=5)]
    assert "| token | 3 / 2 | si |" in table(apart).markdown()


def test_no_average_no_line():
    given = [result("last", en=LAST), result("token", en=MORE)]
    assert len(table(given).markdown().splitlines()) == 5
    assert len(table(given).csv().splitlines()) == 2


def test_a_zero_has_no_minus():
    given = [result("last", en=LAST), result("token", en=LAST)]
    assert "| en | +0.0 | −6.6 to +6.6 | 1.000 | 1.000 | 0 / 0 |" in table(given).markdown()
