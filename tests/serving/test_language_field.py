"""A served bridge with language means answers as ``classify`` and ``generate_text`` do."""

import pytest
import torch

from layerbridge.hub.sources import resolve
from layerbridge.models.centering import Centering, CenteringSettings
from layerbridge.models.language_means import LanguageMean, LanguageMeans, TextMeans
from layerbridge.models.packing import pack
from layerbridge.serving.bridges import Bridges
from layerbridge.serving.requests import Prompt
from layerbridge.serving.torch_engine import TorchEngine

TEXTS = {"en": ["the market rose", "a crowd"], "si": ["ම ශ්", "ශ්ම ම"]}
TEXT, OPTIONS = "ශ්‍රී ලංකා", ["a", "the crowd"]


@pytest.fixture(scope="module")
def bridges(load_encoder, load_lm, folder):
    from backbones import scatter
    from layerbridge.models.bridge import LayerBridge
    from layerbridge.models.config import BridgeConfig

    made = {}
    for name in ("moved", "plain"):
        config = BridgeConfig(
            encoder=str(folder("mt5")), language_model=str(folder("llama")), fusion="last"
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made[name] = LayerBridge(config, load_encoder("mt5"), load_lm("llama")).eval()
            scatter(made[name])
    means = LanguageMeans((2,))
    for code, texts in TEXTS.items():
        found = TextMeans.read(made["moved"].encoder, texts, (2,))
        means = means.with_language(code, LanguageMean.of(found))
    made["moved"].centering = Centering(means, 3, CenteringSettings(shrink=False))
    return Bridges(made, resolve(str(folder("llama"))))


@pytest.fixture
def served(client, bridges):
    return client(TorchEngine(lambda: bridges, max_batch=8, wait_ms=1))


def scores(response):
    assert response.status_code == 200, response.text
    return {each["option"]: each["score"] for each in response.json()["options"]}


def test_answers_are_those_of_the_library(served, bridges):
    found = {}
    for language in ("en", "sin", None):
        body = {"model": "moved", "text": TEXT, "options": OPTIONS, "language": language}
        found[language] = scores(served.post("/v1/classify", json=body))
        (expected,) = bridges["moved"].classify(TEXT, OPTIONS, language=language)
        assert found[language] == pytest.approx(expected.scores, abs=1e-4)
        body = {"model": "moved", "prompt": TEXT, "max_tokens": 5, "language": language}
        (choice,) = served.post("/v1/completions", json=body).json()["choices"]
        (text,) = bridges["moved"].generate_text(TEXT, max_new_tokens=5, language=language)
        assert choice["text"].strip() == text
        body = {"model": "moved", "messages": [{"role": "user", "content": TEXT}],
                "max_tokens": 5, "language": language}  # fmt: skip
        (choice,) = served.post("/v1/chat/completions", json=body).json()["choices"]
        assert choice["message"]["content"].strip() == text
    assert found["en"] != found["sin"]
    assert found[None] in (found["en"], found["sin"])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("moved", "moved has no mean of the language 'sw'; allowed: en, si"),
        ("plain", "plain has no mean of the language 'sw'; allowed: no language"),
    ],
)
def test_a_language_without_a_mean_is_refused(model, message, served):
    for route, body in (
        ("classify", {"text": TEXT, "options": OPTIONS}),
        ("completions", {"prompt": TEXT}),
        ("chat/completions", {"messages": [{"role": "user", "content": TEXT}]}),
    ):
        response = served.post(f"/v1/{route}", json={"model": model, "language": "sw", **body})
        assert response.status_code == 400
        assert response.json()["error"]["message"] == message
        assert response.json()["error"]["param"] == "language"


def test_each_prompt_of_a_batch_is_moved_by_its_own_language(bridges):
    prompts = [
        Prompt("moved", text, language=language)
        for text in (TEXT, "the market rose while teams")
        for language in ("si", None, "en")
    ]
    for prompt, embeds in zip(prompts, bridges.embeds(prompts), strict=True):
        bridge = bridges["moved"]
        states = bridge.encode([prompt.text], prompt.language)
        expected = pack(bridge.prefix(states)).inputs_embeds[0]
        torch.testing.assert_close(embeds, expected, atol=1e-4, rtol=1e-4)
