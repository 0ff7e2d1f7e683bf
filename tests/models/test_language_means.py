import math

import pytest
import torch

from layerbridge.errors import CheckpointError, DataError, NotFiniteError
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.language_means import (
    FILE,
    LanguageMean,
    LanguageMeans,
    TextMeans,
    text_means,
)
from layerbridge.models.state_cache import StateCache
from layerbridge.models.tensor_file import write_tensors

TEXTS = ["the market rose", "a", "teams and players of the crowd", "ම ශ්"]


def naive(encoder, texts, layer):
    """All states of a layer, text by text, each alone in its batch."""
    return [encoder.encode([text]).layers[layer][0].double() for text in texts]


@pytest.fixture
def read(load_encoder):
    return TextMeans.read(load_encoder("mt5"), TEXTS, (0, 2))


def test_equals_the_mean_over_tokens_of_texts_read_one_by_one(read, load_encoder):
    mean = LanguageMean.of(read)
    assert (mean.texts, mean.mean.shape) == (4, (2, 32))
    for place, layer in enumerate((0, 2)):
        texts = naive(load_encoder("mt5"), TEXTS, layer)
        tokens = torch.cat(texts)
        mu = tokens.mean(0)
        torch.testing.assert_close(mean.mean[place].double(), mu, atol=1e-5, rtol=1e-5)
        std = tokens.std(0, correction=0)
        torch.testing.assert_close(mean.std[place].double(), std, atol=1e-4, rtol=1e-4)
        assert mean.tokens == len(tokens)
        # The error of a ratio of sums, over texts.
        squares = sum(((text - mu).sum(0) ** 2).sum().item() for text in texts)
        expected = squares / len(tokens) ** 2 * 4 / 3
        assert mean.error[place].item() == pytest.approx(expected, rel=1e-4)
        for index, text in enumerate(texts):
            others = torch.cat([other for i, other in enumerate(texts) if i != index]).mean(0)
            torch.testing.assert_close(
                read.without_each()[index, place], others, atol=1e-5, rtol=1e-5
            )
            torch.testing.assert_close(
                read.of_texts[index, place], text.mean(0), atol=1e-5, rtol=1e-5
            )


def test_the_error_is_that_of_means_of_other_texts():
    """Means of many samples of texts scatter around the true one by the estimated error."""
    torch.manual_seed(0)
    errors, squares = [], []
    for _ in range(150):
        counts = torch.randint(1, 9, (20,))
        texts = [0.7 * torch.randn(1, 3) + torch.randn(n, 3) for n in counts.tolist()]
        sums = torch.stack([text.sum(0) for text in texts]).double()[:, None]
        mean = LanguageMean.of(TextMeans(sums, counts, torch.zeros(1, 3).double()))
        errors.append(mean.error.item())
        squares.append(mean.mean.square().sum().item())  # the true mean is 0
    assert sum(errors) / sum(squares) == pytest.approx(1, abs=0.2)


def test_one_text_has_an_unknown_error_and_duplicates_count_once(load_encoder):
    found = TextMeans.read(load_encoder("mt5"), ["the market"] * 3, [1])
    mean = LanguageMean.of(found)
    assert (mean.texts, mean.error.tolist()) == (1, [math.inf])
    with pytest.raises(DataError, match="there are no texts for the mean of si"):
        TextMeans.read(load_encoder("mt5"), [], [1], what="the mean of si")


def test_padding_and_batches_do_not_matter(load_encoder, monkeypatch, read):
    monkeypatch.setattr("layerbridge.models.language_means.BATCH", 1)
    alone = TextMeans.read(load_encoder("mt5"), TEXTS, (0, 2))
    torch.testing.assert_close(alone.sums, read.sums, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(alone.squares, read.squares, atol=1e-3, rtol=1e-5)
    assert torch.equal(alone.counts, read.counts)
    layers = torch.randn(3, 2, 5, 4)
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    states = HiddenStates(layers, mask)
    found = text_means(states, (0, 2))
    torch.testing.assert_close(found[0, 1], layers[2, 0, :2].mean(0))
    layers[:, 0, 2:] = torch.nan
    assert torch.equal(text_means(HiddenStates(layers, mask), (0, 2)), found)


def test_of_many_texts_some_are_drawn_the_same_every_time(load_encoder, capsys):
    encoder, texts = load_encoder("mt5"), [f"text {number}" for number in range(30)]
    before = torch.get_rng_state()
    first = TextMeans.read(encoder, texts, [0], most=7, what="mean of si")
    assert torch.equal(torch.get_rng_state(), before)
    assert capsys.readouterr().err == "mean of si: reads 7 of 30 texts, drawn at random\n"
    assert torch.equal(TextMeans.read(encoder, texts, [0], most=7).sums, first.sums)
    assert len(first.counts) == 7


def test_a_cache_is_used_and_not_filled(load_encoder):
    encoder = load_encoder("mt5").with_settings(max_text_tokens=50)
    encoder.cache = cache = StateCache()
    encoder.remember(TEXTS[:2])
    TextMeans.read(encoder, TEXTS, [0])
    assert len(cache) == 2
    assert encoder.cache is cache
    encoder._read = None  # every state has to come from the cache
    TextMeans.read(encoder, TEXTS[:2], [0])


def test_states_that_are_not_finite_are_refused(load_encoder, monkeypatch):
    encoder = load_encoder("mt5")
    broken = HiddenStates(torch.full((3, 1, 2, 32), torch.nan), torch.ones(1, 2))
    monkeypatch.setattr(type(encoder), "encode", lambda *_, **__: broken)
    with pytest.raises(NotFiniteError, match="for the text 'abc'"):
        TextMeans.read(encoder, ["abc"], [0])


def some(layers=(0, 2), **by_code):
    means = LanguageMeans(layers, encoder="f00", settings={"strength": 0.5})
    for seed, code in enumerate(by_code or ("en", "si", "zh-Hant")):
        torch.manual_seed(seed)
        mean = LanguageMean(torch.randn(2, 8), torch.rand(2, 8), torch.rand(2), 3, 40 + seed)
        means = means.with_language(code, mean)
    return means


def test_saved_and_read_again(tmp_path):
    means = some()
    assert means.write(tmp_path) == tmp_path / FILE
    for path in (tmp_path, tmp_path / FILE):
        found = LanguageMeans.read(path)
        assert (found.layers, found.encoder, found.settings) == ((0, 2), "f00", {"strength": 0.5})
        assert list(found.by_code) == ["en", "si", "zh-Hant"]
        for code, mean in means.by_code.items():
            other = found.by_code[code]
            assert (other.texts, other.tokens) == (mean.texts, mean.tokens)
            for name in ("mean", "std", "error"):
                assert torch.equal(getattr(other, name), getattr(mean, name))


def test_a_language_by_any_of_its_codes():
    means = some()
    assert [means.code(code) for code in ("eng_Latn", "sin", "zho_Hant", "sw")] == [
        "en", "si", "zh-Hant", None,
    ]  # fmt: skip
    again = means.with_language("sin_Sinh", means.by_code["en"])
    assert list(again.by_code) == ["en", "si", "zh-Hant"]
    assert again.by_code["si"] is means.by_code["en"]
    assert LanguageMeans((0,)).with_language("eng", means.by_code["si"]).english is not None


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("layers", None),
        ("si.mean", None),
        ("si.std", torch.zeros(2, 7)),
        ("si.mean", torch.zeros(3, 8)),
        ("si.error", torch.zeros(1)),
        ("en.mean", torch.full((2, 8), torch.nan)),
        ("en.counts", torch.zeros(1)),
    ],
)
def test_damaged_means_are_refused(name, tensor, tmp_path):
    from layerbridge.models.tensor_file import read_tensors

    some().write(tmp_path)
    tensors, facts = read_tensors(tmp_path / FILE, hint="")
    tensors = {key: value for key, value in tensors.items() if key != name}
    write_tensors(tmp_path / FILE, tensors | ({} if tensor is None else {name: tensor}), facts)
    with pytest.raises(CheckpointError, match="has no language means, or damaged ones; next: "):
        LanguageMeans.read(tmp_path)


def test_means_of_other_states_are_refused():
    means = some()
    means.check((0, 2), 8, "f00", "run")
    means.check((0, 2), 8, None, "run")
    with pytest.raises(CheckpointError, match="are of another encoder: its weights are f00; allow"):
        means.check((0, 2), 8, "ba7", "run")
    for layers, width in (((0, 1), 8), ((0, 2), 9)):
        with pytest.raises(CheckpointError, match="are of other layers than those that the fusion"):
            means.check(layers, width, "f00", "run")
