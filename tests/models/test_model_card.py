import pytest
import yaml

from layerbridge.models.config import BridgeConfig
from layerbridge.models.model_card import card_at, model_card
from layerbridge.version import __version__


def card(dataset=None, **settings):
    config = BridgeConfig(
        **{
            "encoder": "google/mt5-large",
            "encoder_revision": "c0ffee",
            "encoder_fingerprint": "c0ffee",
            "encoder_width": 1024,
            "language_model": "zoo:smollm2-135m-instruct",
            "language_model_fingerprint": "0123456789abcdef",
            "language_model_width": 576,
            "start": "last",
            **settings,
        }
    )
    return model_card(
        config,
        data="names",
        rows=790,
        settings={"learning_rate": 0.001, "seed": 0},
        steps=72,
        seconds=80.6,
        dataset=dataset,
    )


def front(text):
    _, head, _ = text.split("---\n", 2)
    return yaml.safe_load(head)


def test_the_front_is_the_hubs_metadata(folder):
    assert front(card()) == {
        "library_name": "layerbridge",
        "pipeline_tag": "text-generation",
        "language": ["en", "multilingual"],
        "tags": ["layerbridge", "multilingual", "cross-lingual-transfer", "soft-prompt"],
        # A model of the zoo is one of the hub, too.
        "base_model": ["google/mt5-large", "HuggingFaceTB/SmolLM2-135M-Instruct"],
        "base_model_relation": "adapter",
    }
    labels = front(card(options=["a", "b"], dataset="me/rows"))
    assert (labels["pipeline_tag"], labels["datasets"]) == ("text-classification", ["me/rows"])
    # A folder is no link.
    local = str(folder("mt5"))
    assert front(card(encoder=local))["base_model"] == ["HuggingFaceTB/SmolLM2-135M-Instruct"]
    neither = front(card(encoder=local, language_model=local))
    assert not {"base_model", "base_model_relation"} & neither.keys()


@pytest.mark.parametrize(
    ("front", "license_"),
    [
        ("license: other\nlicense_name: gemma", "`gemma`"),
        ("license: mit", "`mit`"),
        ("library_name: transformers", "not stated in its card"),
        ("- a list", "not stated in its card"),
        ("{", "not stated in its card"),
        (None, "not stated in its card"),
    ],
)
def test_the_licenses_of_both_models(tmp_path, front, license_):
    if front is not None:
        (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# It\n")
    text = card(encoder=str(tmp_path))
    assert f"the encoder's is {license_}, and the language model's is `apache-2.0`" in text


def test_examples_load_the_bridge_from_where_it_is():
    text = card_at(card(), "me/bridge")
    assert 'LayerBridge.from_pretrained("me/bridge")' in text
    assert 'pipeline("text-generation", model="me/bridge")' in text
    assert card_at(text, "you/it") == text.replace("me/bridge", "you/it")
    assert "`google/mt5-large`" in text
    mine = 'AutoModel.from_pretrained("other")'
    assert card_at(mine, "me/bridge") == mine


def test_it_says_what_was_joined_and_how_it_was_trained():
    lines = card(start="last", normalize="rms", projection_start="scaled").splitlines()
    for line in (
        "| encoder | `google/mt5-large` (revision `c0ffee`) |",
        "| language model | `zoo:smollm2-135m-instruct` (weights `0123456789ab`) |",
        "| fusion | `token-softmax`, start `last`, normalize `rms` |",
        "| projection | 1024 → 576, start `scaled` |",
        "| training data | names, 790 rows, English only |",
        "| training | 72 steps, 81 s |",
        "| `learning_rate` | `0.001` |",
        "| `seed` | `0` |",
        f"| layerbridge | {__version__} |",
    ):
        assert line in lines
    assert "| fusion | `token-softmax`, start `last`, normalize `none` |" in card().splitlines()


def test_the_example_does_what_the_bridge_was_trained_for():
    free = card()
    assert 'bridge.generate_text(["…"])' in free
    assert "classify" not in free
    assert "answers with one of" not in free
    chosen = card(options=["country", "time zone"], template="{name}")
    assert 'bridge.classify(["…"])' in chosen
    assert "generate_text" not in chosen
    assert "It answers with one of: country, time zone.\n" in chosen
    assert "follow the template `{name}`.\n" in chosen
