import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layerbridge.models.packing import Segment, pack


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_pack_moves_pads_to_the_left_and_keeps_the_order(data):
    batch = data.draw(st.integers(1, 4))
    widths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    counter, segments, rows = 1.0, [], [[] for _ in range(batch)]
    for width in widths:
        bits = data.draw(st.lists(st.booleans(), min_size=batch * width, max_size=batch * width))
        mask = torch.tensor(bits).view(batch, width)
        embeds = torch.empty(batch, width, 2)
        for b in range(batch):
            for s in range(width):
                embeds[b, s] = counter
                if mask[b, s]:
                    rows[b].append(counter)
                counter += 1
        segments.append(Segment(embeds, mask))
    packed = pack(segments)
    longest = max(map(len, rows))
    assert packed.inputs_embeds.shape == (batch, longest, 2)
    for b, row in enumerate(rows):
        pads = longest - len(row)
        assert packed.inputs_embeds[b, :, 0].tolist() == [0.0] * pads + row
        assert packed.inputs_embeds[b, :, 1].tolist() == [0.0] * pads + row
        assert packed.attention_mask[b].tolist() == [0] * pads + [1] * len(row)
        assert packed.position_ids[b].tolist() == [0] * pads + list(range(len(row)))
    assert packed.attention_mask.dtype == packed.position_ids.dtype == torch.long


def test_pack_drops_what_a_pad_holds():
    """Even a NaN: a pad's embedding must reach nobody, not even times zero."""
    embeds = torch.tensor([[[float("nan")], [1.0]], [[2.0], [3.0]]], requires_grad=True)
    packed = pack([Segment(embeds, torch.tensor([[False, True], [True, True]]))])
    assert packed.inputs_embeds.flatten().tolist() == [0.0, 1.0, 2.0, 3.0]
    packed.inputs_embeds.sum().backward()
    assert embeds.grad.flatten().tolist() == [0.0, 1.0, 1.0, 1.0]
