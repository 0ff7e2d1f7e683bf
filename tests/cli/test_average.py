def test_runs_become_one(command, trained, tmp_path):
    outcome = command("average", trained, trained, "-o", tmp_path / "average")
    assert (outcome.code, outcome.out) == (0, f"{tmp_path / 'average'}\n")
    one = command("ask", trained, "ම ශ්", "--device", "cpu", "--dtype", "float32").out
    same = command("ask", tmp_path / "average", "ම ශ්", "--device", "cpu", "--dtype", "float32")
    assert same.out == one


def test_a_folder_that_is_not_empty_stays(command, trained, tmp_path):
    (tmp_path / "file").write_text("mine")
    outcome = command("average", trained, trained, "-o", tmp_path)
    assert outcome.code == 2
    assert "is not empty; next: --overwrite" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
