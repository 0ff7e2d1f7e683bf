"""Whether this CPU multiplies bfloat16 faster than float32: measured once per machine.

What a CPU says of itself does not tell: some with bfloat16 instructions are twice as fast without
them, and emulation takes seven times as long.
"""

from __future__ import annotations

import json
import platform
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

from layerbridge.hub import zoo

# Below ``zoo.home()``: CPU and torch version → the seconds of one product by dtype.
FILE = "cpu-speed.json"
# Rows, and width of a square weight matrix, as of a small model; 0.3 GFLOP.
ROWS, WIDTH = 128, 1024
BUDGET_S = 0.05


@cache
def bfloat16_is_faster() -> bool:
    """Returns whether a product in bfloat16 takes less time than in float32.

    The measurement of another process on the same CPU with the same torch is used if there is one.
    """
    file, key = zoo.home() / FILE, f"{cpu_name()}, torch {torch.__version__}"
    known = {}
    with suppress(OSError, ValueError):
        known = json.loads(file.read_text(encoding="utf-8"))
    with suppress(KeyError, TypeError):
        return bool(known[key]["bfloat16"] < known[key]["float32"])
    seconds = measure()
    with suppress(OSError):  # a cache: the next process can measure again
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{FILE}-{time.monotonic_ns()}")
        known = known if isinstance(known, dict) else {}
        partial.write_text(json.dumps({**known, key: seconds}, indent=1), encoding="utf-8")
        partial.replace(file)
    return seconds["bfloat16"] < seconds["float32"]


def measure() -> dict[str, float]:
    """Returns the seconds of one product in each dtype, the fastest of those that fit the budget.

    Draws no random numbers: those of training must not depend on it.
    """
    operands = {
        name: (
            torch.full((ROWS, WIDTH), 0.5, dtype=dtype),
            torch.full((WIDTH, WIDTH), 0.5, dtype=dtype),
        )
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    }
    fastest = dict.fromkeys(operands, float("inf"))
    with torch.inference_mode():
        for x, weight in operands.values():
            F.linear(x, weight)  # the first call sets up the kernels
        started = time.perf_counter()
        while True:
            for name, (x, weight) in operands.items():
                before = time.perf_counter()
                F.linear(x, weight)
                fastest[name] = min(fastest[name], time.perf_counter() - before)
            if time.perf_counter() - started > BUDGET_S:
                return fastest


def cpu_name() -> str:
    """Returns the CPU's model name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
