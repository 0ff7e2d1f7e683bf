"""Apps around a fake engine: in process, or behind a real server on a loopback port."""

import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from fake_engine import FakeEngine
from starlette.testclient import TestClient

from layerbridge.serving.app import create_app


@pytest.fixture
def client():
    """``client(engine, **settings of create_app)`` → a test client whose engine has started."""
    opened = []

    def make(engine=None, *, wait=True, **settings):
        app = create_app(engine or FakeEngine(), **settings)
        client = TestClient(app, raise_server_exceptions=False)
        opened.append(client.__enter__())
        while wait and app.state.service.engine.state == "starting":
            time.sleep(0.005)
        return client

    yield make
    for one in opened:
        one.__exit__(None, None, None)


@contextmanager
def running(engine, **settings):
    """The address of a real server."""
    app = create_app(engine, **settings)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="on", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        until(lambda: server.started and engine.state == "ready")
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def serve():
    """``with serve(engine, **settings) as address:``."""
    return running


def until(true, timeout_s=5.0):
    """Waits until it is true."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def eventually():
    return until
