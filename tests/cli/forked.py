"""The command in a forked process: a fresh interpreter would import torch for seconds."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence

from layerbridge.cli.app import main


def fork(
    words: Sequence[object],
    *,
    stdin: int | None = None,
    stdout: int,
    stderr: int,
    terminal: bool = False,
    **environment: str,
) -> int:
    """Starts ``layerbridge`` with these words and streams; returns the process's id.

    Args:
        words: of the command line.
        stdin: file descriptor, as the other two.
        stdout: where results go.
        stderr: where notes and errors go.
        terminal: make the terminal of stdin the one whose Ctrl-C counts.
        **environment: variables to set.
    """
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        for number, stream in enumerate((os.open(os.devnull, os.O_RDONLY), stdout, stderr)):
            os.dup2(stdin if number == 0 and stdin is not None else stream, number)
        if terminal:
            import fcntl
            import termios

            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        # Whatever started the tests may have told its children to ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, closefd=False, buffering=1)  # noqa: SIM115
            for number, mode in enumerate("rww")
        )
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
        os.environ.update(environment)
        sys.argv = ["layerbridge", *map(str, words)]
        main()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
