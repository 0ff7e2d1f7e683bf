import json

import pytest

from layerbridge.benchmarking import sample
from layerbridge.benchmarking.pair import Pair
from layerbridge.errors import ConfigError
from layerbridge.hub.sources import resolve
from layerbridge.models.encoder import Encoder


@pytest.fixture(scope="module")
def synthetic():
    return Pair("shape:tiny-encoder", "shape:tiny-lm", "float32", "cpu").load_encoder()


def test_lengths_are_those_of_real_pairs():
    lengths = sample.real_lengths()
    assert len(lengths) == 512
    assert min(lengths) > 8
    assert 45 < sum(lengths) / len(lengths) < 60


def test_texts_are_as_long_as_the_real_ones(synthetic):
    rows = sample.rows(synthetic, 20)
    counted = [len(synthetic.tokenize([row.text])["input_ids"][0]) for row in rows]
    limit = synthetic.max_text_tokens
    assert counted == [min(length, limit) for length in sample.real_lengths()[:20]]
    assert len({row.text for row in rows}) == 20


def test_texts_for_a_real_tokenizer(folder):
    encoder = Encoder.load(resolve(str(folder("xlm-r"))))
    for tokens in (3, 9, 40):
        text = sample.text_of(encoder, tokens, seed=tokens)
        assert abs(len(encoder.tokenize([text])["input_ids"][0]) - tokens) <= 1


def test_a_users_own_text(tmp_path, folder):
    encoder = Encoder.load(resolve(str(folder("xlm-r"))))
    file = tmp_path / "rows.jsonl"
    lines = [{"premise": "a", "label": "x"}, {"premise": "b", "label": "y"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = sample.rows(encoder, 3, file=file, template="P: {premise}")
    assert [row.text for row in rows] == ["P: a", "P: b", "P: a"]


def test_a_shape_knows_no_text(tmp_path, synthetic):
    with pytest.raises(ConfigError) as error:
        sample.rows(synthetic, 3, file=tmp_path / "rows.jsonl")
    assert str(error.value) == (
        "--data needs an encoder with a real tokenizer, not a random one; "
        "next: leave --data out, or choose another --encoder"
    )
