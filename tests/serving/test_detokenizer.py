"""Whatever the parts it comes in, the text is what whole decoding gives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

import tiny
from layerbridge.serving.detokenizer import Detokenizer, StopStrings, TokenDecoder
from layerbridge.serving.vocabulary import Vocabulary


def llama2_like():
    """Byte fallback, and one space of the whole text taken away, as Llama 2 does."""
    tokenizer = tiny.unigram(tiny.T5_SPECIALS, None)
    tokenizer.backend_tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def cleaning():
    """A tokenizer that takes spaces out when it decodes."""
    words = ["<e>", "<u>", *" .?!,'abnmtsver", " .", " n", "'t", "n't", " ' ", " 's"]
    model = models.WordLevel({word: id for id, word in enumerate(words)}, unk_token="<u>")
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<e>",
        unk_token="<u>",
        clean_up_tokenization_spaces=True,
    )


TOKENIZERS = {
    "byte level": tiny.byte_level(tiny.LLAMA_SPECIALS, "<|begin|> $A"),
    "byte fallback": tiny.unigram(tiny.T5_SPECIALS, "$A </s>"),
    "llama 2": llama2_like(),
    "slow": ByT5Tokenizer(),
    "cleaning": cleaning(),
}
VOCABULARIES = {name: Vocabulary(tokenizer) for name, tokenizer in TOKENIZERS.items()}
TEXTS = ["ශ්‍රී ලංකා රුපියල", "👩‍👩‍👧 is 猫", "  two  spaces\n", "\ufffd\ufffd", "السلام", ""]
every = pytest.mark.parametrize("name", TOKENIZERS)


def whole(name, ids):
    return TOKENIZERS[name].decode(ids, skip_special_tokens=True)


def told(detokenizer, ids):
    return [detokenizer.push(id) for id in ids] + [detokenizer.finish()]


@every
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_tokens_at_all(name, data):
    ids = data.draw(st.lists(st.integers(0, len(TOKENIZERS[name]) - 1), max_size=30))
    assert "".join(told(TokenDecoder(VOCABULARIES[name]), ids)) == whole(name, ids)


@every
@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=20))
def test_any_text_at_all(name, text):
    ids = TOKENIZERS[name](text, add_special_tokens=False)["input_ids"]
    assert "".join(told(TokenDecoder(VOCABULARIES[name]), ids)) == whole(name, ids)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["byte level", "byte fallback", "llama 2", "slow"])
def test_scripts(name, text):
    ids = TOKENIZERS[name](text, add_special_tokens=False)["input_ids"]
    parts = told(TokenDecoder(VOCABULARIES[name]), ids)
    assert "".join(parts) == whole(name, ids)
    if text and "\ufffd" not in text:
        assert not any("\ufffd" in part for part in parts)


def test_text_comes_as_soon_as_it_is_certain():
    ids = TOKENIZERS["byte level"]("a ම b", add_special_tokens=False)["input_ids"]
    parts = told(TokenDecoder(VOCABULARIES["byte level"]), ids)
    # The space; three bytes of one letter; a space and a letter.
    assert [part for part in parts if part] == ["a", " ", "ම", " ", "b"]


def test_bytes_wait_for_what_is_none():
    tokenizer = TOKENIZERS["byte fallback"]
    ids = tokenizer.convert_tokens_to_ids(["▁a", "<0xE3>", "<0x81>", "<0x82>", "<0xFF>", "▁the"])
    parts = told(TokenDecoder(VOCABULARIES["byte fallback"]), ids)
    # The last byte spoils the others, so none may be given before it is known.
    assert parts == ["a", "", "", "", "", "\ufffd" * 4 + " the", ""]


def test_it_knows_which_tokenizers_take_spaces_out():
    found = {name: vocabulary.cleans for name, vocabulary in VOCABULARIES.items()}
    assert found == {**dict.fromkeys(TOKENIZERS, False), "cleaning": True}
    ids = [TOKENIZERS["cleaning"].convert_tokens_to_ids(token) for token in "a .n"]
    assert whole("cleaning", ids) == "a.n"


def test_a_long_answer_is_decoded_in_small_windows(monkeypatch):
    vocabulary = VOCABULARIES["byte level"]
    lengths = []
    decode = Vocabulary.decode
    monkeypatch.setattr(
        Vocabulary,
        "decode",
        lambda self, ids, **o: lengths.append(len(ids)) or decode(self, ids, **o),
    )
    told(TokenDecoder(vocabulary), [40, 41, 42] * 100)
    assert max(lengths) <= 3


def naive_stop(text, stops):
    """Character by character, as the definition reads."""
    for end in range(len(text) + 1):
        hits = [stop for stop in stops if text[:end].endswith(stop)]
        if hits:
            return text[: end - len(max(hits, key=len))], max(hits, key=len)
    return text, None


@settings(max_examples=300, deadline=None)
@given(
    text=st.text("ab.", max_size=30),
    stops=st.lists(st.text("ab.", min_size=1, max_size=5), max_size=4),
    data=st.data(),
)
def test_stops_do_not_depend_on_the_parts(text, stops, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    watch = StopStrings(stops)
    given_text = ""
    expected, hit = naive_stop(text, stops)
    for part in parts:
        given_text += watch.push(part)
        assert expected.startswith(given_text)
    given_text += watch.finish()
    assert (given_text, watch.hit) == (expected, hit)


def test_what_may_be_a_stop_string_is_held():
    watch = StopStrings(["END", "\n\n"])
    assert [watch.push(part) for part in ("a\n", "b", "E", "N", "d", "\n", "\nc", "more")] == [
        *("a", "\nb", "", "", "ENd", "", "", "")
    ]
    assert watch.hit == "\n\n"
    assert watch.finish() == ""


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_detokenizer_strips_cuts_and_counts(data):
    ids = data.draw(st.lists(st.integers(0, len(TOKENIZERS["byte level"]) - 1), max_size=30))
    stops = data.draw(st.lists(st.sampled_from(["a", " t", "en", "\ufffd"]), max_size=2))
    detokenizer = Detokenizer(VOCABULARIES["byte level"], stops, strip=True)
    text = "".join(told(detokenizer, ids))
    expected, hit = naive_stop(whole("byte level", ids).lstrip(), stops)
    assert text == expected
    assert detokenizer.stopped == (hit is not None)
    assert detokenizer.emitted == len(text)


def test_completions_keep_their_spaces():
    ids = TOKENIZERS["byte level"](" \n a ", add_special_tokens=False)["input_ids"]
    vocabulary = VOCABULARIES["byte level"]
    assert "".join(told(Detokenizer(vocabulary), ids)) == " \n a "
    assert "".join(told(Detokenizer(vocabulary, strip=True), ids)) == "a "
