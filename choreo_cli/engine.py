"""Fan-out of independent work: in this process or in a pool of local processes, with results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")


def run_map(
    work: Callable[[A], B],
    items: Sequence[A],
    *,
    jobs: int = 1,
    retries: int = 1,
    on_progress: Callable[..., None] | None = None,
) -> Iterator[B]:
    """Yield `work(item)` for each item, in the order of the items.

    A worker that dies (killed, out of memory) costs a retry of its item, never the batch; after `retries` the error
    is raised. Work that fails with an exception of its own is not retried: it would fail again.

    Args:
        work: A function of one item that can be sent to another process.
        items: What to work on.
        jobs: Processes; 1 stays in this one.
        retries: How often an item whose worker died is tried again.
        on_progress: Called as `on_progress(done, total)`.
    """
    total = len(items)
    results: Iterable[B]
    results = map(work, items) if jobs <= 1 or total <= 1 else _pool(work, items, min(jobs, total), retries)
    for done, result in enumerate(results, 1):
        if on_progress is not None:
            on_progress(done, total)
        yield result


def _pool(work: Callable[[A], B], items: Sequence[A], jobs: int, retries: int) -> Iterator[B]:
    from concurrent.futures.process import BrokenProcessPool

    start = 0
    tries = 0
    while start < len(items):
        with _executor(jobs) as pool:
            futures = [pool.submit(work, item) for item in items[start:]]
            try:
                for future in futures:
                    yield future.result()
                    start += 1
                    tries = 0
            except BrokenProcessPool:
                tries += 1
                if tries > retries:
                    raise
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _executor(jobs: int) -> Any:
    import multiprocessing
    import sys
    from concurrent.futures import ProcessPoolExecutor

    # forkserver: no copied threads or locks; spawn is the only safe way on macOS.
    method = "spawn" if sys.platform == "darwin" else "forkserver"
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context(method), initializer=_quiet_worker)


def _quiet_worker() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends the pool
