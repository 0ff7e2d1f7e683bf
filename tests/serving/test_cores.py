import os
import threading

import pytest
import torch

from layerbridge.serving import cores
from layerbridge.serving.cores import Cores, available_cores, bind_thread, split_cores

linux = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux tells")


@pytest.mark.parametrize(
    ("all_", "language_model", "encoder"),
    [
        ([0, 1], (0,), (1,)),
        ([0, 2, 4], (0, 2), (4,)),
        (list(range(8)), tuple(range(6)), (6, 7)),
        (list(range(16)), tuple(range(12)), (12, 13, 14, 15)),
    ],
)
def test_each_gets_cores_of_its_own(all_, language_model, encoder):
    assert split_cores(all_) == Cores(language_model, encoder)


@pytest.mark.parametrize("all_", [[], [3]])
def test_one_core_is_not_shared_out(all_):
    assert split_cores(all_) is None


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Tells which processors are one core, and how many memories there are."""
    monkeypatch.setattr(cores, "SYSTEM", tmp_path)

    def tell(siblings, allowed, nodes=1):
        for node in range(nodes):
            (tmp_path / f"node/node{node}").mkdir(parents=True)
        for processor, text in siblings.items():
            folder = tmp_path / f"cpu/cpu{processor}/topology"
            folder.mkdir(parents=True)
            (folder / "thread_siblings_list").write_text(text)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(allowed), raising=False)

    return tell


def test_threads_of_one_core_count_once(system):
    system({0: "0,2\n", 1: "1,3\n", 2: "0,2\n", 3: "1,3\n"}, [0, 1, 2, 3])
    assert available_cores() == [0, 1]


def test_cores_of_others_are_left_to_them(system):
    system({0: "0,2\n", 1: "1,3\n", 2: "0,2\n", 3: "1,3\n"}, [2, 3])
    assert available_cores() == [2, 3]


def test_where_the_system_tells_no_cores_each_processor_is_one(system):
    system({}, [4, 5])
    assert available_cores() == [4, 5]


def test_two_memories_are_left_to_vllm(system):
    system({0: "0", 1: "1"}, [0, 1], nodes=2)
    assert available_cores() == []


@linux
def test_a_thread_keeps_to_its_cores_and_others_do_not():
    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    one = max(before)
    found = []

    def body():
        bind_thread([one])
        found.extend([os.sched_getaffinity(0), torch.get_num_threads()])

    thread = threading.Thread(target=body)
    try:
        thread.start()
        thread.join()
        assert found == [{one}, 1]
        assert os.sched_getaffinity(0) == before
    finally:
        torch.set_num_threads(threads)
