import copy

import pytest
import torch
from torch import nn

import tiny
from layerbridge.models.exact_logits import with_exact
from layerbridge.models.option_scoring import option_scores
from layerbridge.models.packing import pack
from naive_lm import OPTIONS, random_prefix

FAMILIES = sorted(tiny.LANGUAGE_MODELS)
IDS = torch.tensor([3, 5, 8])


def head_of(rows, dtype):
    head = nn.Linear(len(rows[0]), len(rows), bias=False, dtype=dtype)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(rows))
    return head


def test_what_bfloat16_rounds_away_is_kept():
    """16 and 16.03 are one number there, and the first of equals would win."""
    head = head_of([[16.0, 0.0], [16.0, 0.03125], [0.0, 0.0]], torch.bfloat16)
    hidden = torch.ones(1, 2, dtype=torch.bfloat16)
    rounded = head(hidden)
    assert rounded[0, 0] == rounded[0, 1]
    exact = with_exact(rounded, hidden, torch.tensor([0, 1]), head, lambda logits: 2 * logits)
    assert exact.dtype == torch.float32
    assert exact.tolist() == [[32.0, 32.0625, 0.0]]


@pytest.mark.parametrize("head", [head_of([[1.0], [2.0]], torch.float32), nn.Identity()])
def test_what_needs_or_allows_nothing_stays_as_it_is(head):
    dtype = torch.float32 if isinstance(head, nn.Linear) else torch.bfloat16
    logits, hidden = torch.ones(1, 2, dtype=dtype), torch.ones(1, 1, dtype=dtype)
    assert with_exact(logits, hidden, torch.tensor([0]), head, lambda each: each) is logits


@pytest.fixture
def halved(load_lm):
    """A copy of the language model of that name in bfloat16."""

    def load(name):
        lm = copy.deepcopy(load_lm(name))
        lm.model.to(torch.bfloat16)
        return lm

    return load


@pytest.mark.parametrize("name", FAMILIES)
def test_they_are_the_heads_own_up_to_rounding(load_lm, name):
    lm = load_lm(name)
    packed = pack(random_prefix(lm, [3, 5])[0])
    arguments = (packed.inputs_embeds, packed.attention_mask)
    plain, _ = lm.last_logits(*arguments)
    # In float32 to the bit.
    assert torch.equal(lm.last_logits(*arguments, exact=IDS)[0], plain)
    hidden = lm.model.base_model(**lm._arguments(*arguments)).last_hidden_state[:, -1:]
    head = lm.model.get_output_embeddings()
    half = lm.head(hidden).bfloat16()
    found = with_exact(half, hidden, IDS, head, lm._shaped)
    torch.testing.assert_close(found[..., IDS], plain[..., IDS], atol=1e-5, rtol=1e-5)
    others = torch.ones(plain.shape[-1], dtype=torch.bool)
    others[IDS] = False
    assert torch.equal(found[..., others], half.float()[..., others])


@pytest.mark.parametrize("name", FAMILIES)
def test_option_scores_in_bfloat16_use_them(halved, name, monkeypatch):
    """For every pass: the first tokens, and the rest of longer options."""
    lm = halved(name)
    assert lm.traits.head_is_separable
    calls = []
    monkeypatch.setattr(
        "layerbridge.models.passes.with_exact",
        lambda logits, hidden, ids, *_: calls.append(ids) or logits.float(),
    )
    pieces, _ = random_prefix(lm, [3, 6])
    scores = option_scores(lm, pieces, OPTIONS)
    assert scores.dtype == torch.float32
    wanted = sorted({id for option in OPTIONS for id in option})
    assert [ids.tolist() for ids in calls] == [wanted] * len(calls)
    lengths = {len(option) for option in OPTIONS} - {1}
    assert len(calls) == 1 + len(lengths)
