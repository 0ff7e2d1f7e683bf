from functools import cache

import pytest

import tiny_translators


@pytest.fixture(scope="session")
def translator_folder(tmp_path_factory):
    """Family → the folder of that tiny translator."""
    return cache(lambda family: tiny_translators.write(family, tmp_path_factory.mktemp(family)))
