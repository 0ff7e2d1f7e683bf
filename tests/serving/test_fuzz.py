"""Whatever our OpenAPI document allows, and much that it does not, is no fault of the server.

The engine is the real one: most of what can go wrong in it, a stand-in would take without a word.
"""

import pytest
import schemathesis
from fake_engine import FakeEngine
from hypothesis import HealthCheck, Phase, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from layerbridge.serving.app import create_app
from layerbridge.serving.limits import Limits

# Tokens are what costs time here; the texts and options are as long as they may be anywhere.
LIMITS = Limits(max_tokens=6, max_prompts=4, max_n=3)


def reach_the_engine(body):
    """Most requests do then: a random name is that of no bridge, and a random number too many."""
    if not isinstance(body, dict):
        return
    if isinstance(body.get("model"), str):
        body["model"] = "token-softmax"
    for name, most in (("max_tokens", 6), ("max_completion_tokens", 6), ("n", 3)):
        if type(body.get(name)) is int and body[name] > most:
            body[name] = body[name] % most + 1


@pytest.fixture(scope="module")
def engine(tiny_engine):
    return tiny_engine()


@pytest.fixture(scope="module")
def address(serve, engine):
    with serve(engine, limits=LIMITS) as address:
        yield address


schema = schemathesis.openapi.from_dict(create_app(FakeEngine()).openapi())
schema.config.generation.modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


@schema.parametrize()
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_any_request(case, address, engine):
    reach_the_engine(case.body)
    case.call_and_validate(
        checks=[
            not_a_server_error,
            response_schema_conformance,
            status_code_conformance,
            content_type_conformance,
        ],
        base_url=address,
    )
    assert engine.state == "ready"
    assert engine.restarts == 0
