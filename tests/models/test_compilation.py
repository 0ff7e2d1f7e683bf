"""Compiled layers give the numbers of the layers as they were written, forward and backward."""

from __future__ import annotations

import copy

import pytest
import torch

from layerbridge.errors import BackboneError
from layerbridge.models import compilation
from layerbridge.models.compilation import compile_layers
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.option_scoring import option_scores
from layerbridge.models.packing import Segment


@pytest.fixture(scope="module")
def pair(load_lm):
    plain = load_lm("llama")
    compiled = LanguageModel(copy.deepcopy(plain.model), plain.tokenizer)
    torch._dynamo.reset()
    # What inductor makes of the graphs is torch's affair; this needs no C++ compiler.
    compiled.compile_layers(backend="aot_eager")
    return plain, compiled


def prefix(width, lengths=(5, 3)):
    generator = torch.Generator().manual_seed(1)
    embeds = torch.randn(len(lengths), max(lengths), width, generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return embeds.requires_grad_(), mask


def test_training_is_the_same(pair):
    labels = torch.tensor([[3, 4, 2], [5, 2, -100]])
    for lengths in ((5, 3), (9, 2), (4, 4)):
        found = []
        for model in pair:
            embeds, mask = prefix(model.width, lengths)
            logits = model.label_logits([Segment(embeds, mask)], labels)
            logits.log_softmax(-1)[:, 2].sum().backward()
            found.append((logits.detach(), embeds.grad))
        assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
        assert torch.allclose(found[0][1], found[1][1], atol=1e-5)
        assert found[0][1].abs().max() > 1e-4


def test_only_the_training_pass_is_compiled(pair):
    """Scoring and generation with a cache compile nothing."""
    _, compiled = pair
    counters = torch._dynamo.utils.counters["stats"]
    embeds, mask = prefix(compiled.width)
    compiled.label_logits([Segment(embeds, mask)], torch.tensor([[3, 2], [4, 2]]))
    before = dict(counters)
    assert before["unique_graphs"] >= 1
    with torch.no_grad():
        option_scores(compiled, [Segment(embeds, mask)], [[3, 4, 2], [5, 2]])
        compiled.generate([Segment(embeds, mask)], max_new_tokens=3, do_sample=False)
    assert dict(counters) == before


def test_scoring_is_the_same(pair):
    found = []
    for model in pair:
        embeds, mask = prefix(model.width)
        found.append(option_scores(model, [Segment(embeds, mask)], [[3, 4, 2], [5, 2]]))
    assert torch.equal(*found)


def test_without_a_compiler_it_says_so(monkeypatch, load_lm):
    monkeypatch.setattr(compilation, "which", lambda name: None)
    with pytest.raises(BackboneError) as error:
        compile_layers(load_lm("llama").model)
    assert str(error.value) == (
        "cannot compile layers: no C++ compiler found; next: install g++, or turn compilation off"
    )


def test_a_model_without_known_layers_is_refused(load_lm):
    model = copy.deepcopy(load_lm("llama").model)
    model.config.num_hidden_layers = 99
    with pytest.raises(BackboneError, match=r"cannot find the layers of a 'llama' model"):
        compile_layers(model, backend="aot_eager")
