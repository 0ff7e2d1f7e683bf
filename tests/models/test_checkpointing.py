"""Checkpointed layers give the same gradients, keep less, and leave the model in eval mode."""

from functools import partial

import pytest
import torch
import transformers

from layerbridge.errors import BackboneError
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.checkpointing import Checkpointed, checkpoint_layers
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.truncation import layer_list

LABELS = torch.tensor([[5, 7, 2], [6, 2, -100]])


def loss_and_gradient(model):
    generator = torch.Generator().manual_seed(0)
    soft = (0.5 * torch.randn(2, 6, model.width, generator=generator)).requires_grad_()
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    logits = model.label_logits(model.prefix(soft, mask), LABELS)
    loss = torch.nn.functional.cross_entropy(logits, LABELS[LABELS >= 0])
    return loss, torch.autograd.grad(loss, soft)[0]


def with_dropout(model):
    """Dropout that would show if anything woke it."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    model.config.attention_dropout = 0.5
    return model


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_loss_and_gradients_stay_the_same(folder, name):
    model = LanguageModel.load(resolve(str(folder(name))), LoadOptions("float32"))
    with_dropout(model.model)
    loss, gradient = loss_and_gradient(model)
    model.checkpoint_layers()
    model.checkpoint_layers()  # again changes nothing
    model.train()
    layers = layer_list(model.model)[1]
    assert all(not isinstance(layer.forward.forward, Checkpointed) for layer in layers)
    runs = []
    for layer in layers:
        inner = layer.forward.forward
        layer.forward.forward = lambda *a, inner=inner, **k: runs.append(1) or inner(*a, **k)
    again, checkpointed = loss_and_gradient(model)
    assert len(runs) == 2 * len(layers)  # forward, and again in the backward pass
    assert not any(module.training for module in model.modules())
    torch.testing.assert_close(again, loss, rtol=0, atol=1e-6)
    torch.testing.assert_close(checkpointed, gradient, rtol=1e-6, atol=1e-6)


def test_scores_and_answers_are_read_once(folder):
    model = LanguageModel.load(resolve(str(folder("llama"))), LoadOptions("float32"))
    ids = torch.tensor([[model.bos_id, 5, 7]])
    prefix = model.prefix(model.embed(ids), torch.ones_like(ids, dtype=torch.bool))
    expected = model.generate(prefix, max_new_tokens=4)
    model.checkpoint_layers()
    assert torch.equal(model.generate(prefix, max_new_tokens=4), expected)
    # With a gradient and a cache: reading a layer again would extend the cache once more.
    soft = model.embed(ids).requires_grad_()
    mask = torch.ones_like(ids)
    logits, cache = model.last_logits(soft, mask)
    logits.sum().backward()
    assert cache.get_seq_length() == 3


def test_less_is_kept_for_the_backward_pass(folder):
    model = LanguageModel.load(resolve(str(folder("llama"))), LoadOptions("float32"))

    def kept():
        seen = {}

        def pack(tensor):
            if not isinstance(tensor, torch.nn.Parameter):
                seen[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss_and_gradient(model)
        return sum(seen.values())

    before = kept()
    model.checkpoint_layers()
    # The second run of a layer, in the backward pass, is outside of these hooks' sum.
    assert kept() < before / 2


def test_layers_must_be_found():
    config = transformers.LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    model.config.num_hidden_layers = 3
    with pytest.raises(BackboneError, match="cannot find the layers of a 'llama' model"):
        checkpoint_layers(model)


def test_it_is_undone(load_lm):
    model = load_lm("llama")
    layers = layer_list(model.model)[1]
    before = [layer.forward for layer in layers]
    model.checkpoint_layers()
    model.checkpoint_layers(False)
    assert [layer.forward for layer in layers] == before
    assert all("forward" not in vars(layer) for layer in layers)
    layers[0].forward = hooked = partial(before[0])  # as accelerate's hooks do
    try:
        model.checkpoint_layers()
        assert isinstance(layers[0].forward, Checkpointed)
        model.checkpoint_layers(False)
        assert layers[0].forward is hooked
    finally:
        del layers[0].forward
