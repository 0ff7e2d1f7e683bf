import torch
from accelerate.utils import send_to_device

from layerbridge.models.hidden_states import RMS_EPSILON, HiddenStates

MASK = torch.tensor([[True, True, False], [True, True, True]])


def test_layers_and_stack_are_two_views_of_the_same():
    stacked = torch.randn(4, 2, 3, 8)
    for states in (HiddenStates(stacked, MASK), HiddenStates(list(stacked), MASK)):
        assert len(states) == 4
        assert torch.equal(states.stacked, stacked)
        assert torch.equal(states.last, stacked[3])
        for layer, expected in zip(states.layers, stacked, strict=True):
            assert torch.equal(layer, expected)


def test_one_tensor_is_not_copied():
    stacked = torch.randn(4, 2, 3, 8)
    states = HiddenStates(stacked, MASK)
    assert states.stacked is stacked
    assert states.last.data_ptr() == stacked[3].data_ptr()
    made = HiddenStates(list(stacked), MASK)
    assert made.stacked is made.stacked  # stacked once


def test_mask_becomes_boolean():
    states = HiddenStates(torch.randn(1, 2, 3, 8), MASK.long())
    assert states.mask.dtype == torch.bool
    assert torch.equal(states.mask, MASK)


def test_rms_normalized_token_by_token_and_layer_by_layer():
    stacked = torch.randn(4, 2, 3, 8) * torch.tensor([1, 40, 1600, 0.5]).view(4, 1, 1, 1)
    states = HiddenStates(stacked, MASK).rms_normalized()
    assert torch.equal(states.mask, MASK)
    for i in range(4):
        for b in range(2):
            for s in range(3):
                h = stacked[i, b, s]
                rms = (sum(x * x for x in h.tolist()) / 8) ** 0.5
                torch.testing.assert_close(states.layers[i][b, s], h / rms)
    square = states.stacked.square().mean(-1)
    torch.testing.assert_close(square, torch.ones_like(square))


def test_rms_normalized_leaves_zero_at_zero_and_keeps_the_dtype():
    states = HiddenStates(torch.zeros(2, 2, 3, 8), MASK).rms_normalized()
    assert states.stacked.count_nonzero() == 0
    tiny = HiddenStates(torch.full((1, 2, 3, 8), 1e-5), MASK).rms_normalized()
    torch.testing.assert_close(tiny.last, torch.full((2, 3, 8), 1e-5 / RMS_EPSILON**0.5))
    loud = torch.full((1, 2, 3, 8), 3e4, dtype=torch.float16)  # its square is beyond float16
    assert torch.equal(
        HiddenStates(loud, MASK).rms_normalized().last, torch.ones(2, 3, 8, dtype=torch.float16)
    )


def test_to_moves_layers_and_mask():
    moved = HiddenStates(torch.randn(4, 2, 3, 8), MASK).to("meta")
    assert {layer.device.type for layer in moved.layers} == {"meta"}
    assert moved.mask.device.type == "meta"


def test_to_moves_the_stack_in_one_piece():
    stacked = torch.randn(4, 2, 3, 8)
    moved = HiddenStates(stacked, MASK).to("cpu")
    assert moved.stacked is stacked
    assert moved.last.data_ptr() == stacked[3].data_ptr()


def test_layers_without_numbers_stay_where_they_are():
    last = torch.randn(2, 3, 8)
    states = HiddenStates([torch.empty_like(last, device="meta"), last], MASK)
    moved = states.to("cpu")
    assert [layer.is_meta for layer in moved.layers] == [True, False]
    assert torch.equal(moved.last, last)


def test_accelerate_moves_them_with_the_rest_of_a_batch():
    batch = {"hidden_states": HiddenStates(torch.randn(4, 2, 3, 8), MASK), "labels": torch.ones(2)}
    moved = send_to_device(batch, torch.device("meta"), non_blocking=True)
    assert moved["hidden_states"].last.is_meta
    assert moved["hidden_states"].mask.is_meta
