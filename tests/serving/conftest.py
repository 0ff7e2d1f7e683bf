"""Apps around an engine, in process or behind a real server, and a real engine on tiny models."""

import socket
import threading
import time
from contextlib import contextmanager

import pytest
import torch
import transformers
import uvicorn
from fake_engine import FakeEngine
from starlette.testclient import TestClient

import tiny
from backbones import scatter
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.serving.app import create_app
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.server import configuration
from layerbridge.serving.supervised import Supervised
from layerbridge.serving.torch_engine import TorchEngine
from layerbridge.training.examples import Example

KINDS = ["country", "language", "currency", "script", "unit", "time zone"]


@pytest.fixture
def client():
    """``client(engine, **settings of create_app)`` → a test client whose engine has started."""
    opened = []

    def make(engine=None, *, wait=True, **settings):
        app = create_app(engine or FakeEngine(), **settings)
        client = TestClient(app, raise_server_exceptions=False)
        opened.append(client.__enter__())
        while wait and app.state.service.engine.state == "starting":
            time.sleep(0.005)
        return client

    yield make
    for one in opened:
        one.__exit__(None, None, None)


@contextmanager
def running(engine, *, wrap=lambda app: app, **settings):
    """The address of a real server; ``wrap`` may put an app of its own around the server's."""
    app = wrap(create_app(engine, **settings))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(configuration(app))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        until(lambda: server.started and engine.state == "ready", 20)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def serve():
    """``with serve(engine, **settings) as address:``."""
    return running


def until(true, timeout_s=5.0):
    """Waits until it is true."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def eventually():
    return until


# Language, text and what it means: names, as the demo's.
NAMES = [
    ("si", "ශ්‍රී ලංකා රුපියල", "Sri Lankan rupee"),
    ("ta", "நேபாளம்", "Nepal"),
    ("am", "ቻይንኛ", "Chinese"),
    ("ka", "შვედური კრონა", "Swedish krona"),
    ("th", "เยนญี่ปุ่น", "Japanese yen"),
    ("bn", "আইসল্যান্ড", "Iceland"),
    ("as", "শ্ৰীলংকান ৰুপী", "Sri Lankan rupee"),
    ("hi", "आइसलैंडिक", "Icelandic"),
    ("ar", "شلن كينيي", "Kenyan shilling"),
    ("ur", "آئس لینڈ", "Iceland"),
    ("he", "שעון הודו", "India Time"),
    ("zh-Hans", "冰岛语", "Icelandic"),
    ("sw", "Kijapani", "Japanese"),
    ("vi", "Krona Thụy Điển", "Swedish krona"),
]
# Pieces of words in two scripts, which the encoder's tokenizer keeps whole.
PIECES = ("▁ශ්‍රී", "▁ල", "ංකා", "▁රුපිය", "ල", "▁شلن", "▁كي", "نيي")


@pytest.fixture(scope="session")
def tiny_bridges(tmp_path_factory, folder, load_lm):
    """Three bridges over one tiny language model, with as many layers as the page has to show."""
    encoder_folder = tmp_path_factory.mktemp("encoder")
    tokenizer = tiny.unigram(tiny.XLMR_SPECIALS, "<s> $A </s>", extra=PIECES)
    tokenizer.model_max_length = 512
    config = transformers.XLMRobertaConfig(
        **{"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id},
        **{"hidden_size": 24, "intermediate_size": 48, "initializer_range": 0.3},
        **{"num_hidden_layers": 12, "num_attention_heads": 4, "max_position_embeddings": 514},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tiny.save(transformers.XLMRobertaForMaskedLM(config), tokenizer, encoder_folder)
    encoder = Encoder.load(resolve(str(encoder_folder)), LoadOptions(dtype="float32"))
    about = {"encoder": str(encoder_folder), "language_model": str(folder("llama"))}
    bridges = {}
    for name, settings in {
        "token-softmax": {"options": KINDS, "instruction": "What kind of thing is it?"},
        "global-softmax": {"fusion": "global-softmax", "options": KINDS},
        "reviews": {"template": "Review: {text} Label: "},
    }.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            bridge = LayerBridge(BridgeConfig(**about, **settings), encoder, load_lm("llama"))
            scatter(bridge)
        bridges[name] = bridge.eval()
    names = [Example(text, "country", code, meaning) for code, text, meaning in NAMES]
    examples = {
        "token-softmax": names,
        "global-softmax": [Example("Fiji " * 99 + "Fiji", "country")],
    }
    return Bridges(bridges, resolve(str(folder("llama"))), examples)


@pytest.fixture(scope="session")
def tiny_engine(tiny_bridges):
    """A new torch engine on them, with the supervision that a server gives it."""

    def make():
        return Supervised(TorchEngine(lambda: tiny_bridges, max_batch=8, wait_ms=1))

    return make
