"""Which fields a request may have: none is ignored that would change the answer."""

import re

import pytest
from fake_engine import FakeEngine
from starlette.testclient import TestClient

from layerbridge.serving.app import create_app
from layerbridge.serving.schema import UNSUPPORTED, ChatRequest, CompletionRequest

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "a"}]


@pytest.fixture(scope="module")
def client():
    with TestClient(create_app(FakeEngine()), raise_server_exceptions=False) as client:
        while client.app.state.service.engine.state == "starting":
            pass
        yield client


def post(client, path, body):
    asked = {"messages": MESSAGES} if path == CHAT else {"prompt": "a"}
    return client.post(path, json={"model": "demo", **asked, **body})


@pytest.mark.parametrize("role", ["user", "system", "developer"])
@pytest.mark.parametrize("content", [{}, {"content": None}])
def test_a_message_without_content(client, role, content):
    messages = [{"role": "user", "content": "a"}, {"role": role, **content}]
    reply = post(client, CHAT, {"messages": messages})
    assert reply.status_code == 400
    told = reply.json()["error"]
    assert told["message"] == "messages[1].content: Field required; allowed: a string, or parts"
    assert told["param"] == "messages[1].content"


@pytest.mark.parametrize("content", ["", [], [{"type": "text", "text": ""}]])
def test_an_empty_text_is_one(client, content):
    assert post(client, CHAT, {"messages": [{"role": "user", "content": content}]}).is_success
    messages = [{"role": "assistant", "content": None}, *MESSAGES]
    assert post(client, CHAT, {"messages": messages}).is_success


# Fields of OpenAI's and vLLM's APIs that cannot change an answer of this server.
HARMLESS = {
    *("metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_options"),
    *("prompt_cache_retention", "safety_identifier", "service_tier", "store", "user"),
    # There is no chat template, no reasoning and no beam search; special tokens are not shown.
    *("add_generation_prompt", "add_special_tokens", "chat_template_kwargs", "include_reasoning"),
    *("length_penalty", "spaces_between_special_tokens", "thinking_token_budget"),
    *("media_io_kwargs", "mm_processor_kwargs", "routed_experts_prompt_start"),
    # For the server that runs it.
    *("cache_salt", "ec_transfer_params", "kv_transfer_params", "priority", "request_id"),
    *("session_id", "stream_interval"),
}
# Those of vLLM 0.32 which OpenAI's API does not have.
VLLMS = re.findall(
    r"\w+",
    "add_generation_prompt add_special_tokens allowed_token_ids bad_words cache_salt "
    "chat_template chat_template_kwargs continue_final_message documents ec_transfer_params "
    "ignore_eos include_reasoning include_stop_str_in_output kv_transfer_params length_penalty "
    "logprob_token_ids media_io_kwargs min_p min_tokens mm_payload mm_processor_kwargs priority "
    "prompt_embeds prompt_logprobs reasoning_effort repetition_detection repetition_penalty "
    "request_id return_mm_kwargs return_prompt_text return_token_ids return_token_offsets "
    "return_tokens_as_token_ids routed_experts_prompt_start session_id skip_special_tokens "
    "spaces_between_special_tokens stop_token_ids stream_interval structured_outputs "
    "thinking_token_budget top_k truncate_prompt_tokens truncation_side use_beam_search "
    "vllm_xargs watermarking ",
)


def test_no_field_of_either_api_is_ignored_that_would_change_an_answer():
    from openai.types import completion_create_params
    from openai.types.chat import completion_create_params as chat_params

    for request, module in (
        (ChatRequest, chat_params),
        (CompletionRequest, completion_create_params),
    ):
        theirs = {*module.CompletionCreateParamsBase.__annotations__, *VLLMS}
        ours = {*request.model_fields, *UNSUPPORTED, *HARMLESS}
        assert theirs - ours == set()
    assert not HARMLESS & UNSUPPORTED.keys()


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_a_field_that_is_not_supported(client, path, name):
    """Its values without effect are let through, and so is null; all else is refused by name."""
    allowed = UNSUPPORTED[name]
    for value in (None, *allowed):
        if name not in ("tool_calls",):
            assert post(client, path, {name: value}).status_code == 200, value
    reply = post(client, path, {name: {"other": 1}})
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith(f"{name}: not supported")
