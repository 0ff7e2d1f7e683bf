"""``bench serve`` on a small bridge; no speed is tested."""

import asyncio
import json
import socket
import sys
import threading

import pytest
import torch
import uvicorn

from layerbridge.benchmarking import serve
from layerbridge.benchmarking.serve import ServeCase
from layerbridge.benchmarking.serve_client import Connection
from layerbridge.benchmarking.serve_load import Round, Sample, summary
from layerbridge.cli.app import main
from layerbridge.errors import ConfigError
from layerbridge.serving.app import create_app
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.torch_engine import TorchEngine

SAMPLES = (Sample(0.1, 0.9, 1.0, tokens=9), Sample(error="429"))


@pytest.fixture
def run(make_bridge, tmp_path):
    make_bridge().save_pretrained(tmp_path / "run")
    return str(tmp_path / "run")


@pytest.fixture
def in_process(monkeypatch):
    """``layerbridge serve`` in a thread: a process of its own takes seconds to start."""

    class Server:
        startup_s = 0.1

        def __init__(self, arguments, python):
            app = create_app(TorchEngine(lambda: Bridges.load(arguments[:1])))
            self.socket = socket.create_server(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
            self.server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))

        async def __aenter__(self):
            self.thread = threading.Thread(target=self.server.run, args=([self.socket],))
            self.thread.start()
            while not await self.is_ready():
                await asyncio.sleep(0.01)
            return self

        async def is_ready(self):
            async with Connection(self.url) as connection:
                return (await connection.get("/readyz")).status == 200

        async def __aexit__(self, *_):
            self.server.should_exit = True
            self.thread.join(10)

    monkeypatch.setattr(serve, "Server", Server)


def test_bench_serve(run, in_process):
    message = []
    case = ServeCase(
        run, ("torch",), concurrency=(1, 3), requests=4, max_tokens=5, dtype="float32", device="cpu"
    )
    found = serve.run(case, 2, lambda *state: message.append(state))
    json.dumps(found)
    torch_engine = found["engines"]["torch"]
    assert torch_engine["versions"]["torch"] == torch.__version__
    assert torch_engine["startup_s"] > 0
    assert [level["concurrency"] for level in torch_engine["levels"]] == [1, 3]
    for level in torch_engine["levels"]:
        assert level["errors"] == {}
        assert (level["requests"], level["tokens"]) == (8, 40)
        assert level["tokens_per_second"] > 0
        assert 0 < level["ms_to_first_token"]["p50"] <= level["latency_ms"]["p99"]
    assert found["speedup_vllm_32"] is found["gateway_overhead"] is None
    assert found["texts"] == 3 + 2 * 8
    assert found["prompt_tokens"]["min"] > 8
    assert found["client"]["tokens_per_second"] > 0
    assert message[-1][:2] == (5, 5)


@pytest.mark.parametrize(
    ("settings", "result"),
    [
        ({"run": None}, "give RUN or --url, and not both"),
        ({"run": "r", "url": "http://x"}, "give RUN or --url, and not both"),
        ({"run": "r", "engines": ("jax",)}, "unknown engine 'jax'; allowed: torch, vllm"),
        ({"run": "r", "concurrency": (0,)}, "allowed: 1 or more"),
    ],
)
def test_errors_are_reported_before_anything_is_started(settings, result):
    with pytest.raises(ConfigError) as error:
        ServeCase(**settings)
    assert result in str(error.value)


def test_an_unreachable_server():
    case = ServeCase(None, url="http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="does not answer /v1/models as a layerbridge server"):
        serve.run(case)


def test_serve_arguments():
    case = ServeCase("r", concurrency=(8, 128), device="cuda", vllm_options={"seed": 3})
    words = case.serve_arguments("vllm")
    assert words[words.index("--concurrency") + 1] == "128"
    assert "gpu_memory_utilization=0.35" in words
    assert "seed=3" in words
    assert "--vllm-option" not in case.serve_arguments("torch")


def bench_serve(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["layerbridge", "bench", "serve", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code, *capsys.readouterr()


def test_the_verb(monkeypatch, capsys):
    asked = []

    def run(case, repeat, progress):
        asked.append((case, repeat))
        levels = [summary([Round(1.0, 0.1, (sample,))], 8) for sample in SAMPLES]
        return {"engines": {"torch": {"levels": levels}}, "speedup_vllm_32": 2.5}

    monkeypatch.setattr(serve, "run", run)
    words = ["r", "--engines", "torch, vllm", "--concurrency", "1,8", "--vllm-python", "/p"]
    words += ["--vllm-option", "max-num-seqs=8", "--repeat", "2", "--device", "cpu"]
    code, out, err = bench_serve(monkeypatch, capsys, *words)
    assert code == 0, err
    ((case, repeat),) = asked
    assert (case.engines, case.concurrency, repeat) == (("torch", "vllm"), (1, 8), 2)
    assert case.pythons == {"vllm": "/p"}
    assert case.vllm_options == {"max_num_seqs": 8}
    found = json.loads(out.splitlines()[-1])
    assert found["serve"]["speedup_vllm_32"] == 2.5
    assert found["machine"]["torch"]
    assert "tokens/s" in err
    assert "1 × 429" in err


def test_errors_of_the_verb(monkeypatch, capsys):
    code, out, err = bench_serve(monkeypatch, capsys, "r", "--concurrency", "1,x")
    assert (code, out) == (2, "")
    assert err == (
        "error: --concurrency '1,x' is not a list of numbers; allowed: comma-separated "
        "integers, such as 0,1,2\n"
    )
