"""vLLM's own server and ``LLM`` answer as the library does; ``make test-serving`` runs this."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch

import vllm_runs
from layerbridge.models.bridge import LayerBridge

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test-serving"
    ),
]

OPTIONS = ["sports", "sport", "business", "rain"]
LOCALES = ("si", "ta", "am", "ka", "th", "bn", "zh", "he", "ar", "el")  # each in its own script
TOKENS = 6


@pytest.fixture(scope="module")
def texts():
    """Two hundred names of countries in ten scripts."""
    babel = pytest.importorskip("babel")
    found = []
    for code in LOCALES:
        names = babel.Locale(code).territories
        found += [names[key] for key in sorted(names) if key.isalpha()][:20]
    assert len(set(found)) == 200
    return found


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A bridge to a language model of a shape that vLLM has kernels for."""
    settings = {"run": {"options": OPTIONS, "instruction": "Say:"}}
    return vllm_runs.save(tmp_path_factory.mktemp("plugin"), folder("mt5"), settings)[0]


@pytest.fixture(scope="module")
def library(run):
    """The same bridge with the language model in this process."""
    return LayerBridge.from_pretrained(run, dtype="float32")


@pytest.fixture(scope="module")
def expected(library, texts):
    """What the library writes, whatever would end it."""
    return written(library, texts)


def written(bridge, texts, instruction=None):
    ids = bridge.generate(
        hidden_states=bridge.encode(texts),
        instruction=instruction,
        max_new_tokens=TOKENS,
        do_sample=False,
        eos_token_id=[-1],
    )
    return ids.tolist()


def environment():
    return {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_PLUGINS": "layerbridge",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }


@pytest.fixture(scope="module")
def client(run):
    """A client of vLLM's server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # The command `vllm serve` itself asks for a package named vllm, which the CPU build is not.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", run]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "bridge"]
    command += ["--dtype", "float32", "--enforce-eager", "--max-num-seqs", "32"]
    # So few tokens a pass that two long prompts do not fit into one.
    command += ["--max-num-batched-tokens", "1024"]
    server = subprocess.Popen(command, env=environment(), start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as found:
            wait(server, found)
            yield found
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def wait(server, client):
    end = time.monotonic() + 900
    while time.monotonic() < end:
        assert server.poll() is None, "vLLM's server has ended"
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    raise AssertionError("vLLM's server did not start")


def complete(client, prompt, **settings):
    body = {
        "model": "bridge",
        "prompt": prompt,
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
        **settings,
    }
    reply = client.post("/v1/completions", json=body)
    assert reply.status_code == 200, reply.text
    return [choice["token_ids"] for choice in reply.json()["choices"]]


def chat(client, messages, **settings):
    body = {"model": "bridge", "messages": messages, "max_tokens": TOKENS, "temperature": 0}
    return client.post("/v1/chat/completions", json={**body, **settings})


def test_tokens_are_the_librarys_alone_under_load_and_from_the_caches(client, texts, expected):
    alone = [complete(client, text)[0] for text in texts[::10]]
    assert alone == expected[::10]
    with ThreadPoolExecutor(32) as pool:  # the caches have a tenth of these
        together = list(pool.map(lambda text: complete(client, text)[0], texts))
    assert together == expected
    assert complete(client, texts) == expected
    metrics = client.get("/metrics").text
    hits = [line for line in metrics.splitlines() if line.startswith("vllm:mm_cache_hits_total")]
    assert float(hits[0].split()[-1]) >= len(texts)


def test_a_long_prompt_is_found_in_the_prefix_cache(client, library):
    text = "the market rose while the teams " * 60  # more than a block of the cache
    first = complete(client, text)
    before = metric(client, "vllm:prefix_cache_hits_total")
    assert complete(client, text) == first == written(library, [text])
    assert metric(client, "vllm:prefix_cache_hits_total") > before
    # As long and with the same tokens around it, but another text.
    other = "the teams rose while the market " * 60
    assert complete(client, other) == written(library, [other])


def metric(client, name):
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_a_chat_is_the_text_and_the_system_message_the_instruction(client, library):
    text = "ශ්‍රී ලංකාව"
    settings = {"ignore_eos": True, "return_token_ids": True}
    for instruction, system in (
        (None, []),
        ("Answer:", [{"role": "system", "content": "Answer:"}]),
    ):
        parts = [{"type": "text", "text": text}]
        for content in (text, parts):
            earlier = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
            messages = [*system, *earlier, {"role": "user", "content": content}]
            reply = chat(client, messages, **settings).json()
            assert reply["choices"][0]["token_ids"] == written(library, [text], instruction)[0]
            (embeds,) = [library.prefix(library.encode([text]), instruction)]
            assert reply["usage"]["prompt_tokens"] == sum(int(one.mask.sum()) for one in embeds)


def test_a_stream_is_the_whole_answer(client):
    messages = [{"role": "user", "content": "a"}]
    whole = chat(client, messages).json()["choices"][0]["message"]["content"]
    events = chat(client, messages, stream=True).text.split("\n\n")
    chunks = [json.loads(event[6:]) for event in events if event.startswith("data: {")]
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in chunks) == whole


def test_long_prompts_with_seeds_may_come_together(client):
    text = "the market rose " * 300
    settings = {"temperature": 1.0, "n": 2}

    def sample(seed):
        return complete(client, text, seed=seed, **settings)

    with ThreadPoolExecutor(8) as pool:
        first, again = (list(pool.map(sample, range(8))) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("options", [None, ["a", "a b c", "the market rose"]])
@pytest.mark.parametrize("normalize", ["sum", "mean"])
def test_classification_is_the_librarys(client, library, texts, options, normalize):
    some = texts[::40]
    body = {"model": "bridge", "text": some, "options": options, "normalize": normalize}
    found = client.post("/v1/classify", json=body).json()["data"]
    answers = library.classify(some, options, length_normalization=normalize)
    for one, answer in zip(found, answers, strict=True):
        assert one["choice"] == answer.choice
        scores = {each["option"]: each["score"] for each in one["options"]}
        assert scores == pytest.approx(answer.scores, abs=1e-3)
        assert one["any_option"] == pytest.approx(answer.any_option, rel=1e-2)
    body["text"] = some[0]
    assert client.post("/v1/classify", json=body).json()["choice"] == answers[0].choice


def test_layer_weights_are_the_librarys(client, library, texts):
    (answer,) = library.layer_weights(texts[:1])
    reply = client.post("/v1/layer_weights", json={"model": "bridge", "text": texts[0]}).json()
    assert reply["tokens"] == answer.tokens
    torch.testing.assert_close(torch.tensor(reply["weights"]), answer.weights)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("chat/completions", {"messages": [{"role": "system", "content": "a"}]}, "no user message"),
        (
            "chat/completions",
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}
                ]
            },
            "allowed: text",
        ),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": "\ud83d"}]},
            "unpaired surrogate",
        ),
        (
            "chat/completions",
            {
                "messages": [
                    {"role": "system", "content": "a " * 3000},
                    {"role": "user", "content": "a"},
                ]
            },
            "maximum context length",
        ),
        ("completions", {"prompt": [1, 2, 3]}, "a prompt of text"),
        ("classify", {"text": "a", "options": ["a", "a"]}, "duplicate option"),
        ("classify", {"text": "a", "options": ["b " * 2000]}, "maximum context length"),
    ],
)
def test_a_mistake_gets_one_line_and_costs_nobody_else(client, path, body, message):
    content = json.dumps({"model": "bridge", "max_tokens": 4, **body})
    headers = {"Content-Type": "application/json"}
    reply = client.post(f"/v1/{path}", content=content, headers=headers)
    assert reply.status_code == 400, reply.text
    line = reply.json()["error"]["message"]
    assert message in line
    assert "\n" not in line
    assert complete(client, "a")


def test_an_unknown_model_is_404(client):
    for path in ("classify", "layer_weights"):
        reply = client.post(f"/v1/{path}", json={"model": "other", "text": "a"})
        assert reply.status_code == 404
        assert "'bridge'" in reply.json()["error"]["message"]


def test_a_client_that_leaves_is_forgotten(client):
    body = {"model": "bridge", "prompt": "a", "max_tokens": 900, "ignore_eos": True, "stream": True}
    with client.stream("POST", "/v1/completions", json=body) as reply:
        next(reply.iter_lines())
    end = time.monotonic() + 60
    while metric(client, "vllm:num_requests_running"):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_offline_and_without_the_caches(run, texts, expected, library):
    """As docs/deploy.md shows it."""
    code = f"""
import json, sys
from vllm import LLM, SamplingParams

texts = json.load(sys.stdin)
if __name__ == "__main__":
    llm = LLM({run!r}, dtype="float32", enforce_eager=True, enable_prefix_caching=False,
              mm_processor_cache_gb=0, max_num_seqs=32)
    sampling = SamplingParams(temperature=0, max_tokens={TOKENS}, ignore_eos=True)
    inputs = [
        texts,
        [{{"prompt": "", "multi_modal_data": {{"text": text}}}} for text in texts],
        [{{"prompt": "Answer:", "multi_modal_data": {{"text": text}}}} for text in texts[:9]],
    ]
    answers = [
        [list(one.outputs[0].token_ids) for one in llm.generate(given, sampling)]
        for given in inputs
    ]
    print("ANSWERS" + json.dumps(answers))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment(), "VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
        input=json.dumps(texts),
        stdout=subprocess.PIPE,
        text=True,
        timeout=900,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("ANSWERS"))
    plain, given, instructed = json.loads(line.removeprefix("ANSWERS"))
    assert plain == expected
    assert given == expected
    assert instructed == written(library, texts[:9], "Answer:")
