import json
import shutil

import pytest
import torch
import transformers

import tiny
from layerbridge.errors import BackboneError
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.language_model import IGNORED, LanguageModel
from layerbridge.models.option_scoring import option_scores
from layerbridge.models.packing import pack
from layerbridge.models.probes.language_model_traits import LanguageModelTraits
from naive_lm import OPTIONS, naive_scores, plain_logits, random_prefix

FLOAT32 = LoadOptions(dtype="float32")
FAMILIES = sorted(tiny.LANGUAGE_MODELS)
CLOSE = {"atol": 2e-5, "rtol": 2e-5}
LENGTHS = [3, 6, 1, 4]


# --- input --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("boundary", [True, False])
@pytest.mark.parametrize("instruction", [None, "Answer:"])
def test_prefix_puts_the_parts_in_order(load_lm, name, boundary, instruction):
    lm = load_lm(name)
    pieces, rows = random_prefix(lm, [3, 1, 5], boundary=boundary, instruction=instruction)
    packed = pack(pieces)
    for b, row in enumerate(rows):
        assert torch.equal(packed.inputs_embeds[b, -len(row) :], row)
        assert packed.attention_mask[b].sum() == len(row)


def test_encode_adds_no_special_tokens(load_lm):
    for name in FAMILIES:
        lm = load_lm(name)
        ids = lm.token_ids("Business")
        assert lm.tokenizer.decode(ids) == "Business"
        assert not {lm.bos_id, lm.eos_id} & set(ids)
    assert load_lm("llama").tokenizer("a")["input_ids"][0] == load_lm("llama").bos_id
    assert load_lm("gpt2").bos_id is None


def test_embedding_rms(load_lm):
    lm = load_lm("gpt2")
    weight = lm.model.transformer.wte.weight
    assert lm.embedding_rms() == pytest.approx(weight.square().mean().sqrt().item(), rel=1e-5)


def test_embedding_rms_reads_the_table_in_parts(load_lm, monkeypatch):
    lm = load_lm("gemma2")
    whole = lm.embedding_rms()
    monkeypatch.setattr("layerbridge.models.language_model.PART", 7 * lm.width)
    embed, rows = lm.embed, []
    monkeypatch.setattr(lm, "embed", lambda ids: rows.append(len(ids)) or embed(ids))
    assert lm.embedding_rms() == pytest.approx(whole, rel=1e-6)
    assert max(rows) == 7
    assert sum(rows) == len(lm.tokenizer)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tokenizer_with_more_tokens_than_embeddings(folder, name):
    lm = LanguageModel.load(resolve(str(folder(name))), FLOAT32)
    before, rows = lm.embedding_rms(), len(lm.tokenizer)
    lm.tokenizer.add_tokens(["<image>"])
    lm.tokenizer.add_special_tokens({"pad_token": "<new pad>"})
    lm = LanguageModel(lm.model, lm.tokenizer)
    assert lm.embedding_rms() == before
    pieces, _ = random_prefix(lm, [3, 1, 5])
    lm.model.generation_config.eos_token_id = None
    assert lm.generate(pieces, max_new_tokens=3, do_sample=False).max() < rows
    with pytest.raises(BackboneError) as caught:
        lm.token_ids("an <image> here")
    assert str(caught.value).startswith(
        f"the token '<image>' has the id {rows}, but the language model has embeddings for {rows} "
        "tokens only; allowed: texts without it"
    )
    lm.tokenizer.eos_token = "<image>"
    with pytest.raises(BackboneError, match=r"^the token '<image>' has the id"):
        LanguageModel(lm.model, lm.tokenizer)


# --- logits -------------------------------------------------------------------------------------

TARGETS = [[11, 12, 13, 14], [15], [20, 21], [30, 31, 32]]


def padded(targets):
    width = max(map(len, targets))
    return torch.tensor([t + [IGNORED] * (width - len(t)) for t in targets])


def expected_label_logits(model, rows, targets):
    expected = []
    for row, target in zip(rows, targets, strict=True):
        logits = plain_logits(model, row, target)
        expected += [logits[len(row) - 1 + i] for i in range(len(target))]
    return torch.stack(expected)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("instruction", [None, "Answer:"])
@pytest.mark.parametrize("plain", [True, False])
def test_label_logits_are_the_rows_of_a_plain_forward(
    load_lm, whole, monkeypatch, name, instruction, plain
):
    """With the model's head called apart, and by the model itself, where a family needs that."""
    lm = load_lm(name)
    assert lm.traits == LanguageModelTraits(head_is_separable=True)
    monkeypatch.setattr(lm, "traits", LanguageModelTraits(head_is_separable=plain))
    pieces, rows = random_prefix(lm, LENGTHS, instruction=instruction)
    found = lm.label_logits(pieces, padded(TARGETS))
    expected = expected_label_logits(whole(name), rows, TARGETS)
    assert found.shape == expected.shape == (10, len(lm.tokenizer))
    assert expected.std(0).mean() > 0.1
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("plain", [True, False])
def test_next_logits(load_lm, whole, monkeypatch, name, plain):
    lm = load_lm(name)
    monkeypatch.setattr(lm, "traits", LanguageModelTraits(head_is_separable=plain))
    pieces, rows = random_prefix(lm, LENGTHS)
    expected = torch.stack([plain_logits(whole(name), row)[-1] for row in rows])
    torch.testing.assert_close(lm.next_logits(pieces), expected, **CLOSE)


def test_a_capped_head_is_capped(load_lm):
    """Gemma-2's cap is 2.0 here, and the raw logits are far beyond it."""
    lm = load_lm("gemma2")
    assert lm.logit_cap == 2.0
    hidden = torch.randn(3, lm.width)
    raw = lm.model.lm_head(hidden)
    assert raw.abs().max() > 3
    torch.testing.assert_close(lm.head(hidden), 2.0 * torch.tanh(raw / 2.0))
    assert load_lm("llama").logit_cap is None


@pytest.mark.parametrize(
    ("cls", "setting"),
    [("Cohere", {"logit_scale": 0.25}), ("Granite", {"logits_scaling": 4.0})],
)
def test_scaled_heads(load_lm, cls, setting):
    config = getattr(transformers, f"{cls}Config")(
        vocab_size=330,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        pad_token_id=None,
        bos_token_id=0,
        eos_token_id=1,
        **setting,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{cls}ForCausalLM")(config)
    lm = LanguageModel(model, load_lm("llama").tokenizer)
    assert lm.traits.head_is_separable
    assert lm.logit_scale == 0.25
    pieces, rows = random_prefix(lm, LENGTHS)
    expected = torch.stack([plain_logits(model, row)[-1] for row in rows])
    torch.testing.assert_close(lm.next_logits(pieces), expected, **CLOSE)


def test_a_head_with_an_unknown_quirk_is_noticed(folder, load_lm):
    """A family nobody here knows: the model itself is then asked for its logits."""
    model = transformers.LlamaForCausalLM.from_pretrained(folder("llama"))
    original = model.forward

    def forward(*arguments, **kwargs):
        output = original(*arguments, **kwargs)
        output.logits = output.logits * 1.5 + 1
        return output

    model.forward = forward
    lm = LanguageModel(model, load_lm("llama").tokenizer)
    assert not lm.traits.head_is_separable
    pieces, rows = random_prefix(lm, LENGTHS)
    found = lm.label_logits(pieces, padded(TARGETS))
    torch.testing.assert_close(found, expected_label_logits(lm.model, rows, TARGETS), **CLOSE)
    expected = naive_scores(lm.model, rows, OPTIONS)
    torch.testing.assert_close(option_scores(lm, pieces, OPTIONS), expected, atol=1e-4, rtol=1e-5)


def test_label_logits_reach_the_soft_prompt_with_a_gradient(load_lm):
    lm = load_lm("llama")
    soft = torch.randn(2, 3, lm.width, requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    lm.label_logits(lm.prefix(soft, mask), padded([[5, 6], [7]])).sum().backward()
    assert soft.grad[mask].abs().amax(-1).min() > 0
    assert soft.grad[~mask].count_nonzero() == 0
    assert all(p.grad is None for p in lm.parameters())


# --- generate -----------------------------------------------------------------------------------


def naive_greedy(model, row, steps, stops):
    """The most likely token, again and again, each time over everything, without a cache."""
    ids = []
    while len(ids) < steps:
        ids.append(int(plain_logits(model, row, ids)[-1].argmax()))
        if ids[-1] in stops:
            break
    return ids


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("instruction", [None, "Answer:"])
def test_greedy_generation(load_lm, whole, name, instruction):
    lm = load_lm(name)
    pieces, rows = random_prefix(lm, LENGTHS, instruction=instruction)
    expected = [naive_greedy(whole(name), row, 8, set()) for row in rows]
    assert len({tuple(ids) for ids in expected}) > 1
    found = lm.generate(pieces, max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert found.tolist() == expected


def test_generation_gives_the_head_contiguous_rows(load_lm, monkeypatch):
    lm = load_lm("llama")
    pieces, _ = random_prefix(lm, LENGTHS)
    head, seen = lm.model.get_output_embeddings(), []
    forward = head.forward
    monkeypatch.setattr(
        head, "forward", lambda hidden: seen.append(hidden.is_contiguous()) or forward(hidden)
    )
    given = {"inputs_embeds": pack(pieces).inputs_embeds, "max_new_tokens": 3}
    lm.model.generate(**given, do_sample=False, eos_token_id=None, pad_token_id=lm.eos_id)
    assert seen == [False, True, True]  # what transformers does by itself
    seen.clear()
    lm.generate(pieces, max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert seen == [True, True, True]
    assert not head._forward_pre_hooks


@pytest.mark.parametrize("name", FAMILIES)
def test_generation_stops_at_eos_and_pads_after_it(load_lm, whole, monkeypatch, name):
    lm = load_lm(name)
    pieces, rows = random_prefix(lm, LENGTHS)
    free = [naive_greedy(whole(name), row, 8, set()) for row in rows]
    eos = free[0][2]
    stops = {eos, lm.model.generation_config.eos_token_id}
    expected = [naive_greedy(whole(name), row, 8, stops) for row in rows]
    assert len(expected[0]) <= 3
    monkeypatch.setattr(lm, "eos_id", eos)
    found = lm.generate(pieces, max_new_tokens=8, do_sample=False).tolist()
    pad = lm.tokenizer.pad_token_id
    pad = eos if pad is None else pad
    width = max(map(len, expected))
    assert found == [ids + [pad] * (width - len(ids)) for ids in expected]


def test_stops(load_lm, monkeypatch):
    lm = load_lm("llama")
    assert lm.stop_token_ids() == [lm.eos_id]
    for configured, expected in [(None, [1]), (7, [1, 7]), ([9, 1, 5], [1, 5, 9])]:
        monkeypatch.setattr(lm.model.generation_config, "eos_token_id", configured)
        assert lm.stop_token_ids() == expected


# --- loading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_load(load_lm, name):
    lm = load_lm(name)
    _, _, width = tiny.LANGUAGE_MODELS[name]
    assert lm.width == width
    assert lm.dtype == torch.float32
    assert lm.device == torch.device("cpu")
    assert not any(p.requires_grad for p in lm.parameters())
    assert lm.train() is lm
    assert not any(module.training for module in lm.modules())


@pytest.mark.parametrize(
    "config",
    [
        transformers.BertConfig(),
        transformers.XLMRobertaConfig(),
        transformers.MT5Config(),
        transformers.BartConfig(),
        transformers.ViTConfig(),
    ],
    ids=lambda config: config.model_type,
)
def test_other_kinds_of_models_are_refused(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    with pytest.raises(BackboneError) as caught:
        LanguageModel.load(resolve(str(tmp_path)), FLOAT32)
    assert str(caught.value) == (
        f"{str(tmp_path)!r} is a {config.model_type!r} model, not a causal language model; "
        "allowed: any AutoModelForCausalLM (Llama, SmolLM2, Qwen, Gemma, GPT-2, …)"
    )


def test_a_tokenizer_without_eos(folder, tmp_path):
    path = shutil.copytree(folder("gpt2"), tmp_path / "gpt2")
    tiny.byte_level({"unk_token": "<|endoftext|>"}, None).save_pretrained(path)
    with pytest.raises(BackboneError) as caught:
        LanguageModel.load(resolve(str(path)), FLOAT32)
    assert str(caught.value) == (
        f"the tokenizer of {str(path)!r} has no EOS token, so answers would never end; "
        "next: set tokenizer.eos_token"
    )
