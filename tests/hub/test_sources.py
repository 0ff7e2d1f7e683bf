import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from layerbridge.errors import BackboneError, ZooError
from layerbridge.hub import sources, zoo
from layerbridge.hub.checksum import sha256

ACCEPTED = "allowed: a model folder, zoo:NAME, or a hub id such as google/mt5-small"
COMMIT, OTHER = "1" * 40, "2" * 40


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A folder that looks like a model, in the current directory, where nothing else is."""
    monkeypatch.setenv("LAYERBRIDGE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "org" / "name"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def message(model_id, **options):
    with pytest.raises((BackboneError, ZooError)) as caught:
        sources.resolve(model_id, **options)
    assert caught.value.__cause__ is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_existing_folder_wins_over_a_hub_id_and_the_zoo(model, tmp_path):
    found = sources.resolve("org/name")
    assert found == sources.Source(given="org/name", kind="folder", path="org/name", revision=None)
    assert sources.resolve(str(model)).fingerprint() == found.fingerprint()
    (tmp_path / "smollm2-135m-instruct").mkdir()
    assert message("smollm2-135m-instruct") == (
        "the folder 'smollm2-135m-instruct' has no config.json; allowed: a folder written by "
        "save_pretrained; next: zoo:smollm2-135m-instruct for the model of the zoo"
    )


def test_home_folder_is_expanded(model, monkeypatch):
    monkeypatch.setenv("HOME", str(model.parent))
    assert sources.resolve("~/name").path == str(model)


def test_fingerprint_tells_content_and_not_place(model):
    before = sources.resolve(str(model)).fingerprint()
    moved = model.rename(model.with_name("moved"))
    assert sources.resolve(str(moved)).fingerprint() == before
    (moved / "README.md").write_text("no part of it")
    assert sources.resolve(str(moved)).fingerprint() == before
    (moved / "config.json").write_text('{"a": 1}')
    changed = sources.resolve(str(moved)).fingerprint()
    (moved / "model.safetensors").write_bytes(b"Weights")
    assert len({before, changed, sources.resolve(str(moved)).fingerprint()}) == 3
    (moved / "model.safetensors").rename(moved / "pytorch_model.bin")
    assert sources.resolve(str(moved)).fingerprint() not in (before, changed)


def test_zoo_names_are_pulled_if_absent(model, monkeypatch):
    pulled = []

    def pull(name):
        pulled.append(zoo.entry(name).name)
        return Path(f"/zoo/{name}")

    monkeypatch.setattr(zoo, "pull", pull)
    name = "multilingual-e5-small"
    for given in (name, f"zoo:{name}"):
        found = sources.resolve(given)
        assert (found.given, found.kind, found.path) == (given, "zoo", f"/zoo/{name}")
        assert found.revision is None
    assert pulled == [name, name]


def test_zoo_offline_and_unknown(model, monkeypatch):
    monkeypatch.setattr(zoo, "pull", None)
    assert message("zoo:multilingual-e5-small", offline=True).endswith(
        "next: layerbridge zoo pull multilingual-e5-small"
    )
    monkeypatch.undo()
    assert message("zoo:mt5") == (
        "the zoo has no model 'mt5'; allowed: multilingual-e5-small, smollm2-135m-instruct, "
        "gemma-3-270m; next: layerbridge zoo list"
    )


def test_a_zoo_model_has_the_fingerprint_of_its_folder(model, monkeypatch):
    """The recorded checksums are used, and mean the same as reading it all."""
    shown = sources.resolve(str(model))
    record = {file.name: sha256(file) for file in model.iterdir()}
    monkeypatch.setattr(zoo, "checksums", lambda name: record if name == "name" else None)
    in_zoo = sources.Source(given="zoo:name", kind="zoo", path=str(model))
    assert in_zoo.fingerprint() == shown.fingerprint()


def in_hub_cache(folder, cache, monkeypatch, *, with_weights=True):
    """The files of a folder as the hub's client stores them; large ones are named by SHA-256."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    repository = cache / "models--org--model"
    snapshot = repository / "snapshots" / COMMIT
    for part in (repository / "blobs", snapshot, repository / "refs"):
        part.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for number, file in enumerate(folder.iterdir()):
        large = file.suffix == ".safetensors"
        if large and not with_weights:
            continue
        blob = repository / "blobs" / (sha256(file) if large else f"{number:040}")
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(blob)
    return sources.Source("org/model", "hub", "org/model", COMMIT)


def test_a_commit_and_a_folder_of_the_same_files_are_one_model(model, tmp_path, monkeypatch):
    in_folder = sources.resolve(str(model))
    on_hub = in_hub_cache(model, tmp_path / "cache", monkeypatch)
    assert on_hub.fingerprint() == in_folder.fingerprint()
    assert on_hub.identities() == {COMMIT, in_folder.fingerprint()}
    assert in_folder.identities() == {in_folder.fingerprint()}
    (model / "model.safetensors").write_bytes(b"others")
    assert sources.resolve(str(model)).identities().isdisjoint(on_hub.identities())


@pytest.mark.parametrize("files", ["no weights", "some shards", "nothing"])
def test_a_hub_model_that_is_not_all_here_is_its_commit(model, tmp_path, monkeypatch, files):
    if files == "some shards":
        shards = {"a": "model.safetensors", "b": "model-2.safetensors"}
        index = model / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": shards}))
    source = in_hub_cache(
        model, tmp_path / "cache", monkeypatch, with_weights=files == "some shards"
    )
    if files == "nothing":
        source = sources.Source("org/other", "hub", "org/other", COMMIT)
    assert source.fingerprint() == COMMIT
    assert source.identities() == {COMMIT}


def test_each_file_is_read_once_a_process_and_again_once_it_changed(model, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(sources, "sha256", lambda file: read.append(file.name) or sha256(file))
    for number, file in enumerate(model.iterdir()):
        os.utime(file, (number, number))  # long ago
    found = {sources.resolve(str(model)).fingerprint() for _ in range(3)}
    assert len(found) == 1
    assert sorted(read) == ["config.json", "model.safetensors"]
    # A hub's file says what it holds.
    on_hub = in_hub_cache(model, tmp_path / "cache", monkeypatch)
    assert on_hub.fingerprint() in found
    assert read.count("model.safetensors") == 1
    read.clear()
    (model / "model.safetensors").write_bytes(b"Weights")  # of the same length, just now
    changed = [sources.resolve(str(model)).fingerprint() for _ in range(2)]
    assert changed[0] == changed[1] not in found
    (model / "model.safetensors").write_bytes(b"weightS")  # within one tick of the clock
    assert sources.resolve(str(model)).fingerprint() not in {*found, *changed}
    assert set(read) == {"model.safetensors"}


@pytest.mark.parametrize(
    ("model_id", "local"),
    [
        ("org/name", True),  # a folder here
        ("org/other", False),
        ("zoo:gemma-3-270m", False),
        ("gemma-3-270m", False),
        ("/no/such", True),
        ("./here", True),
        ("~/models/mine", True),
        ("a/b/c", True),
        ("C:\\models", True),
    ],
)
def test_what_only_this_machine_has(model, model_id, local):
    assert sources.is_local(model_id) is local


def test_ids_that_can_be_nothing(model):
    assert message(" ") == f"the model id is empty; {ACCEPTED}"
    assert message("org/name/config.json") == f"'org/name/config.json' is a file; {ACCEPTED}"
    for path in ("./here", "/no/such", "~/no", "a/b/c", "C:\\models"):
        assert message(path) == f"the folder {path!r} does not exist; {ACCEPTED}"
    for bad in ("two words", "x--y", "-a/b", "a/b?"):
        assert message(bad) == f"{bad!r} is not a valid model id; {ACCEPTED}"
    assert message("org/name", revision="main").startswith(
        "revision 'main' was given for the local model 'org/name'"
    )


class Hub(BaseHTTPRequestHandler):
    """What the model hub answers, as far as it is asked here."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        api = self.path.startswith("/api/models/")
        path = self.path.removeprefix("/api/models/").removeprefix("/").partition("?")[0]
        repository, _, rest = path.partition("/revision/" if api else "/resolve/")
        revision = rest.partition("/")[0] or "main"
        problems = {
            "org/gated": (403, "GatedRepo"),
            "org/absent": (401, "RepoNotFound"),
            "org/empty": (404, "EntryNotFound"),
            "org/badtoken": (401, ""),
            "org/down": (503, ""),
        }
        status, code = problems.get(repository, (200, ""))
        commit = {"main": COMMIT, "v1": OTHER, COMMIT: COMMIT}.get(revision)
        if status == 200 and commit is None:
            status, code = 404, "RevisionNotFound"
        if api and code in ("EntryNotFound", "GatedRepo"):  # only files are missing or closed
            status, code, commit = 200, "", COMMIT
        content = b'{"model_type": "bert"}' if status == 200 else b""
        if status == 200 and api:
            content = json.dumps({"id": repository, "sha": commit}).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if status == 200:
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", '"abc"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args):
        pass


def asked(cases, cache, endpoint, **settings):
    """Resolve in a process of its own: the hub's client reads its settings when it is imported."""
    code = (
        "import json, sys, time\n"
        "from layerbridge.hub import sources\n"
        "for given, options in json.loads(sys.argv[1]):\n"
        "    start = time.monotonic()\n"
        "    try:\n"
        "        found = sources.resolve(given, **options)\n"
        "        said = [found.kind, found.path, found.revision, found.fingerprint()]\n"
        "    except ValueError as error:\n"
        "        said = f'{type(error).__name__}: {error}'\n"
        "    print(json.dumps([said, time.monotonic() - start]))\n"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    clean |= {"HF_HUB_CACHE": str(cache), "HF_HOME": str(cache), "NO_PROXY": "*"}
    clean |= {"HF_ENDPOINT": endpoint, **settings}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(cases)],
        env=clean,
        cwd=cache,
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert max(seconds for _, seconds in answers) < 10
    return [result for result, _ in answers]


@pytest.fixture
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_hub_ids_are_pinned_online_and_off(endpoint, tmp_path):
    online = [["org/model", {}], ["org/model", {"revision": "v1"}]]
    pinned = [
        ["hub", "org/model", COMMIT, COMMIT],
        ["hub", "org/model", OTHER, OTHER],
    ]
    nowhere = "http://127.0.0.1:9"
    assert asked(online, tmp_path, endpoint) == pinned
    # Once nobody may be asked, or nobody answers any more, the cache knows.
    assert asked(online, tmp_path, endpoint, HF_HUB_OFFLINE="1") == pinned
    offline = [[given, {**options, "offline": True}] for given, options in online]
    offline += [["org/model", {"revision": COMMIT}], ["org/new", {"offline": True}]]
    *known, unknown = asked([*online, *offline], tmp_path, nowhere)
    assert known == [*pinned, *pinned, pinned[0]]
    assert unknown == (
        "BackboneError: model 'org/new' is not on this machine, and offline mode is on; "
        f"{ACCEPTED}; next: hf download org/new while online"
    )


def test_what_the_hub_refuses_is_reported_apart(endpoint, tmp_path):
    cases = {
        "org/gated": "model 'org/gated' is gated: its terms must be accepted first; "
        "next: accept them on the page of org/gated, then run: hf auth login",
        "org/absent": f"the hub has no model 'org/absent', or it is private; {ACCEPTED}; next: "
        "check the spelling; for a private model run: hf auth login",
        "org/empty": "model 'org/empty' has no config.json on the hub, so transformers cannot "
        f"load it; {ACCEPTED}",
        "org/badtoken": "the hub denied access to model 'org/badtoken' (401); next: hf auth login",
        "org/down": "model 'org/down' is not on this machine and cannot be downloaded from the "
        f"hub: it answered 503; {ACCEPTED}; next: check the name and the connection, or use a "
        "model of the zoo: multilingual-e5-small, smollm2-135m-instruct, gemma-3-270m",
    }
    questions = [[given, {}] for given in cases] + [["org/model", {"revision": "v9"}]]
    *answers, revision = asked(questions, tmp_path, endpoint)
    assert answers == [f"BackboneError: {text}" for text in cases.values()]
    assert revision == (
        "BackboneError: model 'org/model' has no revision 'v9'; allowed: one of its branches, "
        "tags or commits; next: omit the revision to get the latest"
    )


def test_without_a_network_the_answer_is_quick(tmp_path):
    start = time.monotonic()
    (result,) = asked([["google/mt5-small", {}]], tmp_path, "http://127.0.0.1:9")
    assert result.startswith("BackboneError: model 'google/mt5-small' is not on this machine and")
    assert "it cannot be reached" in result
    assert time.monotonic() - start < 10
