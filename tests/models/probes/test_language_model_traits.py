"""A language model that breaks a rule is refused, or run the way that is right for it."""

import dataclasses

import pytest
import torch
import transformers
from transformers.modeling_outputs import CausalLMOutputWithPast

from layerbridge.errors import BackboneError
from layerbridge.models.caches import Reread
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.option_scoring import option_scores
from layerbridge.models.own_steps import OwnSteps
from layerbridge.models.packing import pack
from layerbridge.models.probes.language_model_traits import LanguageModelTraits
from naive_lm import OPTIONS, naive_scores, plain_logits, random_prefix

LENGTHS = [3, 6, 1, 4]


@pytest.fixture
def faulty(folder, load_lm, monkeypatch):
    """A language model whose forward pass is changed, for the rest of the test."""

    def make(change, dtype=torch.float32):
        model = transformers.LlamaForCausalLM.from_pretrained(folder("llama"), dtype=dtype).eval()
        forward = model.forward

        def changed(**given):
            return change(forward, given)

        monkeypatch.setattr(model, "forward", changed)
        return LanguageModel(model, load_lm("llama").tokenizer)

    return make


def ahead(forward, given):
    output = forward(**given)
    if output.logits.shape[1] > 1:
        output.logits = output.logits + output.logits[:, -1:]
    return output


def by_ids(forward, given):
    output = forward(**given)
    return output if "input_ids" in given else replaced(output, output.logits.flip(-1))


def nan(forward, given):
    output = forward(**given)
    return replaced(output, output.logits * torch.nan)


def fails(forward, given):
    raise KeyError("what")


def only_ids(forward, given):
    if "inputs_embeds" in given:
        raise RuntimeError("no embeddings")
    return forward(**given)


def overwrites(forward, given):
    if "inputs_embeds" in given:
        given["inputs_embeds"].mul_(2)
        given["inputs_embeds"] = given["inputs_embeds"] / 2
    return forward(**given)


def replaced(output, logits):
    return CausalLMOutputWithPast(logits=logits, past_key_values=output.past_key_values)


REFUSED = {
    ahead: r"reads ahead: its logits change with the tokens after them",
    by_ids: r"answers differently to token ids and to their embeddings",
    nan: r"returns NaN or infinities for a short text",
    fails: r"cannot read a short text: KeyError: 'what'; next: choose another model",
    only_ids: r"cannot read embeddings, which soft prompts are: RuntimeError: no embeddings",
    overwrites: r"overwrites the embeddings it is given",
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_refused_in_one_line(faulty, change, dtype):
    with pytest.raises(BackboneError, match=REFUSED[change]) as caught:
        faulty(change, dtype)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_sound_model_passes_and_no_random_number_is_drawn(load_lm, dtype):
    lm = load_lm("llama")
    if dtype != "float32":
        lm = LanguageModel(type(lm.model)(lm.model.config).to(getattr(torch, dtype)), lm.tokenizer)
    before = torch.random.get_rng_state()
    assert lm._probe().run() == LanguageModelTraits(head_is_separable=True) == lm.traits
    assert torch.equal(torch.random.get_rng_state(), before)


def several(forward, given):
    """Wrong as soon as two tokens follow a cache, as a recurrent state may be."""
    output = forward(**given)
    if given.get("past_key_values") is None or given["inputs_embeds"].shape[1] == 1:
        return output
    return replaced(output, output.logits.flip(-1))


def cached(forward, given):
    """Wrong with any cache."""
    output = forward(**given)
    continues = given.get("past_key_values") is not None and "inputs_embeds" in given
    return replaced(output, output.logits.flip(-1)) if continues else output


def padded(forward, given):
    """Pads are read like tokens."""
    if "attention_mask" in given:
        given["attention_mask"] = torch.ones_like(given["attention_mask"])
    return forward(**given)


WAYS = {
    several: {"reads_several": False},
    cached: {"cache": None, "reads_several": False},
    padded: {"ignores_pads": False, "cache": None, "reads_several": False},
}


@pytest.mark.parametrize("change", WAYS, ids=lambda change: change.__name__)
def test_the_slower_way_gives_the_same_numbers(faulty, whole, capsys, change):
    """The body is sound in these, so it is not used apart: the faults are in the whole model."""
    lm = faulty(change)
    assert lm.traits == LanguageModelTraits(head_is_separable=True, **WAYS[change])
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{lm._named} {' and '.join(lm.traits.slow_ways)}: slower, and right"
    lm.traits = dataclasses.replace(lm.traits, head_is_separable=False)
    pieces, rows = random_prefix(lm, LENGTHS)
    model = whole("llama")
    expected = naive_scores(model, rows, OPTIONS)
    torch.testing.assert_close(option_scores(lm, pieces, OPTIONS), expected, atol=1e-4, rtol=1e-5)
    greedy = []
    for row in rows:
        ids = []
        while len(ids) < 4:
            ids.append(int(plain_logits(model, row, ids)[-1].argmax()))
        greedy.append(ids)
    found = lm.generate(pieces, max_new_tokens=4, do_sample=False, eos_token_id=None)
    assert found.tolist() == greedy


def test_generate_without_embeddings_goes_through_our_own_steps(load_lm, folder):
    """Sampling and beams are transformers' own; with the same seed they give the same."""
    expected = load_lm("llama")
    model = transformers.LlamaForCausalLM.from_pretrained(folder("llama"))
    original = model.prepare_inputs_for_generation

    def without_embeddings(input_ids, **given):
        return original(input_ids, **given)

    model.prepare_inputs_for_generation = without_embeddings
    lm = LanguageModel(model, expected.tokenizer)
    pieces, _ = random_prefix(lm, LENGTHS)
    for arguments in (
        {"do_sample": False},
        {"do_sample": True, "top_p": 0.9, "num_return_sequences": 2},
        {"num_beams": 3, "do_sample": False},
    ):
        found = []
        for each in (expected, lm):
            torch.manual_seed(3)
            found.append(each.generate(pieces, max_new_tokens=5, eos_token_id=None, **arguments))
        assert torch.equal(*found)
    (own,) = lm._generators
    assert isinstance(own, OwnSteps)
    assert own.language_model is lm
    assert expected._generators == [expected.model]
    assert set(lm.state_dict()) == set(expected.state_dict())
    assert list(own.parameters()) == []


def test_tokens_in_the_place_of_a_cache(load_lm):
    lm = load_lm("llama")
    packed = pack(random_prefix(lm, LENGTHS)[0])
    cache = Reread(packed.inputs_embeds)
    cache.reorder_cache(torch.tensor([2, 0]))
    assert cache.get_seq_length() == packed.inputs_embeds.shape[1]
    assert torch.equal(cache.embeds, packed.inputs_embeds[[2, 0]])
