"""Start programs, wait for them and report what they cost. Runs as a small process of its own.

A forked child starts with the memory of its parent, and the kernel's peak figure remembers it: started from a program
that holds 500 MB, `true` reports 500 MB. Started from here the error is this process, about 10 MB.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time

Order = dict[str, object]


def launch(argv: list[str], cwd: str, variables: dict[str, str], out: str, err: str, limit_s: float) -> Order:
    """Run one program to its end.

    Returns:
        `cpu_s` (user and system, with the children it waited for), `wall_s`, `peak` (the kernel's unit), `code`.
    """
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        _become(argv, cwd, variables, out, err, limit_s)
    _, status, used = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    code = os.waitstatus_to_exitcode(status)
    return {"cpu_s": used.ru_utime + used.ru_stime, "wall_s": wall, "peak": used.ru_maxrss, "code": code}


def _become(argv: list[str], cwd: str, variables: dict[str, str], out: str, err: str, limit_s: float) -> None:
    try:
        os.chdir(cwd)
        for name, value in variables.items():
            os.putenv(name, value)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        for fd, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), fd)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit_s)  # survives exec: a program that hangs is ended by the kernel
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.execvp(argv[0], argv)
    finally:
        os._exit(127)


def main() -> None:
    """Read one order from stdin, run its rounds up to the first failure, write one list per program to stdout."""
    order = json.loads(os.fdopen(0, "rb", closefd=False).read())
    found: list[list[Order]] = [[] for _ in order["programs"]]
    failed = False
    for _ in range(order["rounds"]):
        for k, program in enumerate(order["programs"]):
            if not failed:
                found[k].append(launch(**program))
                failed = found[k][-1]["code"] not in order["ok"]
    with os.fdopen(1, "wb") as answer:
        answer.write(json.dumps({"platform": sys.platform, "runs": found}).encode())


if __name__ == "__main__":
    main()
