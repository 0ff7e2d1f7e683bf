import re

import pytest

from layerbridge.errors import ZooError
from layerbridge.hub import zoo


def test_every_entry_is_complete():
    names = [entry.name for entry in zoo.entries()]
    assert names == ["multilingual-e5-small", "smollm2-135m-instruct", "gemma-3-270m"]
    for entry in zoo.entries():
        assert zoo.entry(entry.name) is entry
        assert entry.download_mb > 0
        assert entry.disk_mb > 0
        assert entry.licence in ("MIT", "Apache-2.0", "Gemma")
        assert "\n" not in entry.description
        for package in entry.packages:
            assert re.fullmatch(r"[0-9a-f]{64}", package.sha256)
            assert package.requirement == f"{package.name}=={package.version}"


def test_unknown_name_tells_the_known_ones():
    with pytest.raises(ZooError) as caught:
        zoo.entry("mt5")
    assert str(caught.value) == (
        "the zoo has no model 'mt5'; allowed: multilingual-e5-small, smollm2-135m-instruct, "
        "gemma-3-270m; next: layerbridge zoo list"
    )
