"""Runs a function in two processes, as torchrun would, and watches what they write."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chmod", "shutil.rmtree"}


def run(
    work: Callable[[], None], folder: Path, *, exits: tuple[int, int] = (0, 0)
) -> list[set[str]]:
    """Returns the paths below ``folder`` that each process has made, changed or removed.

    Their exit codes must be ``exits``. Forks, because a fresh interpreter would import torch for
    six seconds. What a process prints is in ``out-RANK`` and ``err-RANK`` beside the folder.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    fork = multiprocessing.get_context("fork")
    started = [fork.Process(target=_child, args=(rank, port, work, folder)) for rank in (0, 1)]
    for process in started:
        process.start()
    deadline = time.monotonic() + 120
    while any(process.is_alive() for process in started):
        codes = [process.exitcode or 0 for process in started]
        failed = any(codes) and exits == (0, 0)  # the other one would wait for it
        if failed or time.monotonic() > deadline:
            for process in started:
                process.kill()
        time.sleep(0.05)
    for process in started:
        process.join()
    beside = folder.parent
    errors = [(beside / f"err-{rank}").read_text() for rank in (0, 1)]
    assert [process.exitcode for process in started] == [*exits], "\n".join(errors)
    written = [beside / f"changes-{rank}" for rank in (0, 1)]
    return [set(file.read_text().splitlines()) if file.exists() else set() for file in written]


def _child(rank: int, port: str, work: Callable[[], None], folder: Path) -> None:
    beside = folder.parent
    for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
        file = (beside / f"{name}-{rank}").open("w", buffering=1)
        os.dup2(file.fileno(), {"out": 1, "err": 2}[name])
        setattr(sys, {"out": "stdout", "err": "stderr"}[name], file)
        stream.flush()
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2",
        MASTER_ADDR="127.0.0.1", MASTER_PORT=port, GLOO_SOCKET_IFNAME="lo",
    )  # fmt: skip
    torch.set_num_threads(1)
    PartialState._reset_state()  # of the process that was forked
    changed: set[str] = set()

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event in CHANGES or (event == "open" and int(str(arguments[2])) & WRITING):
            paths = map(str, arguments[: 2 if event == "os.rename" else 1])
            inside = [path for path in paths if path.startswith(str(folder))]
            changed.update(path.removeprefix(str(folder)) for path in inside)

    sys.addaudithook(watch)
    code = 0
    try:
        work()
    except SystemExit as error:
        code = int(str(error.code))
    except BaseException:
        traceback.print_exc()
        code = 1
    (beside / f"changes-{rank}").write_text("\n".join(sorted(changed)))
    os._exit(code)
