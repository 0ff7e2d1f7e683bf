import pytest
import torch

from layerbridge.state_cache import StateCache


def test_holds_what_it_is_given():
    cache = StateCache()
    assert len(cache) == 0
    assert cache.bytes == 0
    assert "a" not in cache
    cache.put("a", torch.randn(3, 2, 8))
    cache.put("b", torch.randn(3, 5, 8).bfloat16())
    assert len(cache) == 2
    assert "a" in cache
    assert cache.bytes == 3 * 2 * 8 * 4 + 3 * 5 * 8 * 2


def test_batch_in_the_order_asked_with_pads_on_the_right():
    cache = StateCache()
    rows = {"a": torch.randn(3, 2, 8), "b": torch.randn(3, 5, 8), "c": torch.randn(3, 1, 8)}
    for text, states in rows.items():
        cache.put(text, states)
    asked = ["c", "b", "a", "b"]
    states = cache.batch(asked)
    assert states.stacked.shape == (3, 4, 5, 8)
    assert states.mask.tolist() == [[i < n for i in range(5)] for n in (1, 5, 2, 5)]
    for row, text in enumerate(asked):
        length = rows[text].shape[1]
        assert torch.equal(states.stacked[:, row, :length], rows[text])
        assert states.stacked[:, row, length:].count_nonzero() == 0
    assert cache.batch(["c"]).stacked.shape == (3, 1, 1, 8)  # no wider than its own


def test_a_text_it_has_not_is_a_bug_of_the_caller():
    with pytest.raises(KeyError):
        StateCache().batch(["a"])
