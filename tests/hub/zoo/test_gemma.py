"""A tiny Gemma 3 in GGUF, cut in two: the folder that it becomes says what the original says."""

import json

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

from layerbridge.hub import zoo
from layerbridge.hub.zoo import gguf

TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
TOKENS += ["▁", "a", "b", "ක", "▁a", "ab", "▁ab"]
LAYERS = 2


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(TOKENS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=128,
        sliding_window=16,
        initializer_range=0.3,
    )
    model = Gemma3ForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(std=0.3)
    return model


@pytest.fixture(scope="module")
def folder(original, tmp_path_factory):
    config = original.config
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = GGUFWriter(path, "gemma3")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(1)
    writer.add_key_length(8)
    writer.add_value_length(8)
    writer.add_sliding_window(16)
    writer.add_rope_freq_base(config.rope_parameters["full_attention"]["rope_theta"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([-1000.0] * 260 + [-10.0, -11.0, -12.0, -13.0, -1.0, -3.0, -2.0])
    writer.add_token_types([3] * 4 + [6] * 256 + [1] * 7)
    writer.add_unk_token_id(3)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    names = {f"self_attn.{part}_proj": f"attn_{part}" for part in "qkv"}
    names |= {"self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm"}
    names |= {"self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate"}
    names |= {"mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    names |= {"input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm"}
    names |= {
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    }
    state = {key: value.numpy() for key, value in original.state_dict().items()}
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    # llama.cpp keeps a norm's factor, transformers what it is more than 1.
    writer.add_tensor("output_norm.weight", state["model.norm.weight"] + 1)
    for layer in range(LAYERS):
        for ours, theirs in names.items():
            values = state[f"model.layers.{layer}.{ours}.weight"] + ("norm" in ours)
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    # In two parts, told in the wrong order.
    data = path.read_bytes()
    parts = {"t.gguf.part01": data[5000:], "t.gguf.part00": data[:5000]}
    members = {}
    for name, part in parts.items():
        members[name] = path.with_name(name)
        members[name].write_bytes(part)
    path.unlink()
    target = tmp_path_factory.mktemp("model")
    gguf.convert(members, target)
    assert sorted(file.name for file in path.parent.iterdir()) == sorted(parts)
    return target


def test_weights_and_logits_equal_the_original_in_bfloat16(folder, original):
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    mine = dict(ours.named_parameters())
    for name, theirs in original.named_parameters():
        # Adding and taking away 1 costs a norm's last digits.
        torch.testing.assert_close(
            theirs.bfloat16().float(), mine[name], rtol=0, atol=4e-3 if "norm" in name else 0
        )
    ids = torch.randint(0, len(TOKENS), (2, 11))
    rounded = Gemma3ForCausalLM(original.config).eval()
    rounded.load_state_dict({name: mine[name] for name, _ in original.named_parameters()}, False)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, rounded(ids).logits, rtol=0, atol=1e-5)


def test_the_folder_is_an_ordinary_one(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "gemma3_text"
    assert config["transformers_version"] == "5.16.0"
    assert config["rms_norm_eps"] == 1e-6
    assert "quantization_config" not in config
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder / "again")


def test_tokenizer(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<bos>", "<eos>")
    assert (tokenizer.pad_token, tokenizer.unk_token) == ("<pad>", "<unk>")
    assert tokenizer.model_max_length == 128
    # The pair of the best score first; no space put before the text; bytes where there is no piece.
    assert tokenizer("ab ab").tokens() == ["<bos>", "ab", "▁ab"]
    assert tokenizer("කé").tokens() == ["<bos>", "ක", "<0xC3>", "<0xA9>"]
    text = "a  b ක\né"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


@pytest.mark.real
def test_the_real_model_reads_sinhala():
    if not zoo.is_present("gemma-3-270m"):
        pytest.skip("layerbridge zoo pull gemma-3-270m")
    folder = zoo.path("gemma-3-270m")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer("ශ්‍රී ලංකා රුපියල").input_ids) == 12
    model = AutoModelForCausalLM.from_pretrained(folder)
    batch = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**batch, max_new_tokens=8, do_sample=False)[0]
    assert "France" in tokenizer.decode(answer[6:])
