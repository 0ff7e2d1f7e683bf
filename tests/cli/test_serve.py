import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

PROMPT = {"prompt": "The market rose", "max_tokens": 200, "ignore_eos": True}


@pytest.fixture
def run(trained):
    return trained


class Server:
    """``layerbridge serve`` in a process of its own."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "layerbridge", "serve", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self):
        # Nothing is printed on stdout before it is ready.
        self.url = self.process.stdout.readline().strip()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def ended(self):
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


def test_serves_answers_and_drains_until_a_second_signal(run):
    """benchmarks/soak tests that it ends by itself once it has drained."""
    with Server(run, f"other={run}", "--port", 0, "--dtype", "float32") as server:
        ids = [model["id"] for model in httpx.get(f"{server.url}/v1/models").json()["data"]]
        assert ids == ["other", "run"]
        asked = {"model": "run", "text": "The market rose"}
        answer = httpx.post(f"{server.url}/v1/classify", json=asked, timeout=60).json()
        assert answer["choice"] in ("country", "unit", "time zone")

        replies = []
        body = {"model": "run", **PROMPT}

        def ask():
            replies.append(httpx.post(f"{server.url}/v1/completions", json=body, timeout=60))

        running = threading.Thread(target=ask)
        endless = {**body, "max_tokens": 1000, "stream": True}
        with (
            httpx.Client(base_url=server.url, timeout=60) as kept,
            httpx.stream(
                "POST", f"{server.url}/v1/completions", json=endless, timeout=60
            ) as stream,
        ):
            lines = stream.iter_lines()  # if this were dropped, the connection would close
            next(lines)
            kept.get("/healthz")
            running.start()
            while "layerbridge_gate_running 2.0" not in (told := kept.get("/metrics").text):
                assert running.is_alive(), told
            server.process.send_signal(signal.SIGINT)
            while kept.get("/readyz").status_code == 200:
                time.sleep(0.005)
            refused = kept.post("/v1/completions", json=body)
            running.join()
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGINT)
            code, _, err = server.ended()
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert refused.json()["error"]["code"] == "draining"
        assert replies[0].status_code == 200
        assert replies[0].json()["usage"]["completion_tokens"] == 200
        assert code == 0, err
        assert "Traceback" not in err


def test_a_run_that_is_not_there(command, tmp_path):
    result = command("serve", tmp_path / "nothing", "--port", 0)
    assert result.code == 2
    assert result.out == ""
    assert "Traceback" not in result.err
    (line,) = [line for line in result.err.splitlines() if line.startswith("error:")]
    assert "nothing" in line


def test_a_port_that_is_taken(command, run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = command("serve", run, "--port", port)
    assert result.code == 2
    assert result.err == (
        f"error: cannot listen on 127.0.0.1:{port} (Address already in use); allowed: a host of "
        "this machine and a free port; next: use --port 0 for a free one\n"
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--engine", "jax"], "unknown engine 'jax'; allowed: auto, torch, vllm"),
        (["--system", "loud"], "unknown system 'loud'; allowed: instruction, ignore, text"),
        (["--history", "all"], "unknown history 'all'; allowed: none, text"),
        (["--api-key-file", "nothing"], "the API key file 'nothing' cannot be read"),
        (
            ["x=a", "x=b"],
            "'a' and 'b' would both be named 'x'; next: give one a name with NAME=RUN",
        ),
        (
            ["--engine", "vllm", "--vllm-option", "seed"],
            "--vllm-option 'seed' is not a pair; allowed: NAME=VALUE, such as seed=1",
        ),
    ],
)
def test_what_is_wrong_is_reported_before_anything_is_read(command, run, arguments, problem):
    result = command("serve", run, *arguments)
    assert result.code == 2
    assert problem in result.err
    assert result.out == ""


def test_help_imports_no_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from layerbridge.cli.app import app;"
        "assert CliRunner().invoke(app, ['serve', '--help']).exit_code == 0;"
        "assert 'torch' not in sys.modules and 'fastapi' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
