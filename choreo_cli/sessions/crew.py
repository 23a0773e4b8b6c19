"""Independent work by this process and a few others at once: nobody waits while the others start."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def share(work: Callable[[A], B], items: Sequence[A], jobs: int) -> Iterator[tuple[int, B]]:
    """Yield (position, `work(item)`) in no particular order.

    The others take items from the front and this process from the back, so that work too short for their start-up is
    done without them. An item whose worker died is done here.

    Args:
        work: A function of one item that can be sent to another process.
        items: What to work on.
        jobs: Processes, this one among them.
    """
    if jobs <= 1 or len(items) <= 1:
        yield from enumerate(map(work, items))
        return
    # forkserver: no copied threads or locks; spawn is the only safe way on macOS.
    context = multiprocessing.get_context("spawn" if sys.platform == "darwin" else "forkserver")
    pool = ProcessPoolExecutor(jobs - 1, mp_context=context, initializer=_quiet)
    try:
        futures = [pool.submit(work, item) for item in items]
        theirs: list[int] = []
        for k in reversed(range(len(items))):
            if futures[k].cancel():
                yield k, work(items[k])
            else:
                theirs.append(k)
        for k in theirs:
            yield k, _result(futures[k], work, items[k])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(future: Future[B], work: Callable[[A], B], item: A) -> B:
    try:
        return future.result()
    except BrokenProcessPool:
        return work(item)


def _quiet() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends the pool
