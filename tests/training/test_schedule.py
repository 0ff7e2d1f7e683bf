from layerbridge.training.schedule import FEWEST_STEPS, steps


def test_more_rows_get_more_steps_but_not_in_proportion():
    assert [steps(rows) for rows in (1, 50, 800)] == [FEWEST_STEPS] * 3
    assert [steps(rows) for rows in (3_000, 30_000, 300_000)] == [190, 610, 1920]
