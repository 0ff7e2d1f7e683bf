import pytest

from layerbridge.errors import ConfigError
from layerbridge.serving.conversation import ChatMapping
from layerbridge.serving.errors import ApiError
from layerbridge.serving.schema import Message

CHAT = [
    ("system", "Be brief."),
    ("user", "ආයුබෝවන්"),
    ("assistant", "Hello."),
    ("developer", "Be kind."),
    ("user", [{"type": "text", "text": "රුපි"}, {"type": "text", "text": "යල"}]),
]


def read(mapping, chat=CHAT):
    return mapping.read([Message(role=role, content=content) for role, content in chat])


@pytest.mark.parametrize(
    ("settings", "text", "instruction"),
    [
        ({}, "රුපියල", "Be brief.\nBe kind."),
        ({"system": "ignore"}, "රුපියල", None),
        ({"system": "text"}, "Be brief.\nBe kind.\nරුපියල", None),
        ({"history": "text"}, "ආයුබෝවන්\nHello.\nරුපියල", "Be brief.\nBe kind."),
        (
            {"system": "text", "history": "text"},
            "Be brief.\nBe kind.\nආයුබෝවන්\nHello.\nරුපියල",
            None,
        ),
    ],
)
def test_what_is_read(settings, text, instruction):
    assert read(ChatMapping(**settings)) == (text, instruction)


@pytest.mark.parametrize("system", ["instruction", "text"])
def test_a_system_that_says_nothing_leaves_the_bridge_its_instruction(system):
    chat = [("system", " \n"), ("user", "a")]
    assert read(ChatMapping(system=system), chat) == ("a", None)


def test_the_user_must_say_something():
    with pytest.raises(ApiError) as caught:
        read(ChatMapping(), [("system", "a"), ("assistant", "b")])
    assert str(caught.value) == "messages: no user message; allowed: at least one"
    assert caught.value.param == "messages"


def test_unknown_settings():
    with pytest.raises(ConfigError) as caught:
        ChatMapping(system="prefix")
    assert str(caught.value) == "unknown system 'prefix'; allowed: instruction, ignore, text"
    with pytest.raises(ConfigError, match="unknown history 'all'; allowed: none, text"):
        ChatMapping(history="all")
