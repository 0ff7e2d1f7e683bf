import re

from fake_engine import FakeEngine

from layerbridge.serving.engine import EngineDownError
from layerbridge.serving.metrics import Metrics

CHAT = "/v1/chat/completions"


def chat(client, **settings):
    messages = [{"role": "user", "content": "abc"}]
    return client.post(CHAT, json={"model": "demo", "messages": messages, **settings})


def values(client):
    """Sample → value, but for the process' own."""
    lines = client.get("/metrics").text.splitlines()
    found = dict(re.match(r"layerbridge_(\S+(?: \S+)*?) (\S+)$", line).groups() for line in lines
                 if line.startswith("layerbridge_"))  # fmt: skip
    return {name: float(value) for name, value in found.items() if "_created" not in name}


def test_numbers(client):
    metrics = Metrics()
    engine = FakeEngine(write=lambda ask: [40] * 5)
    client = client(engine, metrics=metrics)
    assert chat(client).status_code == 200
    assert chat(client, n=2, stream=True).status_code == 200
    assert chat(client, n=99).status_code == 400
    assert client.get("/no/such").status_code == 404
    assert client.get("/page/none").status_code == 404
    metrics.on_batch("decode", 3)
    metrics.on_batch("decode", 300)
    found = values(client)
    assert found[f'requests_total{{route="{CHAT}",status="200"}}'] == 2
    assert found[f'requests_total{{route="{CHAT}",status="400"}}'] == 1
    assert found['requests_total{route="other",status="404"}'] == 1
    assert found['requests_total{route="/page/*",status="404"}'] == 1
    assert found[f'request_seconds_count{{route="{CHAT}"}}'] == 3
    assert found['errors_total{code="too_many"}'] == 1
    assert found['errors_total{code="http_error"}'] == 2
    # Three answers of five tokens each; the prompt is three letters and one more position.
    assert found["generated_tokens_total"] == 15
    assert found["prompt_tokens_total"] == 12
    assert found["time_to_first_token_seconds_count"] == 3
    assert found["time_per_output_token_seconds_count"] == 3
    assert found['batch_rows_bucket{kind="decode",le="2.0"}'] == 0
    assert found['batch_rows_bucket{kind="decode",le="4.0"}'] == 1
    assert found['batch_rows_sum{kind="decode"}'] == 303
    assert (found["engine_waiting"], found["engine_running"]) == (7, 0)
    assert (found["gate_waiting"], found["gate_running"]) == (0, 0)
    assert found["ready"] == 1


def test_errors_before_and_in_the_middle_of_a_stream(client):
    engine = FakeEngine(fails={2: EngineDownError})
    client = client(engine)
    assert chat(client, stream=True).status_code == 200
    assert chat(client).status_code == 503
    found = values(client)
    assert found['errors_total{code="engine_down"}'] == 2
    assert found["generated_tokens_total"] == 2
    assert found["ready"] == 0


def test_a_registry_each(client):
    first, second = client(), client()
    chat(first)
    assert "generated_tokens_total" in values(first)
    assert values(second)["generated_tokens_total"] == 0
    reply = first.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    assert "process_resident_memory_bytes" in reply.text
