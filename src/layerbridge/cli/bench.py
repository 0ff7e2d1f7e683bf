"""``layerbridge bench``: speed and memory, compared with the method as its authors run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerbridge.cli import options as o
from layerbridge.cli.values import numbers, split
from layerbridge.errors import ConfigError

if TYPE_CHECKING:
    from layerbridge.benchmarking.pair import Pair

app = typer.Typer(
    no_args_is_help=True,
    help="Measure speed and memory.\n\nA table on stderr, one JSON document on stdout.",
)

_FORMS = "folder, zoo:NAME, hub ID or shape:NAME."
Encoder = Annotated[str, o.models(..., f"Encoder: {_FORMS}")]
LanguageModel = Annotated[str, o.models(..., f"Language model: {_FORMS}")]
ENCODER, LANGUAGE_MODEL = "zoo:multilingual-e5-small", "zoo:smollm2-135m-instruct"
Repeat = Annotated[int, o.option(..., "Rounds; the candidates alternate in each.", min=1)]
Fusion = Annotated[str, o.fusion(..., "last, global-softmax or token-softmax.")]
Rows = Annotated[Path | None, o.data(..., "Rows: JSONL, CSV, …; built-in text lengths if omitted.")]


@app.command("fusion")
def fusion(
    layers: int = o.option(24, "Encoder layers.", min=1),
    width: int = o.option(1024, "Encoder width.", min=4),
    tokens: int = o.option(2048, "Encoder tokens.", min=1),
    dtype: str = o.option(
        "float32", "Dtype of the encoder states: auto, float32, bfloat16 or float16."
    ),
    device: o.Device = None,
    repeat: Repeat = 5,
) -> None:
    """Measure token-softmax, collapsed and as a full block."""
    from layerbridge.benchmarking.fusion import FusionCase, run
    from layerbridge.models.backbone import choose_device

    case = FusionCase(layers, width, tokens, dtype, str(choose_device(device)))
    _report({"fusion": partial(run, case, repeat)}, case.device)


@app.command("train")
def train(
    encoder: Encoder = ENCODER,
    language_model: LanguageModel = LANGUAGE_MODEL,
    fusion: Fusion = "token-softmax",
    batch_size: o.BatchSize = 32,
    steps: int = o.option(4, "Training steps per round.", min=1),
    repeat: Repeat = 3,
    data: Rows = None,
    template: o.Template = None,
    optimizations: str = o.option("all", "all, none, or names from `bench optimizations`."),
    ablate: bool = o.option(False, "Also measure each optimization alone.", "--ablate"),
    compiled: bool = o.option(False, "Compile layerbridge's language model layers.", "--compile"),
    dtype: o.Dtype = "auto",
    device: o.Device = None,
) -> None:
    """Measure training rows per second, and compare loss curves."""
    from layerbridge.benchmarking.train import TrainCase, run

    pair = _pair(encoder, language_model, dtype, device)
    case = TrainCase(
        pair,
        fusion,
        batch_size,
        steps,
        file=_path(data),
        template=template,
        optimizations=_optimizations(optimizations),
        compiled=compiled,
    )
    _report({"train": partial(run, case, repeat, ablate=ablate)}, str(pair.torch_device()))


@app.command("evaluate")
def evaluate(
    run_folder: str | None = o.argument(None, "RUN", "Trained bridge; trains one if omitted."),
    encoder: Encoder = ENCODER,
    language_model: LanguageModel = LANGUAGE_MODEL,
    task: str = o.data("names", "Name of a built-in task."),
    rows: int | None = o.data(
        None, "Use N synthetic rows with three options instead of the task.", min=1
    ),
    batch_size: o.BatchSize = 32,
    repeat: Repeat = 3,
    dtype: o.Dtype = "auto",
    device: o.Device = None,
) -> None:
    """Measure test rows per second: scoring against generating."""
    from layerbridge.benchmarking.evaluate import EvaluateCase, run

    pair = _pair(encoder, language_model, dtype, device)
    case = EvaluateCase(pair, run_folder, task, batch_size, rows=rows)
    _report({"evaluate": partial(run, case, repeat)}, str(pair.torch_device()))


@app.command("memory")
def memory(
    encoder: Encoder = ENCODER,
    language_model: LanguageModel = LANGUAGE_MODEL,
    fusion: Fusion = "token-softmax",
    batch_size: o.BatchSize = 32,
    steps: int = o.option(
        4, "Batches to choose from; the one with the longest text is measured.", min=1
    ),
    data: Rows = None,
    template: o.Template = None,
    dtype: o.Dtype = "auto",
    device: o.Device = None,
) -> None:
    """Measure the peak memory of one training step."""
    from layerbridge.benchmarking.memory import run
    from layerbridge.benchmarking.train import TrainCase

    pair = _pair(encoder, language_model, dtype, device)
    case = TrainCase(pair, fusion, batch_size, steps, file=_path(data), template=template)
    _report({"memory": lambda progress: run(case)}, str(pair.torch_device()))


@app.command("start")
def start(
    encoder: Encoder = ENCODER,
    language_model: LanguageModel = LANGUAGE_MODEL,
    fusion: Fusion = "token-softmax",
    projection_start: str = o.option("aligned", "Start of the projection: scaled or aligned."),
    rows: str = o.data("10000,100000", "Numbers of training rows, comma-separated."),
    dtype: o.Dtype = "auto",
    device: o.Device = None,
) -> None:
    """Measure the peak memory of starting the projection.

    By number of training rows.
    """
    from layerbridge.benchmarking.start import StartCase, run

    if projection_start not in ("scaled", "aligned"):
        raise ConfigError(
            f"unknown projection start {projection_start!r}", allowed=("scaled", "aligned")
        )
    counts = numbers("--rows", rows)
    if not counts or min(counts) < 1:
        raise ConfigError(f"--rows {rows!r} has no row to start from", allowed="positive integers")
    pair = _pair(encoder, language_model, dtype, device)
    case = StartCase(pair, fusion, projection_start, counts)
    _report({"start": partial(run, case)}, str(pair.torch_device()))


@app.command("latency")
def latency(
    encoder: Encoder = ENCODER,
    language_model: LanguageModel = LANGUAGE_MODEL,
    translator: str | None = o.models(
        None, "Also measure translate-then-answer: a seq2seq model or shape:NAME."
    ),
    texts: int = o.option(4, "Texts per round, one at a time.", min=1),
    tokens: int = o.option(20, "Encoder tokens per text.", min=3),
    max_new_tokens: int = o.option(32, "Tokens to generate per text, past any EOS.", min=1),
    cache: str = o.option("dynamic", "KV cache: dynamic or static."),
    repeat: Repeat = 3,
    dtype: o.Dtype = "auto",
    device: o.Device = None,
) -> None:
    """Measure milliseconds per token (the paper's Table V)."""
    from layerbridge.benchmarking.latency import LatencyCase, run

    if cache not in ("dynamic", "static"):
        raise ConfigError(f"unknown cache {cache!r}", allowed=("dynamic", "static"))
    pair = _pair(encoder, language_model, dtype, device)
    case = LatencyCase(pair, texts, tokens, max_new_tokens, translator, cache)
    _report({"latency": partial(run, case, repeat)}, str(pair.torch_device()))


@app.command("serve")
def serve(
    run_folder: str | None = o.argument(None, "RUN", "Trained bridge: its folder or hub ID."),
    url: str | None = o.option(None, "Running server to measure instead of RUN."),
    engines: str = o.option("torch,vllm", "Engines, comma-separated: torch, vllm."),
    vllm_alone: bool = o.option(True, "Also measure vLLM without the server."),
    concurrency: str = o.option("1,8,32,128", "Numbers of concurrent requests, comma-separated."),
    requests: int | None = o.option(
        None, "Requests per level; 2 × concurrency, at least 8, if omitted.", min=1
    ),
    max_new_tokens: int = o.option(32, "Tokens to generate per text, past any EOS.", min=2),
    data: Path | None = o.data(None, "Rows: .txt, JSONL, CSV, …; built-in texts if omitted."),
    template: o.Template = None,
    repeat: Repeat = 3,
    torch_python: str | None = o.option(None, "Python interpreter for the torch engine."),
    vllm_python: str | None = o.option(None, "Python interpreter with vLLM."),
    vllm_option: list[str] | None = o.option(
        None, "vLLM engine argument (repeatable).", metavar="NAME=VALUE"
    ),
    dtype: o.Dtype = "auto",
    device: o.Device = None,
) -> None:
    """Measure servers under load.

    Time to first token, tokens per second, latency.

    All engines get the same requests in turn; vLLM alone gets them as precomputed embeddings.
    """
    from layerbridge.benchmarking.serve import ServeCase, run
    from layerbridge.cli.bench_tables import show_levels
    from layerbridge.cli.serve import vllm_options
    from layerbridge.models.backbone import choose_device

    pythons = {"torch": torch_python, "vllm": vllm_python}
    device = str(choose_device(device))
    case = ServeCase(
        run=run_folder,
        engines=tuple(split(engines) or ()),
        url=url,
        concurrency=tuple(numbers("--concurrency", concurrency)),
        requests=requests,
        max_tokens=max_new_tokens,
        pythons={engine: python for engine, python in pythons.items() if python is not None},
        alone=vllm_alone,
        dtype=dtype,
        device=device,
        vllm_options=vllm_options(vllm_option),
        file=_path(data),
        template=template,
    )
    show_levels(_report({"serve": partial(run, case, repeat)}, device)["serve"])


@app.command("all")
def all_(
    encoder: Encoder = ENCODER,
    language_model: LanguageModel = LANGUAGE_MODEL,
    repeat: Repeat = 3,
    dtype: o.Dtype = "auto",
    device: o.Device = None,
) -> None:
    """Run all of these but start and serve, with their defaults."""
    from layerbridge.benchmarking import evaluate, fusion, latency, memory, train

    pair = _pair(encoder, language_model, dtype, device)
    device = str(pair.torch_device())
    training = train.TrainCase(pair)
    runs: dict[str, Callable[..., dict[str, Any]]] = {
        "fusion": partial(fusion.run, fusion.FusionCase(dtype=dtype, device=device), repeat),
        "train": partial(train.run, training, repeat),
        "evaluate": partial(evaluate.run, evaluate.EvaluateCase(pair), repeat),
        "memory": lambda progress: memory.run(training),
        "latency": partial(latency.run, latency.LatencyCase(pair), repeat),
    }
    _report(runs, device)


@app.command("optimizations")
def optimizations() -> None:
    """List the names for `bench train --optimizations`."""
    from layerbridge.benchmarking.optimizations import OPTIMIZATIONS

    for name, meaning in OPTIMIZATIONS.items():
        print(f"{name:12} {meaning}")


def _pair(encoder: str, language_model: str, dtype: str, device: str | None) -> Pair:
    from layerbridge.benchmarking.pair import Pair
    from layerbridge.models.backbone import choose_device, resolve_dtype

    device = str(choose_device(device))
    resolve_dtype(dtype, device)  # reports a wrong one before anything is loaded
    return Pair(encoder, language_model, dtype, device)


def _optimizations(names: str) -> frozenset[str]:
    from layerbridge.benchmarking.optimizations import ALL, OPTIMIZATIONS

    if names in ("all", "none"):
        return ALL if names == "all" else frozenset()
    chosen = frozenset(split(names) or ())
    for name in chosen - ALL:
        raise ConfigError(f"unknown optimization {name!r}", allowed=("all", "none", *OPTIMIZATIONS))
    return chosen


def _path(file: Path | None) -> str | None:
    return None if file is None else str(file)


def _report(runs: dict[str, Callable[..., dict[str, Any]]], device: str) -> dict[str, Any]:
    """Runs the benchmarks; shows their figures on stderr and prints them as JSON."""
    from layerbridge.benchmarking.measure import machine
    from layerbridge.cli.bench_tables import show
    from layerbridge.progress import meter

    figures = {}
    for name, run in runs.items():
        with meter(f"bench {name}") as bar:
            figures[name] = run(progress=bar.update)
    for name, values in figures.items():
        show(name, values)
    print(json.dumps({**figures, "machine": machine(device)}))
    return figures
