"""``benchmarks/gpu_size.sh`` and its program, on tiny shapes."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CASES = {"both-4", "lm-4", "lm-4-cached", "lm-4-checkpointing", "lm-4-checkpointing-8x"}


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("gpu_size", BENCHMARKS / "gpu_size.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(program, monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["gpu_size.py", *map(str, words)])
    program.main()


def test_a_case_is_measured(program, monkeypatch, tmp_path):
    for name in ("tiny-encoder", "tiny-lm"):
        run(program, monkeypatch, "write", name, tmp_path / name)
    models = ("--encoder", tmp_path / "tiny-encoder", "--language-model", tmp_path / "tiny-lm",
              "--device", "cpu", "--batch", 2, "--tokens", 8, "--steps", 1)  # fmt: skip
    for flags in (("--language-model-bits", 4, "--cached"), ("--checkpointing",)):
        run(program, monkeypatch, "measure", tmp_path / "case.json", *models, *flags)
        found = json.loads((tmp_path / "case.json").read_text())
        assert found["training_rows_per_second"] > 0
        assert found["training_peak_bytes"] >= found["weights_bytes"] > 0
        assert found["case"]["checkpointing"] == ("--checkpointing" in flags)
    monkeypatch.setattr(program, "measure", lambda case: 1 / 0)
    with pytest.raises(SystemExit):
        run(program, monkeypatch, "measure", tmp_path / "case.json", *models)
    failed = json.loads((tmp_path / "case.json").read_text())
    assert failed["error"] == "ZeroDivisionError: division by zero"


def test_one_failure_does_not_end_the_rest(tmp_path):
    # In the place of Python: one case is killed before it writes anything.
    fake = tmp_path / "python"
    fake.write_text(
        "#!/usr/bin/env bash\n"
        "[ $2 = write ] && exit 0\n"
        "case $3 in */lm-4.json) echo out of memory >&2; kill -9 $$;; esac\n"
        "echo '{}' > $3\n"
    )
    fake.chmod(0o755)
    found = subprocess.run(
        [BENCHMARKS / "gpu_size.sh", tmp_path / "out", "cpu", "tiny"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(fake)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert found.stderr.rstrip().endswith("1 of the cases failed")
    written = {path.stem: path.read_text() for path in (tmp_path / "out").glob("*.json")}
    assert written.keys() == CASES
    assert json.loads(written["lm-4"]) == {"error": "it ended without a result"}
    assert not (tmp_path / "out" / "weights").exists()
