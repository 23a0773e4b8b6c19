"""Fixtures of the whole suite: the program in a subprocess, the shared recordings and the reference vectors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# One thread for each process: on a busy machine the threads of two processes wait for each other.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# The same examples on every machine and every day; a wider search is a matter of `--hypothesis-profile default`.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

LOOPBACK = ("127.", "::1", "localhost")


def _no_network(event: str, args: tuple[object, ...]) -> None:
    """Row 34: nothing that the suite runs in this process asks anyone but this machine."""
    if event in ("socket.connect", "socket.sendto"):
        address = args[1]
        if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
            raise PermissionError(f"{event} to {address[0]}: no test may use the network")
    elif event == "socket.getaddrinfo" and not str(args[0] or "localhost").startswith(LOOPBACK):
        raise PermissionError(f"{event} of {args[0]}: no test may use the network")


sys.addaudithook(_no_network)

# Under nohup or in the background of a script, children would inherit "ignore"; a handler is not inherited.
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TOP = Path(__file__).resolve().parent.parent
# Two processes that fill one cache of compiled functions at the same time can crash each other: each has its own.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["NUMBA_CACHE_DIR"] = str(TOP / ".pytest_cache" / f"numba-{os.environ['PYTEST_XDIST_WORKER']}")
Run = Callable[..., subprocess.CompletedProcess[bytes]]


def _shared() -> Path:
    return Path(os.environ.get("CHOREO_SHARED", TOP.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared recordings; the test is skipped, with the reason, when it is absent."""
    folder = _shared() / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared recordings at {folder} (set CHOREO_SHARED)")
    return _shared()


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of reference vectors of the data lane."""
    folder = _shared() / "vectors" / "datalane"
    if not folder.is_dir():
        pytest.skip(f"no reference vectors at {folder} (set CHOREO_SHARED)")
    return folder


@pytest.fixture
def choreo(tmp_path: Path) -> Run:
    """Run the real program: choreo("pair", "-o", d, input=b"...") with an empty cache of its own."""

    def run(
        *args: object,
        input: bytes | None = b"",
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 240,
    ) -> subprocess.CompletedProcess[bytes]:
        base = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(tmp_path / "home"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "PYTHONPATH": str(TOP),
            "LC_ALL": "C.UTF-8",
        }
        return subprocess.run(
            [sys.executable, "-m", "choreo_cli", *map(str, args)],
            input=input,
            capture_output=True,
            env={**base, **(env or {})},
            cwd=cwd or tmp_path,
            timeout=timeout,
            check=False,
        )

    return run
