import hmac

import pytest

from layerbridge.errors import ConfigError
from layerbridge.serving import keys as keys_module
from layerbridge.serving.keys import Keys

REFUSED = {
    "message": "missing or invalid API key; send it as 'Authorization: Bearer KEY'",
    "type": "invalid_request_error",
    "param": None,
    "code": "invalid_api_key",
}


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# ours\nfirst\n\n  sécond  \n#off\n", encoding="utf-8")
    return Keys.from_file(file)


@pytest.mark.parametrize(
    ("header", "may"),
    [
        ("Bearer first", True),
        ("bearer  sécond", True),
        ("Bearer off", False),
        ("Bearer #off", False),
        ("Bearer ", False),
        ("Bearer firs", False),
        ("Bearer first second", False),
        ("Basic first", False),
        ("first", False),
        ("", False),
    ],
)
def test_keys(keys, header, may):
    assert keys.accept(header.encode()) is may


def test_every_key_is_compared_in_constant_time(keys, monkeypatch):
    compared = []
    monkeypatch.setattr(
        keys_module.hmac,
        "compare_digest",
        lambda a, b, compare=hmac.compare_digest: compared.append((a, b)) or compare(a, b),
    )
    assert keys.accept(b"Bearer first")
    assert [len(a) for pair in compared for a in pair] == [32] * 4


def test_a_file_without_keys(tmp_path):
    file = tmp_path / "keys"
    with pytest.raises(ConfigError, match="cannot be read: FileNotFoundError"):
        Keys.from_file(file)
    file.write_text("# none\n\n")
    with pytest.raises(ConfigError, match="has no key; allowed: one key per line"):
        Keys.from_file(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read: UnicodeDecodeError"):
        Keys.from_file(file)
    with pytest.raises(ConfigError, match="no API key; allowed: at least one"):
        Keys([])


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/page/page.css"]
)
def test_what_is_open(client, keys, path):
    assert client(keys=keys).get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/models/demo", "/v1%2Fmodels", "//v1/models", "/v1", "/other"]
)
def test_what_is_closed(client, keys, path):
    reply = client(keys=keys).get(path)
    assert reply.status_code == 401
    assert reply.json() == {"error": REFUSED}
    assert reply.headers["www-authenticate"] == "Bearer"


def test_with_a_key(client, keys):
    client = client(keys=keys)
    good, bad = {"Authorization": "Bearer first"}, {"Authorization": "Bearer wrong"}
    assert client.get("/v1/models", headers=good).status_code == 200
    assert client.get("/v1/models", headers=bad).status_code == 401
    assert client.post("/v1/classify", headers=bad, content=b"{}").status_code == 401
    operation = client.get("/openapi.json").json()["paths"]["/v1/models"]["get"]
    assert operation["security"] == [{"key": []}]
