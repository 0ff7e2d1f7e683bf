import pytest

from layerbridge.errors import ConfigError
from layerbridge.training.node import Node, check_device


def test_one_process_is_alone(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")  # of another launcher
    node = Node.here()
    assert (node.size, node.index) == (1, 0)
    assert node.gather("value") == ["value"]


def test_several_processes_do_not_share_a_gpu(monkeypatch):
    for device in (None, "cpu", "cuda", "cuda:1"):
        check_device(device)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for device in (None, "cpu", "cuda"):
        check_device(device)
    with pytest.raises(ConfigError) as caught:
        check_device("cuda:1")
    assert str(caught.value) == (
        "device 'cuda:1' would be that of every process; allowed: cpu, cuda (each process takes "
        "its own); next: leave --device out"
    )
