"""Closed-loop load, and what rounds are summarized to."""

import asyncio
from dataclasses import replace

import pytest

from layerbridge.benchmarking.serve_load import ALONE, Round, Sample, compare, load, summary


def test_concurrency_and_order():
    running, most = 0, 0

    async def ask(request):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (7 - request))
        running -= 1
        return request

    found = asyncio.run(load([ask] * 3, range(7), lambda reply: Sample(tokens=reply)))
    assert most == 3
    assert [sample.tokens for sample in found.samples] == list(range(7))
    assert found.tokens_per_second == pytest.approx(21 / found.seconds)


def test_summary_of_a_level():
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


def test_ratios_pair_the_rounds_measured_in_turn():
    def at(*rates):
        return {32: [Round(1.0, 0.0, (Sample(tokens=rate, text=str(rate)),)) for rate in rates]}

    rounds = {"torch": at(10, 30, 10), "vllm": at(30, 30, 40), ALONE: at(33, 30, 42)}
    found = compare(rounds)
    assert found["speedup_vllm_32"] == 3
    assert found["gateway_overhead"] == pytest.approx(0.05)
    assert found["gateway_overhead_beyond_embedding"] == pytest.approx(0.05)
    # An embedding that takes a quarter of a round's time slows vLLM alone by a fifth.
    rounds[ALONE][32] = [replace(one, before_s=0.25) for one in rounds[ALONE][32]]
    found = compare(rounds)
    assert found["gateway_overhead"] == pytest.approx(0.05)
    assert found["gateway_overhead_beyond_embedding"] == pytest.approx(1.05 / 1.25 - 1)
    assert found["same_text"] == pytest.approx(1 / 3)
    assert compare({"torch": at(1)})["speedup_vllm_32"] is None
