"""The surroundings, read once: environment, threads, device, seeds, and the provenance of a result."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from choreo_cli import __version__
from choreo_cli.errors import UnavailableError, UsageError

_SECRET = ("key", "token", "secret", "password")
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def limit_threads(n: int = 1) -> None:
    """Set thread variables before heavy libraries load; a value the user set stays."""
    for name in _THREADS:
        os.environ.setdefault(name, str(n))


class _Refuses:
    """A finder that has no pandas. Arrow imports it, where it is installed, to ask whether an array is one of its."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """See `importlib.abc.MetaPathFinder`."""
        if name == "pandas":
            raise ModuleNotFoundError("no pandas in this process", name=name)


def spare_memory() -> None:
    """Keep pandas and Arrow's own allocator out of this process; before pyarrow is imported, and for good.

    Only a command may say so of its process, never a library. An allocator that the user named stays. Of 172 MB that a
    performance took with half an hour of frames, 42 were pandas, and 18 what the allocator keeps for later.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if not any(isinstance(finder, _Refuses) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Refuses())


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/choreo`, or `~/.cache/choreo`, or a private temp folder when there is no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "choreo"
    home = os.environ.get("HOME")
    if home:
        return Path(home) / ".cache" / "choreo"
    import tempfile

    return Path(tempfile.gettempdir()) / f"choreo-{os.getuid()}"


def core_count(jobs: int) -> int:
    """Worker processes for `--jobs`: 0 means one per usable core."""
    if jobs > 0:
        return jobs
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def run_id(command: str, params: dict[str, Any], inputs: list[dict[str, Any]], seed: int | None) -> str:
    """First 12 hex of sha256 over what decides the result: equal work has an equal id."""
    doc = [command, params, sorted(str(i["sha256"]) for i in inputs), seed, __version__]
    return hashlib.sha256(json.dumps(doc, sort_keys=True, default=str).encode()).hexdigest()[:12]


def provenance(
    command: str, params: dict[str, Any], inputs: list[dict[str, Any]], *, seed: int | None = None
) -> dict[str, Any]:
    """The `created_by` record (protocol.md): no wall time, host or path, so equal work has equal bytes.

    Args:
        command: `pair`, `synth sessions`...
        params: Resolved parameters that decide the result. Secrets are masked.
        inputs: `{role, sha256, schema}` each.
        seed: Seed of the run, None when nothing is drawn.
    """
    clean = {k: "***" if any(s in k.lower() for s in _SECRET) else v for k, v in sorted(params.items())}
    return {
        "run_id": run_id(command, clean, inputs, seed),
        "command": command,
        "choreo": __version__,
        "git": _git(),
        "seed": seed,
        "deterministic": True,
        "params": clean,
        "inputs": inputs,
        "outputs": [],
    }


_PACKAGES = ("numpy", "scipy", "pyarrow", "soundfile", "soxr", "msgspec", "typer")
_TRAIN_PACKAGES = ("torch", "accelerate", "onnx", "onnxruntime")


def surroundings() -> dict[str, Any]:
    """What varies between machines, for `<kind>.run.json`; covered by no byte promise."""
    from importlib.metadata import version

    packages = {}
    for name in (*_PACKAGES, *_TRAIN_PACKAGES):
        try:
            packages[name] = version(name)
        except Exception:
            packages[name] = "missing"
    return {
        "python": platform.python_version(),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": os.cpu_count(),
        "accelerator": _accelerator(),
        "packages": packages,
    }


def _accelerator() -> str | None:
    """The accelerator that this process has used; torch is not loaded to find out."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return None
    if torch.cuda.is_initialized():
        return str(torch.cuda.get_device_name())
    return "MPS" if torch.backends.mps.is_available() and torch.mps.driver_allocated_memory() else None


@dataclass(slots=True)
class Signals:
    """What `deferred_signals` noted: `asked` is the number of the first signal, 0 while there was none."""

    asked: int = 0
    at: float = 0.0


@contextmanager
def deferred_signals() -> Iterator[Signals]:
    """Note SIGINT, SIGTERM and SIGHUP instead of ending at once, and deliver the first one after the block.

    For work that may not be cut in the middle: it looks at `asked` where it can stop, puts its things in order, and
    leaves the block. The handlers of before are then in force again and hear of the signal, so that the exit code and
    the line on stderr are those of any other command. A second signal ends the process at once, as everywhere; under
    torchrun only one that comes a second later does, because a terminal and torchrun both pass on the same Ctrl-C.
    What was ignored (nohup) stays ignored. Outside the main thread nothing is changed.

        with deferred_signals() as signals:
            fitted = fit(..., stop=lambda: signals.asked != 0)
    """
    noted = Signals()
    settle_s = 1.0 if process_count() > 1 else 0.0

    def note(signum: int, _frame: FrameType | None) -> None:
        if noted.asked and time.monotonic() - noted.at >= settle_s:
            os._exit(128 + signum)
        if not noted.asked:
            noted.at, noted.asked = time.monotonic(), signum

    before: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                with contextlib.suppress(ValueError):  # not the main thread: signals are another's business
                    before[number] = signal.signal(number, note)
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if noted.asked:
            signal.raise_signal(noted.asked)


def process_count() -> int:
    """Processes that train together: `WORLD_SIZE` as torchrun sets it, else 1."""
    return _whole_number("WORLD_SIZE", 1) if "RANK" in os.environ else 1


def process_rank() -> int:
    """Number of this process among those that train together; 0 writes."""
    return _whole_number("RANK", 0)


def _whole_number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else otherwise


TORCH_LINE = "pip install 'choreo[train]'"


def choose_device(asked: str = "auto") -> tuple[str, str]:
    """The device to compute on, and why, in words.

    Args:
        asked: `auto` (CUDA before MPS before CPU), `cpu`, `mps`, `cuda`, or one of several, `cuda:1`.

    Returns:
        A name that torch understands, and the reason.

    Raises:
        UnavailableError: torch is not installed, or has no such device here.
        UsageError: no device has this name.
    """
    kind, _, number = asked.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (":" in asked and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"no device is called {asked!r}", hint="auto, cpu, mps, cuda, or cuda:1 for the second one")
    try:
        import torch
    except (ImportError, OSError) as e:
        why = "torch is not installed" if isinstance(e, ModuleNotFoundError) else f"torch does not load ({e})"
        raise UnavailableError(why, hint=TORCH_LINE) from None
    cuda, mps = _cuda_missing(torch), _mps_missing(torch)
    if asked == "cpu":
        return "cpu", "asked for"
    if kind == "mps":
        if mps:
            raise UnavailableError(f"--device mps: {mps}", hint="--device cpu, or --device auto to take what there is")
        return "mps", "asked for"
    if kind == "cuda":
        if cuda:
            hint = f"{TORCH_LINE} with a CUDA build of torch on a machine that has such a device, or --device cpu"
            raise UnavailableError(f"--device {asked}: {cuda}", hint=hint)
        if number and int(number) >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise UnavailableError(f"--device {asked}: there are {count} CUDA devices", hint="count from cuda:0")
        return asked, f"asked for: {torch.cuda.get_device_name(int(number or 0))}"
    if not cuda:
        return "cuda", f"the first CUDA device: {torch.cuda.get_device_name(0)}"
    return ("mps", f"the GPU of this Mac; {cuda}") if not mps else ("cpu", f"{cuda}; {mps}")


def _cuda_missing(torch: Any) -> str:
    """Why there is no CUDA device; empty when there is one."""
    if torch.version.cuda is None:
        return f"no CUDA device: torch {torch.__version__} is a CPU build"
    if torch.cuda.is_available():
        return ""
    return f"no CUDA device: torch {torch.__version__} needs one with a driver for CUDA {torch.version.cuda}"


def _mps_missing(torch: Any) -> str:
    if sys.platform != "darwin":
        return "no MPS device: this is not a Mac"
    return "" if torch.backends.mps.is_available() else "no MPS device: this Mac or its system has none"


def _git() -> dict[str, Any] | None:
    """Commit of the checkout the program runs from; None for an installed one."""
    top = Path(__file__).resolve().parent.parent
    head = top / ".git" / "HEAD"
    try:
        text = head.read_text().strip()
        if text.startswith("ref: "):
            ref = text[5:]
            loose = top / ".git" / ref
            if loose.exists():
                text = loose.read_text().strip()
            else:
                packed = (top / ".git" / "packed-refs").read_text().splitlines()
                text = next(line.split()[0] for line in packed if line.endswith(" " + ref))
    except (OSError, StopIteration):
        return None
    return {"sha": text, "dirty": _dirty(top)}


def _dirty(top: Path) -> bool | None:
    """Whether tracked source differs from the index by size or time; None when it cannot be told cheaply."""
    import shutil
    import subprocess

    git = shutil.which("git")
    if git is None:
        return None
    env = {"PATH": os.environ.get("PATH", ""), "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    command = [
        git,
        "-C",
        str(top),
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        "choreo_cli",
        "formats",
        "commands",
    ]
    try:
        done = subprocess.run(command, capture_output=True, timeout=5, env=env, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return bool(done.stdout.strip()) if done.returncode == 0 else None


def python_name() -> str:
    return sys.executable
