"""Connections that ask for nothing, ask too slowly or are too many."""

import socket
import time

import httpx
import pytest
from fake_engine import FakeEngine

from layerbridge.serving import protocol
from layerbridge.serving.limits import Limits

LIMITS = Limits(max_connections=3, header_timeout_s=0.2)


@pytest.fixture(scope="module")
def address(serve):
    with serve(FakeEngine(), limits=LIMITS) as address:
        yield address


def connect(address):
    host, _, port = address.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=5)
    connection.settimeout(5)
    return connection


def seconds_until_closed(connection, *pieces):
    began = time.monotonic()
    connection.setblocking(False)
    pieces = list(pieces)
    while True:
        try:
            if connection.recv(100) == b"":
                return time.monotonic() - began
        except BlockingIOError:
            pass
        if pieces:
            connection.sendall(pieces.pop(0))
        time.sleep(0.02)
        assert time.monotonic() - began < 4, "it was never closed"


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([], id="nothing"),
        pytest.param([b"GET /healthz HTTP/1.1\r\nHost: x\r\n"], id="a header without its end"),
        pytest.param([b"a"] * 1000, id="a byte at a time"),
    ],
)
def test_a_header_that_does_not_come(address, pieces):
    with connect(address) as connection:
        assert 0.15 < seconds_until_closed(connection, *pieces) < 1


def test_the_time_begins_anew_with_each_request(address):
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

    def is_answered(connection):
        told = b""
        while b'"ok"}' not in told:
            told += connection.recv(1000)
        return b"200 OK" in told

    with connect(address) as connection:
        for _ in range(2):
            connection.sendall(request[:10])
            time.sleep(0.12)
            connection.sendall(request[10:])
            assert is_answered(connection)
        # Between requests a connection may rest.
        time.sleep(0.3)
        connection.sendall(request)
        assert is_answered(connection)
        connection.sendall(request[:10])
        assert seconds_until_closed(connection) < 1


def test_a_header_that_is_too_long(address):
    with connect(address) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000)
        assert b"400" in connection.recv(1000)


def test_too_many_connections(address, eventually, monkeypatch):
    monkeypatch.setattr(protocol, "PROBE_CONNECTIONS", 1)
    open_ones = [httpx.Client(base_url=address) for _ in range(LIMITS.max_connections)]
    try:
        for client in open_ones:
            assert client.get("/v1/models").status_code == 200
        with httpx.Client(base_url=address) as extra:
            # A probe must not find a crowd to be a dead server.
            for path in protocol.PROBES:
                assert extra.get(path).status_code == 200
            with connect(address) as far_beyond:
                assert seconds_until_closed(far_beyond) < 0.15
            refused = extra.get("/v1/models")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["connection"] == "close"
        assert refused.json()["error"]["code"] == "too_many_connections"
        # Those that were there before are served.
        assert open_ones[0].get("/v1/models").status_code == 200
    finally:
        for client in open_ones:
            client.close()
    eventually(lambda: httpx.get(f"{address}/v1/models").status_code == 200)
