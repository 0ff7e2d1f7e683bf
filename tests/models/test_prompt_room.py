"""Prompts and answers within the positions of a language model that has few."""

import pytest
import torch
import transformers

from layerbridge.errors import LengthError
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.models.language_model import LanguageModel
from layerbridge.tasks.task import Row
from layerbridge.training.collation import RowDataset

POSITIONS = 40
LONG = "the market of teams " * 20
TEXTS = ["a", LONG, "the market rose", LONG + "猫"]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def short_lm(request, load_lm):
    """A language model with 40 positions: a table of GPT-2's, and a statement of Llama's."""
    lm = load_lm(request.param)
    config = lm.model.config.__class__(
        **{**lm.model.config.to_dict(), "max_position_embeddings": POSITIONS}
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    return LanguageModel(model, lm.tokenizer)


@pytest.fixture
def make(load_encoder, short_lm):
    def make(**settings):
        config = BridgeConfig(fusion="last", **settings)
        return LayerBridge(config, load_encoder("mt5"), short_lm).eval()

    return make


def test_texts_are_cut_so_that_every_answer_fits(make, capfd):
    bridge = make(instruction="Answer:", options=["Business", "a"])
    lm = bridge.language_model
    ids = {option: [*lm.token_ids(option), lm.eos_id] for option in ("Business", "a")}
    fixed = (lm.bos_id is not None) + 1 + len(lm.token_ids("Answer:"))
    room = POSITIONS - fixed - len(ids["Business"])
    assert bridge.encoder.max_text_tokens == bridge.config.max_text_tokens == room
    assert capfd.readouterr().err == (
        f"texts are cut at {room} encoder tokens instead of 512: the language model has 40 "
        "positions, for prompt and answer\n"
    )
    answers = bridge.classify(TEXTS)
    assert answers[1].scores == pytest.approx(bridge.classify(LONG)[0].scores, rel=1e-5)
    # Training on what is asked later.
    rows = [Row(str(n), text, "Business", "en") for n, text in enumerate(TEXTS)]
    assert RowDataset(rows, bridge).lengths[1] == room + len(ids["Business"])
    batch = bridge.encoder.tokenize(TEXTS)
    labels = torch.tensor([ids["Business"]] * len(TEXTS))
    assert bridge(**batch, labels=labels).loss.isfinite()


def test_a_free_answer_ends_where_the_positions_end(make, capfd):
    bridge = make()
    bridge.language_model.model.generation_config.eos_token_id = None
    fixed = (bridge.language_model.bos_id is not None) + 1
    assert bridge.encoder.max_text_tokens == POSITIONS - fixed - 10
    capfd.readouterr()
    states = bridge.encode([LONG])
    for arguments in ({"max_new_tokens": 500}, {"max_length": 500}, {"num_beams": 2}):
        if "num_beams" in arguments:
            arguments["max_new_tokens"] = 30
        ids = bridge.generate(hidden_states=states, eos_token_id=None, do_sample=False, **arguments)
        assert ids.shape == (1, 10)
        assert capfd.readouterr().err == (
            "1 of 1 answers end after 10 tokens, where the language model's 40 positions end\n"
        )
    ids = bridge.generate(hidden_states=states, max_new_tokens=10, do_sample=False)
    assert ids.shape[1] <= 10
    assert capfd.readouterr().err == ""


def test_cut_answers_of_all_batches_are_said_once(make, capfd):
    bridge = make()
    bridge.language_model.model.generation_config.eos_token_id = None
    capfd.readouterr()
    bridge.generate_text(TEXTS, max_new_tokens=500, batch_size=1, eos_token_id=None)
    assert capfd.readouterr().err == (
        "4 of 4 answers are cut where the language model's positions end\n"
    )


def test_an_instruction_without_room_is_one_line(make, short_lm):
    long = "Answer with one word. " * 12
    with pytest.raises(LengthError) as caught:
        make(instruction=long)
    assert str(caught.value).startswith(
        "instruction and answer leave no room for a text: they take"
    )
    assert "allowed: fewer than 40, the language model's context length" in str(caught.value)
    bridge = make()
    for ask in (
        lambda: bridge.generate_text(["a", "the market"], instruction=long),
        lambda: bridge.classify(["a", "the market"], ["a", "the"], instruction=long),
    ):
        with pytest.raises(LengthError) as caught:
            ask()
        assert str(caught.value).startswith("row 2 of the batch takes ")
        assert "allowed: 40, its context length" in str(caught.value)


def test_padding_takes_no_positions(make):
    """An option that fits each row fits a padded batch of them."""
    bridge = make()
    lm = bridge.language_model
    mask = torch.ones(2, POSITIONS + 3, dtype=torch.long)
    mask[0, :3] = 0
    mask[1, :20] = 0
    lm.check_length(mask)
    with pytest.raises(LengthError, match=r"^row 1 of the batch takes 41 tokens"):
        lm.check_length(mask, answer=1)


def test_training_rows_without_room_are_counted_before_the_first_step(make):
    bridge = make(options=["a"])
    rows = [Row(str(n), LONG, target, "en") for n, target in enumerate(["a", LONG, "the market"])]
    with pytest.raises(LengthError) as caught:
        RowDataset(rows, bridge)
    assert str(caught.value).startswith(
        "2 of 3 rows do not fit the language model: text, instruction and target take up to "
    )
    assert "; allowed: 40, its context length; next: --max-text-tokens " in str(caught.value)


def test_a_language_model_without_a_limit(make_bridge, load_lm, monkeypatch):
    monkeypatch.setattr(load_lm("llama"), "max_tokens", None)
    assert make_bridge().config.max_text_tokens == 512
