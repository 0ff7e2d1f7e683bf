from layerbridge.report.drawings import palette_of


def test_bridges_have_the_first_colors_and_baselines_the_last(results, result):
    alone = result("LM alone", bridge=False, en=1)
    assert palette_of([results[2], alone, *results]) == {
        "token-softmax": 0, "last": 1, "LM alone": 2, "tf-idf": 3,
    }  # fmt: skip
