import yaml

from layerbridge.models.config import BridgeConfig
from layerbridge.models.model_card import model_card
from layerbridge.version import __version__


def card(results=None, **settings):
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
        results=results,
    )


def front(text):
    _, head, _ = text.split("---\n", 2)
    return yaml.safe_load(head)


def test_the_front_is_the_hubs_metadata():
    assert front(card()) == {
        "library_name": "layerbridge",
        "tags": ["layerbridge", "multilingual", "cross-lingual-transfer", "soft-prompt"],
        # Only what the hub knows: a folder or a zoo model is no link.
        "base_model": ["google/mt5-large"],
    }
    both = card(language_model="meta-llama/Llama-3.2-1B", language_model_revision="beef")
    assert front(both)["base_model"] == ["google/mt5-large", "meta-llama/Llama-3.2-1B"]


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


def test_results_are_shown_when_there_are_some():
    assert "## Results" not in card()
    assert card(results="| a |").endswith("## Results\n\n| a |\n")
