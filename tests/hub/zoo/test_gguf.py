import json

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from layerbridge.hub import zoo
from layerbridge.hub.zoo import gguf

CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def rotary_layout(weight, heads):
    """How llama.cpp orders the rows of the query and key matrices."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=3 + 256 + 2,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def folder(original, tmp_path_factory):
    config = original.config
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*SPECIALS, *sorted(ByteLevel.alphabet()), "ĠĠ", "th"])
    writer.add_token_types([3] * 3 + [1] * 258)
    writer.add_token_merges(["Ġ Ġ", "t h"])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT)
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k"}
    names |= {"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"}
    names |= {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    names |= {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    state = {key: value.numpy() for key, value in original.state_dict().items()}
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    for layer in range(2):
        for ours, theirs in names.items():
            values = state[f"model.layers.{layer}.{ours}.weight"]
            if theirs in ("attn_q", "attn_k"):
                values = rotary_layout(values, 4 if theirs == "attn_q" else 2)
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    target = tmp_path_factory.mktemp("model")
    gguf.convert({path.name: path}, target)
    return target


def test_logits_equal_the_original_in_bfloat16(folder, original):
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for theirs, mine in zip(original.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(theirs.bfloat16().float(), mine, rtol=0, atol=0)
    assert ours.lm_head.weight is ours.model.embed_tokens.weight
    rounded = LlamaForCausalLM(original.config).eval()
    rounded.load_state_dict({k: v.bfloat16().float() for k, v in original.state_dict().items()})
    ids = torch.randint(0, 260, (2, 11))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, rounded(ids).logits, rtol=0, atol=1e-5)


def test_the_folder_is_an_ordinary_one(folder, capfd):
    model = AutoModelForCausalLM.from_pretrained(folder)
    AutoTokenizer.from_pretrained(folder)
    out, err = capfd.readouterr()
    assert out == ""
    assert "MISSING" not in err
    assert "warn" not in err.lower()
    assert model.dtype == torch.bfloat16
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["transformers_version"] == "5.16.0"
    assert config["rms_norm_eps"] == 1e-5
    tokens = model.generation_config
    assert (tokens.bos_token_id, tokens.eos_token_id, tokens.pad_token_id) == (1, 2, 2)
    model.save_pretrained(folder / "again")


def test_tokenizer(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert (tokenizer.pad_token, tokenizer.unk_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.model_max_length == 128
    assert tokenizer.chat_template == CHAT
    text = "aé 12  猫"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    # Digits stand alone, so both spaces before one stay together.
    assert tokenizer("a  12").tokens() == ["a", "ĠĠ", "1", "2"]
    assert tokenizer("a  b").tokens() == ["a", "Ġ", "Ġ", "b"]


@pytest.mark.real
def test_the_real_model_knows_its_capitals():
    if not zoo.is_present("smollm2-135m-instruct"):
        pytest.skip("layerbridge zoo pull smollm2-135m-instruct")
    folder = zoo.path("smollm2-135m-instruct")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    batch = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**batch, max_new_tokens=2, do_sample=False)[0]
    assert tokenizer.decode(answer) == "The capital of France is Paris."
