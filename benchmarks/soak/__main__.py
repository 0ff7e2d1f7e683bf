"""Ten minutes of mixed load on ``layerbridge serve``: no leak, no lost or mixed-up reply.

    python benchmarks/soak runs/demo/token-softmax > benchmarks/results/cpu/soak.json
    python benchmarks/soak RUN --engine vllm --python .venv-vllm/bin/python

Sixty-four clients send short and long requests to every route, and some of them misbehave: bodies
too long or half sent, invalid JSON, unknown models, too many options, readers that disconnect or
are slow. Each greedy reply must be what the library generates for that text and instruction; these
answers are computed beforehand, are all different, and end before a near-tie between two tokens. At
the end the engine's own process is killed, if it has one, and must come back; then SIGTERM is sent
under full load: running requests end, new ones get 503, and the exit code is 0. Arguments after
``--`` go to ``layerbridge serve``.

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
