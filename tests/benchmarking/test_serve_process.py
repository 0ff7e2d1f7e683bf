"""Child processes of the load test."""

import asyncio
import signal
import sys
import time

import pytest

from layerbridge.benchmarking.serve_process import Child, Server
from layerbridge.errors import ConfigError


def test_a_process_that_fails_says_why():
    async def start(*command):
        async with Child(command, "ready") as child:
            return child.ready_line

    fails = "import sys; print('noise'); sys.exit('error: no such run')"
    with pytest.raises(ConfigError, match="exited with code 1: no such run"):
        asyncio.run(start(sys.executable, "-c", fails))
    with pytest.raises(ConfigError, match="cannot run '/no/python'"):
        asyncio.run(start("/no/python"))
    talks = "import time; print('noise', flush=True); print('ready', flush=True); time.sleep(60)"
    started = time.monotonic()
    assert asyncio.run(start(sys.executable, "-c", talks)) == "ready"
    assert time.monotonic() - started < 30


def test_a_server_is_the_verb_on_a_free_port(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho a warning\necho "http://$*"\nexec sleep 60\n')
    python.chmod(0o755)

    async def start():
        async with Server(["run", "--engine", "torch"], str(python)) as server:
            return server, server.process.returncode

    server, code = asyncio.run(start())
    assert server.url == "http://-m layerbridge serve run --engine torch --port 0"
    assert server.startup_s > 0
    assert code is None
    assert server.process.returncode == -signal.SIGTERM
