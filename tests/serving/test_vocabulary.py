import pytest

import tiny
from layerbridge.serving.vocabulary import Vocabulary

BYTE_LEVEL = tiny.byte_level(tiny.LLAMA_SPECIALS, None)
FALLBACK = tiny.unigram(tiny.T5_SPECIALS, None)


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, FALLBACK], ids=["byte level", "fallback"])
@pytest.mark.parametrize("text", ["the market rose", "ශ්‍රී 猫 👩‍👧", "é\n\t\x00"])
def test_tokens_bytes_are_the_texts(tokenizer, text):
    vocabulary = Vocabulary(tokenizer)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    joined = b"".join(vocabulary.token_bytes(id) for id in ids)
    assert joined.decode().removeprefix(" ") == text


def test_part_of_a_character_is_told_by_its_bytes():
    vocabulary = Vocabulary(BYTE_LEVEL)
    (first, *_) = BYTE_LEVEL("猫", add_special_tokens=False)["input_ids"]
    assert vocabulary.token_text(first) == r"bytes:\xe7"
    (byte,) = FALLBACK.convert_tokens_to_ids(["<0xE7>"])
    assert Vocabulary(FALLBACK).token_text(byte) == r"bytes:\xe7"
    assert Vocabulary(FALLBACK).is_byte(byte)
    assert not vocabulary.is_byte(first)


def test_specials_and_rows_that_no_token_has():
    vocabulary = Vocabulary(BYTE_LEVEL)
    end = BYTE_LEVEL.eos_token_id
    assert end in vocabulary.specials
    assert vocabulary.decode([end]) == ""
    assert vocabulary.token_text(end) == "<|end|>"
    assert vocabulary.token_bytes(len(BYTE_LEVEL) + 5) == b""
    assert vocabulary.token_text(len(BYTE_LEVEL) + 5) == ""
