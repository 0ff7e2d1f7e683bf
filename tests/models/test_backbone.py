import shutil
from contextlib import nullcontext

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from layerbridge.errors import BackboneError, ConfigError
from layerbridge.hub.sources import resolve
from layerbridge.models import backbone
from layerbridge.models.backbone import LoadOptions, resolve_dtype
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel

FLOAT32 = LoadOptions(dtype="float32")


@pytest.fixture
def copied(folder, tmp_path):
    """A copy of a tiny backbone, to be broken."""

    def copy(name):
        return shutil.copytree(folder(name), tmp_path / name)

    return copy


def refused(cls, path, options=FLOAT32):
    with pytest.raises(BackboneError) as caught:
        cls.load(resolve(str(path)), options)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "FOLDER")


def drop(path, *unwanted):
    weights = load_file(path / "model.safetensors")
    gone = [name for name in weights if any(word in name for word in unwanted)]
    assert gone
    kept = {name: tensor for name, tensor in weights.items() if name not in gone}
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})


def test_missing_weights_are_refused(copied):
    path = copied("llama")
    drop(path, "layers.1.mlp.up_proj", "layers.0.mlp.down_proj")
    assert refused(LanguageModel, path) == (
        "the language model 'FOLDER' lacks weights: 'model.layers.0.mlp.down_proj.weight' and 1 "
        "more; next: use a complete checkpoint of this architecture"
    )
    path = copied("bert")
    drop(path, "layer.1.output.dense.weight")
    assert refused(Encoder, path).startswith(
        "the encoder 'FOLDER' lacks weights: 'encoder.layer.1.output.dense.weight' and 0 more;"
    )
    for name in ("mt5", "m2m100"):
        path = copied(name)
        drop(path, "encoder.")
        assert refused(Encoder, path).startswith("the encoder 'FOLDER' lacks weights: ")


def test_weights_of_another_shape_are_refused(copied):
    path = copied("llama")
    weights = load_file(path / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(7)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    assert refused(LanguageModel, path).startswith("cannot load the language model 'FOLDER': ")


def test_no_weights_at_all(copied):
    path = copied("llama")
    (path / "model.safetensors").unlink()
    message = (
        "the language model 'FOLDER' has no safetensors weights; allowed: safetensors, or pickled "
        "weights if you trust them; next: pass --allow-pickle (allow_pickle=True in Python)"
    )
    assert refused(LanguageModel, path) == message


@pytest.mark.parametrize(("cls", "name"), [(Encoder, "bert"), (LanguageModel, "llama")])
def test_pickled_weights_only_if_the_user_says_so(copied, cls, name):
    path = copied(name)
    weights = load_file(path / "model.safetensors")
    torch.save(weights, path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    kind = "encoder" if cls is Encoder else "language model"
    assert refused(cls, path) == (
        f"the {kind} 'FOLDER' has no safetensors weights; allowed: safetensors, or pickled weights "
        "if you trust them; next: pass --allow-pickle (allow_pickle=True in Python)"
    )
    loaded = cls.load(resolve(str(path)), LoadOptions(dtype="float32", allow_pickle=True))
    own = loaded.model.state_dict()
    assert sum(torch.equal(own[key], weights[key]) for key in own if key in weights) >= (
        0 if name == "bert" else len(own) - 1
    )


def test_a_damaged_weight_file(copied):
    path = copied("llama")
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert refused(LanguageModel, path).startswith("cannot load the language model 'FOLDER': ")


def test_a_damaged_config(copied):
    path = copied("llama")
    (path / "config.json").write_text("{")
    assert refused(LanguageModel, path).startswith("cannot load the language model 'FOLDER': ")
    (path / "config.json").write_text('{"model_type": "no-such-type"}')
    assert refused(LanguageModel, path).startswith("cannot load the language model 'FOLDER': ")


def test_a_missing_tokenizer(copied):
    path = copied("llama")
    for file in path.glob("tokenizer*"):
        file.unlink()
    assert refused(LanguageModel, path).startswith(
        "cannot load the tokenizer of the language model 'FOLDER': "
    )


def test_dtypes(folder):
    with pytest.raises(ConfigError) as caught:
        resolve_dtype("fp16")
    assert str(caught.value) == ("unknown dtype 'fp16'; allowed: auto, float32, bfloat16, float16")
    assert resolve_dtype("bfloat16") is torch.bfloat16
    assert resolve_dtype("float16") is torch.float16
    with pytest.raises(ConfigError, match=r"^unknown dtype 'torch.float32'; allowed: auto,"):
        LanguageModel.load(resolve(str(folder("llama"))), LoadOptions(dtype="torch.float32"))
    half = LanguageModel.load(resolve(str(folder("llama"))), LoadOptions(dtype="bfloat16"))
    assert half.dtype == torch.bfloat16
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("gpu_has", [True, False])
@pytest.mark.parametrize("cpu_faster", [True, False])
def test_auto_is_the_choice_of_the_device_that_will_be_used(monkeypatch, gpu_has, cpu_faster):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu_has)
    monkeypatch.setattr(backbone, "bfloat16_is_faster", lambda: cpu_faster)
    expected = {"cuda": gpu_has, "cuda:1": gpu_has, "cpu": cpu_faster, None: cpu_faster}
    expected |= {"mps": False, torch.device("cuda", 0): gpu_has}
    for device, bfloat16 in expected.items():
        dtype = torch.bfloat16 if bfloat16 else torch.float32
        assert resolve_dtype("auto", device) is dtype
        assert LoadOptions(device=device).torch_dtype is dtype


@pytest.mark.parametrize("faster", [True, False])
def test_backbones_are_loaded_in_the_dtype_of_their_device(folder, monkeypatch, faster):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backbone, "bfloat16_is_faster", lambda: faster)
    expected = torch.bfloat16 if faster else torch.float32
    for device in ("cpu", None):
        options = LoadOptions(device=device)
        assert Encoder.load(resolve(str(folder("bert"))), options).model.dtype == expected
        assert LanguageModel.load(resolve(str(folder("gpt2"))), options).dtype == expected


def test_attention_implementation_is_passed_on(folder):
    for implementation in ("eager", "sdpa"):
        options = LoadOptions(dtype="float32", attn_implementation=implementation)
        model = LanguageModel.load(resolve(str(folder("llama"))), options).model
        assert model.config._attn_implementation == implementation
    options = LoadOptions(dtype="float32", attn_implementation="no_such")
    assert refused(LanguageModel, folder("llama"), options).startswith(
        "cannot load the language model 'FOLDER': "
    )


def test_verbosity_is_given_back(folder):
    before = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    Encoder.load(resolve(str(folder("bert"))), FLOAT32)
    assert before == (
        transformers.logging.get_verbosity(),
        transformers.logging.is_progress_bar_enabled(),
    )
    transformers.logging.enable_progress_bar()
    try:
        Encoder.load(resolve(str(folder("bert"))), FLOAT32)
        assert transformers.logging.is_progress_bar_enabled()
    finally:
        transformers.logging.disable_progress_bar()
