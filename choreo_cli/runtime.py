"""The surroundings, read once: environment, threads, device, seeds, and the provenance of a result."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from choreo_cli import __version__

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


def surroundings() -> dict[str, Any]:
    """What varies between machines, for `<kind>.run.json`; covered by no byte promise."""
    from importlib.metadata import version

    packages = {}
    for name in ("numpy", "scipy", "pyarrow", "soundfile", "soxr", "msgspec", "typer"):
        try:
            packages[name] = version(name)
        except Exception:
            packages[name] = "missing"
    return {
        "python": platform.python_version(),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": os.cpu_count(),
        "accelerator": None,
        "packages": packages,
    }


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
