"""What fake tensors count, against real ones."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from layerbridge.hub.sources import resolve
from layerbridge.models import fusion, projection
from layerbridge.models.backbone import LoadOptions, load_config
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder_loading import build_text_encoder
from layerbridge.training.peak_memory import Skeleton, StepSize, count

OPTIONS = LoadOptions("float32")
SIZE = StepSize(rows=8, text_tokens=24, prompt_tokens=3, target_tokens=4)


@pytest.fixture
def make(folder):
    """Names of tiny backbones and settings of the bridge → its skeleton."""

    def build(encoder, language_model, **settings):
        source = resolve(str(folder(encoder)))
        config = load_config("encoder", source, OPTIONS)
        causal = AutoConfig.from_pretrained(folder(language_model))
        return Skeleton.build(
            BridgeConfig(**{"fusion": "token-softmax", **settings}),
            lambda: build_text_encoder(source, config, OPTIONS),
            lambda: AutoModelForCausalLM.from_config(causal, dtype=torch.float32),
        )

    return build


def saved_bytes(model, size):
    """What the body of a real language model keeps for its backward pass."""
    weights = {
        each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())
    }
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)  # kept, so that it is not reused
        return tensor

    shape = (size.rows, size.read_tokens, model.get_input_embeddings().embedding_dim)
    embeds = torch.randn(shape, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        mask = torch.ones(shape[:2], dtype=torch.long)
        model.base_model(inputs_embeds=embeds, attention_mask=mask, use_cache=False)
    return sum(size for size, _ in saved.values())


@pytest.mark.parametrize(
    ("encoder", "language_model"), [("xlm-r", "llama"), ("mt5", "gemma2"), ("m2m100", "gpt2")]
)
def test_numbers_and_bytes_are_those_of_the_loaded_models(
    make, load_encoder, load_lm, encoder, language_model
):
    skeleton = make(encoder, language_model)
    real = load_encoder(encoder)
    lm = load_lm(language_model)
    assert (skeleton.fusion.num_layers, skeleton.fusion.width) == (real.num_layers, real.width)
    assert count(skeleton.encoder) == count(real.model)
    assert count(skeleton.language_model) == count(lm.model)
    weights = skeleton.weight_bytes()
    for name, model in (("encoder", real.model), ("language model", lm.model)):
        every = (*model.parameters(), *model.buffers())
        assert weights[name] == pytest.approx(sum(each.nbytes for each in every), rel=0.02)
    step = skeleton.step(SIZE)
    states = real.num_layers * SIZE.rows * SIZE.text_tokens * real.width * 4
    # The output before the final norm may be kept, too.
    assert states <= step.states <= states * (1 + 2 / real.num_layers) + 5000
    lm.checkpoint_layers(False)  # as another test may have left it
    kept = saved_bytes(lm.model, SIZE)
    # The input, the output and the mask count as well; of tiny models they are no small part.
    assert 0.85 * kept < step.activations < 1.4 * kept


def test_a_fusion_that_needs_one_layer_keeps_one(make):
    one, all_layers = (make("xlm-r", "llama", fusion=name) for name in ("last", "uniform"))
    layers = all_layers.fusion.num_layers
    assert one.step(SIZE).states < 2 * all_layers.step(SIZE).states / layers
    assert one.trained == count(one.projection)


def test_a_step_grows_with_rows_and_tokens_and_the_weights_do_not(make):
    skeleton = make("xlm-r", "llama")
    step = skeleton.step(SIZE)
    assert skeleton.step(SIZE) == step
    twice = skeleton.step(replace(SIZE, rows=16))
    for name in ("states", "activations", "logits"):
        assert getattr(twice, name) == pytest.approx(2 * getattr(step, name), rel=0.05), name
    assert skeleton.step(replace(SIZE, text_tokens=48)).activations > 1.5 * step.activations
    soft = skeleton.step(replace(SIZE, soft_tokens=4))
    assert (soft.states, soft.activations < step.activations) == (step.states, True)
    assert step.peak == max(step.states + step.encoding, step.after)


def test_layers_that_run_again_keep_their_inputs(make):
    skeleton = make("xlm-r", "llama")
    whole, less = skeleton.step(SIZE), skeleton.step(SIZE, checkpointed=True)
    hidden = SIZE.rows * SIZE.read_tokens * skeleton.language_model.config.hidden_size * 4
    layers = skeleton.language_model.config.num_hidden_layers
    assert less.activations == (layers + 1) * hidden < whole.activations
    assert less.states == whole.states


@pytest.mark.parametrize("bits", [4.5, 8.25])
def test_only_matrices_are_quantized(make, bits):
    skeleton = make("xlm-r", "llama")
    before, after = skeleton.weight_bytes(), skeleton.weight_bytes(bits)
    lm = skeleton.language_model
    matrices = sum(
        part.weight.numel() for name, part in lm.named_modules() if name.endswith("_proj")
    )
    saved = before["language model"] - after["language model"]
    assert saved == pytest.approx(matrices * (4 - bits / 8), abs=100)
    assert after["bridge"] == before["bridge"]
    assert after["encoder"] < before["encoder"]


def test_every_fusion_and_projection_can_be_tried(make):
    skeleton = make("xlm-r", "llama")
    size = {"num_layers": skeleton.fusion.num_layers, "width": skeleton.fusion.width}
    for name in fusion.names():
        with skeleton.mode:
            tried = replace(skeleton, fusion=fusion.build(name, **size))
        step = tried.step(SIZE)
        assert step.peak >= step.states + step.activations > 0, name
    for name in projection.names():
        with skeleton.mode:
            width = skeleton.language_model.config.hidden_size
            tried = replace(skeleton, projection=projection.build(name, size["width"], width))
        assert tried.step(SIZE).fusion > 0, name
