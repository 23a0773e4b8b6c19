"""A real-time priority for the thread of the loop, where the system grants one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PRIORITY = 20
"""Of SCHED_FIFO: above everything ordinary, below the threads of JACK and of the kernel."""
INTERACTIVE = 0x21
"""QOS_CLASS_USER_INTERACTIVE of macOS (pthread/qos.h)."""


@contextmanager
def realtime() -> Iterator[str]:
    """Run the block on this thread before all ordinary ones; yields why that was refused, empty when it was not.

    Threads and processes that are started inside have the ordinary priority: a model that is trained beside the show
    must not stop it. On macOS the thread asks for the quality of service of user interaction instead (untested).
    """
    if hasattr(os, "sched_setscheduler"):
        before = os.sched_getscheduler(0), os.sched_getparam(0)
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
        except OSError as e:
            hint = "as root: setcap cap_sys_nice+ep on this python, or rtprio 20 in /etc/security/limits.conf"
            yield f"no real-time priority: {(e.strerror or str(e)).lower()}; {hint}"
            return
        try:
            yield ""
        finally:
            with suppress(OSError):  # the flag stays: only who may set priorities may take it back
                os.sched_setscheduler(0, before[0] | os.SCHED_RESET_ON_FORK, before[1])
        return
    yield _quality() if sys.platform == "darwin" else "no real-time priority: this system is not known to have any"


def _quality() -> str:
    import ctypes

    refused: int = ctypes.CDLL(None).pthread_set_qos_class_self_np(INTERACTIVE, 0)
    return f"no real-time priority: {os.strerror(refused)}" if refused else ""
