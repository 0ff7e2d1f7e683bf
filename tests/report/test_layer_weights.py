"""Layers are numbered alike wherever they are shown: from 1, or from 0 with the embedding layer."""

import re

import pytest
import torch
from html_tree import tree

from layerbridge.cli.heat_map import heat_map
from layerbridge.errors import ResultError
from layerbridge.models.inference import LayerWeights
from layerbridge.report.contents import gather
from layerbridge.report.layer_weights import layers_of
from layerbridge.report.page import render
from layerbridge.report.plots import layer_weights_by_language, layer_weights_by_layer
from layerbridge.report.tokens import TokenMap

WEIGHTS = [0.1, 0.2, 0.6, 0.1]
TOKENS = ["a", "b"], torch.tensor([WEIGHTS, WEIGHTS])


@pytest.fixture
def weighted(result):
    """A result with these weights, with or without the embedding layer."""

    def make(method="token-softmax", *, embedding_layer=False, weights=WEIGHTS):
        made = result(method, en=10, si=5, weights=weights)
        if embedding_layer:
            made.settings["bridge"]["embedding_layer"] = True
        return made

    return make


def in_the_report(made):
    """The first column of each table of weights, and the heaviest layer in the summary."""
    page = tree(render(gather([made]), ""))
    caption = page.id("weights-table-1")
    (table,) = [t for t in page.all("table") if caption in t.iter()]
    numbers = [int(row.all("th")[0].text) for row in table.all("tr")[1:]]
    (heaviest,) = re.findall(
        r"largest mean weight: token-softmax (\d+) of (\d+) \(0\.60\)", page.text
    )
    assert [*map(int, heaviest)] == [numbers[2], numbers[-1]]
    return numbers


def in_lines(made):
    (axes,) = layer_weights_by_layer.figure([made]).axes
    return axes.lines[1].get_xdata().tolist()


def in_the_heat_map(made):
    axes, _ = layer_weights_by_language.figure([made]).axes
    edges = axes.collections[0].get_coordinates()[0, :, 0]
    return (edges[:-1] + 0.5).tolist()


@pytest.mark.parametrize("numbered", [in_the_report, in_lines, in_the_heat_map])
@pytest.mark.parametrize(
    ("embedding_layer", "expected"), [(False, [1, 2, 3, 4]), (True, [0, 1, 2, 3])]
)
def test_layers_of_a_result(weighted, undrawn, numbered, embedding_layer, expected):
    assert numbered(weighted(embedding_layer=embedding_layer)) == expected


@pytest.mark.parametrize(("first_layer", "expected"), [(1, [1, 2, 3, 4]), (0, [0, 1, 2, 3])])
def test_layers_of_a_text(first_layer, expected):
    weights = LayerWeights(*TOKENS, first_layer)
    assert [*TokenMap.of("a", weights).layers] == expected
    for width in (80, 6):  # percentages, and single digits
        assert [int(n) for n in heat_map(weights, width).plain.splitlines()[0].split()] in (
            expected,
            [int("".join(map(str, expected)))],
        )


def test_as_many_layers_with_and_without_the_embedding_layer(weighted, undrawn):
    """An encoder of four layers, and one of three with its embeddings: each has its numbers."""
    given = [weighted("last"), weighted("token-softmax", embedding_layer=True)]
    page = tree(render(gather(given), ""))
    ids = [e.attributes["id"] for e in page.iter() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    assert {"layer-weights-4", "layer-weights-0-3"} <= set(ids)
    assert "last 3 of 4 (0.60), token-softmax 2 of 3 (0.60)" in page.text
    with pytest.raises(ResultError) as error:
        layers_of(given)
    assert str(error.value) == (
        "the results have different layers: 0 to 3 (token-softmax) and 1 to 4 (last); "
        "allowed: results of one encoder"
    )
