"""Whatever our OpenAPI document allows, and much that it does not, is no fault of the server."""

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

app = create_app(FakeEngine())
# No server runs it, so nothing else would start it.
app.state.service.engine.state = "ready"
schema = schemathesis.openapi.from_asgi("/openapi.json", app)
schema.config.generation.modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


@schema.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_any_request(case):
    case.call_and_validate(
        checks=[
            not_a_server_error,
            response_schema_conformance,
            status_code_conformance,
            content_type_conformance,
        ]
    )
