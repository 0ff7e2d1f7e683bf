import platform

import pytest

from layerbridge.serving import heap
from layerbridge.serving.heap import Heap


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_it_is_tidied_now_and_then(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(heap.time, "monotonic", lambda: now[0])
    it = Heap(every_s=10.0)
    assert not it.tidy()
    now[0] += 10
    assert it.tidy()
    assert not it.tidy()
    now[0] += 10
    assert it.tidy()


def test_where_there_is_no_such_call_nothing_happens(monkeypatch):
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: object())
    assert not Heap(every_s=0.0).tidy()
