from layerbridge.models.length_grouping import by_length, cut


def test_by_length():
    assert by_length([5, 1, 4, 2, 3], 2) == [[1, 3], [4, 2], [0]]
    assert by_length([], 2) == []


def test_cut_fills_each_batch_as_far_as_it_goes():
    assert cut([0, 1, 2, 3, 4], [5, 4, 4, 1, 1], 10) == [[0, 1], [2, 3], [4]]
    assert cut([4, 3, 2, 1, 0], [5, 4, 4, 1, 1], 10) == [[4, 3], [2, 1], [0]]
    assert cut([], [], 10) == []


def test_a_row_over_the_budget_has_a_batch_to_itself():
    assert cut([0, 1, 2], [30, 10, 1], 10) == [[0], [1], [2]]
    assert cut([2, 1, 0], [30, 10, 1], 10) == [[2], [1], [0]]
