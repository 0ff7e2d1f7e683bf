"""The load benchmark: its client, its arithmetic, and one short run; no speed is tested."""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from layerbridge.benchmarking import serve
from layerbridge.benchmarking.serve import ALONE, ServeCase, sample_of
from layerbridge.benchmarking.serve_canned import answer
from layerbridge.benchmarking.serve_client import Connection, Events, LostError, Reply
from layerbridge.benchmarking.serve_load import Round, Sample, load, summary
from layerbridge.benchmarking.serve_process import Child
from layerbridge.benchmarking.serve_texts import texts
from layerbridge.cli.app import main
from layerbridge.errors import ConfigError, DataError

STREAM = (
    b": a comment\r\n\r\ndata: one\r\n\r\n"
    b"event: x\ndata:two\ndata: lines\n\n"
    b"data:  three\r\rid: 4\ndata: \xe0\xb6\xb8\n\ndata: [DONE]\n\n"
)
SAMPLES = (Sample(0.1, 0.9, 1.0, tokens=9), Sample(error="429"))
EVENTS = [b"one", b"two\nlines", b" three", "ම".encode(), b"[DONE]"]


# --- the client ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_in_whatever_parts_they_come(size):
    events = Events()
    parts = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert [data for part in parts for data in events.feed(part)] == EVENTS


def served(*replies):
    """Runs ``body(url, requests)`` with a server that answers each request with the next bytes."""

    def run(body):
        async def whole():
            left, requests = list(replies), []

            async def answer(reader, writer):
                try:
                    while left:
                        head = await reader.readuntil(b"\r\n\r\n")
                        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                        requests.append((head, await reader.readexactly(length)))
                        writer.write(left.pop(0))
                        if not left or left[0] is None:
                            left[:1] = []
                            break
                except asyncio.IncompleteReadError:
                    pass
                writer.close()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            async with server:
                return await asyncio.wait_for(body(f"http://127.0.0.1:{port}", requests), 20)

        return asyncio.run(whole())

    return run


def plain(body, status=b"200 OK"):
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def test_a_connection_is_kept_and_opened_again_when_it_has_to_be():
    async def body(url, requests):
        async with Connection(url + "/base/v1") as connection:
            first = await connection.post("/v1/x", {"a": "ම"})
            kept = connection._streams
            second = await connection.post("/v1/x", b"raw")
            assert connection._streams is kept
            await asyncio.sleep(0.05)
            third = await connection.post("/v1/x", b"")
            assert connection._streams is not kept
        return requests, [first, second, third]

    requests, replies = served(
        plain(b"{}"), plain(b"[1]", b"429 No"), None, plain(b"", b"204 Nothing")
    )(body)
    assert [reply.status for reply in replies] == [200, 429, 204]
    assert [reply.body for reply in replies] == [b"{}", b"[1]", b""]
    assert requests[0][0].startswith(b"POST /base/v1/x HTTP/1.1\r\nHost: 127.0.0.1:")
    assert json.loads(requests[0][1]) == {"a": "ම"}


def test_a_stream_is_read_as_the_server_writes_it():
    async def body(url, _):
        async with Connection(url, buffer=2048) as connection:
            return await connection.post("/v1/completions", {})

    reply = served(b"".join(answer(5)))(body)
    sample = sample_of(reply)
    assert reply.is_whole
    assert (sample.tokens, sample.prompt_tokens, sample.text) == (5, 1, " word" * 5)
    assert 0 < sample.first_s <= sample.last_s <= sample.ended_s


def test_a_reply_that_is_cut_off_is_lost():
    async def body(url, _):
        async with Connection(url) as connection:
            with pytest.raises(LostError):
                await connection.post("/v1/completions", {})
            with pytest.raises(ConnectionRefusedError):
                await Connection("http://127.0.0.1:9").get("/")

    served(b"".join(answer(5))[:-40])(body)


def test_errors_in_a_stream_are_errors():
    def of(*data, status=200):
        return sample_of(Reply(status, {}, 0.0, events=[(1.0, one) for one in data])).error

    chunk = b'{"choices": [{"text": "a"}], "usage": null}'
    assert of(status=429) == "429"
    assert of(chunk, b'{"error": {"code": "timeout"}}') == "timeout"
    assert of(chunk) == "cut off"
    assert sample_of(LostError()).error == "LostError"


def test_an_address_that_is_none():
    with pytest.raises(ConfigError, match="is no address"):
        Connection("localhost:8000")


# --- load ---------------------------------------------------------------------------------------


def test_so_many_at_once_and_in_their_order():
    running, most = 0, 0

    async def ask(request):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (7 - request))
        running -= 1
        return request

    found = asyncio.run(load(ask, range(7), 3, lambda reply: Sample(tokens=reply)))
    assert most == 3
    assert [sample.tokens for sample in found.samples] == list(range(7))
    assert found.tokens_per_second == pytest.approx(21 / found.seconds)
    assert Round.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_what_a_level_comes_to():
    good = [Sample(0.1 * n, 0.1 * n + 0.9, 2.0, tokens=10) for n in range(1, 6)]
    rounds = [Round(seconds, 0.5, (*good, Sample(error="429"))) for seconds in (10.0, 5.0, 1.0)]
    level = summary(rounds, 4)
    assert level["tokens_per_second"] == pytest.approx(10)
    assert level["requests_per_second"] == pytest.approx(1)
    assert level["ms_to_first_token"] == pytest.approx({"p50": 300, "p99": 500})
    assert level["ms_per_token"] == pytest.approx({"p50": 100, "p99": 100})
    assert level["latency_ms"] == pytest.approx({"p50": 2000, "p99": 2000})
    assert level["errors"] == {"429": 3}
    assert (level["requests"], level["tokens"], level["client_cpu"]) == (18, 150, 0.1)
    nothing = summary([Round(1.0, 0.1, (Sample(error="503"),))], 1)
    assert nothing["latency_ms"] is None


def test_ratios_are_of_rounds_that_came_together():
    def at(*rates):
        return {32: [Round(1.0, 0.0, (Sample(tokens=rate, text=str(rate)),)) for rate in rates]}

    rounds = {"torch": at(10, 30, 10), "vllm": at(30, 30, 40), ALONE: at(33, 30, 42)}
    found = serve._compared(rounds)
    assert found["speedup_vllm_32"] == 3
    assert found["gateway_overhead"] == pytest.approx(0.05)
    assert found["gateway_overhead_beyond_embedding"] == pytest.approx(0.05)
    # An embedding that takes a quarter of a round's time slows vLLM alone by a fifth.
    rounds[ALONE][32] = [replace(one, before_s=0.25) for one in rounds[ALONE][32]]
    found = serve._compared(rounds)
    assert found["gateway_overhead"] == pytest.approx(0.05)
    assert found["gateway_overhead_beyond_embedding"] == pytest.approx(1.05 / 1.25 - 1)
    assert found["same_text"] == pytest.approx(1 / 3)
    assert serve._compared({"torch": at(1)})["speedup_vllm_32"] is None


# --- texts and processes ------------------------------------------------------------------------


def test_texts_are_of_many_scripts_and_lengths_and_none_comes_twice():
    found = texts(600)
    assert len(set(found)) == 600
    lengths = sorted(map(len, found))
    assert 3 * lengths[0] < 2 * lengths[300] < lengths[-1]
    for script in ("ස", "ক", "አ", "中", "к", "ع", "გ"):
        assert any(script in text for text in found[:60]), script


def test_texts_of_a_file(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("one\n\nදෙක\n", encoding="utf-8")
    assert texts(3, file=str(file)) == ["one", "දෙක", "one"]
    file.write_text("\n")
    with pytest.raises(DataError, match="has no text"):
        texts(3, file=str(file))
    with pytest.raises(DataError, match="cannot be read"):
        texts(3, file="nothing.txt")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"premise": "a", "label": "x"}\n')
    assert texts(2, file=str(rows), template="P: {premise}") == ["P: a"] * 2


def test_a_process_that_fails_says_why():
    async def start(*command):
        async with Child(command, lambda line: line == "ready") as child:
            return child.said

    fails = "import sys; print('noise'); sys.exit('error: no such run')"
    with pytest.raises(ConfigError, match="ended with exit code 1: no such run"):
        asyncio.run(start(sys.executable, "-c", fails))
    with pytest.raises(ConfigError, match="'/no/python' cannot be run"):
        asyncio.run(start("/no/python"))
    talks = "import time; print('noise', flush=True); print('ready', flush=True); time.sleep(60)"
    started = time.monotonic()
    assert asyncio.run(start(sys.executable, "-c", talks)) == "ready"
    assert time.monotonic() - started < 30


# --- the whole ----------------------------------------------------------------------------------


@pytest.fixture
def run(make_bridge, tmp_path):
    make_bridge().save_pretrained(tmp_path / "run")
    return str(tmp_path / "run")


def test_bench_serve(run, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    told = []
    case = ServeCase(
        run, ("torch",), concurrency=(1, 3), requests=4, max_tokens=5, dtype="float32", device="cpu"
    )
    found = serve.run(case, 2, lambda *state: told.append(state))
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
    assert told[-1][:2] == (5, 5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"run": None}, "what is to be measured?; allowed: either a RUN or a --url"),
        ({"run": "r", "url": "http://x"}, "what is to be measured?"),
        ({"run": "r", "engines": ("jax",)}, "unknown engine 'jax'; allowed: torch, vllm"),
        ({"run": "r", "concurrency": (0,)}, "allowed: 1 or more"),
    ],
)
def test_mistakes_are_told_before_anything_is_started(settings, said):
    with pytest.raises(ConfigError) as error:
        ServeCase(**settings)
    assert said in str(error.value)


def test_a_server_that_is_not_there():
    case = ServeCase(None, url="http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="does not answer as a server of bridges"):
        serve.run(case)


def test_what_the_server_is_started_with():
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


def test_the_verbs_mistakes(monkeypatch, capsys):
    code, out, err = bench_serve(monkeypatch, capsys, "r", "--concurrency", "1,x")
    assert (code, out) == (2, "")
    assert err == (
        "error: --concurrency '1,x' is not a list of numbers; allowed: comma-separated whole "
        "numbers, such as 0,1,2\n"
    )


def test_help_imports_no_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from layerbridge.cli.app import app;"
        "assert CliRunner().invoke(app, ['bench', 'serve', '--help']).exit_code == 0;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
