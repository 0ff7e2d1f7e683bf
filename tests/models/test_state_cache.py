import pytest
import torch

from layerbridge.models.state_cache import MappedStateCache, StateCache


@pytest.fixture(params=["in memory", "in a file"])
def cache(request, tmp_path):
    """A cache of all three layers."""
    if request.param == "in memory":
        yield StateCache()
        return
    cache = MappedStateCache(tmp_path, layers=range(3))
    yield cache
    cache.close()


def test_holds_what_it_is_given(cache):
    assert len(cache) == 0
    assert cache.bytes == 0
    assert "a" not in cache
    cache.put("a", torch.randn(3, 2, 8).bfloat16())
    cache.put("b", torch.randn(3, 5, 8).bfloat16())
    assert len(cache) == 2
    assert "a" in cache
    assert cache.bytes == 3 * (2 + 5) * 8 * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_batch_in_the_order_asked_with_pads_on_the_right(cache, dtype):
    rows = {
        text: torch.randn(3, length, 8).to(dtype) for text, length in (("a", 2), ("b", 5), ("c", 1))
    }
    for text, states in rows.items():
        cache.put(text, states)
    asked = ["c", "b", "a", "b"]
    states = cache.batch(asked)
    assert states.stacked.shape == (3, 4, 5, 8)
    assert states.stacked.dtype == dtype
    assert states.mask.tolist() == [[i < n for i in range(5)] for n in (1, 5, 2, 5)]
    for row, text in enumerate(asked):
        length = rows[text].shape[1]
        assert torch.equal(states.stacked[:, row, :length], rows[text])
        assert states.stacked[:, row, length:].count_nonzero() == 0
    assert cache.batch(["c"]).stacked.shape == (3, 1, 1, 8)  # no wider than its own


def test_it_takes_more_after_it_was_read(cache):
    rows = {str(n): torch.randn(3, 1 + n, 8) for n in range(4)}
    for count, (text, states) in enumerate(rows.items(), 1):
        cache.put(text, states)
        for known in list(rows)[:count]:
            assert torch.equal(cache.batch([known]).stacked[:, 0], rows[known])


def test_what_it_gives_is_the_askers_own(cache):
    cache.put("a", torch.ones(3, 2, 8))
    cache.batch(["a"]).stacked.zero_()
    assert cache.batch(["a"]).stacked.all()


def test_a_text_it_has_not_is_a_bug_of_the_caller(cache):
    with pytest.raises(KeyError):
        cache.batch(["a"])


def test_rows_that_are_parts_of_a_batch(cache):
    # As the encoder gives them: neither contiguous nor a tensor of their own.
    states = torch.randn(5, 4, 3, 8).transpose(0, 2)  # [3, 4, 5, 8]
    cache.put("a", states[:, 1, :2])
    assert torch.equal(cache.batch(["a"]).stacked[:, 0], states[:, 1, :2])


# Of some layers only


def test_layers_that_are_not_kept_have_a_shape_and_no_numbers(tmp_path):
    cache = MappedStateCache(tmp_path, layers=(2, 0))
    rows = {"a": torch.randn(4, 2, 8), "b": torch.randn(4, 5, 8)}
    for text, row in rows.items():
        cache.put(text, row)
    assert cache.bytes == 2 * (2 + 5) * 8 * 4
    states = cache.batch(["b", "a"])
    assert len(states) == 4
    assert {layer.shape for layer in states.layers} == {(2, 5, 8)}
    for place in (0, 2):
        assert torch.equal(states.layers[place][0], rows["b"][place])
        assert torch.equal(states.layers[place][1, :2], rows["a"][place])
    assert [layer.is_meta for layer in states.layers] == [False, True, False, True]
    moved = states.to("cpu").rms_normalized()
    assert [layer.is_meta for layer in moved.layers] == [False, True, False, True]
    with pytest.raises((NotImplementedError, RuntimeError)):
        states.stacked.sum().item()
    cache.close()


def test_a_closed_file_is_gone(tmp_path):
    cache = MappedStateCache(tmp_path, layers=range(3))
    cache.put("a", torch.ones(3, 2, 8))
    states = cache.batch(["a"])
    cache.close()
    assert "a" not in cache
    assert states.stacked.all()
    assert list(tmp_path.iterdir()) == []
