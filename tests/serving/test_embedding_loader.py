import json
import shutil

import pytest
import torch
import transformers

import tiny
from layerbridge.errors import BackboneError
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.option_scoring import best_options, option_scores
from layerbridge.models.packing import pack
from layerbridge.serving.embedding_loader import load_embeddings
from naive_lm import random_prefix

FLOAT32 = LoadOptions(dtype="float32")
FAMILIES = sorted(tiny.LANGUAGE_MODELS)


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
        load_embeddings(source, options),
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
    alone = load_embeddings(resolve(str(any_folder("gemma3"))), FLOAT32)
    assert [tuple(tensor.shape) for tensor in alone.parameters()] == [
        (alone.model.config.vocab_size, alone.width)
    ]
    assert alone.to("cpu").to(torch.float64).dtype == torch.float64


def test_without_a_body_nothing_is_answered(any_folder):
    alone = load_embeddings(resolve(str(any_folder("llama"))), FLOAT32)
    prefix = random_prefix(alone, [3])[0]
    for ask in (
        lambda: alone.next_logits(prefix),
        lambda: alone.label_logits(prefix, torch.tensor([[5, 6]])),
        lambda: option_scores(alone, prefix, [[5, 6]]),
        lambda: best_options(alone, prefix, [[5, 6]]),
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
    alone = load_embeddings(resolve(str(tmp_path)), FLOAT32)
    ids = torch.arange(50)
    assert torch.equal(alone.embed(ids), whole.get_input_embeddings()(ids))


def test_embeddings_alone_of_a_checkpoint_of_the_base_model(any_folder, tmp_path):
    """As GPT-2's is on the hub: no ``transformer.`` before its names, and no head."""
    shutil.copytree(any_folder("gpt2"), tmp_path, dirs_exist_ok=True)
    transformers.AutoModel.from_pretrained(any_folder("gpt2")).save_pretrained(tmp_path)
    full = LanguageModel.load(resolve(str(any_folder("gpt2"))), FLOAT32)
    alone = load_embeddings(resolve(str(tmp_path)), FLOAT32)
    ids = torch.arange(50)
    assert torch.equal(alone.embed(ids), full.embed(ids))


def test_embeddings_alone_stop_where_the_generation_config_says(any_folder, tmp_path):
    shutil.copytree(any_folder("llama"), tmp_path, dirs_exist_ok=True)
    path = tmp_path / "generation_config.json"
    settings = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(settings | {"eos_token_id": [1, 7]}))
    assert load_embeddings(resolve(str(tmp_path)), FLOAT32).stop_token_ids() == [1, 7]


def test_embeddings_that_are_not_there_are_told(any_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(any_folder("llama"), tmp_path, dirs_exist_ok=True)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.embed_tokens.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"lacks weights: 'model\.embed_tokens\.weight'"):
        load_embeddings(resolve(str(tmp_path)), FLOAT32)
    file.unlink()
    with pytest.raises(BackboneError, match="no safetensors weights"):
        load_embeddings(resolve(str(tmp_path)), FLOAT32)


def test_pickled_embeddings_are_read_if_they_are_trusted(any_folder, tmp_path):
    shutil.copytree(any_folder("llama"), tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    whole = transformers.AutoModelForCausalLM.from_pretrained(any_folder("llama"))
    torch.save(whole.state_dict(), tmp_path / "pytorch_model.bin")
    options = LoadOptions(dtype="float32", allow_pickle=True)
    alone = load_embeddings(resolve(str(tmp_path)), options)
    ids = torch.arange(50)
    assert torch.equal(alone.embed(ids), whole.get_input_embeddings()(ids))
    assert len(list(alone.parameters())) == 1
