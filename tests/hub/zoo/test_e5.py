import json
import struct

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from layerbridge.errors import ZooError
from layerbridge.hub import zoo
from layerbridge.hub.zoo import e5

THEIRS = {  # the file's names → BertModel's, spelt out here once more on purpose
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
EMBEDDINGS = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}


def reference(meant):
    config = BertConfig(
        vocab_size=14,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        type_vocab_size=2,
    )
    state = {}
    for name, values in meant.items():
        if name in EMBEDDINGS:
            key = f"embeddings.{EMBEDDINGS[name]}"
        else:
            layer, short, kind = name.split(".")
            kind = {"w": "weight", "b": "bias"}[kind]
            key = f"encoder.layer.{layer[1:]}.{THEIRS[short]}.{kind}"
        state[key] = torch.from_numpy(values)
    model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict(state)
    return model.eval()


@pytest.fixture(scope="module")
def folder(tiny_e5, tmp_path_factory):
    source = tmp_path_factory.mktemp("members")
    (source / "tiny.bin").write_bytes(tiny_e5.file)
    (source / "tokenizer.json").write_bytes(tiny_e5.tokenizer)
    target = tmp_path_factory.mktemp("model")
    e5.convert({path.name: path for path in source.iterdir()}, target)
    return target


def test_every_layer_equals_a_model_of_the_same_weights(folder, tiny_e5):
    model = AutoModel.from_pretrained(folder).eval()
    ids = torch.randint(0, 14, (3, 9))
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[1, 5:] = 0
    with torch.no_grad():
        ours = model(ids, mask, output_hidden_states=True).hidden_states
        theirs = reference(tiny_e5.meant)(ids, mask, output_hidden_states=True).hidden_states
    assert len(ours) == len(theirs) == 3
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)


def test_weights_are_exactly_what_the_file_means(tiny_e5):
    tensors = e5.read(tiny_e5.file).tensors
    word = tensors["embeddings.word_embeddings.weight"]
    assert word.dtype == np.float32
    np.testing.assert_array_equal(word, tiny_e5.meant["emb.word"])
    np.testing.assert_array_equal(
        tensors["encoder.layer.1.output.dense.weight"], tiny_e5.meant["l1.fo.w"]
    )


def test_loading_the_folder_is_silent(folder, capfd):
    AutoModel.from_pretrained(folder)
    AutoTokenizer.from_pretrained(folder)
    out, err = capfd.readouterr()
    assert out == ""
    assert "MISSING" not in err
    assert "UNEXPECTED" not in err
    assert "warn" not in err.lower()


def test_tokenizer_is_taken_as_it_is(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.is_fast
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    assert (tokenizer.pad_token, tokenizer.unk_token) == ("<pad>", "<unk>")
    assert (tokenizer.mask_token, tokenizer.model_max_length) == ("<mask>", 16)
    batch = tokenizer(["a", "a猫සාக"], padding=True)
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch.tokens(0)[:3] == ["<s>", "▁a", "</s>"]
    assert batch.tokens(1) == ["<s>", "▁a", "猫", "සා", "க", "</s>"]
    assert batch["input_ids"][0][-1] == tokenizer.pad_token_id == 1
    assert AutoModel.from_pretrained(folder).config.pad_token_id == 1


def test_config_does_not_depend_on_the_version_of_transformers(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["transformers_version"] == "5.16.0"
    assert config["layer_norm_eps"] == 1e-12
    assert config["architectures"] == ["BertModel"]


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda d: b"GGUF" + d[4:], "the encoder file begins with b'GGUF'; allowed: b'E5S1'"),
        (lambda d: d[:4] + struct.pack("<I", 2) + d[8:], "version 2 and blocks of 32; allowed"),
        (
            lambda d: d.replace(b"l1.oln.b", b"l1.oln.x"),
            "tensor l1.oln.b of the encoder file is missing",
        ),
        (
            lambda d: d[:8] + struct.pack("<2i", 32, 1) + d[16:],
            "unexpected tensors in the encoder file: l1.q.w",
        ),
        (
            lambda d: d[:24] + struct.pack("<i", 13) + d[28:],
            r"has 448 values; allowed: shape \(13, 32",
        ),
    ],
)
def test_a_file_of_another_make_is_refused(tiny_e5, spoil, text):
    with pytest.raises(ZooError, match=text):
        e5.read(spoil(tiny_e5.file))


def test_a_tokenizer_of_another_vocabulary_is_refused(tiny_e5, tmp_path):
    (tmp_path / "tiny.bin").write_bytes(tiny_e5.file)
    swapped = json.loads(tiny_e5.tokenizer)
    vocabulary = swapped["model"]["vocab"]
    vocabulary[5], vocabulary[6] = vocabulary[6], vocabulary[5]
    (tmp_path / "tokenizer.json").write_text(json.dumps(swapped))
    with pytest.raises(ZooError, match=r"tokenizer\.json and the encoder file"):
        e5.convert({path.name: path for path in tmp_path.iterdir()}, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.real
def test_translations_are_nearest_neighbours():
    if not zoo.is_present("multilingual-e5-small"):
        pytest.skip("layerbridge zoo pull multilingual-e5-small")
    folder = zoo.path("multilingual-e5-small")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    texts = {
        "en": [
            "The cat sleeps on the sofa.",
            "I would like a cup of tea.",
            "The train to the city is late.",
            "She bought a new book yesterday.",
            "It is raining heavily today.",
        ],
        "de": [
            "Die Katze schläft auf dem Sofa.",
            "Ich hätte gern eine Tasse Tee.",
            "Der Zug in die Stadt hat Verspätung.",
            "Sie hat gestern ein neues Buch gekauft.",
            "Heute regnet es stark.",
        ],
        "si": [
            "පූසා සෝෆාව මත නිදාගනී.",
            "මට තේ කෝප්පයක් ඕනෑ.",
            "නගරයට යන දුම්රිය ප්\u200dරමාදයි.",
            "ඇය ඊයේ අලුත් පොතක් මිලදී ගත්තාය.",
            "අද තද වැස්සක් වහිනවා.",
        ],
        "ta": [
            "பூனை சோபாவில் தூங்குகிறது.",
            "எனக்கு ஒரு கப் தேநீர் வேண்டும்.",
            "நகரத்திற்கு செல்லும் ரயில் தாமதமாகிறது.",
            "அவள் நேற்று ஒரு புதிய புத்தகம் வாங்கினாள்.",
            "இன்று பலத்த மழை பெய்கிறது.",
        ],
        "hi": [
            "बिल्ली सोफे पर सो रही है।",
            "मुझे एक कप चाय चाहिए।",
            "शहर जाने वाली ट्रेन देर से है।",
            "उसने कल एक नई किताब खरीदी।",
            "आज तेज बारिश हो रही है।",
        ],
        "sw": [
            "Paka analala kwenye sofa.",
            "Ningependa kikombe cha chai.",
            "Treni ya kwenda mjini imechelewa.",
            "Alinunua kitabu kipya jana.",
            "Leo kunanyesha mvua kubwa.",
        ],
    }
    vectors = {}
    for language, sentences in texts.items():
        batch = tokenizer(sentences, padding=True, return_tensors="pt")
        # XLM-R's normaliser takes the zero-width joiner of Sinhala for a space.
        plain = [sentence.replace("\u200d", " ") for sentence in sentences]
        assert tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True) == plain
        with torch.no_grad():
            states = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        vectors[language] = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))
    for language, own in vectors.items():
        nearest = (own @ vectors["en"].T).argmax(1).tolist()
        assert nearest == [0, 1, 2, 3, 4], language
