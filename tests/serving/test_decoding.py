import pytest
import torch

import tiny
from layerbridge.models.packing import Segment
from layerbridge.serving.decoding import Decoding, Row, Sampling

FAMILIES = sorted(tiny.LANGUAGE_MODELS)
LENGTHS = (7, 3, 5, 1)


@pytest.fixture
def prompts(load_lm):
    def make(name, lengths=LENGTHS):
        lm = load_lm(name)
        torch.manual_seed(1)
        ids = [torch.randint(len(lm.tokenizer), (length,)) for length in lengths]
        return lm, [lm.embed(row) for row in ids]

    return make


def alone(lm, prompt, sampling, steps):
    """The tokens of one row that has no company, end tokens among them."""
    decoding = Decoding(lm, [prompt], [Row(sampling)])
    found = []
    for _ in range(steps):
        (token,) = decoding.sample()
        found.append(token)
        decoding.advance([token.id])
    return found


def ids(tokens):
    return [token.id for token in tokens]


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_tokens_are_those_of_transformers(prompts, name):
    lm, rows = prompts(name)
    decoding = Decoding(lm, rows, [Row(Sampling()) for _ in rows])
    found = [[] for _ in rows]
    for _ in range(6):
        chosen = decoding.sample()
        for row, token in zip(found, chosen, strict=True):
            row.append(token.id)
        decoding.advance(ids(chosen))
    for prompt, row in zip(rows, found, strict=True):
        whole = Segment(prompt[None], torch.ones(1, len(prompt), dtype=torch.bool))
        # Nothing ends it, so that all steps are compared.
        expected = lm.generate([whole], max_new_tokens=6, do_sample=False, eos_token_id=[-1])
        assert row == expected[0].tolist()


@pytest.mark.parametrize("name", FAMILIES)
def test_company_changes_nothing(prompts, name):
    """Rows that come later, leave early, and draw at random write what they would write alone."""
    lm, rows = prompts(name)
    settings = [
        Sampling(logprobs=2),
        Sampling(temperature=0.8, seed=3),
        Sampling(temperature=1.3, top_p=0.7, seed=4),
        Sampling(),
    ]
    found = [[] for _ in rows]
    decoding = Decoding(lm, rows[:2], [Row(it) for it in settings[:2]])
    late = Decoding(lm, rows[2:], [Row(it) for it in settings[2:]])
    places = [0, 1]

    def step(decoding, places):
        chosen = decoding.sample()
        for place, token in zip(places, chosen, strict=True):
            found[place].append(token)
        decoding.advance(ids(chosen))

    step(decoding, places)
    step(decoding, places)
    if decoding.can_join:
        decoding.join(late)
        places = [0, 1, 2, 3]
    step(decoding, places)
    decoding.keep(range(1, len(places)))  # the longest leaves
    del places[0]
    step(decoding, places)
    step(decoding, places)
    assert len(decoding.rows) == len(places)
    for place, row in enumerate(found):
        expected = alone(lm, rows[place], settings[place], len(row))
        assert ids(row) == ids(expected)
    for token, other in zip(found[0], alone(lm, rows[0], settings[0], 3), strict=True):
        assert token.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert len(token.top) == 2
        assert token.top[0] == (token.id, token.logprob)


def test_what_leaves_takes_its_padding_along(prompts):
    lm, rows = prompts("llama")
    decoding = Decoding(lm, rows, [Row(Sampling()) for _ in rows])
    assert decoding.mask.shape[1] == 7
    decoding.keep([3, 1])
    assert decoding.mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    assert {layer.keys.shape[2] for layer in decoding.cache.layers} == {3}


def test_logprobs_are_the_models_own_whatever_is_drawn(prompts):
    lm, rows = prompts("llama")
    sampling = Sampling(temperature=2.0, top_p=0.9, seed=1, logprobs=3)
    (token,) = Decoding(lm, rows[:1], [Row(sampling)]).sample()
    logits = lm.model(inputs_embeds=rows[0][None]).logits[0, -1].log_softmax(-1)
    assert token.logprob == pytest.approx(float(logits[token.id]), abs=1e-5)
    assert [at for at, _ in token.top] == logits.topk(3).indices.tolist()


@pytest.mark.parametrize(
    ("top_p", "allowed"), [(1e-9, {2}), (0.5, {2}), (0.6, {2, 0}), (0.85, {2, 0, 3}), (1.0, None)]
)
def test_top_p_keeps_the_fewest_tokens_that_have_so_much(prompts, top_p, allowed):
    lm, rows = prompts("llama")
    row = Row(Sampling(temperature=1.0, top_p=top_p, seed=0))
    decoding = Decoding(lm, rows[:1], [row])
    probabilities = torch.tensor([[0.3, 0.05, 0.5, 0.1, 0.05]])
    decoding.logits = probabilities.log()
    drawn = {decoding.sample()[0].id for _ in range(400)}
    assert drawn == (allowed or {0, 1, 2, 3, 4})


def test_draws_follow_the_probabilities_and_the_temperature(prompts):
    lm, rows = prompts("llama")
    for temperature, expected in ((1.0, 0.8), (2.0, 2 / 3)):
        decoding = Decoding(lm, rows[:1], [Row(Sampling(temperature=temperature, seed=0))])
        decoding.logits = torch.tensor([[0.8, 0.2]]).log()
        draws = [decoding.sample()[0].id for _ in range(2000)]
        assert draws.count(0) / 2000 == pytest.approx(expected, abs=0.035)


def test_without_a_seed_draws_differ(prompts):
    lm, rows = prompts("llama")
    how = Sampling(temperature=5.0)
    assert len({tuple(ids(alone(lm, rows[0], how, 6))) for _ in range(4)}) > 1
