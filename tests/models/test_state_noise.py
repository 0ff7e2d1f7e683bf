import pytest
import torch
from torch import nn

from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.language_means import LanguageMean, LanguageMeans
from layerbridge.models.language_model import IGNORED
from layerbridge.models.state_noise import StateNoise, encoder_dropout, has_dropout

L, E = 3, 4


def means_of(layers=range(L), codes=("en", "si", "ta", "sw")):
    torch.manual_seed(7)
    means = LanguageMeans(tuple(layers))
    for code in codes:
        k = len(means.layers)
        mean = LanguageMean(torch.randn(k, E), torch.rand(k, E) + 0.5, torch.zeros(k), 9, 99)
        means = means.with_language(code, mean)
    return means


def states_of(rows=2, tokens=5, dtype=torch.float32):
    torch.manual_seed(1)
    mask = torch.ones(rows, tokens)
    mask[0, 3:] = 0
    return HiddenStates(torch.randn(L, rows, tokens, E).to(dtype), mask)


def test_state_noise_is_relative_to_each_dimensions_deviation():
    means = means_of()
    big = HiddenStates(torch.zeros(L, 40, 500, E), torch.ones(40, 500))
    torch.manual_seed(0)
    found, mixture = StateNoise(means, state_noise=0.3)(big)
    assert mixture is None
    for layer in range(L):
        noise = found.layers[layer].flatten(0, 1)
        std = noise.std(0)
        torch.testing.assert_close(std, 0.3 * means.english.std[layer], atol=0, rtol=0.03)
        assert noise.mean(0).abs().max() < 0.02
        correlations = torch.corrcoef(noise.T) - torch.eye(E)
        assert correlations.abs().max() < 0.03
    assert not torch.equal(found.layers[0] / means.english.std[0],
                           found.layers[1] / means.english.std[1])  # fmt: skip


def test_language_noise_equals_its_equation():
    means, states = means_of(), states_of()
    torch.manual_seed(3)
    found, _ = StateNoise(means, language_noise=0.6)(states)
    torch.manual_seed(3)
    g = torch.randn(2, 3)
    for layer in range(L):
        for row in range(2):
            shift = torch.zeros(E)
            for k, code in enumerate(("si", "ta", "sw")):
                apart = means.by_code[code].mean[layer] - means.english.mean[layer]
                shift += 0.6 / 3**0.5 * g[row, k] * apart
            expected = states.layers[layer][row] + shift
            torch.testing.assert_close(found.layers[layer][row], expected)


def test_language_noise_is_as_large_as_languages_differ():
    means = means_of()
    noise = StateNoise(means, language_noise=1.0)
    many = HiddenStates(torch.zeros(L, 4000, 1, E), torch.ones(4000, 1))
    torch.manual_seed(0)
    found = noise(many)[0].stacked[:, :, 0].square().sum((0, 2)).mean()
    apart = [mean.mean - means.english.mean for code, mean in means.by_code.items() if code != "en"]
    expected = sum(each.square().sum() for each in apart) / 3
    assert found.item() == pytest.approx(expected.item(), rel=0.1)


def test_mixup_mixes_where_both_texts_have_a_token():
    states = states_of(rows=3)
    torch.manual_seed(5)
    found, mixture = StateNoise(mixup=0.4)(states)
    assert 0.5 <= mixture.weight <= 1
    assert sorted(mixture.order.tolist()) == [0, 1, 2]
    for row, other in enumerate(mixture.order.tolist()):
        for token in range(5):
            both = states.mask[row, token] and states.mask[other, token]
            for layer, state in enumerate(states.layers):
                expected = state[row, token]
                if both:
                    expected = (
                        mixture.weight * expected + (1 - mixture.weight) * state[other, token]
                    )
                torch.testing.assert_close(found.layers[layer][row, token], expected)
    weights = [StateNoise(mixup=0.4)(states)[1].weight for _ in range(200)]
    # E max(β, 1 − β) of Beta(0.4, 0.4) is 0.82 by numerical integration.
    assert sum(weights) / 200 == pytest.approx(0.82, abs=0.03)
    assert StateNoise(mixup=0.4)(states_of(rows=1))[1] is None


@pytest.mark.parametrize(
    "settings", [{"state_noise": 0.5}, {"language_noise": 0.5}, {"mixup": 0.5}]
)
def test_it_is_drawn_from_torchs_generator(settings):
    noise, states = StateNoise(means_of(), **settings), states_of(rows=6)
    torch.manual_seed(11)
    first, kept = noise(states)[0], torch.get_rng_state()
    second = noise(states)[0]
    assert not torch.equal(first.stacked, second.stacked)
    torch.set_rng_state(kept)
    assert torch.equal(noise(states)[0].stacked, second.stacked)
    assert torch.equal(states.stacked, states_of(rows=6).stacked)  # not in place


def test_layers_on_meta_and_dtypes():
    states = states_of(dtype=torch.bfloat16)
    bare = [torch.empty_like(states.last, device="meta")] * 2 + [states.last]
    noise = StateNoise(means_of([2]), state_noise=0.5, language_noise=0.5, mixup=0.5)
    found, _ = noise(HiddenStates(bare, states.mask))
    assert found.layers[0].is_meta
    assert found.last.dtype == torch.bfloat16
    assert not torch.equal(found.last, states.last)


def test_the_loss_of_a_mixture_is_the_mixture_of_losses(make_bridge):
    bridge = make_bridge("mt5", "llama", "last")
    texts = ["the market rose", "a", "players of both teams"]
    batch = {**bridge.encoder.tokenize(texts)}
    labels = torch.tensor([[5, 6, 1], [7, 1, IGNORED], [8, 9, 1]])
    bridge.noise = StateNoise(mixup=0.5)
    bridge.train()
    torch.manual_seed(2)
    output = bridge(**batch, labels=labels, num_items_in_batch=11)
    torch.manual_seed(2)
    states, mixture = bridge.noise(bridge.encode(texts))
    assert mixture.order.tolist() != [0, 1, 2]
    bridge.noise = None
    parts = [
        bridge(hidden_states=states, labels=of, num_items_in_batch=11).loss
        for of in (labels, labels[mixture.order])
    ]
    expected = mixture.weight * parts[0] + (1 - mixture.weight) * parts[1]
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()


def test_answers_and_validation_have_no_noise(make_bridge):
    bridge = make_bridge("mt5", "llama", "last")
    batch = {**bridge.encoder.tokenize(["the market", "a"]), "labels": torch.tensor([[5], [6]])}
    loss, answers = bridge(**batch).loss, bridge.classify(["the market"], ["a", "b"])
    means = LanguageMeans((2,))
    for code in ("en", "si"):
        mean = LanguageMean(torch.randn(1, 32), torch.ones(1, 32), torch.zeros(1), 9, 99)
        means = means.with_language(code, mean)
    bridge.noise = StateNoise(
        means, state_noise=9.0, language_noise=9.0, mixup=1.0, encoder_dropout=True
    )
    assert torch.equal(bridge(**batch).loss, loss)
    assert bridge.classify(["the market"], ["a", "b"]) == answers
    bridge.train()
    assert bridge.classify(["the market"], ["a", "b"]) == answers
    assert not torch.equal(bridge(**batch).loss, loss)


@pytest.mark.parametrize("name", ["mt5", "xlm-r", "m2m100"])
def test_encoder_dropout_is_that_of_the_model_in_train_mode(name, make_bridge):
    bridge = make_bridge(name, "llama", "global-softmax")
    model, batch = bridge.encoder.model, bridge.encoder.tokenize(["the market rose", "a"])
    assert has_dropout(model)
    bridge.noise = StateNoise(encoder_dropout=True)
    bridge.train()
    torch.manual_seed(4)
    found = bridge._states(batch["input_ids"], batch["attention_mask"], None)
    assert not any(module.training for module in model.modules())
    torch.manual_seed(4)
    model.train()
    with torch.no_grad():
        output = model(**batch, output_hidden_states=True)
    model.eval()
    torch.testing.assert_close(found.last, output.last_hidden_state)
    torch.testing.assert_close(found.layers[0], output.hidden_states[1])
    again = bridge._states(batch["input_ids"], batch["attention_mask"], None)
    assert not torch.equal(found.last, again.last)
    with pytest.raises(KeyError), encoder_dropout(model, bridge.noise):
        raise KeyError
    assert not model.training


def test_what_has_dropout(load_encoder):
    assert not has_dropout(load_encoder("gemma2-encoder").model)
    assert has_dropout(nn.Sequential(nn.Dropout(0.1)))
    assert not has_dropout(nn.Sequential(nn.Dropout(0.0)))
