import pytest
import torch
from transformers import Gemma2ForCausalLM

from layerbridge.evaluation.baselines.prompt import padded
from layerbridge.evaluation.baselines.shared_prefix import SharedPrefix
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.option_scoring import option_scores

PREFIX = [3, 40, 41, 42, 60, 61, 7, 8, 9, 100, 101]
ROWS = [[20], [21, 22, 23, 24, 25, 26, 27], [], [28, 29, 30], [28, 29, 31]]
OPTIONS = [[50], [50, 51], [52, 53, 54], [55, 56, 57]]
CLOSE = {"atol": 2e-5, "rtol": 2e-5}


@torch.no_grad()
def naive(lm, rows=ROWS):
    """Every option after every row through the whole model, one at a time."""
    scores = []
    for row in rows:
        for option in OPTIONS:
            ids = [*PREFIX, *row, *option]
            logits = lm.model(torch.tensor([ids])).logits[0].log_softmax(-1)
            at = range(len(ids) - len(option) - 1, len(ids) - 1)
            scores.append(sum(logits[n, ids[n + 1]] for n in at))
    return torch.stack(scores).view(len(rows), len(OPTIONS))


@pytest.fixture
def widths(monkeypatch):
    """How many tokens the language model's body was given, call by call."""
    seen = []
    last_logits = LanguageModel.last_logits

    def spy(self, embeds, *arguments, **rest):
        seen.append(tuple(embeds.shape[:2]))
        return last_logits(self, embeds, *arguments, **rest)

    monkeypatch.setattr(LanguageModel, "last_logits", spy)
    return seen


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_the_scores_are_those_of_the_whole_prompts(load_lm, family, widths):
    lm = load_lm(family)
    prefix = SharedPrefix(lm, PREFIX)
    for _ in range(2):  # the cache must be as it was
        torch.testing.assert_close(prefix.option_scores(ROWS, OPTIONS), naive(lm), **CLOSE)
    torch.testing.assert_close(
        prefix.option_scores(ROWS[3:4], OPTIONS), naive(lm, ROWS[3:4]), **CLOSE
    )
    # Once, and then no more than the longest row and the prefix's last token.
    assert widths[:2] == [(1, len(PREFIX) - 1), (len(ROWS), 8)]
    assert max(width for _, width in widths[1:]) == 8


def test_a_row_says_the_same_whoever_stands_beside_it(load_lm):
    prefix = SharedPrefix(load_lm("llama"), PREFIX)
    whole = prefix.option_scores(ROWS, OPTIONS)
    for place, row in enumerate(ROWS):
        alone = prefix.option_scores([row], OPTIONS)
        torch.testing.assert_close(alone[0], whole[place], **CLOSE)


@pytest.mark.parametrize("window", [8, 24])
def test_no_pad_takes_the_place_of_a_token_in_a_sliding_window(load_lm, window, widths):
    whole = load_lm("gemma2")
    config = type(whole.model.config).from_dict(
        {**whole.model.config.to_dict(), "sliding_window": window}
    )
    model = Gemma2ForCausalLM(config)
    model.load_state_dict(whole.model.state_dict())
    lm = LanguageModel(model, whole.tokenizer)
    prefix = SharedPrefix(lm, PREFIX)
    torch.testing.assert_close(prefix.option_scores(ROWS, OPTIONS), naive(lm), **CLOSE)
    # Prefix, longest row and longest option are 21 tokens: shared in the one window only.
    assert widths[1] == (len(ROWS), 8 if window == 24 else 18)


def test_a_model_that_counts_positions_itself_reads_whole_prompts(load_lm, monkeypatch, widths):
    lm = load_lm("llama")
    monkeypatch.setattr(lm, "takes_positions", False)
    found = SharedPrefix(lm, PREFIX).option_scores(ROWS, OPTIONS)
    assert widths[0] == (len(ROWS), len(PREFIX) + 7)
    monkeypatch.setattr(lm, "takes_positions", True)
    expected = option_scores(lm, [padded(lm, [[*PREFIX, *row] for row in ROWS])], OPTIONS)
    # Rotary positions are relative: left pads alone do not change what is read.
    torch.testing.assert_close(found, expected, **CLOSE)


def test_a_prefix_of_one_token(load_lm, monkeypatch):
    lm = load_lm("gpt2")
    monkeypatch.setattr(f"{__name__}.PREFIX", PREFIX[:1])
    found = SharedPrefix(lm, PREFIX[:1]).option_scores(ROWS, OPTIONS)
    torch.testing.assert_close(found, naive(lm), **CLOSE)
