"""Dockerfile, compose.yaml and the pages on serving say nothing that is not there."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from layerbridge.benchmarking.shapes import shape
from layerbridge.cli.app import app
from layerbridge.serving.limits import Limits
from layerbridge.serving.metrics import Metrics

ROOT = Path(__file__).parent.parent
DEPLOY, SERVING = (ROOT / "docs" / name for name in ("deploy.md", "serving.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page, language):
    return [code for kind, code in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def options(*verb):
    command = get_command(app)
    for word in verb:
        command = command.commands[word]
    return {name for option in command.params for name in [*option.opts, *option.secondary_opts]}


def commands(page):
    """The commands in a page's shell blocks, as words."""
    for code in blocks(page, "bash"):
        # What curl sends may go over several lines.
        block = re.sub(r"'[^']*'", "''", code.replace("\\\n", " "))
        for line in block.splitlines():
            yield from (shlex.split(part, comments=True) for part in line.split(" && "))


def flags(words):
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def containers():
    (deployment, *_) = (
        one for one in yaml.safe_load_all(blocks(DEPLOY, "yaml")[0]) if one["kind"] == "Deployment"
    )
    return deployment["spec"]["template"]["spec"]


def compose():
    return yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))


@pytest.mark.parametrize("page", [DEPLOY, SERVING, ROOT / "README.md"], ids=lambda page: page.stem)
def test_commands_of_the_pages(page):
    found = 0
    for words in commands(page):
        # Also what `docker run … layerbridge` is told.
        if "layerbridge" not in [Path(word).name for word in words]:
            continue
        at = [Path(word).name for word in words].index("layerbridge")
        verb = words[at + 1 : at + 3]
        if verb and verb[0] in ("serve", "chat"):
            assert flags(words[at:]) <= options(verb[0]), words
            found += 1
        elif verb[:1] == ["bench"]:
            assert flags(words[at:]) <= options(*verb), words
    assert found


@pytest.mark.parametrize("page", [DEPLOY, SERVING], ids=lambda page: page.stem)
def test_options_in_the_text_of_the_pages(page):
    text = BLOCK.sub("", page.read_text("utf-8"))
    named = {code.split()[0] for code in re.findall(r"`(--[^`]+)`", text)}
    assert named
    assert named <= options("serve")


def test_every_option_is_on_the_page():
    text = SERVING.read_text("utf-8")
    left_out = {"--help", "--port"}
    assert {name for name in options("serve") - left_out if name not in text} == set()


def test_compose():
    services = compose()["services"]
    assert list(services) == ["layerbridge", "layerbridge-gpu"]
    for service in services.values():
        verb, run, *words = service["command"]
        assert (verb, run) == ("serve", "/runs/${RUN:-demo/token-softmax}")
        assert flags(words) <= options("serve")
        assert "--host=0.0.0.0" in words
        drain = next(int(word.split("=")[1]) for word in words if word.startswith("--drain="))
        assert int(service["stop_grace_period"].removesuffix("s")) > drain
        assert service["read_only"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert "profiles" not in services["layerbridge"]
    assert services["layerbridge-gpu"]["profiles"] == ["gpu"]


def test_dockerfile():
    text = (ROOT / "Dockerfile").read_text("utf-8")
    lines = [
        line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")
    ]
    instructions = [line.split()[0] for line in lines]
    assert set(instructions) <= {
        *("ARG", "FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE"),
        *("HEALTHCHECK", "ENTRYPOINT", "CMD"),
    }
    assert instructions.index("USER") < instructions.index("ENTRYPOINT")
    assert "/readyz" in next(line for line in lines if line.startswith("HEALTHCHECK"))
    for line in lines:
        # The forms with words, which need no shell: the server itself gets the signals.
        if line.startswith(("ENTRYPOINT", "CMD")):
            assert isinstance(yaml.safe_load(line.split(maxsplit=1)[1]), list)
        if line.startswith("COPY"):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}" in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    arguments = {line.split()[1].partition("=")[0] for line in lines if line.startswith("ARG")}
    for service in compose()["services"].values():
        assert set(service["build"]["args"]) <= arguments
    assert arguments == set(re.findall(r"^\| `([A-Z_]+)` \|", DEPLOY.read_text("utf-8"), re.M))


def test_kubernetes():
    kinds = [
        one["kind"] for block in blocks(DEPLOY, "yaml") for one in yaml.safe_load_all(block)
        if "kind" in one
    ]  # fmt: skip
    assert kinds == ["Deployment", "Service", "HorizontalPodAutoscaler", "Ingress"]
    pod = containers()
    (server,) = pod["containers"]
    assert server["args"][0] == "serve"
    assert flags(server["args"]) <= options("serve")
    message = dict(word.split("=") for word in server["args"] if "=" in word)
    wait = int(server["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= wait + int(message["--drain"]) + 10
    assert int(message["--drain"]) >= int(message["--timeout"])
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounts = [mount for one in (server, *pod["initContainers"]) for mount in one["volumeMounts"]]
    assert {mount["name"] for mount in mounts} == volumes
    probes = [server[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness")]
    assert probes == ["/readyz", "/healthz"]


class _Engine:
    state = "ready"
    load = None


@pytest.mark.parametrize("page", [DEPLOY, SERVING], ids=lambda page: page.stem)
def test_metrics(page):
    metrics = Metrics()
    metrics.watch(_Engine(), None)
    families = {family.name: family for family in _collected(metrics)}
    named = set(
        re.findall(r"\b(?:layerbridge|process)_[a-z_]+(?:\{[^}]*\})?", page.read_text("utf-8"))
    )
    assert len(named) > 5
    for full in named:
        name, _, labels = full.partition("{")
        family = re.sub(r"_(total|bucket|sum|count)$", "", name)
        assert family in families, name
        kind = families[family].type
        assert name.endswith("_total") == (kind == "counter"), name
        for label in filter(None, re.findall(r"(\w+)(?==|,|\}|$)", labels)):
            assert label in _labels(metrics, family), (name, label)


def _collected(metrics):
    # Gauges would ask an engine; their descriptions do not.
    for collector in set(metrics.registry._collector_to_names):
        describe = getattr(collector, "describe", collector.collect)
        yield from describe() or collector.collect()


def _labels(metrics, family):
    collector = metrics.registry._names_to_collectors[family]
    return getattr(collector, "_labelnames", ())


def test_limits_on_the_page():
    text = " ".join(SERVING.read_text("utf-8").split())
    limits = Limits()
    assert limits.max_body_bytes == 1024 * 1024
    for words in (
        f"{limits.max_text_chars:,} characters each".replace(",", " "),
        f"{limits.max_tokens:,} tokens per answer".replace(",", " "),
        f"{limits.max_n} answers per text, {limits.max_prompts} texts",
        f"{limits.max_options} options, {limits.max_option_chars} characters each",
        f"{limits.concurrency} concurrent answers; {limits.queue} more in the queue",
        f"{limits.timeout_s:g} s from arrival",
        f"arrive within {limits.body_timeout_s:g} s",
    ):
        assert words in text


def test_arithmetic_on_the_page():
    text = DEPLOY.read_text("utf-8")
    encoder, lm = shape("mt5-large").config(), shape("llama-3.2-1b").config()
    a_token = 2 * lm.num_hidden_layers * lm.num_key_value_heads * lm.head_dim * 2
    gib = 2**30
    parts = {
        "language model": 1235814400 * 2,
        "encoder half": 564446720 * 2,
        "bridge": 10551320 * 4,
        "embeddings": lm.vocab_size * lm.hidden_size * 2,
        "hidden states": encoder.num_layers * encoder.d_model * 2 * 32 * 512,
        "KV cache of all answers": a_token * 640 * 256,
    }
    assert f"= {a_token:,} bytes".replace(",", " ") in text
    for name, size in parts.items():
        assert re.search(rf"^\| {name} \|.*\| {size / gib:.2f} \|$", text, re.M), name
    assert f"| sum | | {sum(parts.values()) / gib:.2f} |" in text
    room = 24 * 0.8 * gib - parts["language model"]
    own = parts["language model"] + parts["KV cache of all answers"]
    told = " ".join(text.split())
    assert f"{own / gib:.2f} GiB here" in told
    many = int(room / (a_token * 640))
    assert f"{room / gib:.1f} GiB for the KV cache: {many} such answers" in told
