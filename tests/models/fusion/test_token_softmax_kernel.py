"""The kernels say what torch says: on a GPU where there is one, else in Triton's interpreter.

The interpreter has to be chosen before Triton is first imported, which other tests may have done.
So without a GPU the tests of the kernels run in a process of their own, started from here.
"""

import os
import subprocess
import sys

import pytest
import torch

from layerbridge.errors import ConfigError
from layerbridge.models import fusion
from layerbridge.models.fusion.token_softmax import TokenSoftmax
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.progress import say_once

pytest.importorskip("triton")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED or not torch.cuda.is_available() else "cuda"
HERE = INTERPRETED or DEVICE == "cuda"

# Layers, width, heads, tokens; and the dtype of the states. Each shape once and one in every dtype,
# with few tokens: each is a program of its own, and the interpreter is slow.
CASES = [
    ((1, 8, 1, 3), torch.float32),
    ((3, 48, 1, 1), torch.bfloat16),
    ((3, 48, 2, 3), torch.float32),
    ((3, 48, 2, 3), torch.bfloat16),
    ((3, 48, 2, 3), torch.float16),
    ((12, 96, 4, 5), torch.bfloat16),
    ((3, 96, 3, 2), torch.float32),
    ((12, 48, 4, 1), torch.float16),
]


on_kernels = pytest.mark.skipif(not HERE, reason="runs in test_all_in_the_interpreter")
once = pytest.mark.skipif(INTERPRETED, reason="runs outside the interpreter")


@pytest.mark.skipif(HERE, reason="the tests run as they are")
def test_all_in_the_interpreter(request):
    # Without conftest.py and plugins, whose imports take as long as the tests.
    options = ["-p", "no:cacheprovider", "--noconftest"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(request.path)],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=request.config.rootpath,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def strategies(layers, width, heads, **options):
    """With the kernels and without: the same numbers, none where it starts from."""
    torch.manual_seed(layers + width + heads)
    made = TokenSoftmax(layers, width, heads=heads, feedforward=24, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    other = TokenSoftmax(layers, width, heads=heads, feedforward=24, **options)
    other.load_state_dict(made.state_dict())
    made.implementation, other.implementation = "triton", "plain"
    return made.to(DEVICE), other.to(DEVICE)


def random_states(layers, tokens, width, dtype=torch.float32):
    stacked = torch.randn(layers, 1, tokens, width).to(DEVICE, dtype)
    return HiddenStates(stacked, torch.ones(1, tokens, dtype=torch.bool, device=DEVICE))


def run(strategy, states, seed=0):
    """f, and the gradient of every parameter."""
    torch.manual_seed(seed)
    strategy.zero_grad()
    f = strategy(states)
    upstream = torch.randn(f.shape, generator=torch.Generator().manual_seed(1)).to(f)
    (f * upstream).sum().backward()
    return f.detach(), {name: p.grad.clone() for name, p in strategy.named_parameters()}


def assert_same(found, expected):
    """Outputs to 1e-5 and gradients to 1e-4 of their norm."""
    (f, gradients), (f_expected, gradients_expected) = found, expected
    assert f.dtype == f_expected.dtype == torch.float32
    assert (f - f_expected).abs().max() <= 1e-5 * f_expected.abs().max()
    for name, gradient in gradients_expected.items():
        off = (gradients[name] - gradient).norm()
        assert off <= 1e-4 * gradient.norm() + 2e-5, (name, off, gradient.norm())


@on_kernels
@pytest.mark.parametrize(("shape", "dtype"), CASES)
def test_equals_torch(shape, dtype):
    """Also of narrow states, to the precision of float32: nothing is rounded on the way."""
    layers, width, heads, tokens = shape
    kernel, plain = strategies(layers, width, heads, dropout=0.0)
    states = random_states(layers, tokens, width, dtype)
    assert_same(run(kernel, states), run(plain, states))


@on_kernels
def test_deep_and_wide():
    """Two rounds of sixteen layers, and two warps; a wider one would take the interpreter long."""
    kernel, plain = strategies(17, 256, 2, dropout=0.0)
    states = random_states(17, 2, 256, torch.bfloat16)
    assert_same(run(kernel, states), run(plain, states))


@on_kernels
@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 48, 2, 3), torch.float32), ((12, 96, 4, 3), torch.bfloat16)]
)
def test_equals_torch_under_dropout(shape, dtype):
    """The same seed drops the same weights."""
    layers, width, heads, tokens = shape
    kernel, plain = strategies(layers, width, heads, dropout=0.3)
    states = random_states(layers, tokens, width, dtype)
    found = run(kernel, states)
    assert_same(found, run(plain, states))
    torch.manual_seed(1)
    with torch.no_grad():
        assert not torch.equal(found[0], kernel(states))
        assert not torch.equal(found[0], kernel.eval()(states))


@on_kernels
@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("dropped", [False, True])
def test_pool_alone(tokens, dropped):
    """Against the equations in float64, with a gradient into both of its outputs."""
    from layerbridge.models.fusion import token_softmax_kernel

    torch.manual_seed(0)
    h = torch.randn(12, tokens, 96, device=DEVICE)
    u = (0.3 * torch.randn(4, 96, device=DEVICE)).requires_grad_()
    bias = torch.randn(13, 4, device=DEVICE, requires_grad=True)
    keep = (torch.rand(13, tokens, 4, device=DEVICE) > 0.3) / 0.7 if dropped else None
    found = token_softmax_kernel.pool(h, u, bias, keep)
    scores = torch.cat([bias[:1, None].expand(1, tokens, 4), h @ u.T + bias[1:, None]]).double()
    a = scores.exp() / scores.exp().sum(0)
    if keep is not None:
        a = a * keep
    expected = a, torch.einsum("lnk,lne->nke", a[1:], h.double())
    upstream = [torch.randn_like(x) for x in found]
    for x, y in zip(found, expected, strict=True):
        assert (x - y).abs().max() <= 1e-5
    gradients = torch.autograd.grad(found, (u, bias), upstream)
    exact = torch.autograd.grad(expected, (u, bias), [x.double() for x in upstream])
    for x, y in zip(gradients, exact, strict=True):
        assert (x - y).norm() <= 1e-5 * y.norm()


@on_kernels
def test_more_tokens_than_programs(monkeypatch):
    """Where each program of the backward has several tokens, and not all the same number."""
    from layerbridge.models.fusion import token_softmax_kernel

    monkeypatch.setattr(token_softmax_kernel, "SHARES", 2)
    kernel, plain = strategies(3, 48, 2, dropout=0.0)
    states = random_states(3, 5, 48)
    assert_same(run(kernel, states), run(plain, states))


@on_kernels
def test_wide_states_take_several_blocks(monkeypatch):
    from layerbridge.models.fusion import token_softmax_kernel

    monkeypatch.setattr(token_softmax_kernel, "WIDTH", 64)
    kernel, plain = strategies(9, 144, 4, dropout=0.0)
    states = random_states(9, 2, 144)
    assert_same(run(kernel, states), run(plain, states))


@on_kernels
@pytest.mark.parametrize("order", [(1, 2, 0, 3), (0, 1, 3, 2), (3, 0, 1, 2)])
def test_states_in_any_order_in_memory(order):
    kernel, plain = strategies(3, 48, 2, dropout=0.0)
    stacked = random_states(3, 4, 48).stacked.view(3, 2, 2, 48)
    inverse = [order.index(i) for i in range(4)]
    scattered = stacked.permute(order).contiguous().permute(inverse)
    mask = torch.ones(2, 2, dtype=torch.bool, device=DEVICE)
    found, expected = (HiddenStates(x, mask) for x in (scattered, stacked))
    assert_same(run(kernel, found), run(plain, expected))


@on_kernels
def test_large_scores_do_not_overflow():
    kernel, plain = strategies(3, 48, 2, dropout=0.0)
    states = random_states(3, 3, 48, torch.bfloat16)
    loud = HiddenStates(states.stacked * 1000, states.mask)
    f = kernel(loud)
    assert f.isfinite().all()
    assert (f - plain(loud)).abs().max() <= 1e-5 * f.abs().max()


@on_kernels
def test_the_same_bits_every_time():
    kernel, _ = strategies(12, 96, 4, dropout=0.3)
    states = random_states(12, 2, 96, torch.bfloat16)
    (f, gradients), (again, gradients_again) = run(kernel, states), run(kernel, states)
    assert torch.equal(f, again)
    assert all(torch.equal(g, gradients_again[name]) for name, g in gradients.items())


@on_kernels
@pytest.mark.parametrize("normalize", [None, "rms"])
def test_weights(normalize):
    kernel, plain = strategies(3, 48, 2, dropout=0.0, normalize=normalize)
    states = random_states(3, 2, 48, torch.bfloat16)
    with torch.inference_mode():
        weights = kernel.weights(states)
        assert weights.shape == (1, 2, 3)
        torch.testing.assert_close(weights, plain.weights(states), atol=1e-6, rtol=1e-5)
    assert_same(run(kernel, states), run(plain, states))


@on_kernels
def test_no_copy_of_the_states(monkeypatch):
    """The kernels get the memory of the states itself, and nobody widens them on the way."""
    from layerbridge.models.fusion import token_softmax_kernel

    taken = []
    monkeypatch.setattr(token_softmax_kernel, "along_e", lambda x: taken.append(x) or x)
    kernel, _ = strategies(3, 48, 2, dropout=0.0)
    states = random_states(3, 2, 48, torch.bfloat16)
    widened = []
    whole = torch.Tensor.float
    monkeypatch.setattr(torch.Tensor, "float", lambda x: widened.append(x.numel()) or whole(x))
    kernel(states)
    memory = torch.bfloat16, states.stacked.data_ptr()
    assert [(x.dtype, x.data_ptr()) for x in taken] == [memory] * 2
    assert states.stacked.numel() not in widened


@pytest.mark.skipif(DEVICE != "cuda", reason="needs a GPU")
def test_collapsed_takes_the_kernels_on_a_gpu():
    kernel, plain = strategies(12, 96, 4, dropout=0.0)
    states = random_states(12, 33, 96, torch.bfloat16)
    by_kernels = kernel(states)
    kernel.implementation = "collapsed"
    assert torch.equal(kernel(states), by_kernels)
    assert not torch.equal(plain(states), by_kernels)


@on_kernels
def test_states_the_kernels_do_not_take():
    from layerbridge.models.fusion.token_softmax_kernel import problem

    assert problem(torch.zeros(3, 1, 1, 48, device=DEVICE), 2) is None
    assert problem(torch.zeros(24, 1, 1, 1024, device=DEVICE, dtype=torch.bfloat16), 4) is None
    assert problem(torch.zeros(3, 1, 1, 48, dtype=torch.float64), 2) == "states are float64"
    assert problem(torch.zeros(3, 1, 1, 48).requires_grad_(), 2) == "the states require a gradient"
    assert problem(torch.zeros(3, 1, 1, 4096), 2) == (
        "3 layers of width 4096 with 2 heads do not fit one tile"
    )
    assert problem(torch.zeros(65, 1, 1, 64), 2) is not None
    assert problem(torch.zeros(3, 1, 1, 64), 32) is not None


@once
def test_a_cpu_without_the_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    strategy = TokenSoftmax(3, 48, implementation="triton")
    states = HiddenStates(torch.zeros(3, 1, 2, 48), torch.ones(1, 2))
    with pytest.raises(ConfigError) as caught:
        strategy(states)
    assert str(caught.value) == (
        "fusion implementation 'triton' cannot run: states are on the cpu, not on a GPU; next: "
        "use 'collapsed', which falls back to torch; on a CPU, TRITON_INTERPRET=1 runs the "
        "kernels slowly, for tests"
    )
    strategy.implementation = "collapsed"
    strategy(states)


@once
def test_without_triton(monkeypatch):
    name = "layerbridge.models.fusion.token_softmax_kernel"
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr(fusion, "token_softmax_kernel", raising=False)
    strategy = TokenSoftmax(3, 48, implementation="triton")
    states = HiddenStates(torch.zeros(3, 1, 2, 48), torch.ones(1, 2))
    with pytest.raises(ConfigError, match=r"'triton' cannot run: triton is not installed; next: "):
        strategy(states)
    strategy.implementation = "collapsed"
    strategy(states)


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


@once
def test_a_gpu_without_the_kernels_is_told_why_once(monkeypatch, capsys):
    from layerbridge.models.fusion import token_softmax_kernel

    say_once.cache_clear()
    strategy = TokenSoftmax(3, 48)
    reasons = {"triton fails here (X: y)": torch.float32, "states are float64": torch.float64}
    monkeypatch.setattr(token_softmax_kernel, "tried", lambda *_: "triton fails here (X: y)")
    for dtype in reasons.values():
        for _ in range(3):
            states = torch.zeros(3, 2, 48, dtype=dtype).as_subclass(OnGpu)
            assert strategy.kernels(states) is None
    assert capsys.readouterr().err.splitlines() == [
        f"token-softmax runs without its Triton kernels: {reason}" for reason in reasons
    ]
    # Nobody expects them there, or asked for them.
    strategy.kernels(torch.zeros(3, 2, 48))
    strategy.implementation = "plain"
    strategy.kernels(torch.zeros(3, 2, 48).as_subclass(OnGpu))
    assert capsys.readouterr().err == ""


@once
@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("Triton Error: out of memory")],
)
def test_a_full_gpu_is_no_reason_to_do_without_the_kernels(monkeypatch, error):
    from layerbridge.models.fusion import token_softmax_kernel

    def full(*_):
        raise error

    shape = (torch.device("cpu"), torch.float32, 3, 48, 7)
    monkeypatch.setattr(token_softmax_kernel, "pool", full)
    token_softmax_kernel.tried.cache_clear()
    with pytest.raises(type(error)):
        token_softmax_kernel.tried(*shape)
    # The next time may be another: nothing is remembered.
    error = ValueError("no\ncompiler")
    assert token_softmax_kernel.tried(*shape) == "triton fails here (ValueError: no compiler)"
