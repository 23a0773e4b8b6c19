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
_AHEAD = 2  # items handed out for each process, so that it need not wait for this one


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
        yield from _both_ends(work, items, pool, _AHEAD * (jobs - 1))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _both_ends(
    work: Callable[[A], B], items: Sequence[A], pool: ProcessPoolExecutor, ahead: int
) -> Iterator[tuple[int, B]]:
    # Nothing that was handed out is cancelled: a pool that breaks with cancelled work in it never answers.
    out: dict[int, Future[B]] = {}
    front, back = 0, len(items)
    whole = True
    while front < back or out:
        while whole and front < back - 1 and len(out) < ahead:
            try:
                out[front] = pool.submit(work, items[front])
                front += 1
            except BrokenProcessPool:
                whole = False
        if front < back:
            back -= 1
            yield back, work(items[back])
        ready = [k for k in out if out[k].done()] or ([min(out)] if out and front >= back else [])
        for k in ready:
            try:
                answer = out.pop(k).result()
            except BrokenProcessPool:
                whole = False
                answer = work(items[k])
            yield k, answer


def _quiet() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends the pool
