import pytest

from layerbridge.serving import heap
from layerbridge.serving.heap import HeapTrimmer, WorkerHeap


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(heap.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def trims(monkeypatch):
    """Every call of the C library's."""
    calls = []
    monkeypatch.setattr(
        heap.ctypes, "CDLL", lambda name: type("Libc", (), {"malloc_trim": calls.append})
    )
    return calls


def test_it_is_tidied_now_and_then_while_there_is_work(clock, trims):
    it = HeapTrimmer(interval_s=10.0)
    assert trims == []
    for at in (101.0, 109.9, 110.0, 111.0, 119.9, 120.0):
        clock[0] = at
        it.after_work()
    assert trims == [0, 0]


def test_it_is_tidied_once_when_work_has_ended(clock, trims):
    it = HeapTrimmer(interval_s=10.0, idle_delay_s=2.0)
    assert it.when_idle() is None  # there was none
    it.after_work()
    clock[0] += 0.5
    assert it.when_idle() == 1.5
    assert trims == []
    clock[0] += 1.5
    assert it.when_idle() is None
    assert trims == [0]
    clock[0] += 100
    assert it.when_idle() is None
    assert trims == [0]


def test_where_there_is_no_such_call_nothing_happens(clock, monkeypatch):
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: object())
    it = HeapTrimmer(interval_s=0.0, idle_delay_s=0.0)
    it.after_work()
    assert it.when_idle() is None


def test_what_tidies_it_may_be_another(clock, trims):
    told = []
    it = HeapTrimmer(lambda: told.append("tidy"), interval_s=0.0)
    it.after_work()
    assert (told, trims) == (["tidy"], [])


def test_a_worker_of_vllms_tidies_its_own(trims):
    WorkerHeap().trim_heap()
    assert trims == [0]


def test_the_c_library_has_it_or_it_is_left_alone():
    it = HeapTrimmer(interval_s=0.0)
    it.after_work()
    assert it.when_idle() is None
