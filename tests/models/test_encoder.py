import copy
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn

import tiny
import tiny_translators
from layerbridge.errors import BackboneError, LengthError
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.encoder import Encoder
from layerbridge.models.state_cache import StateCache
from layerbridge.models.truncation import layer_list

FLOAT32 = LoadOptions(dtype="float32")
FAMILIES = sorted(tiny.ENCODERS)
HALVES = ("mt5", "umt5", "m2m100")
TEXTS = [
    "The market rose.",
    "ශ්‍රී ලංකාව",
    "a",
    "مرحبا بالعالم",
    "😀👩‍👩‍👧 the teams of the market entertained the crowd 猫",
]
SUPPORTED = (
    "allowed: models that read text: encoders (XLM-R, mmBERT, …), encoder-decoders (mT5, NLLB, …) "
    "and causal language models (Gemma, Qwen, …)"
)


def whole_encoder(whole, name):
    """The encoder inside the whole model, as transformers alone gives it."""
    model = whole(name)
    return model.get_encoder() if name in HALVES else model.base_model


@torch.no_grad()
def expected_states(whole, name, ids):
    """[L, S, E] of one row without padding."""
    output = whole_encoder(whole, name)(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        output_hidden_states=True,
    )
    layers = [*output.hidden_states[1:-1], output.last_hidden_state]
    return torch.cat(layers)


@pytest.mark.parametrize("name", FAMILIES)
def test_width_and_layers(load_encoder, name):
    _, layers, width = tiny.ENCODERS[name]
    encoder = load_encoder(name)
    assert (encoder.num_layers, encoder.width) == (layers, width)
    states = encoder.encode(TEXTS)
    assert len(states) == layers
    assert states.last.shape[-1] == width


@pytest.mark.parametrize("name", FAMILIES)
def test_states_are_those_of_the_whole_model_row_by_row(load_encoder, whole, name):
    """Without padding and without the embedding output; the last is the model's own output."""
    encoder = load_encoder(name)
    states = encoder.encode(TEXTS)
    assert states.mask.sum(1).max() > 2 * states.mask.sum(1).min()  # much padding
    for row, text in enumerate(TEXTS):
        ids = encoder.tokenizer(text)["input_ids"]
        expected = expected_states(whole, name, ids)
        assert expected.std(dim=(1, 2)).min() > 0.3
        found = states.stacked[:, row, states.mask[row]]
        assert states.mask[row].tolist() == [i < len(ids) for i in range(states.mask.shape[1])]
        torch.testing.assert_close(found, expected, atol=3e-5, rtol=3e-5)


def test_the_last_state_is_the_one_after_the_final_norm(load_encoder):
    """Some families report the state before their final norm as the last hidden state."""

    class Reports(transformers.PreTrainedModel):
        config_class = transformers.BertConfig
        device, dtype = torch.device("cpu"), torch.float32

        def forward(self, input_ids, attention_mask, output_hidden_states, return_dict):
            batch, tokens = input_ids.shape
            states = [torch.full((batch, tokens, 4), float(i)) for i in range(3)]
            return SimpleNamespace(hidden_states=tuple(states), last_hidden_state=-states[-1])

    config = transformers.BertConfig(hidden_size=4, num_hidden_layers=2)
    encoder = Encoder(Reports(config), load_encoder("bert").tokenizer)
    states = encoder(torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long))
    assert [layer[0, 0, 0].item() for layer in states.layers] == [1, -2]


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_but_the_encoder_is_in_memory(load_encoder, whole, name):
    encoder = load_encoder(name)
    names = [name for name, _ in encoder.named_parameters()]
    assert not [n for n in names if "decoder" in n or "lm_head" in n or "pooler" in n]
    count = sum(p.numel() for p in encoder.parameters())
    assert count == sum(p.numel() for p in whole_encoder(whole, name).parameters())


@pytest.mark.parametrize("name", HALVES)
def test_an_encoder_decoder_leaves_its_decoder_out(load_encoder, whole, name):
    count = sum(p.numel() for p in load_encoder(name).parameters())
    assert count < 0.6 * sum(p.numel() for p in whole(name).parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_for_good(load_encoder, name):
    encoder = load_encoder(name)
    assert not any(p.requires_grad for p in encoder.parameters())
    before = encoder.encode(TEXTS[:2]).stacked
    assert encoder.train() is encoder
    assert not any(module.training for module in encoder.modules())
    nn.ModuleList([encoder]).train()
    assert not any(module.training for module in encoder.modules())
    with torch.enable_grad():
        states = encoder.encode(TEXTS[:2])
    assert not states.stacked.requires_grad
    assert torch.equal(states.stacked, before)


@pytest.mark.parametrize("name", FAMILIES)
def test_padding_changes_no_real_token(load_encoder, name):
    encoder = load_encoder(name)
    batch = encoder.tokenize(TEXTS[:2])
    ids, mask = batch["input_ids"], batch["attention_mask"]
    pad = encoder.tokenizer.pad_token_id
    wider = torch.cat([ids, torch.full((2, 17), pad)], 1)
    states = encoder(ids, mask)
    padded = encoder(wider, torch.cat([mask, torch.zeros(2, 17, dtype=mask.dtype)], 1))
    torch.testing.assert_close(
        padded.stacked[:, padded.mask], states.stacked[:, states.mask], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_tokenize_pads_on_the_right(load_encoder, name):
    encoder = load_encoder(name)
    tokenizer = encoder.tokenizer
    batch = encoder.tokenize(TEXTS)
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.long
    for text, ids, mask in zip(TEXTS, batch["input_ids"], batch["attention_mask"], strict=True):
        expected = tokenizer(text)["input_ids"]
        rest = len(ids) - len(expected)
        assert ids.tolist() == expected + [tokenizer.pad_token_id] * rest
        assert mask.tolist() == [1] * len(expected) + [0] * rest
        assert tokenizer.unk_token_id not in expected


@pytest.mark.parametrize("name", FAMILIES)
def test_empty_text(load_encoder, name):
    """What the tokenizer adds is all there is; and there is always something."""
    encoder = load_encoder(name)
    batch = encoder.tokenize(["", "the market"])
    added = encoder.tokenizer("")["input_ids"]
    assert batch["attention_mask"][0].sum() == len(added) > 0
    states = encoder.encode([""])
    assert states.mask.all()
    assert states.stacked.isfinite().all()


def test_a_tokenizer_that_adds_nothing_still_gives_one_token(folder, tmp_path):
    path = shutil.copytree(folder("mt5"), tmp_path / "mt5")
    tiny.unigram(tiny.T5_SPECIALS, None).save_pretrained(path)
    encoder = Encoder.load(resolve(str(path)), FLOAT32)
    assert encoder.tokenizer("")["input_ids"] == []
    batch = encoder.tokenize(["", "a"])
    eos = encoder.tokenizer.eos_token_id
    assert batch["input_ids"][0, 0] == eos != encoder.tokenizer.pad_token_id
    assert batch["attention_mask"].sum(1).tolist() == [1, len(encoder.tokenizer("a")["input_ids"])]
    assert encoder.encode([""]).stacked.shape == (3, 1, 1, 32)


def test_a_tokenizer_without_a_pad_token(folder, tmp_path):
    path = shutil.copytree(folder("gemma2-encoder"), tmp_path / "gemma2")
    specials = {k: v for k, v in tiny.GEMMA_SPECIALS.items() if k != "pad_token"}
    tiny.byte_level({"unk_token": "<pad>", **specials}, "<bos> $A").save_pretrained(path)
    encoder = Encoder.load(resolve(str(path)), FLOAT32)
    assert encoder.tokenizer.pad_token_id is None
    alone = encoder.encode(["a"]).stacked
    states = encoder.encode(["a", "the market rose"])
    torch.testing.assert_close(states.stacked[:, 0, :2], alone[:, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_long_texts_are_cut_at_the_end(folder, name):
    encoder = Encoder.load(resolve(str(folder(name))), FLOAT32, max_text_tokens=7)
    assert encoder.max_text_tokens == 7
    text = "the market of teams " * 9
    (ids,) = encoder.tokenize([text])["input_ids"].tolist()
    whole = encoder.tokenizer(text)["input_ids"]
    assert len(whole) > len(ids) == 7
    added = len(encoder.tokenizer("")["input_ids"])
    trailing = 0 if name == "gemma2-encoder" else 1
    assert ids[: 7 - trailing] == whole[: 7 - trailing]
    assert ids[-1] == (whole[-1] if trailing else whole[6])  # the end token is kept
    assert added in (1, 2)


def test_no_more_tokens_than_the_model_has_positions(load_encoder):
    model, tokenizer = load_encoder("bert").model, copy.deepcopy(load_encoder("bert").tokenizer)
    assert tokenizer.model_max_length == 512
    tokenizer.model_max_length = 128
    assert Encoder(model, tokenizer).max_text_tokens == 128
    assert Encoder(model, tokenizer, max_text_tokens=64).max_text_tokens == 64
    tokenizer.model_max_length = int(1e30)
    encoder = Encoder(model, tokenizer, max_text_tokens=2048)
    assert encoder.max_text_tokens == 514
    assert encoder.tokenize(["a" * 2000])["input_ids"].shape == (1, 514)
    ids = torch.full((1, 515), 5)
    with pytest.raises(LengthError) as caught:
        encoder(ids, torch.ones_like(ids))
    assert str(caught.value) == "a text has 515 encoder tokens; allowed: 514, its positions"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_longest_text_that_is_allowed_can_be_read(folder, name):
    """Also if the tokenizer has no limit, or a wrong one."""
    encoder = Encoder.load(resolve(str(folder(name))), FLOAT32)
    for limit in (512, 514, int(1e30)):
        encoder.tokenizer.model_max_length = limit
        longest = Encoder(encoder.model, encoder.tokenizer, max_text_tokens=700)
        states = longest.encode(["a " * 1000], layers=[0])
        assert states.mask.shape == (1, longest.max_text_tokens)
        assert states.layers[0].isfinite().all()
        positions = {"xlm-r": 512, "bert": 514, "m2m100": 600}.get(name, 700)
        assert longest.max_text_tokens == min(positions, limit)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tokenizer_with_more_tokens_than_embeddings(folder, name):
    encoder = Encoder.load(resolve(str(folder(name))), FLOAT32)
    before = encoder.tokenize(TEXTS)
    rows = len(encoder.tokenizer)
    encoder.tokenizer.add_special_tokens({"pad_token": "<new pad>"})
    encoder.tokenizer.add_tokens(["<image>"])
    after = encoder.tokenize(TEXTS)
    real = before["attention_mask"].bool()
    assert torch.equal(after["attention_mask"], before["attention_mask"])
    assert torch.equal(after["input_ids"][real], before["input_ids"][real])
    assert encoder.encode(TEXTS).stacked.isfinite().all()
    with pytest.raises(BackboneError) as caught:
        encoder.encode(["a", "an <image> here"])
    assert str(caught.value) == (
        f"the token '<image>' has the id {rows + 1}, but the encoder has embeddings for {rows} "
        "tokens only; allowed: texts without it, or a tokenizer that belongs to the encoder"
    )


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_autocast_changes_no_state(folder, name, dtype):
    encoder = Encoder.load(resolve(str(folder(name))), LoadOptions(dtype=dtype))
    plain = encoder.encode(TEXTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = encoder.encode(TEXTS)
    assert states.stacked.dtype == getattr(torch, dtype)
    assert torch.equal(states.stacked, plain.stacked)


def kind(folder, config):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return resolve(str(folder))


@pytest.mark.parametrize(
    "config",
    [transformers.ViTConfig(), transformers.FSMTConfig(), transformers.WhisperConfig()],
    ids=lambda config: config.model_type,
)
def test_what_is_no_text_encoder(tmp_path, config):
    source = kind(tmp_path / "model", config.to_dict())
    with pytest.raises(BackboneError) as caught:
        Encoder.load(source, FLOAT32)
    assert str(caught.value) == (
        f"{source.given!r} is a {config.model_type!r} model, which is not a supported text "
        f"encoder; {SUPPORTED}"
    )


def test_a_decoder_only_language_model_will_do(folder):
    encoder = Encoder.load(resolve(str(folder("llama"))), FLOAT32)
    assert (encoder.num_layers, encoder.width) == (2, 48)
    assert encoder.encode(TEXTS).stacked.isfinite().all()


@pytest.mark.parametrize("name", tiny.ENCODERS)
def test_the_last_layer_alone_is_the_same_and_keeps_no_other(load_encoder, name):
    encoder = load_encoder(name)
    whole = encoder.encode(TEXTS)
    asked = []
    handle = encoder.model.register_forward_pre_hook(
        lambda module, arguments, kwargs: asked.append(kwargs["output_hidden_states"]),
        with_kwargs=True,
    )
    try:
        alone = encoder.encode(TEXTS, layers=[encoder.num_layers - 1])
        both = encoder.encode(TEXTS, layers=[0, encoder.num_layers - 1])
    finally:
        handle.remove()
    assert asked == [False, True]
    assert torch.equal(alone.last, whole.last)
    assert torch.equal(alone.mask, whole.mask)
    assert [layer.is_meta for layer in alone.layers] == [True] * (encoder.num_layers - 1) + [False]
    assert torch.equal(both.stacked, whole.stacked)


@pytest.fixture
def counted(folder):
    """An encoder of its own with a cache, and the number of rows it was given each time."""
    encoder = Encoder.load(resolve(str(folder("mt5"))), FLOAT32)
    rows = []
    encoder.model.register_forward_pre_hook(
        lambda module, arguments, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return encoder, rows


def test_cache_reads_each_text_once(counted):
    encoder, rows = counted
    plain = encoder.encode(TEXTS)
    assert rows == [5]
    encoder.cache = StateCache()
    first = encoder.encode([*TEXTS, TEXTS[0]])
    assert rows == [5, 5]
    again = encoder.encode(TEXTS)
    assert rows == [5, 5]
    encoder.encode([TEXTS[3], "new", "new"])
    assert rows == [5, 5, 1]
    assert len(encoder.cache) == 6
    for states in (first, again):
        assert torch.equal(states.mask[:5], plain.mask)
        torch.testing.assert_close(
            states.stacked[:, :5][:, plain.mask],
            plain.stacked[:, plain.mask],
            atol=1e-5,
            rtol=1e-5,
        )
    assert torch.equal(first.stacked[:, 5], first.stacked[:, 0])


def test_cache_is_filled_in_batches_of_like_length(counted, monkeypatch):
    encoder, rows = counted
    monkeypatch.setattr("layerbridge.models.encoder.CACHE_BATCH", 2)
    encoder.cache = StateCache()
    encoder.encode(TEXTS)
    assert rows == [2, 2, 1]


def test_cache_holds_no_padding_and_no_batch(counted):
    encoder, _ = counted
    encoder.cache = StateCache()
    encoder.encode(TEXTS)
    tokens = sum(len(encoder.tokenizer(text)["input_ids"]) for text in TEXTS)
    assert encoder.cache.bytes == 3 * tokens * 32 * 4
    held = sum(row.untyped_storage().nbytes() for row in encoder.cache._rows.values())
    assert held == encoder.cache.bytes


@pytest.mark.parametrize("name", tiny.ENCODERS)
def test_layers_above_the_highest_are_not_run(load_encoder, name):
    encoder = load_encoder(name)
    whole = encoder.encode(TEXTS)
    _, layers = layer_list(encoder.model)
    runs = []
    handles = [
        layer.register_forward_pre_hook(lambda *_, place=place: runs.append(place))
        for place, layer in enumerate(layers)
    ]
    try:
        lowest = encoder.encode(TEXTS, layers=[0])
    finally:
        for handle in handles:
            handle.remove()
    # One more than is read: the last that is run may go through the final norm.
    assert runs == list(range(min(2, encoder.num_layers)))
    assert torch.equal(lowest.layers[0], whole.layers[0])
    assert [layer.is_meta for layer in lowest.layers] == [False] + [True] * (encoder.num_layers - 1)
    assert torch.equal(encoder.encode(TEXTS).stacked, whole.stacked)


@pytest.mark.parametrize("order", ["shallow first", "whole first"])
@pytest.mark.parametrize("name", [*FAMILIES, *tiny.LANGUAGE_MODELS])
def test_every_call_reads_the_same_layers(folder, whole, name, order):
    """Five calls for the same layers, between calls for others."""
    encoder = Encoder.load(resolve(str(folder(name))), FLOAT32)
    top = encoder.num_layers - 1
    kinds = [[0], range(top), [0, top], [top], None]
    if order == "whole first":
        kinds.reverse()
    model = whole_encoder(whole, name)
    batch = encoder.tokenize(TEXTS)
    with torch.no_grad():
        output = model(**batch, output_hidden_states=True)
    expected = torch.stack([*output.hidden_states[1:-1], output.last_hidden_state])
    real = batch["attention_mask"].bool()
    first = {}
    for turn in range(5):
        for number, layers in enumerate(kinds):
            states = encoder.encode(TEXTS, layers=layers)
            for layer in range(top + 1) if layers is None else layers:
                state = states.layers[layer][real]
                torch.testing.assert_close(state, expected[layer][real], atol=3e-5, rtol=3e-5)
                assert torch.equal(state, first.setdefault(layer, state)), (turn, number, layer)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_the_embeddings_output_as_the_lowest_layer(load_encoder, whole, name):
    encoder = load_encoder(name)
    twin = encoder.with_settings(max_text_tokens=encoder.max_text_tokens, embedding_layer=True)
    assert twin.model is encoder.model
    assert twin.num_layers == encoder.num_layers + 1
    assert twin.with_settings(max_text_tokens=twin.max_text_tokens, embedding_layer=True) is twin
    plain, states = encoder.encode(TEXTS), twin.encode(TEXTS)
    assert torch.equal(states.stacked[1:], plain.stacked)
    for row, text in enumerate(TEXTS):
        ids = encoder.tokenizer(text)["input_ids"]
        expected = whole_encoder(whole, name)(
            input_ids=torch.tensor([ids]), output_hidden_states=True
        ).hidden_states[0][0]
        found = states.layers[0][row, states.mask[row]]
        torch.testing.assert_close(found, expected, atol=3e-5, rtol=3e-5)
    for top in range(1, twin.num_layers + 1):
        lower = twin.encode(TEXTS, layers=range(top))
        assert [layer.is_meta for layer in lower.layers] == [
            p >= top for p in range(twin.num_layers)
        ]
        assert torch.equal(torch.stack(lower.layers[:top]), states.stacked[:top])


def test_a_twin_cuts_texts_elsewhere_and_has_no_cache(load_encoder):
    encoder = load_encoder("mt5")
    encoder.cache = StateCache()
    twin = encoder.with_settings(max_text_tokens=3, embedding_layer=False)
    assert (twin.max_text_tokens, twin.cache) == (3, None)
    assert twin.tokenize(TEXTS)["input_ids"].shape[1] == 3
    encoder.cache = None


@pytest.mark.parametrize("name", ["bert", "mt5"])
def test_a_prefix_is_read_before_each_text(load_encoder, name):
    encoder = load_encoder(name)
    prefixed = encoder.with_settings(text_prefix="query: ")
    assert prefixed.traits is encoder.traits
    texts = ["query: " + text for text in TEXTS]
    assert prefixed.lengths(TEXTS) == encoder.lengths(texts)
    assert torch.equal(prefixed.encode(TEXTS).stacked, encoder.encode(texts).stacked)
    prefixed.cache = StateCache()
    cached = prefixed.encode(TEXTS)
    expected = encoder.encode(texts).stacked[:, cached.mask]
    torch.testing.assert_close(cached.stacked[:, cached.mask], expected, atol=1e-5, rtol=1e-5)
    for text, other in zip(TEXTS, texts, strict=True):
        wanted = [(max(a - 7, 0), max(b - 7, 0)) for a, b in encoder.spans(other)]
        assert prefixed.spans(text) == wanted
        assert wanted[-1 if name == "bert" else -2][1] in (0, len(text))
    short = prefixed.with_settings(max_text_tokens=9)
    ids = short.tokenize(["the market " * 9])["input_ids"][0].tolist()
    assert ids[:8] == encoder.tokenizer("query: the market the market the")["input_ids"][:8]
    plain = prefixed.with_settings(text_prefix="")
    assert torch.equal(plain.encode(TEXTS).stacked, encoder.encode(TEXTS).stacked)


def test_a_language_code_and_back(load_encoder):
    encoder = Encoder(load_encoder("m2m100").model, tiny_translators._tokenizer("nllb"))
    twin = encoder.with_settings(language="sin_Sinh")
    first = twin.tokenize(["a"])["input_ids"][0, 0]
    assert first == encoder.tokenizer.convert_tokens_to_ids("sin_Sinh")
    again = twin.with_settings(language="", text_prefix="a")
    assert torch.equal(again.tokenize(["b"])["input_ids"], encoder.tokenize(["ab"])["input_ids"])
