import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from layerbridge.errors import ConfigError
from layerbridge.models import fusion
from layerbridge.models.fusion import token_softmax
from layerbridge.models.fusion.token_softmax import TokenSoftmax
from layerbridge.models.hidden_states import HiddenStates


@st.composite
def shapes(draw):
    heads = draw(st.sampled_from([1, 2, 3, 4]))
    return {
        "layers": draw(st.integers(1, 7)),
        "batch": draw(st.integers(1, 3)),
        "tokens": draw(st.integers(1, 6)),
        "heads": heads,
        "width": heads * draw(st.integers(1, 8)),
        "seed": draw(st.integers(0, 2**16)),
    }


def scattered(layers, width, heads, seed=0, **options):
    """A strategy with no parameter at the value it starts from, least of all a zero."""
    torch.manual_seed(seed)
    strategy = TokenSoftmax(layers, width, heads=heads, feedforward=24, dropout=0.0, **options)
    with torch.no_grad():
        for parameter in strategy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return strategy


def random_states(layers, batch, tokens, width, dtype=torch.float32):
    stacked = torch.randn(layers, batch, tokens, width).to(dtype)
    return HiddenStates(stacked, torch.ones(batch, tokens, dtype=torch.bool))


def naive_alpha(strategy, states):
    """α of one token [L, E], out of the paper's equations, one head and one position at a time."""
    layers, width = states.shape
    heads = strategy.heads
    d = width // heads
    attention, block = strategy.block.self_attn, strategy.block
    w_q, w_k, w_v = attention.in_proj_weight.split(width)
    b_q, b_k, b_v = attention.in_proj_bias.split(width)
    x = [strategy.query] + [states[i] + strategy.position[i] for i in range(layers)]
    q = w_q @ x[0] + b_q
    pooled = []
    for head in range(heads):
        part = slice(head * d, (head + 1) * d)
        scores = [(q[part] @ (w_k @ xi + b_k)[part]) / math.sqrt(d) for xi in x]
        total = sum(score.exp() for score in scores)
        pooled.append(
            sum(
                score.exp() / total * (w_v @ xi + b_v)[part]
                for score, xi in zip(scores, x, strict=True)
            )
        )
    attended = attention.out_proj.weight @ torch.cat(pooled) + attention.out_proj.bias
    y = norm(block.norm1, x[0] + attended)
    hidden = (block.linear1.weight @ y + block.linear1.bias).clamp_min(0)
    z = norm(block.norm2, y + block.linear2.weight @ hidden + block.linear2.bias)
    logits = strategy.score.weight @ z + strategy.score.bias
    return logits.exp() / logits.exp().sum()


def norm(layer, x):
    centred = x - x.mean()
    return centred / (centred.square().mean() + layer.eps).sqrt() * layer.weight + layer.bias


def naive_fused(strategy, stacked):
    layers, batch, tokens, _ = stacked.shape
    rows = []
    for b in range(batch):
        for s in range(tokens):
            alpha = naive_alpha(strategy, stacked[:, b, s])
            rows.append(sum(alpha[i] * stacked[i, b, s] for i in range(layers)))
    return torch.stack(rows).view(batch, tokens, -1)


def gradients(strategy, fused, upstream):
    strategy.zero_grad()
    (fused * upstream).sum().backward()
    return {name: p.grad.clone() for name, p in strategy.named_parameters()}


def assert_same_gradients(found, expected):
    for name, gradient in expected.items():
        off = (found[name] - gradient).norm()
        assert off <= 1e-4 * gradient.norm() + 2e-5, (name, off, gradient.norm())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shapes())
def test_collapsed_equals_the_whole_block(shape):
    seed, batch, tokens = shape.pop("seed"), shape.pop("batch"), shape.pop("tokens")
    strategy = scattered(**shape, seed=seed)
    states = random_states(shape["layers"], batch, tokens, shape["width"])
    upstream = torch.randn(batch, tokens, shape["width"])
    collapsed = strategy(states)
    found = gradients(strategy, collapsed, upstream)
    strategy.implementation = "reference"
    reference = strategy(states)
    assert (collapsed - reference).abs().max() <= 1e-5
    assert_same_gradients(found, gradients(strategy, reference, upstream))


@pytest.mark.parametrize("implementation", ["collapsed", "reference"])
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("start", ["uniform", "last"])
def test_equals_the_paper_token_by_token(implementation, heads, start):
    strategy = scattered(3, 8, heads, start=start, implementation=implementation)
    states = random_states(3, 2, 4, 8)
    upstream = torch.randn(2, 4, 8)
    fused = strategy(states)
    found = gradients(strategy, fused, upstream)
    expected = naive_fused(strategy, states.stacked)
    assert (fused - expected).abs().max() <= 1e-5
    assert_same_gradients(found, gradients(strategy, expected, upstream))


def test_gradient_reaches_every_parameter_but_the_key_bias():
    strategy = scattered(3, 8, 2)
    found = gradients(strategy, strategy(random_states(3, 2, 4, 8)), torch.randn(2, 4, 8))
    q, k, v = found.pop("block.self_attn.in_proj_bias").split(8)
    assert k.abs().max() == 0
    assert min(q.norm(), v.norm(), *(g.norm() for g in found.values())) > 1e-3


def test_a_layer_that_is_all_the_weight_comes_out_whole():
    """The fused state is made of the raw states, without their positions."""
    strategy = scattered(3, 8, 2)
    with torch.no_grad():
        strategy.score.bias[1] = 1e4
    states = random_states(3, 2, 4, 8)
    assert torch.equal(strategy(states), states.layers[1])


def test_rms_normalisation_comes_before_everything():
    strategy = scattered(3, 8, 2, normalize="rms")
    states = random_states(3, 2, 4, 8)
    loud = HiddenStates(
        states.stacked * torch.tensor([1.0, 50.0, 0.2]).view(3, 1, 1, 1), states.mask
    )
    unit = states.stacked / states.stacked.square().mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(strategy(loud), naive_fused(strategy, unit), atol=1e-5, rtol=0)
    alpha = torch.stack([naive_alpha(strategy, unit[:, 1, s]) for s in range(4)])
    torch.testing.assert_close(strategy.weights(loud)[1], alpha, atol=1e-5, rtol=0)


@pytest.mark.parametrize("implementation", ["collapsed", "reference"])
def test_bfloat16_states_are_fused_in_float32(implementation):
    strategy = scattered(3, 8, 2, implementation=implementation)
    states = random_states(3, 2, 4, 8, torch.bfloat16)
    fused = strategy(states)
    assert fused.dtype == torch.float32
    expected = naive_fused(strategy, states.stacked.float())
    assert (fused - expected).abs().max() <= 1e-5


def test_dropout_is_the_same_in_distribution():
    """20 000 draws of one token: mean and spread of α agree within their sampling error."""
    draws = 20_000
    one = torch.randn(3, 1, 1, 8, generator=torch.Generator().manual_seed(0))
    states = HiddenStates(one.expand(-1, 1, draws, -1), torch.ones(1, draws, dtype=torch.bool))
    strategy = scattered(3, 8, 2).train()
    strategy.dropout = 0.3
    for module in strategy.block.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.3
    drawn = {}
    with torch.no_grad():
        for implementation in ("collapsed", "reference"):
            strategy.implementation = implementation
            drawn[implementation] = strategy.weights(states)[0]
    a = drawn["collapsed"]
    assert_same_distribution(a, drawn["reference"])
    assert a.std(0).min() > 0.01
    # The draws differ from what eval mode says by far more than that error.
    settled = strategy.eval().weights(HiddenStates(one, torch.ones(1, 1, dtype=torch.bool)))[0, 0]
    assert ((a.mean(0) - settled).abs() > 10 * (a.var(0) / draws).sqrt()).any()


def assert_same_distribution(a, b):
    """Means and spreads of independent draws [n, …] agree within five times their error."""
    for mine, other in ((a, b), (a.square(), b.square())):
        error = ((mine.var(0) + other.var(0)) / len(a)).sqrt()
        assert ((mine.mean(0) - other.mean(0)).abs() < 5 * error).all()


def test_dropout_of_the_attention_takes_its_share_of_the_value_bias():
    """Where a layer is dropped, its share of the bias goes with it."""
    draws = 20_000
    strategy = scattered(3, 8, 2).train()
    strategy.dropout = strategy.block.self_attn.dropout = 0.3
    with torch.no_grad():
        strategy.block.self_attn.in_proj_bias[16:] += torch.randn(8)
        one = torch.randn(3, 8)
        collapsed = strategy.attention(one[:, None, None].expand(-1, 1, draws, -1))[0]
        x = torch.cat([strategy.query[None], one + strategy.position]).expand(draws, -1, -1)
        reference = strategy.block.self_attn(x, x, x)[0][:, 0]
    assert_same_distribution(collapsed, reference)


def test_dropout_only_while_training():
    strategy = TokenSoftmax(3, 8, heads=2, dropout=0.5)
    states = random_states(3, 2, 4, 8)
    assert not torch.equal(strategy(states), strategy(states))
    strategy.eval()
    assert torch.equal(strategy(states), strategy(states))


def test_state_dict_fits_both_implementations():
    collapsed = scattered(3, 8, 2, seed=1)
    reference = scattered(3, 8, 2, seed=2, implementation="reference")
    states = random_states(3, 2, 4, 8)
    before = reference(states)
    reference.load_state_dict(collapsed.state_dict(), strict=True)
    assert (reference(states) - collapsed(states)).abs().max() <= 1e-5
    assert (before - collapsed(states)).abs().max() > 1e-2


def test_weights_are_a_distribution_over_layers():
    strategy = scattered(5, 8, 4)
    weights = strategy.weights(random_states(5, 2, 4, 8))
    assert weights.shape == (2, 4, 5)
    assert weights.min() > 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4))
    assert weights.flatten(0, 1).std(0).min() > 1e-3  # each token chooses for itself


@pytest.mark.parametrize("layers", [2, 12, 24])
def test_where_it_starts(layers):
    torch.manual_seed(0)
    states = random_states(layers, 8, 16, 64)
    mean = TokenSoftmax(layers, 64, start="last").eval().weights(states).mean((0, 1))
    assert mean[-1] >= 0.8
    mean = TokenSoftmax(layers, 64).eval().weights(states).mean((0, 1))
    assert mean.max() < 4 / layers


def test_one_layer_is_that_layer():
    states = random_states(1, 2, 3, 8)
    torch.testing.assert_close(TokenSoftmax(1, 8, start="last")(states), states.last)


def test_defaults_are_the_papers():
    strategy = fusion.build("token-softmax", num_layers=24, width=1024)
    block = strategy.block
    assert (block.self_attn.num_heads, block.linear1.out_features) == (4, 2048)
    assert (block.dropout.p, block.norm_first, strategy.implementation) == (0.1, False, "collapsed")
    assert strategy.query.count_nonzero() == 0
    assert strategy.position.std().item() == pytest.approx(1, abs=0.02)


def test_options_that_do_not_fit():
    with pytest.raises(ConfigError) as caught:
        TokenSoftmax(2, 6, heads=4)
    assert str(caught.value) == (
        "heads=4 does not divide the encoder's width 6; allowed: 1, 2, 3, 6"
    )
    with pytest.raises(ConfigError, match=r"^heads=0 does not divide"):
        TokenSoftmax(2, 6, heads=0)
    with pytest.raises(ConfigError) as caught:
        TokenSoftmax(2, 8, implementation="fast")
    assert str(caught.value) == (
        "unknown implementation 'fast'; allowed: collapsed, reference, triton, plain"
    )


def test_the_number_of_layers_must_be_the_encoders():
    with pytest.raises(AssertionError):
        scattered(3, 8, 2)(random_states(4, 1, 1, 8))


@pytest.mark.parametrize("implementation", ["collapsed", "plain"])
@pytest.mark.parametrize("tokens", [1, 4, 5, 13])
def test_blocks_of_tokens_without_a_gradient(monkeypatch, implementation, tokens):
    """As many tokens as a block has, fewer, and some blocks of them with a rest."""
    monkeypatch.setattr(token_softmax, "BLOCK", 4)
    torch.manual_seed(0)
    fusion = TokenSoftmax(3, 8, implementation=implementation).eval()
    torch.nn.init.normal_(fusion.query)
    layers = [torch.randn(2, tokens, 8) for _ in range(3)]
    states = HiddenStates(layers, torch.ones(2, tokens, dtype=torch.bool))
    with torch.no_grad():
        found = fusion(states)
    assert "stacked" not in states.__dict__  # never side by side as a whole
    torch.testing.assert_close(found, fusion(states).detach(), atol=1e-6, rtol=1e-6)
