"""Large shapes are built without memory (on "meta"), or shrunk; only the tiny ones are real."""

import pickle
from dataclasses import replace
from itertools import chain

import pytest
import torch
import transformers

from layerbridge.benchmarking import shapes
from layerbridge.errors import BackboneError, ConfigError
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.option_scoring import option_scores
from layerbridge.models.packing import Segment

# As published; encoders without the poolers that are not built here.
PARAMETERS = {
    "xlm-roberta-base": 278_043_648 - (768 * 768 + 768),
    "xlm-roberta-large": 559_890_432 - (1024 * 1024 + 1024),
    "multilingual-e5-small": 117_653_760 - (384 * 384 + 384),
    "multilingual-e5-large": 559_890_432 - (1024 * 1024 + 1024),
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.1-8b": 8_030_261_248,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "qwen2.5-0.5b": 494_032_768,
    "gemma-3-270m": 268_098_176,
    "nllb-600m": 615_073_792,
    "nllb-1.3b": 1_370_638_336,
    "m2m100-418m": 483_905_536,
}
# Of mT5 the whole models were published, with heads of their own.
WHOLE_MT5 = {
    "mt5-small": 300_176_768,
    "mt5-base": 582_401_280,
    "mt5-large": 1_229_581_312,
    "mt5-xl": 3_742_619_648,
}
TINY = {
    "tiny-encoder": "encoder",
    "tiny-lm": "language model",
    "tiny-translator": "translator",
}

DECODER = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LLAMA = DECODER | {"head_dim": 8}
BERT = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
# One shape of each family → what makes it small, and the class it is.
FAMILIES = {
    "mt5-large": (
        {"vocab_size": 300, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
        transformers.MT5EncoderModel,
    ),
    "xlm-roberta-large": (BERT, transformers.XLMRobertaModel),
    "multilingual-e5-small": (BERT, transformers.BertModel),
    "llama-3.2-1b": (LLAMA, transformers.LlamaForCausalLM),
    "llama-3.1-8b": (LLAMA, transformers.LlamaForCausalLM),
    "smollm2-135m": (LLAMA, transformers.LlamaForCausalLM),
    "qwen2.5-0.5b": (DECODER, transformers.Qwen2ForCausalLM),
    # Seven layers, so that one of them is global.
    "gemma-3-270m": (LLAMA | {"num_hidden_layers": 7}, transformers.Gemma3ForCausalLM),
    "nllb-600m": (
        {
            "vocab_size": 300,
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
        },
        transformers.M2M100ForConditionalGeneration,
    ),
}


def shrunk(name):
    """The shape with fewer and smaller layers, otherwise configured as published."""
    published = shapes.shape(name)
    settings = {**published.settings, **FAMILIES[name][0]}
    if "layer_types" in settings:
        settings["layer_types"] = settings["layer_types"][: settings["num_hidden_layers"]]
    return replace(published, settings=settings)


# --- sizes --------------------------------------------------------------------------------------


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", PARAMETERS)
def test_it_has_the_published_number_of_parameters(name):
    assert parameters(shapes.build(shapes.shape(name), device="meta")) == PARAMETERS[name]


@pytest.mark.parametrize("name", WHOLE_MT5)
def test_an_mt5_shape_is_the_encoder_half_of_the_published_model(name):
    config = shapes.shape(name).config()
    with torch.device("meta"):
        whole = transformers.MT5ForConditionalGeneration(config)
    # transformers ties the head to the embeddings, which the published weights do not.
    assert parameters(whole) + config.vocab_size * config.d_model == WHOLE_MT5[name]
    half = shapes.build(shapes.shape(name), device="meta")
    assert parameters(half) == parameters(whole.get_encoder())


def test_every_shape_is_counted_or_tiny():
    assert {*PARAMETERS, *WHOLE_MT5, *TINY} == set(shapes.names())


def test_nothing_takes_memory_on_meta():
    model = shapes.build(shapes.shape("llama-3.1-8b"), device="meta", dtype="bfloat16")
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.bfloat16}


def test_llama_scales_its_positions_as_published():
    by = {}
    for name in ("llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b"):
        rope = shapes.shape(name).config().rope_parameters
        assert (rope["rope_type"], rope["rope_theta"]) == ("llama3", 500_000.0)
        by[name] = rope["factor"]
    assert by == {"llama-3.2-1b": 32.0, "llama-3.2-3b": 32.0, "llama-3.1-8b": 8.0}


def test_gemma_looks_at_everything_in_every_sixth_layer():
    kinds = shapes.shape("gemma-3-270m").config().layer_types
    wide = [number for number, kind in enumerate(kinds, 1) if kind == "full_attention"]
    assert (len(kinds), wide) == (18, [6, 12, 18])


# --- contents -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_it_computes_finite_numbers(name, dtype):
    model = shapes.build(shrunk(name), dtype=dtype).eval()
    assert type(model) is FAMILIES[name][1]
    # With pads, but no token that a family takes for one.
    ids = torch.arange(5, 29).view(2, 12)
    mask = torch.ones_like(ids)
    mask[1, -4:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if shapes.shape(name).kind == "translator":
        inputs["decoder_input_ids"] = ids[:, :5]
    result = model(**inputs)[0]
    assert result.dtype == getattr(torch, dtype)
    assert result.isfinite().all()
    assert result.float().std() > 0


@pytest.mark.parametrize("name", TINY)
def test_it_is_the_same_each_time_and_leaves_the_global_generator_alone(name):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = shapes.build(shapes.shape(name), dtype="float32").state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    second = shapes.build(shapes.shape(name), dtype="float32").state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "tied"),
    [
        ("llama-3.2-1b", True),
        ("llama-3.1-8b", False),
        ("smollm2-135m", True),
        ("qwen2.5-0.5b", True),
        ("gemma-3-270m", True),
        ("nllb-600m", True),
    ],
)
def test_a_head_is_tied_where_the_published_one_is(name, tied):
    model = shapes.build(shrunk(name), dtype="float32")
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    assert (head.weight is embeddings.weight) == tied
    if name == "nllb-600m":
        assert model.model.encoder.embed_tokens.weight is head.weight
        assert model.model.decoder.embed_tokens.weight is head.weight


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_weight_is_as_precise_as_one_that_is_loaded(dtype, tmp_path):
    """In float16 transformers keeps one matrix of mT5 in float32."""
    shapes.build(shrunk("mt5-large"), dtype="float32").save_pretrained(tmp_path)
    loaded = transformers.MT5EncoderModel.from_pretrained(tmp_path, dtype=getattr(torch, dtype))
    built = shapes.build(shrunk("mt5-large"), dtype=dtype)
    precise = {key: tensor.dtype for key, tensor in loaded.state_dict().items()}
    assert {key: tensor.dtype for key, tensor in built.state_dict().items()} == precise
    assert len(set(precise.values())) == (2 if dtype == "float16" else 1)


# --- tokenizers and texts -----------------------------------------------------------------------


@pytest.mark.parametrize("name", shapes.names())
def test_a_text_of_so_many_words_is_so_many_tokens(name):
    wanted = shapes.shape(name)
    tokenizer, config = shapes.tokenizer(wanted), wanted.config()
    text = shapes.text(40, 3)
    bare = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(bare) == 40
    assert tokenizer.decode(bare) == text
    whole = tokenizer(text)["input_ids"]
    assert len(whole) == 40 + tokenizer.num_special_tokens_to_add()
    around = {"encoder": {1, 2}, "language model": {0}, "translator": {2}}[wanted.kind]
    assert len(whole) - 40 in around
    ids = tokenizer.get_vocab().values()
    assert 0 <= min(ids) <= max(ids) < config.vocab_size
    assert len(set(ids)) == len(ids) == len(tokenizer)


@pytest.mark.parametrize("name", shapes.names())
def test_labels_are_words_and_the_rest_is_unknown(name):
    tokenizer = shapes.tokenizer(shapes.shape(name))
    ids = tokenizer(" ".join(shapes.LABELS), add_special_tokens=False)["input_ids"]
    assert len(set(ids)) == len(shapes.LABELS) == 9
    unknown = set(tokenizer("never heard. of", add_special_tokens=False)["input_ids"])
    assert len(unknown) == 1
    assert not unknown & {*ids, tokenizer.eos_token_id, tokenizer.bos_token_id}


@pytest.mark.parametrize("name", shapes.names())
def test_specials_are_where_the_configuration_says(name):
    wanted = shapes.shape(name)
    tokenizer, config = shapes.tokenizer(wanted), wanted.config()
    for role in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if name == "multilingual-e5-small" and role == "pad_token_id":
            continue  # published so: BERT's configuration, XLM-R's tokenizer
        mine, its = getattr(tokenizer, role), getattr(config, role)
        if mine is not None and its is not None:
            assert mine == its, role
    assert tokenizer.eos_token_id is not None


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("mt5-small", [], ["</s>"]),
        ("xlm-roberta-base", ["<s>"], ["</s>"]),
        ("multilingual-e5-small", ["<s>"], ["</s>"]),
        ("llama-3.2-1b", [], []),
        ("nllb-600m", ["eng_Latn"], ["</s>"]),
        ("m2m100-418m", ["__en__"], ["</s>"]),
    ],
)
def test_a_text_is_put_between_the_specials_of_its_family(name, before, after):
    tokenizer = shapes.tokenizer(shapes.shape(name))
    ids = tokenizer("w7 w8")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [*before, "w7", "w8", *after]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "w7 w8"


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("xlm-roberta-base", 512),
        ("multilingual-e5-small", 512),
        ("tiny-encoder", 512),
        ("llama-3.2-1b", 131_072),
        ("smollm2-135m", 8192),
        ("nllb-600m", 1024),
    ],
)
def test_a_tokenizer_knows_the_limit_of_its_model(name, limit):
    assert shapes.tokenizer(shapes.shape(name)).model_max_length == limit


def test_mt5_has_no_limit():
    assert shapes.tokenizer(shapes.shape("mt5-small")).model_max_length > 10**9


def test_texts_repeat_with_their_seed():
    assert shapes.text(50, 1) == shapes.text(50, 1) != shapes.text(50, 2)
    assert len(shapes.text(50, 1).split()) == 50
    assert shapes.text(0, 1) == ""


def test_a_synthetic_tokenizer_is_reported_from_a_real_one(load_lm):
    synthetic = shapes.tokenizer(shapes.shape("tiny-lm"))
    assert shapes.is_synthetic(synthetic)
    assert shapes.is_synthetic(pickle.loads(pickle.dumps(synthetic)))
    assert not shapes.is_synthetic(load_lm("llama").tokenizer)


# --- whole --------------------------------------------------------------------------------------


def test_an_encoder_encodes():
    encoder = shapes.encoder("tiny-encoder", dtype="float32", max_text_tokens=9)
    assert isinstance(encoder, Encoder)
    assert (encoder.num_layers, encoder.width) == (3, 32)
    assert encoder.model.name_or_path == "shape:tiny-encoder"
    states = encoder.encode([shapes.text(4, 0), shapes.text(20, 1)])
    assert states.mask.sum(1).tolist() == [6, 9]
    assert states.stacked.isfinite().all()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_a_language_model_says_what_comes_next():
    lm = shapes.language_model("tiny-lm", dtype="float32")
    assert isinstance(lm, LanguageModel)
    assert (lm.width, lm.bos_id, lm.eos_id, lm.traits.head_is_separable) == (48, 1, 2, True)
    ids = torch.tensor([lm.token_ids(shapes.text(6, 0))])
    piece = Segment(lm.embed(ids), torch.ones_like(ids, dtype=torch.bool))
    options = [lm.token_ids(label) for label in shapes.LABELS]
    scores = option_scores(lm, [piece], options)
    assert scores.isfinite().all()
    assert len(set(scores[0].tolist())) == len(options)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_translator_begins_with_the_english_token(dtype):
    model, tokenizer = shapes.translator("tiny-translator", dtype=dtype)
    assert model.dtype == getattr(torch, dtype)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    batch = tokenizer([shapes.text(3, 0), shapes.text(5, 1)], padding=True, return_tensors="pt")
    written = model.generate(**batch, max_new_tokens=4, num_beams=1)
    english = tokenizer.convert_tokens_to_ids("__en__")
    assert written[:, :2].tolist() == [[2, english]] * 2


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(("asked", "got"), [(None, "sdpa"), ("eager", "eager")])
def test_attention_is_the_one_asked_for(name, asked, got):
    make = {
        "encoder": lambda *a, **k: shapes.encoder(*a, **k).model,
        "language model": lambda *a, **k: shapes.language_model(*a, **k).model,
        "translator": lambda *a, **k: shapes.translator(*a, **k)[0],
    }[TINY[name]]
    model = make(name, dtype="float32", attn_implementation=asked)
    assert model.config._attn_implementation == got


# --- names --------------------------------------------------------------------------------------


def test_names_of_one_kind():
    kinds = ("encoder", "language model", "translator")
    assert sorted(chain.from_iterable(map(shapes.names, kinds))) == sorted(shapes.names())
    assert shapes.names("translator") == [
        *("nllb-600m", "nllb-1.3b", "m2m100-418m"),
        "tiny-translator",
    ]
    for kind in kinds:
        assert {shapes.shape(name).kind for name in shapes.names(kind)} == {kind}


def test_an_unknown_name():
    with pytest.raises(
        BackboneError, match="unknown shape 'gpt-9'; allowed: mt5-small, "
    ) as raised:
        shapes.encoder("gpt-9")
    assert "llama" not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        ("encoder", "llama-3.2-1b", "is a language model, not an encoder; allowed: mt5-"),
        ("language_model", "mt5-xl", "is an encoder, not a language model; allowed: lla"),
        ("translator", "tiny-lm", "is a language model, not a translator; allowed: nllb"),
    ],
)
def test_a_name_of_another_kind(make, name, message):
    with pytest.raises(BackboneError, match=f"shape '{name}' {message}"):
        getattr(shapes, make)(name)


def test_an_unknown_dtype():
    with pytest.raises(ConfigError, match="unknown dtype 'int3'"):
        shapes.encoder("tiny-encoder", dtype="int3")
