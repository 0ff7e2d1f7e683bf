import pytest
from transformers.utils import logging

from layerbridge.hub.quiet import quiet_transformers


def test_logging_is_restored():
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with pytest.raises(RuntimeError), quiet_transformers():
        raise RuntimeError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
