"""A model hub in this process: the few routes that uploads and downloads ask.

A private repository answers only who sends ``TOKEN``. Every commit keeps its files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import huggingface_hub
import pytest
from huggingface_hub import constants

TOKEN = "hf_secret"
USER = "me"


class Repository:
    def __init__(self, private):
        self.private = private
        self.commits = {}  # sha → path → content
        self.branches = {}

    def commit(self, branch, changes):
        files = {**self.commits.get(self.branches.get(branch), {}), **changes}
        content = [branch, len(self.commits), sorted(files)]
        sha = hashlib.sha1(json.dumps(content).encode()).hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        return sha

    def sha(self, revision):
        return revision if revision in self.commits else self.branches.get(revision)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self):
        return self.server.hub

    def do_HEAD(self):
        self.read()

    def do_GET(self):
        self.read()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(self.path).removeprefix("/api/")
        if path == "validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif path == "repos/create":
            given = json.loads(body)
            name = f"{given.get('organization') or USER}/{given['name']}"
            known = name in self.hub.repositories
            if not known:
                is_private = given.get("visibility") == "private" or given.get("private")
                self.hub.repositories[name] = Repository(bool(is_private))
            self.answer({"url": f"{self.hub.endpoint}/{name}"}, 409 if known else 200)
        elif match := re.fullmatch(r"models/([^/]+/[^/]+)/preupload/(.+)", path):
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            self.answer({"files": modes})
        elif match := re.fullmatch(r"models/([^/]+/[^/]+)/commit/(.+)", path):
            lines = [json.loads(line) for line in body.splitlines()]
            changes = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            sha = self.hub.repositories[match[1]].commit(match[2], changes)
            url = f"{self.hub.endpoint}/{match[1]}/commit/{sha}"
            self.answer({"success": True, "commitOid": sha, "commitUrl": url})
        else:
            self.refuse(404, "")

    def read(self):
        path = unquote(self.path).partition("?")[0].removeprefix("/")
        match = re.fullmatch(r"api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path)
        file = re.fullmatch(r"([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        found = match or file
        repository = self.hub.repositories.get(found[1]) if found else None
        if repository is None or (
            repository.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        ):
            self.refuse(401, "RepoNotFound")
            return
        sha = repository.sha((match[3] if match else file[2]) or "main")
        if sha is None:
            self.refuse(404, "RevisionNotFound")
            return
        files = repository.commits[sha]
        if match and match[2] == "tree":
            self.answer(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": blob(content)}
                    for name, content in files.items()
                ]
            )
        elif match:
            siblings = [{"rfilename": name} for name in files]
            self.answer({"id": match[1], "sha": sha, "siblings": siblings})
        elif file[3] not in files:
            self.refuse(404, "EntryNotFound", {"X-Repo-Commit": sha})
        else:
            content = files[file[3]]
            self.send(200, content, {"X-Repo-Commit": sha, "ETag": f'"{blob(content)}"'})

    def answer(self, content, status=200):
        self.send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def refuse(self, status, code, headers=()):
        self.send(status, b"", {**dict(headers), "X-Error-Code": code})

    def send(self, status, content, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args):
        pass


class FakeHub:
    def __init__(self):
        self.repositories = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.hub = self
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def files(self, repo_id, branch="main"):
        repository = self.repositories[repo_id]
        return repository.commits[repository.branches[branch]]


def blob(content):
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that the client asks instead of the real one, with an empty cache."""
    fake = FakeHub()
    thread = threading.Thread(target=fake.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for name, value in {
        "HF_HUB_OFFLINE": False,
        "ENDPOINT": fake.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": fake.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
        "HF_TOKEN_PATH": str(tmp_path / "no-token"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    # Its connections have the proxies of the environment they were made in.
    huggingface_hub.close_session()
    yield fake
    huggingface_hub.close_session()
    fake.server.shutdown()
    thread.join()
    fake.server.server_close()
