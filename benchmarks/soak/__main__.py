"""Ten minutes of mixed load on ``layerbridge serve``: no leak, no lost or mixed-up reply.

    python benchmarks/soak runs/demo/token-softmax > benchmarks/results/cpu/soak.json
    python benchmarks/soak RUN --engine vllm --python .venv-vllm/bin/python

Sixty-four clients ask short and long questions, in all the ways there are, and some of them behave
badly: bodies too long or half sent, bad JSON, unknown models, too many options, readers that leave
or dawdle. Each greedy reply must be what the library writes to that very text and instruction,
computed beforehand, and no two of those are alike; where the library itself was nearly undecided
between two tokens, no more is asked for. At the end the engine's own process is killed, if it has
one, and has to come back; then SIGTERM comes under full load: what runs ends, what comes is told
503, and the exit code is 0. What follows ``--`` goes to ``layerbridge serve``.

The last line of stdout is one JSON document; the exit code is 1 if anything went wrong.
"""

from __future__ import annotations

import asyncio
import json
import sys

from course import parser, soak

from layerbridge.benchmarking.measure import machine
from layerbridge.models.backbone import choose_device


def main() -> int:
    """Prints the JSON; 1 if anything went wrong."""
    found = asyncio.run(soak(parser((__doc__ or "").partition("\n")[0]).parse_args()))
    print(json.dumps({"soak": found, "machine": machine(choose_device(None))}))
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
