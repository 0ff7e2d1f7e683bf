import pytest
import torch

from layerbridge.benchmarking import roofline
from layerbridge.benchmarking.measure import Timing
from layerbridge.benchmarking.pair import Pair
from layerbridge.benchmarking.roofline import matrix_parameters, matrix_rate

PAIR = Pair("shape:tiny-encoder", "shape:tiny-lm", "float32", "cpu")


def test_matrix_parameters_of_a_llama():
    model = PAIR.load_language_model().model
    config = model.config
    width, ffn, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    head = getattr(config, "head_dim", None) or width // heads
    attention = width * head * (2 * heads + 2 * config.num_key_value_heads)
    assert matrix_parameters(model) == config.num_hidden_layers * (attention + 3 * width * ffn)


def test_matrix_parameters_of_a_linear_layer_with_a_table():
    module = torch.nn.Sequential(torch.nn.Embedding(7, 3), torch.nn.Linear(3, 5))
    assert matrix_parameters(module) == 15


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matrix_rate_is_flop_by_the_median_time(monkeypatch, dtype):
    def interleave(candidates, repeat, *, device):
        ((name, call),) = candidates.items()
        product = call()
        assert (product.shape, product.dtype, str(product.device)) == ((8, 8), dtype, device)
        return {name: Timing((1.0, 0.25, 0.5))}

    monkeypatch.setitem(roofline.MATRIX, "cpu", 8)
    monkeypatch.setattr(roofline, "interleave", interleave)
    # 64 sums of 8 products.
    assert matrix_rate("cpu", dtype) == 64 * 8 * 2 / 0.5
