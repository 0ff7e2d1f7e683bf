import pytest
import torch

from layerbridge.errors import ConfigError
from layerbridge.evaluation.baselines.prompt import Prompt, bos, padded

OPTIONS = ("a", "the market")


def test_the_words_around_the_text():
    prompt = Prompt.of("One of {options}: {text} -> ", OPTIONS)
    assert (prompt.before, prompt.after) == ("One of a, the market: ", " -> ")


def test_an_option_with_braces_is_not_a_placeholder():
    prompt = Prompt.of("{options}|{text}", ("{text}", "b"))
    assert (prompt.before, prompt.after) == ("{text}, b|", "")


@pytest.mark.parametrize(("words", "count"), [("", 0), ("text", 0), ("{text} {text}", 2)])
def test_exactly_one_placeholder(words, count):
    with pytest.raises(ConfigError) as caught:
        Prompt.of(words, OPTIONS)
    assert str(caught.value) == (
        f"the prompt {words!r} has {count} placeholders {{text}}; "
        "allowed: one {text}, and optionally {options} for the label words"
    )


def test_what_does_not_fit_is_cut_off_the_texts_end(load_lm):
    lm = load_lm("gpt2")
    prompt = Prompt.of("see {text} -> ", OPTIONS)
    whole = prompt.ids(lm, "the crowd of teams", None)
    assert whole == lm.token_ids("see the crowd of teams -> ")
    assert prompt.ids(lm, "the crowd of teams", len(whole)) == whole
    end = lm.token_ids(" -> ")
    cut = prompt.ids(lm, "the crowd of teams", len(whole) - 3)
    assert cut == whole[: -len(end) - 3] + end
    assert prompt.overhead(lm) == len(lm.token_ids("see ")) + len(end)


def test_rows_are_padded_on_the_right(load_lm):
    lm = load_lm("llama")
    piece = padded(lm, [[5], [7, 8, 9]])
    assert piece.mask.tolist() == [[True, False, False], [True] * 3]
    assert torch.equal(piece.embeds[1], lm.embed(torch.tensor([7, 8, 9])))
    assert bos(lm) == [lm.tokenizer.bos_token_id]
    assert bos(load_lm("gpt2")) == []
