"""A quantized layer must have a backward pass, and the right one."""

import pytest
import torch
from torch import nn

from layerbridge.errors import BackboneError
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.language_model import LanguageModel


class Rounded(nn.Linear):
    """As layers whose kernels round activations: their output has no gradient."""

    def forward(self, states):
        return super().forward(states).detach()


class Scaled(nn.Linear):
    """A backward pass that is wrong by a factor."""

    def forward(self, states):
        output = super().forward(states)
        return output.detach() * 0.5 + output * 0.5


class Failing(nn.Linear):
    def forward(self, states):
        output = super().forward(states.detach())
        return output if not torch.is_grad_enabled() else _Refused.apply(output, states)


class _Refused(torch.autograd.Function):
    @staticmethod
    def forward(context, output, states):
        return output.clone()

    @staticmethod
    def backward(context, gradient):
        raise NotImplementedError("no backward pass for int4")


def model_with(folder, layer):
    model = LanguageModel.load(resolve(str(folder("llama"))), LoadOptions("float32"))
    model.model.is_quantized = True  # else nothing is checked
    for block in model.model.model.layers:
        old = block.mlp.up_proj
        new = layer(old.in_features, old.out_features, bias=False)
        new.weight = old.weight
        block.mlp.up_proj = new
    return model


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Rounded, "gradients do not get through .*does not require grad"),
        (Scaled, "a Scaled of the language model .* has a wrong backward pass, 50% off"),
        (Failing, r"gradients do not get through .*\(no backward pass for int4\)"),
    ],
)
def test_missing_and_wrong_backward_passes_are_refused(folder, layer, message):
    with pytest.raises(BackboneError, match=message) as caught:
        model_with(folder, layer).check_gradients()
    assert "no bridge can be trained on it; next: train on it --unquantized" in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_bitsandbytes_lets_gradients_through(folder, name, bits, dtype):
    options = LoadOptions(dtype, quantization_config=bits)
    LanguageModel.load(resolve(str(folder(name))), options).check_gradients()
