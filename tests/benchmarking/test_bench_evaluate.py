"""Ways of answering on a bridge that is trained for a moment; no speed is tested."""

from layerbridge.benchmarking import evaluate
from layerbridge.benchmarking.evaluate import EvaluateCase
from layerbridge.benchmarking.pair import Pair


def test_all_ways_answer_the_task():
    pair = Pair("shape:tiny-encoder", "shape:tiny-lm", "float32", "cpu")
    found = evaluate.run(EvaluateCase(pair, per_kind=1, training_steps=4), 1)
    assert found["options"] == 6
    assert set(found["rows_per_second"]) == set(found["ways"])
    assert found["agreement"] is None or 0 <= found["agreement"] <= 1
    # Both generate greedily with the same tensors, in float32.
    assert found["agreement_generated"] in (None, 1)
