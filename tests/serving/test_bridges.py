import json
import shutil
from pathlib import Path

import pytest
import torch

from layerbridge.errors import CheckpointError, ConfigError, LengthError
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.packing import pack
from layerbridge.serving.bridges import Bridges, names
from layerbridge.serving.requests import Prompt
from layerbridge.training.examples import Example, write

FLOAT32 = LoadOptions(dtype="float32")
TEXTS = ["The market rose", "ශ්‍රී ලංකාව", "a"]


@pytest.fixture
def saved(make_bridge, tmp_path):
    """Saves a bridge under a name and gives the folder."""

    def make(name, **settings):
        make_bridge(**settings).save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return make


def test_backbones_are_in_memory_once(saved):
    runs = [
        saved("token"),
        saved("last", fusion="last"),
        saved("cut"),
        saved("embeddings", embedding_layer=True),
        saved("xlm", encoder="xlm-r"),
    ]
    config = Path(runs[2]) / "config.json"
    config.write_text(config.read_text().replace('"max_text_tokens": 512', '"max_text_tokens": 4'))
    bridges = Bridges.load(runs, FLOAT32)
    assert list(bridges) == ["token", "last", "cut", "embeddings", "xlm"]
    assert len({id(bridge.language_model) for bridge in bridges.values()}) == 1
    models = {name: id(bridge.encoder.model) for name, bridge in bridges.items()}
    assert len(set(models.values())) == 2
    assert models["xlm"] not in [models[name] for name in ("token", "last", "cut", "embeddings")]
    assert bridges["cut"].encoder.max_text_tokens == 4
    assert bridges["embeddings"].encoder.embedding_layer
    assert not any(bridge.training for bridge in bridges.values())


def test_each_bridge_has_the_examples_of_its_run(saved):
    runs = [saved("token"), saved("last", fusion="last")]
    kept = [Example("ශ්‍රී", "currency", "si", "rupee"), Example("good", "positive")]
    write(kept, Path(runs[1]))
    bridges = Bridges.load(runs, FLOAT32)
    assert bridges.examples == {"token": [], "last": kept}
    (Path(runs[0]) / "examples.json").write_text("no JSON")
    with pytest.raises(CheckpointError, match=r"examples\.json' is damaged"):
        Bridges.load(runs, FLOAT32)


def test_copies_of_the_same_weights_are_one_model(saved, folder, tmp_path):
    runs = [saved("first"), saved("second", fusion="last")]
    for name, kind in (("encoder", "mt5"), ("language_model", "llama")):
        copied = shutil.copytree(folder(kind), tmp_path / "elsewhere" / kind)
        config = Path(runs[1]) / "config.json"
        settings = json.loads(config.read_text())
        config.write_text(json.dumps(settings | {name: str(copied)}))
    first, second = Bridges.load(runs, FLOAT32).values()
    assert first.encoder.model is second.encoder.model
    assert first.language_model is second.language_model


def test_embeds_are_the_librarys_row_by_row(saved):
    bridges = Bridges.load(
        [saved("token"), saved("last", fusion="last", instruction="Say:")], FLOAT32
    )
    asks = [
        Prompt("token", TEXTS[0]),
        Prompt("last", TEXTS[1]),
        Prompt("token", TEXTS[2]),
        Prompt("last", TEXTS[0], instruction="Answer at once:"),
    ]
    for ask, found in zip(asks, bridges.embeds(asks), strict=True):
        bridge = bridges[ask.bridge]
        expected = pack(bridge.prefix(bridge.encode([ask.text]), ask.instruction)).inputs_embeds[0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_on_a_cpu_rows_of_about_one_length_go_together(saved, monkeypatch):
    bridges = Bridges.load([saved("token")], FLOAT32)
    assert bridges.batches([7]) == [[0]]
    assert bridges.batches([5, 9, 4, 8]) == [[1, 3, 0, 2]]
    monkeypatch.setattr("layerbridge.serving.bridges.CPU_TOKENS", 18)
    assert bridges.batches([5, 9, 4, 8, 30]) == [[4], [1, 3], [0, 2]]
    reads = []
    bridge = bridges["token"]
    encode = bridge.encode
    monkeypatch.setattr(bridge, "encode", lambda texts, *_: reads.append(texts) or encode(texts))
    asks = [Prompt("token", text * times) for times in (1, 3) for text in TEXTS]
    together = bridges.embeds(asks)
    assert len(reads) > 1
    for ask, found in zip(asks, together, strict=True):
        torch.testing.assert_close(found, bridges.embeds([ask])[0], atol=1e-5, rtol=1e-5)


def test_room_is_what_the_language_model_can_read(make_bridge, folder):
    bridge = make_bridge()
    bridges = Bridges({"b": bridge}, resolve(str(folder("llama"))))
    most = bridge.language_model.max_tokens
    assert most is not None
    assert bridges.max_new_tokens(most - 1) == 1
    with pytest.raises(LengthError) as caught:
        bridges.max_new_tokens(most)
    assert str(caught.value) == (
        f"text and instruction come to {most} tokens; allowed: fewer than {most}, the "
        "language model's context length"
    )


def test_another_language_model_is_another_server(saved, folder):
    with pytest.raises(ConfigError) as caught:
        Bridges.load([saved("a"), saved("b", language_model="gpt2")], FLOAT32)
    assert str(caught.value) == (
        f"'b' needs the language model {str(folder('gpt2'))!r}, and 'a' needs "
        f"{str(folder('llama'))!r}; allowed: bridges over one language model; next: start one "
        "server for each"
    )


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (["runs/demo/last"], {"last": "runs/demo/last"}),
        (["a/x/last", "b/x/last", "c"], {"a/x/last": "a/x/last", "b/x/last": "b/x/last", "c": "c"}),
        (["mine=runs/x", "runs/y"], {"mine": "runs/x", "y": "runs/y"}),
        (["org/bridge"], {"bridge": "org/bridge"}),
        (["runs/x/", "runs/x/"], {"x": "runs/x/"}),
    ],
)
def test_names(runs, expected):
    assert names(runs) == expected


def test_names_that_cannot_be_told_apart():
    with pytest.raises(
        ConfigError,
        match=r"'a' and 'b/x' would both be named 'x'; next: give one a name",
    ):
        names(["x=a", "b/x"])
    with pytest.raises(ConfigError, match=r"no run to serve; allowed: layerbridge serve RUN"):
        names([])


def test_a_folder_with_an_equals_sign(tmp_path):
    run = tmp_path / "lr=3e-4"
    run.mkdir()
    assert names([str(run)]) == {"lr=3e-4": str(run)}


def test_runs_keep_how_their_models_were_quantized(saved):
    runs = [saved("whole"), saved("four", fusion="last")]
    config = Path(runs[1]) / "config.json"
    settings = json.loads(config.read_text())
    settings |= {"encoder_quantization": "4bit", "language_model_quantization": "4bit"}
    config.write_text(json.dumps(settings))
    with pytest.raises(ConfigError) as caught:
        Bridges.load(runs, FLOAT32)
    assert str(caught.value) == (
        "'four' and 'whole' were trained on a language model that was quantized differently; next: "
        "--load-in-4bit, --load-in-8bit or --unquantized for all"
    )
    whole = Bridges.load(runs, LoadOptions("float32", unquantized=True))
    assert len({id(bridge.encoder.model) for bridge in whole.values()}) == 1
    (four,) = Bridges.load(runs[1:], FLOAT32).values()
    assert four.encoder.model.is_loaded_in_4bit
    assert four.language_model.model.is_loaded_in_4bit
