import pytest
import torch

import tiny
from layerbridge.models import caches, option_scoring
from layerbridge.models.option_scoring import best_options, option_scores, scored_options
from layerbridge.models.packing import Segment, pack
from layerbridge.models.probes.language_model_traits import LanguageModelTraits
from naive_lm import OPTIONS, naive_scores, random_prefix

FAMILIES = sorted(tiny.LANGUAGE_MODELS)
LENGTHS = [3, 6, 1, 4]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "options",
    [OPTIONS, OPTIONS[:1], OPTIONS[2:3], [[4], [5], [6]], [[5, 6], [5, 7]], [[5, 6], [5, 6]]],
    ids=["mixed", "one", "one-token", "single-tokens", "one-length", "twice"],
)
def test_option_scores_equal_full_forwards(load_lm, whole, name, options):
    lm = load_lm(name)
    pieces, rows = random_prefix(lm, LENGTHS, instruction="Answer:")
    expected = naive_scores(whole(name), rows, options)
    assert expected.shape == (4, len(options))
    torch.testing.assert_close(option_scores(lm, pieces, options), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_option_scores_by_the_model_itself(load_lm, whole, monkeypatch, name):
    lm = load_lm(name)
    monkeypatch.setattr(lm, "traits", LanguageModelTraits(head_is_separable=False))
    pieces, rows = random_prefix(lm, LENGTHS)
    expected = naive_scores(whole(name), rows, OPTIONS)
    torch.testing.assert_close(option_scores(lm, pieces, OPTIONS), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("rows", [1, 5, 7])
@pytest.mark.parametrize("shared", [True, False])
def test_option_scores_in_passes_of_any_size(load_lm, whole, monkeypatch, name, rows, shared):
    """Fewer rows a pass than pairs; a cache of a kind that must be copied whole."""
    lm = load_lm(name)
    monkeypatch.setattr(option_scoring, "PASS_ROWS", rows)
    if not shared:
        monkeypatch.setattr(caches, "GROWING", ())
    pieces, full = random_prefix(lm, LENGTHS)
    expected = naive_scores(whole(name), full, OPTIONS)
    torch.testing.assert_close(option_scores(lm, pieces, OPTIONS), expected, atol=1e-4, rtol=1e-5)
    assert best_options(lm, pieces, OPTIONS).tolist() == expected.argmax(1).tolist()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_option_scores_in_bounded_memory(load_lm, whole, monkeypatch, name, tokens):
    """No pass has more logits or cache than it may, down to one token of one row."""
    lm = load_lm(name)
    pieces, full = random_prefix(lm, LENGTHS)
    monkeypatch.setattr(option_scoring, "PASS_CACHE_TOKENS", 1)
    expected = naive_scores(whole(name), full, OPTIONS)
    vocabulary = lm.next_logits(pieces).shape[-1]
    monkeypatch.setattr(option_scoring, "PASS_LOGITS", 4 * tokens * vocabulary)
    seen, last_logits = [], lm.last_logits

    def watched(*arguments, **settings):
        logits, cache = last_logits(*arguments, **settings)
        seen.append(logits.numel() // vocabulary)
        return logits, cache

    monkeypatch.setattr(lm, "last_logits", watched)
    torch.testing.assert_close(option_scores(lm, pieces, OPTIONS), expected, atol=1e-4, rtol=1e-5)
    assert max(seen) <= 4 * tokens
    # Four rows a pass, as many as the batch has, whatever the cache may take.
    assert len(seen) > 4


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_option_scores_after_a_row_that_all_share(load_lm, name):
    lm = load_lm(name)
    pieces, _ = random_prefix(lm, LENGTHS)
    shared, _ = random_prefix(lm, (5,))
    whole = [Segment(piece.embeds.expand(4, -1, -1), piece.mask.expand(4, -1)) for piece in shared]
    expected = option_scores(lm, [*whole, *pieces], OPTIONS)
    _, after = lm.prefill(pack(shared))
    for _ in range(2):  # the cache stays as it is
        scores = option_scores(lm, pieces, OPTIONS, after=after)
        torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-5)


def test_option_scores_run_the_prefix_once(load_lm):
    """One pass over the prefix, then one short pass for each length."""
    lm = load_lm("llama")
    pieces, _ = random_prefix(lm, LENGTHS)
    seen = []
    handle = lm.model.base_model.register_forward_pre_hook(
        lambda module, arguments, kwargs: seen.append(tuple(kwargs["inputs_embeds"].shape[:2])),
        with_kwargs=True,
    )
    try:
        option_scores(lm, pieces, OPTIONS)
    finally:
        handle.remove()
    assert seen[0] == (4, pack(pieces).inputs_embeds.shape[1])
    assert sorted(seen[1:]) == [(4, 1), (8, 2), (8, 3)]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("divisors", [None, [3, 2, 1, 3, 4, 4]], ids=["sum", "mean"])
def test_best_options_are_the_best_of_all_scores(load_lm, whole, name, divisors):
    lm = load_lm(name)
    pieces, rows = random_prefix(lm, LENGTHS)
    expected = naive_scores(whole(name), rows, OPTIONS) / torch.tensor(divisors or [1] * 6)
    assert best_options(lm, pieces, OPTIONS, divisors).tolist() == expected.argmax(1).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_best_options_where_a_promising_first_token_disappoints(load_lm, seed):
    """Random options of random lengths: the likeliest first token often begins a loser."""
    lm = load_lm("llama")
    generator = torch.Generator().manual_seed(seed)
    pieces, _ = random_prefix(lm, LENGTHS)
    options = [
        torch.randint(4, 40, (int(length),), generator=generator).tolist()
        for length in torch.randint(1, 5, (7,), generator=generator)
    ]
    scores = option_scores(lm, pieces, options)
    assert best_options(lm, pieces, options).tolist() == scores.argmax(1).tolist()


def test_best_options_score_only_what_can_win(load_lm):
    """Options whose first token alone is worse than a whole rival are not continued."""
    lm = load_lm("llama")
    pieces, _ = random_prefix(lm, LENGTHS)
    first = lm.next_logits(pieces).log_softmax(-1)
    best, worst = int(first[0].argmax()), int(first[0].argmin())
    row = [type(pieces[0])(piece.embeds[:1], piece.mask[:1]) for piece in pieces]
    seen = []
    handle = lm.model.base_model.register_forward_pre_hook(
        lambda module, arguments, kwargs: seen.append(tuple(kwargs["inputs_embeds"].shape[:2])),
        with_kwargs=True,
    )
    try:
        assert best_options(lm, row, [[worst, 5, 6], [best]]).tolist() == [1]
    finally:
        handle.remove()
    assert len(seen) == 1  # the prefix, and nothing of the loser


@pytest.mark.parametrize("name", FAMILIES)
def test_options_that_rows_do_not_share(load_lm, whole, name):
    """Scores of the wanted options, and whether each is what greedy decoding gives."""
    lm = load_lm(name)
    pieces, rows = random_prefix(lm, LENGTHS)
    # The most likely three tokens of one row, its first two, and others.
    ids = lm.generate(pieces, max_new_tokens=3, min_new_tokens=3, do_sample=False).tolist()
    options = [*(row[:count] for row in ids for count in (3, 2, 1)), [5, 6], [7]]
    wanted = torch.rand(len(LENGTHS), len(options)) < 0.5
    wanted[:, 3] = True
    given = scored_options(lm, pieces, options, wanted)
    expected = naive_scores(whole(name), rows, options)
    torch.testing.assert_close(given.scores[wanted], expected[wanted], atol=1e-4, rtol=1e-5)
    greedy = [[row[: len(option)] == option for option in options] for row in ids]
    assert given.greedy[wanted].tolist() == torch.tensor(greedy)[wanted].tolist()
