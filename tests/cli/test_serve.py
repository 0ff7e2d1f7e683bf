import os
import signal
import socket
import threading
import time

import forked
import httpx
import pytest

PROMPT = {"prompt": "The market rose", "max_tokens": 200, "ignore_eos": True}


@pytest.fixture
def run(trained):
    return trained


class Server:
    """``layerbridge serve`` in a process of its own."""

    def __init__(self, *arguments):
        (out, theirs), (self.err, errors) = os.pipe(), os.pipe()
        self.process = forked.fork(["serve", *arguments], stdout=theirs, stderr=errors)
        self.out = os.fdopen(out)
        for end in (theirs, errors):
            os.close(end)

    def __enter__(self):
        # Nothing is printed on stdout before it is ready.
        self.url = self.out.readline().strip()
        return self

    def __exit__(self, *_):
        if self.process:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        self.out.close()
        os.close(self.err)

    def send_signal(self, number):
        os.kill(self.process, number)

    def is_running(self):
        return os.waitpid(self.process, os.WNOHANG) == (0, 0)

    def ended(self):
        with open(self.err, closefd=False) as err:
            told = err.read()  # until it ends
        _, status = os.waitpid(self.process, 0)
        self.process = 0
        return os.waitstatus_to_exitcode(status), told


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
            server.send_signal(signal.SIGINT)
            while kept.get("/readyz").status_code == 200:
                time.sleep(0.005)
            refused = kept.post("/v1/completions", json=body)
            running.join()
            assert server.is_running()
            server.send_signal(signal.SIGINT)
            code, err = server.ended()
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
