import pytest
from fake_engine import FakeEngine

from layerbridge.errors import BackboneError, LayerBridgeError
from layerbridge.serving.app import create_app
from layerbridge.serving.engine import EngineDownError
from layerbridge.serving.server import serve
from layerbridge.serving.supervised import Supervised


class Unstartable(FakeEngine):
    def __init__(self, error):
        super().__init__()
        self.error = error

    async def start(self):
        self.state = "down"
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            EngineDownError("vLLM failed to start (no memory); see its log"),
            LayerBridgeError,
        ),
        (BackboneError("there is no language model 'x'"), BackboneError),
    ],
)
def test_an_engine_that_does_not_start_ends_the_server_with_the_reason(error, kind, caplog):
    engine = Supervised(Unstartable(error))
    with pytest.raises(kind) as told:
        serve(create_app(engine), engine, port=0)
    assert str(told.value) == str(error)
    # In one line, which is the user's to read: no traceback.
    (record,) = [found for found in caplog.records if "failed to start:" in found.message]
    assert record.exc_info is None
    assert str(error) in record.message
