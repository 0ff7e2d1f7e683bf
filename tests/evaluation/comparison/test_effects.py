import dataclasses
import random

import pytest

from layerbridge.errors import ResultError
from layerbridge.evaluation.comparison import compare
from layerbridge.evaluation.results import LanguageResult
from layerbridge.evaluation.statistics.averages import average_difference
from layerbridge.evaluation.statistics.paired import difference, holm, mcnemar
from made_results import answers, result

LAST = "1" * 5 + "0" * 8 + "1" * 2 + "0" * 35
BETTER = "1" * 5 + "1" * 8 + "0" * 2 + "0" * 35
ONE_SEED = [
    result("last", en=LAST, si=LAST, ta=LAST),
    result("token", en=BETTER, si=BETTER, ta="1" * 50),
]


def test_one_seed_by_hand():
    (found,) = compare(ONE_SEED, "last")
    assert (found.method, found.against) == ("token", "last")
    assert list(found.languages) == ["en", "si", "ta"]
    si, ta = found.languages["si"], found.languages["ta"]
    assert (si.n, si.discordant, ta.discordant) == (50, (8, 2), (43, 0))
    assert si.effect == pytest.approx(12)
    assert si.p == mcnemar(8, 2) == pytest.approx(0.109375)
    # Holm: the smallest of three times 3, the next two times 2, which the last may not undercut.
    assert ta.p_holm == pytest.approx(3 * 2 / 2**43)
    assert si.p_holm == found.languages["en"].p_holm == pytest.approx(2 * 0.109375)
    assert (found.seeds, found.against_seeds, found.paired_seeds) == ((0,), (0,), True)


def marks(found):
    """All marks of a comparison: of its languages, the average, and other languages too."""
    effects = [*found.languages.values(), found.average_fixed, found.average]
    assert all(effect.significant == (effect.mark is not None) for effect in effects)
    return [effect.mark for effect in effects]


TWO_SEEDS = [*ONE_SEED, *(dataclasses.replace(each, seed=1) for each in ONE_SEED)]


def test_what_is_marked_with_several_seeds():
    (found,) = compare(TWO_SEEDS, "last")
    assert marks(found) == [None, None, "better", "better", None]
    (found,) = compare(TWO_SEEDS, "token")
    assert marks(found) == [None, None, "worse", "worse", None]
    assert found.languages["si"].effect == pytest.approx(-12)


@pytest.mark.parametrize("other_seeds", [True, False])
@pytest.mark.parametrize(
    ("last", "token"), [((0,), (0,)), ((0,), (1,)), ((0, 1), (0,)), ((0,), (0, 1)), ((0,), (1, 2))]
)
def test_nothing_is_marked_if_a_method_has_one_seed(last, token, other_seeds):
    given = [
        dataclasses.replace(each, seed=seed)
        for each, numbers in zip(ONE_SEED, (last, token), strict=True)
        for seed in numbers
    ]
    for against in ("last", "token"):
        (found,) = compare(given, against, other_seeds=other_seeds)
        assert not any(marks(found))
        assert (found.several_seeds, found.other_seeds) == (False, False)
        assert found.languages["ta"].p_holm < 1e-6  # however clear the rows are


TF_IDF = {"ngram_range": [1, 4], "train_rows": 9}
ZERO_SHOT = {"prompt": "{text}", "language_model": "lm"}


@pytest.mark.parametrize(
    ("settings", "same_with_every_seed"),
    [
        (TF_IDF, True),
        (ZERO_SHOT, True),
        (ZERO_SHOT | {"translator": {}}, True),
        (ZERO_SHOT | {"shots": ["1"]}, False),  # other examples
        (ZERO_SHOT | {"shots": ["1"], "translator": {}}, False),
        ({"bridge": {}}, False),
        ({}, False),
    ],
)
def test_a_baseline_without_a_seed_needs_one_result(settings, same_with_every_seed):
    # The name may be any: it is the user's, or tells settings apart.
    given = [dataclasses.replace(TWO_SEEDS[0], method="floor", settings=settings)]
    (found,) = compare([*given, *TWO_SEEDS[1::2]], "floor")
    assert found.several_seeds == same_with_every_seed
    assert marks(found)[2] == ("better" if same_with_every_seed else None)


def test_two_baselines_without_seeds_are_not_marked():
    (found,) = compare(
        [
            dataclasses.replace(each, settings=of)
            for each, of in zip(ONE_SEED, (TF_IDF, ZERO_SHOT), strict=True)
        ],
        ONE_SEED[0].method,
    )
    assert not any(marks(found))


def test_the_average_is_over_the_languages_but_english():
    (found,) = compare(ONE_SEED, "last")
    assert found.average.languages == found.average_fixed.languages == ("si", "ta")
    assert found.average.effect == pytest.approx((12 + 86) / 2)
    assert (
        found.average.high - found.average.low > found.average_fixed.high - found.average_fixed.low
    )


def seeds(method, *numbers, **right):
    return [
        result(method, number, **{code: values[i] for code, values in right.items()})
        for i, number in enumerate(numbers)
    ]


SI = ("1101001101", "1001001001", "1100001100")
TA = ("1111001101", "1001101001", "0100001100")
SI_MORE = ("1101111101", "1001011001", "1111001101")
TA_MORE = ("1111101101", "1001101111", "1101001100")
SEEDS = [
    *seeds("last", 0, 1, 2, si=SI, ta=TA),
    *seeds("token", 0, 1, 2, si=SI_MORE, ta=TA_MORE),
]


def test_several_seeds_are_what_statistics_says():
    (found,) = compare(SEEDS, "last", draws=2000, seed=4)
    si = difference(answers(*SI_MORE), answers(*SI), paired_seeds=True)
    ta = difference(answers(*TA_MORE), answers(*TA), paired_seeds=True)
    for code, expected in (("si", si), ("ta", ta)):
        entry = found.languages[code]
        assert (entry.effect, entry.low, entry.high) == pytest.approx(
            [100 * x for x in expected[:3]]
        )
        assert entry.p == expected.p
    assert [e.p_holm for e in found.languages.values()] == holm([si.p, ta.p])
    rows = [str(i) for i in range(10)]
    average = average_difference(
        {"si": answers(*SI_MORE, rows=rows), "ta": answers(*TA_MORE, rows=rows)},
        {"si": answers(*SI, rows=rows), "ta": answers(*TA, rows=rows)},
        paired_seeds=True,
        draws=2000,
        seed=4,
    )
    for entry, expected in ((found.average_fixed, average.these), (found.average, average.others)):
        given = (entry.effect, entry.low, entry.high, 100 * entry.p)
        assert given == pytest.approx([100 * x for x in expected])


def test_seeds_pair_by_number_and_not_by_place():
    turned = [SEEDS[i] for i in (1, 0, 2, 5, 3, 4)]
    assert compare(turned, "last") == compare(SEEDS, "last")
    (paired,) = compare(SEEDS, "last")
    others = [*SEEDS[:3], *(dataclasses.replace(r, seed=r.seed + 1) for r in SEEDS[3:])]
    (apart,) = compare(others, "last")
    assert paired.paired_seeds
    assert not apart.paired_seeds
    assert (apart.seeds, apart.against_seeds) == ((1, 2, 3), (0, 1, 2))
    si = difference(answers(*SI_MORE), answers(*SI), paired_seeds=False)
    assert apart.languages["si"].p == si.p
    assert apart.languages["si"].effect == pytest.approx(paired.languages["si"].effect)


def test_a_baseline_of_one_seed_stands_against_all_seeds():
    floor = [result("floor", 0, run=run, si=SI[1], ta=TA[1]) for run in ("a", "b", "c")]
    (found,) = compare([*floor, *SEEDS[3:]], "floor")
    assert (found.seeds, found.against_seeds, found.paired_seeds) == ((0, 1, 2), (0,), False)
    mean = sum(seed.count("1") for seed in SI_MORE) / 3
    assert found.languages["si"].effect == pytest.approx(10 * (mean - SI[1].count("1")))


def test_these_seeds_alone_is_a_smaller_question():
    (found,) = compare(SEEDS, "last")
    (alone,) = compare(SEEDS, "last", other_seeds=False)
    assert found.other_seeds
    assert not alone.other_seeds
    assert alone.languages["si"].p < found.languages["si"].p
    assert alone.average_fixed.p < found.average_fixed.p


def shuffled(given, random):
    """The same results: languages, rows and files in another order."""
    made = []
    for one in given:
        codes = list(one.languages)
        random.shuffle(codes)
        languages = {}
        for code in codes:
            entry = one.languages[code]
            rows = list(entry.predictions)
            random.shuffle(rows)
            languages[code] = LanguageResult.of(rows)
        made.append(dataclasses.replace(one, languages=languages))
    random.shuffle(made)
    return made


def test_order_changes_nothing_and_the_generators_seed_does():
    (expected,) = compare(SEEDS, "last")
    for number in range(2):
        (found,) = compare(shuffled(SEEDS, random.Random(number)), "last")
        assert {c: found.languages[c] for c in sorted(found.languages)} == expected.languages
        for name in ("average", "average_fixed"):
            given, wanted = (
                dataclasses.replace(getattr(each, name), languages=()) for each in (found, expected)
            )
            assert given == wanted
    (other,) = compare(SEEDS, "last", seed=1)
    assert other.languages == expected.languages
    assert other.average != expected.average


def test_another_method_moves_no_number():
    alone = compare(SEEDS, "last")
    third = seeds("uniform", 0, 1, 2, si=SI, ta=TA)
    beside = compare([*third, *SEEDS], "last")
    assert [found.method for found in beside] == ["uniform", "token"]
    assert beside[1:] == alone
    assert beside[0].languages["si"].effect == 0
    assert beside[0].average.p == 1


def test_some_languages():
    (found,) = compare(ONE_SEED, "last", languages=["ta", "en"])
    assert list(found.languages) == ["en", "ta"]
    # Fewer languages, less to correct; one is no average for others.
    assert found.languages["ta"].p_holm == pytest.approx(2 * 2 / 2**43)
    assert found.average is None
    assert found.average_fixed.languages == ("ta",)
    assert found.average_fixed.p == found.languages["ta"].p


def test_languages_that_one_of_them_lacks():
    given = [result("last", en="10", si="10", ta="10"), result("token", si="11", am="11", ta="11")]
    (found,) = compare(given, "last")
    assert list(found.languages) == ["si", "ta"]
    assert found.average.languages == ("si", "ta")


def test_english_alone_has_no_average():
    (found,) = compare([result("last", en="10"), result("token", en="11")], "last")
    assert (found.average, found.average_fixed) == (None, None)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (
            ONE_SEED,
            {"against": "lst"},
            "no result of the method 'lst'; allowed: last, token",
        ),
        (
            ONE_SEED[:1],
            {},
            "there is nothing to compare with last; next: add a result of another method",
        ),
        (ONE_SEED, {"languages": ["xx"]}, "no result has the language 'xx'; allowed: en, si, ta"),
        (
            [ONE_SEED[0], result("token", am="11")],
            {},
            "token and last have no language in common; allowed: results in the same languages",
        ),
        ([], {}, "there are no results to compare; allowed: one or more"),
    ],
)
def test_what_cannot_be_compared(given, options, message):
    with pytest.raises(ResultError) as error:
        compare(given, **options)
    assert str(error.value) == message


def test_other_rows_are_refused():
    with pytest.raises(ResultError, match="last and token were tested on different rows in si"):
        compare([result("last", si="10"), result("token", si="101")])
