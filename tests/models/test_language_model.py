import json
import shutil

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from layerbridge.errors import BackboneError
from layerbridge.hub.sources import resolve
from layerbridge.models import language_model
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.language_model import IGNORED, LanguageModel, Segment, pack

FLOAT32 = LoadOptions(dtype="float32")
FAMILIES = sorted(tiny.LANGUAGE_MODELS)
CLOSE = {"atol": 2e-5, "rtol": 2e-5}


# --- pack ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_pack_moves_pads_to_the_left_and_keeps_the_order(data):
    batch = data.draw(st.integers(1, 4))
    widths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    counter, pieces, rows = 1.0, [], [[] for _ in range(batch)]
    for width in widths:
        bits = data.draw(st.lists(st.booleans(), min_size=batch * width, max_size=batch * width))
        mask = torch.tensor(bits).view(batch, width)
        embeds = torch.empty(batch, width, 2)
        for b in range(batch):
            for s in range(width):
                embeds[b, s] = counter
                if mask[b, s]:
                    rows[b].append(counter)
                counter += 1
        pieces.append(Segment(embeds, mask))
    packed = pack(pieces)
    longest = max(map(len, rows))
    assert packed.inputs_embeds.shape == (batch, longest, 2)
    for b, row in enumerate(rows):
        pads = longest - len(row)
        assert packed.inputs_embeds[b, :, 0].tolist() == [0.0] * pads + row
        assert packed.inputs_embeds[b, :, 1].tolist() == [0.0] * pads + row
        assert packed.attention_mask[b].tolist() == [0] * pads + [1] * len(row)
        assert packed.position_ids[b].tolist() == [0] * pads + list(range(len(row)))
    assert packed.attention_mask.dtype == packed.position_ids.dtype == torch.long


def test_pack_drops_what_a_pad_holds():
    """Even a NaN: a pad's embedding must reach nobody, not even times zero."""
    embeds = torch.tensor([[[float("nan")], [1.0]], [[2.0], [3.0]]], requires_grad=True)
    packed = pack([Segment(embeds, torch.tensor([[False, True], [True, True]]))])
    assert packed.inputs_embeds.flatten().tolist() == [0.0, 1.0, 2.0, 3.0]
    packed.inputs_embeds.sum().backward()
    assert embeds.grad.flatten().tolist() == [0.0, 1.0, 1.0, 1.0]


# --- what the language model is given -----------------------------------------------------------


def random_prefix(lm, lengths, seed=0, instruction=None, boundary=True):
    """Pieces for rows of these lengths, and each row's embeddings alone, without padding."""
    generator = torch.Generator().manual_seed(seed)
    scale = lm.embedding_rms()
    soft = scale * torch.randn(len(lengths), max(lengths), lm.width, generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    vector = scale * torch.randn(lm.width, generator=generator) if boundary else None
    piece = lm.instruction(instruction, len(lengths)) if instruction else None
    pieces = lm.prefix(soft, mask, vector, piece)
    embed = lm.model.get_input_embeddings()
    rows = []
    for row, length in zip(soft, lengths, strict=True):
        parts = [row[:length]]
        if lm.tokenizer.bos_token_id is not None:
            parts.insert(0, embed(torch.tensor([lm.tokenizer.bos_token_id])))
        if boundary:
            parts.append(vector[None])
        if instruction:
            ids = lm.tokenizer(instruction, add_special_tokens=False)["input_ids"]
            parts.append(embed(torch.tensor(ids)))
        rows.append(torch.cat(parts))
    return pieces, rows


@torch.no_grad()
def plain_logits(model, embeds, ids=()):
    """All logits of one row: transformers' own forward, no padding, no cache, no positions."""
    if len(ids):
        embeds = torch.cat([embeds, model.get_input_embeddings()(torch.tensor(list(ids)))])
    return model(inputs_embeds=embeds[None], use_cache=False).logits[0]


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


# --- logits -------------------------------------------------------------------------------------

TARGETS = [[11, 12, 13, 14], [15], [20, 21], [30, 31, 32]]
LENGTHS = [3, 6, 1, 4]


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
    assert lm.head_is_separable
    monkeypatch.setattr(lm, "head_is_separable", plain)
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
    monkeypatch.setattr(lm, "head_is_separable", plain)
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
    assert lm.head_is_separable
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
    assert not lm.head_is_separable
    pieces, rows = random_prefix(lm, LENGTHS)
    found = lm.label_logits(pieces, padded(TARGETS))
    torch.testing.assert_close(found, expected_label_logits(lm.model, rows, TARGETS), **CLOSE)
    expected = naive_scores(lm.model, rows, OPTIONS)
    torch.testing.assert_close(lm.option_scores(pieces, OPTIONS), expected, atol=1e-4, rtol=1e-5)


def test_label_logits_reach_the_soft_prompt_with_a_gradient(load_lm):
    lm = load_lm("llama")
    soft = torch.randn(2, 3, lm.width, requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    lm.label_logits(lm.prefix(soft, mask), padded([[5, 6], [7]])).sum().backward()
    assert soft.grad[mask].abs().amax(-1).min() > 0
    assert soft.grad[~mask].count_nonzero() == 0
    assert all(p.grad is None for p in lm.parameters())


# --- option scores ------------------------------------------------------------------------------

# Shared first tokens, four lengths, one of a single token, one within another.
OPTIONS = [[5, 6, 7], [5, 6], [8], [5, 9, 7], [10, 11, 12, 13], [5, 6, 7, 8]]


def naive_scores(model, rows, options):
    """One full forward for each row and option."""
    scores = torch.zeros(len(rows), len(options))
    for b, row in enumerate(rows):
        for o, option in enumerate(options):
            logits = plain_logits(model, row, option)
            for i, token in enumerate(option):
                scores[b, o] += logits[len(row) - 1 + i].log_softmax(-1)[token]
    return scores


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "options",
    [OPTIONS, OPTIONS[:1], OPTIONS[2:3], [[4], [5], [6]], [[5, 6], [5, 7]], [[5, 6], [5, 6]]],
    ids=["mixed", "one", "one-token", "single-tokens", "one-length", "twice"],
)
def test_option_scores_equal_full_forwards(load_lm, whole, name, options):
    lm = load_lm(name)
    pieces, rows = random_prefix(lm, LENGTHS, instruction="Answer:")
    expected = naive_scores(whole(name), rows, options)
    assert expected.shape == (4, len(options))
    torch.testing.assert_close(lm.option_scores(pieces, options), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_option_scores_by_the_model_itself(load_lm, whole, monkeypatch, name):
    lm = load_lm(name)
    monkeypatch.setattr(lm, "head_is_separable", False)
    pieces, rows = random_prefix(lm, LENGTHS)
    expected = naive_scores(whole(name), rows, OPTIONS)
    torch.testing.assert_close(lm.option_scores(pieces, OPTIONS), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("rows", [1, 5, 7])
@pytest.mark.parametrize("shared", [True, False])
def test_option_scores_in_passes_of_any_size(load_lm, whole, monkeypatch, name, rows, shared):
    """Fewer rows a pass than pairs; a cache of a kind that must be copied whole."""
    lm = load_lm(name)
    monkeypatch.setattr(language_model, "PASS_ROWS", rows)
    if not shared:
        monkeypatch.setattr(language_model, "GROWING", ())
    pieces, full = random_prefix(lm, LENGTHS)
    expected = naive_scores(whole(name), full, OPTIONS)
    torch.testing.assert_close(lm.option_scores(pieces, OPTIONS), expected, atol=1e-4, rtol=1e-5)
    assert lm.best_options(pieces, OPTIONS).tolist() == expected.argmax(1).tolist()


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_option_scores_after_a_row_that_all_share(load_lm, name):
    lm = load_lm(name)
    pieces, _ = random_prefix(lm, LENGTHS)
    shared, _ = random_prefix(lm, (5,))
    whole = [Segment(piece.embeds.expand(4, -1, -1), piece.mask.expand(4, -1)) for piece in shared]
    expected = lm.option_scores([*whole, *pieces], OPTIONS)
    after = lm.cache_of(shared)
    for _ in range(2):  # the cache stays as it is
        scores = lm.option_scores(pieces, OPTIONS, after=after)
        torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-5)


def test_option_scores_run_the_prefix_once(load_lm):
    """One pass over the prefix, then one short pass for each length."""
    lm = load_lm("llama")
    pieces, _ = random_prefix(lm, LENGTHS)
    seen = []
    handle = lm.model.base_model.register_forward_pre_hook(
        lambda module, arguments, kwargs: seen.append(tuple(kwargs["inputs_embeds"].shape[:2])),
        with_kwargs=True,
    )
    try:
        lm.option_scores(pieces, OPTIONS)
    finally:
        handle.remove()
    assert seen[0] == (4, pack(pieces).inputs_embeds.shape[1])
    assert sorted(seen[1:]) == [(4, 1), (8, 2), (8, 3)]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("divisors", [None, [3, 2, 1, 3, 4, 4]], ids=["sum", "mean"])
def test_best_options_are_the_best_of_all_scores(load_lm, whole, name, divisors):
    lm = load_lm(name)
    pieces, rows = random_prefix(lm, LENGTHS)
    expected = naive_scores(whole(name), rows, OPTIONS) / torch.tensor(divisors or [1] * 6)
    assert lm.best_options(pieces, OPTIONS, divisors).tolist() == expected.argmax(1).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_best_options_where_a_promising_first_token_disappoints(load_lm, seed):
    """Random options of random lengths: the likeliest first token often begins a loser."""
    lm = load_lm("llama")
    generator = torch.Generator().manual_seed(seed)
    pieces, _ = random_prefix(lm, LENGTHS)
    options = [
        torch.randint(4, 40, (int(length),), generator=generator).tolist()
        for length in torch.randint(1, 5, (7,), generator=generator)
    ]
    scores = lm.option_scores(pieces, options)
    assert lm.best_options(pieces, options).tolist() == scores.argmax(1).tolist()


def test_best_options_score_only_what_can_win(load_lm):
    """Options whose first token alone is worse than a whole rival are not continued."""
    lm = load_lm("llama")
    pieces, _ = random_prefix(lm, LENGTHS)
    first = lm.next_logits(pieces).log_softmax(-1)
    best, worst = int(first[0].argmax()), int(first[0].argmin())
    row = [type(pieces[0])(piece.embeds[:1], piece.mask[:1]) for piece in pieces]
    seen = []
    handle = lm.model.base_model.register_forward_pre_hook(
        lambda module, arguments, kwargs: seen.append(tuple(kwargs["inputs_embeds"].shape[:2])),
        with_kwargs=True,
    )
    try:
        assert lm.best_options(row, [[worst, 5, 6], [best]]).tolist() == [1]
    finally:
        handle.remove()
    assert len(seen) == 1  # the prefix, and nothing of the loser


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
def test_what_is_no_causal_language_model(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    with pytest.raises(BackboneError) as caught:
        LanguageModel.load(resolve(str(tmp_path)), FLOAT32)
    assert str(caught.value) == (
        f"{str(tmp_path)!r} is a {config.model_type!r} model, which is no causal language model; "
        "allowed: any AutoModelForCausalLM (Llama, SmolLM2, Qwen, Gemma, GPT-2, …)"
    )


def test_a_tokenizer_without_an_end(folder, tmp_path):
    path = shutil.copytree(folder("gpt2"), tmp_path / "gpt2")
    tiny.byte_level({"unk_token": "<|endoftext|>"}, None).save_pretrained(path)
    with pytest.raises(BackboneError) as caught:
        LanguageModel.load(resolve(str(path)), FLOAT32)
    assert str(caught.value) == (
        f"the tokenizer of {str(path)!r} has no EOS token, so no answer could end; "
        "next: set tokenizer.eos_token"
    )


# --- the embeddings alone -----------------------------------------------------------------------


def gemma3(folder):
    """Gemma 3 scales its embeddings inside the embedding module, by a number that no file has."""
    tokenizer = tiny.byte_level(tiny.GEMMA_SPECIALS, "<bos> $A")
    config = transformers.Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=40,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=1024,
        sliding_window=1024,
        initializer_range=0.2,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        tiny.save(transformers.Gemma3ForCausalLM(config), tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def any_folder(folder, tmp_path_factory):
    made = {}

    def find(family):
        if family != "gemma3":
            return folder(family)
        if family not in made:
            made[family] = gemma3(tmp_path_factory.mktemp(family))
        return made[family]

    return find


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", [*FAMILIES, "gemma3"])
def test_embeddings_alone_make_the_same_input(any_folder, family, dtype):
    source, options = resolve(str(any_folder(family))), LoadOptions(dtype=dtype)
    full, alone = (
        LanguageModel.load(source, options),
        LanguageModel.load_embeddings(source, options),
    )
    assert full.has_body
    assert not alone.has_body
    ids = torch.arange(len(full.tokenizer)).view(2, -1)[:, :100]
    assert torch.equal(alone.embed(ids), full.embed(ids))
    assert alone.embed(ids).std() > 0
    for what in ("width", "bos_id", "eos_id", "max_tokens", "dtype", "device"):
        assert getattr(alone, what) == getattr(full, what), what
    assert alone.stop_token_ids() == full.stop_token_ids()
    assert alone.token_ids("a market") == full.token_ids("a market")
    assert alone.embedding_rms() == full.embedding_rms()
    mine, others = (
        pack(random_prefix(lm, [3, 5], instruction="Answer with one word.")[0])
        for lm in (alone, full)
    )
    assert torch.equal(mine.inputs_embeds, others.inputs_embeds)
    assert torch.equal(mine.attention_mask, others.attention_mask)


def test_embeddings_alone_have_nothing_else_in_memory(any_folder):
    alone = LanguageModel.load_embeddings(resolve(str(any_folder("gemma3"))), FLOAT32)
    assert [tuple(tensor.shape) for tensor in alone.parameters()] == [
        (alone.model.config.vocab_size, alone.width)
    ]
    assert alone.to("cpu").to(torch.float64).dtype == torch.float64


def test_without_a_body_nothing_is_answered(any_folder):
    alone = LanguageModel.load_embeddings(resolve(str(any_folder("llama"))), FLOAT32)
    prefix = random_prefix(alone, [3])[0]
    for ask in (
        lambda: alone.next_logits(prefix),
        lambda: alone.label_logits(prefix, torch.tensor([[5, 6]])),
        lambda: alone.option_scores(prefix, [[5, 6]]),
        lambda: alone.best_options(prefix, [[5, 6]]),
        lambda: alone.generate(prefix, max_new_tokens=1),
        lambda: alone.head(torch.zeros(1, alone.width)),
        alone.compile_layers,
    ):
        with pytest.raises(AssertionError):
            ask()


@pytest.mark.parametrize("family", ["gpt2", "gemma3"])
def test_embeddings_alone_come_from_any_shard(any_folder, tmp_path, family):
    whole = transformers.AutoModelForCausalLM.from_pretrained(any_folder(family))
    whole.save_pretrained(tmp_path, max_shard_size="20KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(any_folder(family) / name, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    alone = LanguageModel.load_embeddings(resolve(str(tmp_path)), FLOAT32)
    ids = torch.arange(50)
    assert torch.equal(alone.embed(ids), whole.get_input_embeddings()(ids))


def test_embeddings_alone_of_a_checkpoint_of_the_base_model(any_folder, tmp_path):
    """As GPT-2's is on the hub: no ``transformer.`` before its names, and no head."""
    shutil.copytree(any_folder("gpt2"), tmp_path, dirs_exist_ok=True)
    transformers.AutoModel.from_pretrained(any_folder("gpt2")).save_pretrained(tmp_path)
    full = LanguageModel.load(resolve(str(any_folder("gpt2"))), FLOAT32)
    alone = LanguageModel.load_embeddings(resolve(str(tmp_path)), FLOAT32)
    ids = torch.arange(50)
    assert torch.equal(alone.embed(ids), full.embed(ids))


def test_embeddings_alone_stop_where_the_generation_config_says(any_folder, tmp_path):
    shutil.copytree(any_folder("llama"), tmp_path, dirs_exist_ok=True)
    path = tmp_path / "generation_config.json"
    settings = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(settings | {"eos_token_id": [1, 7]}))
    assert LanguageModel.load_embeddings(resolve(str(tmp_path)), FLOAT32).stop_token_ids() == [1, 7]


def test_embeddings_that_are_not_there_are_told(any_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(any_folder("llama"), tmp_path, dirs_exist_ok=True)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.embed_tokens.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"lacks weights: 'model\.embed_tokens\.weight'"):
        LanguageModel.load_embeddings(resolve(str(tmp_path)), FLOAT32)
    file.unlink()
    with pytest.raises(BackboneError, match="no safetensors weights"):
        LanguageModel.load_embeddings(resolve(str(tmp_path)), FLOAT32)


def test_pickled_embeddings_are_read_if_they_are_trusted(any_folder, tmp_path):
    shutil.copytree(any_folder("llama"), tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    whole = transformers.AutoModelForCausalLM.from_pretrained(any_folder("llama"))
    torch.save(whole.state_dict(), tmp_path / "pytorch_model.bin")
    options = LoadOptions(dtype="float32", allow_pickle=True)
    alone = LanguageModel.load_embeddings(resolve(str(tmp_path)), options)
    ids = torch.arange(50)
    assert torch.equal(alone.embed(ids), whole.get_input_embeddings()(ids))
    assert len(list(alone.parameters())) == 1
