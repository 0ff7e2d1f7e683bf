import math

import pytest
import torch
from torch.nn import functional as F

from layerbridge.models.projection.perceiver import PerceiverProjection


def make(**options):
    torch.manual_seed(0)
    projection = PerceiverProjection(8, 12, latents=3, heads=2, head_width=5, **options).eval()
    with torch.no_grad():
        for parameter in projection.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    projection.standardize(torch.randn(8), torch.rand(8) + 0.5)
    return projection


def naive(projection, states):
    """One text without padding, latent by latent and head by head."""
    t = {name: p.detach() for name, p in projection.named_parameters()}
    x = (states - projection.mean) / projection.std
    z = list(t["latents"])
    for turn in range(len(projection.rounds)):

        def norm(name, v, turn=turn):
            of = f"rounds.{turn}.{name}"
            return F.layer_norm(v, (8,), t[f"{of}.weight"], t[f"{of}.bias"])

        kv = t[f"rounds.{turn}.key_value.weight"]
        q = t[f"rounds.{turn}.query.weight"]
        read = [norm("norm_states", v) for v in x] + [norm("norm_latents", v) for v in z]
        after = []
        for latent in z:
            heads = []
            for head in range(2):
                part = slice(5 * head, 5 * head + 5)
                query = q[part] @ norm("norm_latents", latent)
                keys = [kv[:10][part] @ v for v in read]
                values = [kv[10:][part] @ v for v in read]
                odds = [math.exp(float(query @ key) / math.sqrt(5)) for key in keys]
                heads.append(sum(o * v for o, v in zip(odds, values, strict=True)) / sum(odds))
            y = latent + t[f"rounds.{turn}.out.weight"] @ torch.cat(heads)
            of = f"rounds.{turn}.feedforward"
            inner = F.gelu(t[f"{of}.0.weight"] @ y + t[f"{of}.0.bias"])
            after.append(y + t[f"{of}.2.weight"] @ inner + t[f"{of}.2.bias"])
        z = after
    rows = [t["linear.weight"] @ v for v in z]
    return torch.stack([F.layer_norm(r, (12,), t["norm.weight"], t["norm.bias"]) for r in rows])


@pytest.mark.parametrize("depth", [1, 2])
def test_equals_the_equations_text_by_text(depth):
    projection = make(depth=depth)
    fused = torch.randn(2, 5, 8)
    mask = torch.tensor([[True, True, False, False, False], [True] * 5])
    found = projection(fused, mask)
    assert found.shape == (2, 3, 12)
    torch.testing.assert_close(found[0], naive(projection, fused[0, :2]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1], naive(projection, fused[1]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(projection(fused)[1], found[1])
    fused[0, 2:] = torch.inf  # padding
    assert torch.equal(projection(fused, mask), found)
    assert projection.soft_mask(mask).tolist() == [[True] * 3] * 2


def test_dropout_is_only_for_training():
    projection, fused = make(dropout=0.5), torch.randn(1, 4, 8)
    assert torch.equal(projection(fused), projection(fused))
    projection.train()
    assert not torch.equal(projection(fused), projection(fused))


def test_scaled_it_comes_out_at_the_scale():
    projection = make()
    projection.rescale(0.07)
    rms = projection(torch.randn(9, 4, 8)).square().mean().sqrt().item()
    assert rms == pytest.approx(0.07, rel=1e-3)
