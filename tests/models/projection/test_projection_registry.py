"""Every projection in a bridge: its options, its start, its saved form, its training."""

import pytest
import torch

from layerbridge.errors import ConfigError, LengthError
from layerbridge.models import projection
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.models.language_model import IGNORED
from layerbridge.models.prompt_room import prompt_lengths
from layerbridge.tasks import Row
from layerbridge.training.collation import RowDataset

OPTIONS = {"mlp": {"activation": "relu"}, "perceiver": {"latents": 5, "heads": 2, "head_width": 4}}
TEXTS = ["The teams entertained the crowd", "ම", "the market rose while players " * 3]


@pytest.fixture(params=["linear", "mlp", "perceiver"])
def bridge(request, make_bridge):
    name = request.param
    return make_bridge(
        "mt5", "llama", "last", projection=name, projection_options=OPTIONS.get(name)
    )


def test_saved_and_loaded_it_answers_alike(bridge, tmp_path):
    bridge.save_pretrained(tmp_path)
    loaded = LayerBridge.from_pretrained(tmp_path, dtype="float32")
    assert type(loaded.projection) is type(bridge.projection)
    assert loaded.classify(TEXTS, ["a", "b"]) == bridge.classify(TEXTS, ["a", "b"])
    assert loaded.generate_text(TEXTS, max_new_tokens=3) == bridge.generate_text(
        TEXTS, max_new_tokens=3
    )


def test_batches_and_padding_do_not_change_answers(bridge):
    together = bridge.classify(TEXTS, ["a", "the crowd"])
    for text, answer in zip(TEXTS, together, strict=True):
        (alone,) = bridge.classify(text, ["a", "the crowd"])
        assert alone.scores == pytest.approx(answer.scores, abs=1e-4)


def test_all_that_it_has_is_trained(bridge):
    batch = bridge.encoder.tokenize(TEXTS)
    labels = torch.tensor([[5, 6, 1], [7, 1, IGNORED], [5, 1, IGNORED]])
    bridge.train()
    bridge(**batch, labels=labels).loss.backward()
    for name, parameter in bridge.projection.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("name", ["linear", "mlp", "perceiver"])
@pytest.mark.parametrize("start", ["random", "scaled", "aligned"])
def test_starts(name, start, load_encoder, load_lm, folder):
    settings = {
        "encoder": str(folder("mt5")), "language_model": str(folder("llama")),
        "fusion": "last", "projection": name, "projection_options": OPTIONS.get(name),
        "projection_start": start,
    }  # fmt: skip
    if (name, start) == ("perceiver", "aligned"):
        with pytest.raises(ConfigError) as caught:
            BridgeConfig(**settings)
        assert str(caught.value) == (
            "projection 'perceiver' cannot start 'aligned': its soft tokens stand for no words; "
            "allowed: projection_start random or scaled"
        )
        return
    torch.manual_seed(0)
    lm = load_lm("llama")
    texts = [f"the market {n} rose while {n} teams" for n in range(20)]
    bridge = LayerBridge.from_parts(
        BridgeConfig(**settings), load_encoder("mt5"), lm, texts=texts
    ).eval()
    states = bridge.encode(texts)
    soft = bridge.soft_prompt(states)[bridge.projection.soft_mask(states.mask)]
    rms = soft.detach().square().mean().sqrt().item()
    if start == "scaled":
        assert rms == pytest.approx(lm.embedding_rms(), rel=0.25)
    elif start == "aligned":
        assert rms < 1.5 * lm.embedding_rms()
        # No affine map of the features fits the same targets better, up to the penalty.
        assert rms > 0.1 * lm.embedding_rms()
    else:
        assert torch.equal(bridge.projection.mean, torch.zeros(32))


def test_an_aligned_mlp_is_the_ridge_solution_on_its_features(make_bridge):
    from layerbridge.models.alignment import _corpus, _pairs, align

    bridge = make_bridge("mt5", "llama", "last", projection="mlp")
    texts = ["the market rose", "a crowd of players", "while the teams"]
    parts = (bridge.encoder, bridge.fusion, bridge.projection, bridge.language_model)
    fit = align(*parts, texts, penalty=0.3, words=40)
    corpus = _corpus(bridge.encoder, bridge.language_model, texts, 40)
    pairs = list(_pairs(bridge.encoder, bridge.fusion, bridge.language_model, corpus))
    fused, y = (torch.cat(side).double() for side in zip(*pairs, strict=True))
    x = (fused - fused.mean(0)) / fused.std(0, correction=0)
    torch.testing.assert_close(bridge.projection.standardized(fused.float()).double(), x,
                               atol=1e-4, rtol=1e-3)  # fmt: skip
    with torch.no_grad():
        features = bridge.projection.features(fused.float()).double()
        found = bridge.projection.linear(features.float()).double()
    apart = features - features.mean(0)
    gram = apart.T @ apart
    penalty = 0.3 * gram.diagonal().mean()
    weight = torch.linalg.solve(gram + penalty * torch.eye(len(gram)), apart.T @ (y - y.mean(0)))
    torch.testing.assert_close(found, apart @ weight + y.mean(0), atol=1e-4, rtol=1e-3)
    assert fit.tokens == len(y)


def test_the_prompt_has_as_many_tokens_as_latents(make_bridge):
    options = {"latents": 700}
    bridge = make_bridge("xlm-r", "llama", "last", projection="perceiver",
                         projection_options=options)  # fmt: skip
    assert bridge.config.max_text_tokens == 512  # not cut for the language model's sake
    assert prompt_lengths(bridge.config, [3, 500]) == [700, 700]
    assert bridge.prefix(bridge.encode(["a"]))[1].embeds.shape[1] == 700
    # 700 latents and 300 tokens of target fit in 1024 positions, 500 do not.
    RowDataset([Row("1", "a", "a " * 100, "en")], bridge)
    with pytest.raises(LengthError, match="1 of 1 rows do not fit the language model"):
        RowDataset([Row("1", "a", "crowd" * 200, "en")], bridge)
    with pytest.raises(LengthError, match=r"2000 latents, instruction and answer take .* tokens"):
        make_bridge("xlm-r", "llama", "last", projection="perceiver",
                    projection_options={"latents": 2000})  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("linaer", {}, "unknown projection 'linaer'; allowed: linear, mlp, perceiver"),
        ("linear", {"factor": 2}, "projection 'linear' has no option 'factor'; allowed: none"),
        (
            "mlp",
            {"width": 2},
            "projection 'mlp' has no option 'width'; allowed: activation, factor",
        ),
        ("mlp", {"activation": "tanh"}, "unknown activation 'tanh'; allowed: gelu, relu"),
        ("mlp", {"factor": 0}, "factor=0 is too small; allowed: 1 or more"),
        ("perceiver", {"latents": 0}, "latents=0 is too small; allowed: 1 or more"),
        ("perceiver", {"dropout": 1.0}, "dropout=1.0 is not valid; allowed: 0 to below 1"),
    ],
)
def test_what_is_refused(name, options, message):
    with pytest.raises(ConfigError) as caught:
        projection.build(name, 8, 12, **options)
    assert str(caught.value) == message
