import shutil

import pytest
import torch

from layerbridge.errors import CheckpointError, ConfigError, DataError
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.centering import Centering, CenteringSettings
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.language_means import FILE, LanguageMean, LanguageMeans, TextMeans

L, E = 4, 6
TEXTS = {
    "en": ["the market rose", "players of both teams", "a crowd", "while the", "premise of"],
    "si": ["ම ශ්", "ශ් ම ම", "ම", "ශ්ම ශ්ම"],
    "zh": ["猫", "猫猫 猫", "猫 a", "猫猫猫"],
}


def mean_of(shift, error=0.0, layers=L):
    """A mean near that of English, moved by ``shift`` in every dimension."""
    base = torch.arange(float(layers * E)).view(layers, E)
    return LanguageMean(base + shift, torch.ones(layers, E), torch.full((layers,), error), 9, 99)


def means_of(layers=range(L), **shifts):
    means = LanguageMeans(tuple(layers))
    for code, shift in {"en": 0.0, **shifts}.items():
        means = means.with_language(code, mean_of(shift, layers=len(means.layers)))
    return means


def states_of(rows=3, tokens=4, dtype=torch.float32):
    torch.manual_seed(rows)
    mask = torch.ones(rows, tokens)
    mask[0, 2:] = 0
    return HiddenStates(torch.randn(L, rows, tokens, E).to(dtype), mask)


def assert_moved(found, states, expected):
    """``expected``: [L][row] → shift of all dimensions."""
    for layer, (after, before) in enumerate(zip(found.layers, states.layers, strict=True)):
        for row in range(len(states.mask)):
            torch.testing.assert_close(after[row], before[row] + expected[layer][row])


def test_moves_each_row_by_the_difference_to_english():
    centering, states = Centering(means_of(si=2.0, ta=-1.0), L), states_of()
    found = centering(states, ["si", "en", "tam_Taml"])
    assert_moved(found, states, [[-2.0, 0.0, 1.0]] * L)
    assert torch.equal(found.mask, states.mask)
    assert_moved(centering(states, "si"), states, [[-2.0] * 3] * L)
    assert centering(states, "en") is states


def test_strength_and_layers():
    states = states_of()
    settings = CenteringSettings(strength=0.25, layers=(2, -1))
    found = Centering(means_of(si=4.0), L, settings)(states, "si")
    assert_moved(found, states, [[0.0] * 3, [-1.0] * 3, [0.0] * 3, [-1.0] * 3])


def test_layers_that_the_fusion_does_not_read_may_be_on_meta():
    states = states_of()
    bare = [torch.empty_like(layer, device="meta") for layer in states.layers]
    bare[2] = states.layers[2]
    found = Centering(means_of([2], si=4.0), L)(HiddenStates(bare, states.mask), "si")
    torch.testing.assert_close(found.layers[2], states.layers[2] - 4)
    assert found.layers[0].is_meta
    with pytest.raises(ConfigError, match="layer 1 cannot be moved: the fusion does not read it; "
                       "allowed: 3"):  # fmt: skip
        Centering(means_of([2], si=4.0), L, CenteringSettings(layers=(1,)))


@pytest.mark.parametrize(("error", "expected"), [(0.0, 1.0), (6.0, 1 - 12 / 24), (30.0, 0.0)])
def test_shrinks_by_the_errors_of_both_means(error, expected):
    """‖d‖² = 6 · 2² = 24; both means have the error."""
    means = LanguageMeans(tuple(range(L))).with_language("en", mean_of(0.0, error))
    means = means.with_language("si", mean_of(2.0, error))
    centering = Centering(means, L)
    torch.testing.assert_close(centering.shrinkage("si"), torch.full((L,), expected))
    assert_moved(centering(states_of(), "si"), states_of(), [[-2.0 * expected] * 3] * L)
    whole = Centering(means, L, CenteringSettings(shrink=False))
    assert_moved(whole(states_of(), "si"), states_of(), [[-2.0] * 3] * L)


def test_a_mean_of_one_text_moves_nothing():
    means = means_of().with_language("si", mean_of(2.0, torch.inf))
    states = states_of()
    assert Centering(means, L)(states, "si") is states


def test_shrinkage_has_less_error_than_none_and_than_staying():
    """Over many means of few texts, the shrunk shift is nearest to the true one."""
    torch.manual_seed(0)
    true = 0.3 * torch.ones(E)
    losses = torch.zeros(3)
    for _ in range(120):
        found = {}
        for code, shift in (("en", torch.zeros(E)), ("si", -true)):
            texts = shift + torch.randn(12, 1, E)
            found[code] = LanguageMean.of(
                TextMeans(
                    texts.double(), torch.ones(12, dtype=torch.long), torch.ones(1, E).double()
                )
            )
        means = LanguageMeans((0,), found)
        for place, settings in enumerate((CenteringSettings(), CenteringSettings(shrink=False))):
            shift = Centering(means, 1, settings).shifts["si"][0]
            losses[place] += (shift - true).square().sum()
        losses[2] += true.square().sum()
    assert losses[0] < 0.9 * losses[1]
    assert losses[0] < 1.1 * losses[2]


@pytest.mark.parametrize("rank", [1, 2])
def test_a_subspace_keeps_the_rest(rank):
    torch.manual_seed(rank)
    means = LanguageMeans(tuple(range(L)))
    for code in ("en", "si", "ta", "sw"):
        mean = LanguageMean(torch.randn(L, E) + 3, torch.ones(L, E), torch.zeros(L), 9, 99)
        means = means.with_language(code, mean)
    states = states_of()
    full = Centering(means, L)(states, "si")
    part = Centering(means, L, CenteringSettings(rank=rank))(states, "si")
    gone = Centering(means, L, CenteringSettings(method="remove", rank=rank))
    found = gone(states)
    for layer in range(L):
        from layerbridge.models.language_subspace import language_subspace

        stacked = torch.stack([mean.mean[layer] for mean in means.by_code.values()])
        basis = language_subspace(stacked, rank).float()
        onto = basis @ basis.T
        moved = full.layers[layer] - states.layers[layer]
        within = part.layers[layer] - states.layers[layer]
        torch.testing.assert_close(within, moved @ onto, atol=1e-5, rtol=1e-4)
        english = means.english.mean[layer]
        expected = states.layers[layer] - (states.layers[layer] - english) @ onto
        torch.testing.assert_close(found.layers[layer], expected, atol=1e-5, rtol=1e-4)
        # Whatever the language, the same part of English is left within the subspace.
        torch.testing.assert_close(
            found.layers[layer] @ basis, (english @ basis).expand(3, 4, -1), atol=1e-4, rtol=1e-4
        )
    assert torch.equal(gone(states, "xx").layers[0], found.layers[0])
    half = Centering(means, L, CenteringSettings(method="remove", rank=rank, strength=0.5))(states)
    torch.testing.assert_close(half.layers[1], (states.layers[1] + found.layers[1]) / 2)


def test_without_a_language_the_nearest_mean_decides_each_row():
    centering = Centering(means_of(si=20.0, ta=-20.0), L)
    base = torch.arange(float(L * E)).view(L, 1, 1, E)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0]])
    around = torch.tensor([-19.0, 0.5, 18.0]).view(1, 3, 1, 1)
    layers = base + around + torch.randn(L, 3, 3, E)
    layers[:, 1, 1:] = 20.0  # padding
    states = HiddenStates(layers, mask)
    assert centering.nearest(states) == ["ta", "en", "si"]
    assert_moved(centering(states), states, [[20.0, 0.0, -20.0]] * L)
    assert_moved(centering(states, [None, None, "ta"]), states, [[20.0, 0.0, 20.0]] * L)


def test_distances_are_relative_to_the_deviation():
    """A loud dimension would decide otherwise."""
    means = means_of(si=1.0)
    english = means.english
    std = english.std.clone()
    std[:, 0] = 1000.0
    means = means.with_language("en", LanguageMean(english.mean, std, english.error, 9, 99))
    layers = english.mean.view(L, 1, 1, E).clone()
    layers[..., 0] += 50.0  # nearer to si, by its own measure
    centering = Centering(means, L)
    assert centering.nearest(HiddenStates(layers, torch.ones(1, 1))) == ["en"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_states_keep_their_dtype(dtype):
    states = states_of(dtype=dtype)
    found = Centering(means_of(si=2.0), L)(states, "si")
    expected = (states.layers[0].float() - 2).to(dtype)
    assert torch.equal(found.layers[0], expected)


def test_english_alone_moves_nothing():
    states = states_of()
    assert Centering(means_of(), L)(states) is states


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "centre"}, "unknown centering method 'centre'; allowed: center, remove"),
        ({"strength": 1.5}, "strength=1.5 is not valid; allowed: 0 to 1"),
        ({"rank": 0}, "rank=0 is not valid; allowed: 1 or more"),
        (
            {"method": "remove"},
            "the method 'remove' needs the rank of the language subspace; next: --rank 2",
        ),
        ({"layers": (9,)}, "layer 9 cannot be moved: the fusion does not read it; allowed: 1, 2, "
         "3, 4"),
        ({"layers": (0,)}, "layer 0 cannot be moved: the fusion does not read it; allowed: 1, 2, "
         "3, 4"),
        (
            {"rank": 2},
            "a language subspace of rank 2 needs the means of 3 languages, and 2 are known; next: "
            "add languages, or a lower --rank",
        ),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ConfigError) as caught:
        Centering(means_of(si=1.0), L, CenteringSettings(**settings))
    assert str(caught.value) == message


def test_a_language_without_a_mean_is_named():
    with pytest.raises(DataError) as caught:
        Centering(means_of(si=1.0), L)(states_of(), "sw")
    assert str(caught.value) == (
        "the bridge knows no mean of the language 'sw'; allowed: en, si; next: layerbridge center "
        "RUN --language sw --text FILE"
    )


# With a bridge


def with_means(bridge, settings=None):
    means = LanguageMeans(
        tuple(bridge.fusion.required_layers), encoder=bridge.config.encoder_fingerprint
    )
    for code, texts in TEXTS.items():
        found = TextMeans.read(bridge.encoder, texts, means.layers)
        means = means.with_language(code, LanguageMean.of(found))
    bridge.centering = Centering(means, bridge.encoder.num_layers, settings)
    return bridge


@pytest.fixture(params=["last", "token-softmax", "global-softmax"])
def bridge(request, make_bridge):
    return with_means(make_bridge("mt5", fusion=request.param), CenteringSettings(shrink=False))


def test_answers_are_those_of_states_moved_by_hand(bridge):
    texts = [*TEXTS["si"], *TEXTS["zh"]]
    languages = ["si"] * 4 + ["zh"] * 4
    found = bridge.classify(texts, ["a", "the crowd"], language=languages, batch_size=3)
    ids = [[5, 6], [7]]
    for text, language, answer in zip(texts, languages, found, strict=True):
        states = bridge.encoder.encode([text])
        means = bridge.centering.means.by_code
        layers = list(states.layers)
        for place, layer in enumerate(bridge.centering.means.layers):
            layers[layer] = layers[layer] + means["en"].mean[place] - means[language].mean[place]
        moved = HiddenStates(layers, states.mask)
        bridge.centering, kept = None, bridge.centering
        ids = [
            [*bridge.language_model.token_ids(option), bridge.language_model.eos_id]
            for option in ("a", "the crowd")
        ]
        scores = bridge.option_scores(moved, ids)[0].tolist()
        bridge.centering = kept
        assert list(answer.scores.values()) == pytest.approx(scores, abs=1e-4)
    one = bridge.classify(TEXTS["si"], ["a", "the crowd"], language="si")
    assert [a.choice for a in one] == [a.choice for a in found[:4]]


def test_every_way_of_asking_takes_a_language(bridge):
    text, options = TEXTS["si"][1], ["a", "b"]
    english = bridge.classify([text], options, language="en")
    sinhala = bridge.classify([text], options, language="si")
    assert english != sinhala
    (near,) = bridge.centering.nearest(bridge.encoder.encode([text]))
    assert bridge.classify([text], options) == bridge.classify([text], options, language=near)
    same = bridge.generate_text([text], max_new_tokens=4, language=near)
    assert bridge.generate_text([text], max_new_tokens=4) == same
    weights = bridge.layer_weights([text], language="si")[0].weights
    assert weights.shape[1] == bridge.encoder.num_layers
    batch = bridge.encoder.tokenize([text])
    asked = bridge(**batch).logits
    told = bridge(hidden_states=bridge.encode([text], near)).logits
    torch.testing.assert_close(asked, told)
    with pytest.raises(DataError, match="2 languages for 1 texts; allowed: one for all, or one"):
        bridge.classify([text], options, language=["si", "en"])


def test_training_reads_states_as_they_are(bridge):
    batch = bridge.encoder.tokenize(TEXTS["si"])
    labels = torch.full((4, 2), 5)
    bridge.train()
    for module in bridge.fusion.modules():
        module.eval()  # no dropout
    loss = bridge(**batch, labels=labels).loss
    bridge.centering = None
    assert torch.equal(bridge(**batch, labels=labels).loss, loss)


def test_saved_and_loaded_it_answers_alike(bridge, tmp_path):
    texts = [text for of_language in TEXTS.values() for text in of_language]
    bridge.save_pretrained(tmp_path)
    loaded = LayerBridge.from_pretrained(tmp_path, dtype="float32")
    assert loaded.centering.settings == CenteringSettings(shrink=False)
    for language in (None, "si"):
        answers = bridge.classify(texts, ["a", "b"], language=language)
        assert loaded.classify(texts, ["a", "b"], language=language) == answers
    # Another bridge in the same folder has none.
    bridge.centering = None
    bridge.save_pretrained(tmp_path)
    assert not (tmp_path / FILE).exists()
    assert LayerBridge.from_pretrained(tmp_path, dtype="float32").centering is None


def test_padding_never_matters(bridge):
    text, long = TEXTS["si"][0], "the market rose while the players of both teams"
    alone = bridge.encode([text], "si")
    beside = bridge.encode([text, long], ["si", "en"])
    tokens = alone.mask.shape[1]
    for layer in bridge.fusion.required_layers:
        torch.testing.assert_close(
            beside.layers[layer][0, :tokens], alone.layers[layer][0], atol=1e-4, rtol=1e-4
        )


def test_a_damaged_file_or_setting_is_one_line(make_bridge, tmp_path):
    bridge = with_means(make_bridge("mt5", fusion="last"))
    bridge.save_pretrained(tmp_path / "run")
    for settings in ({"methods": "center"}, {"strength": 3}, {"layers": [1]}):
        shutil.copytree(tmp_path / "run", tmp_path / "bad", dirs_exist_ok=True)
        bridge.centering.means.with_settings(settings).write(tmp_path / "bad")
        with pytest.raises(CheckpointError, match="has an invalid setting: "):
            LayerBridge.from_pretrained(tmp_path / "bad", dtype="float32")
    (tmp_path / "bad" / FILE).write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is damaged or truncated"):
        LayerBridge.from_pretrained(tmp_path / "bad", dtype="float32")


def test_a_language_for_a_bridge_without_means(make_bridge):
    with pytest.raises(DataError) as caught:
        make_bridge("mt5", fusion="last").classify(["a"], ["x", "y"], language="si")
    assert str(caught.value) == (
        "the bridge has no language means, so a language changes nothing; next: leave it out, or "
        "layerbridge center RUN --language CODE --text FILE"
    )
