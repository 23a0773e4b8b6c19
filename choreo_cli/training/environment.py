"""What this machine offers to a training: accelerators, torch, memory, and the device that would be taken."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from choreo_cli.errors import UnavailableError
from choreo_cli.runtime import choose_device

SCHEMA = "choreo.environment/1"
SMI_S = 10.0
SMI_FIELDS = ("name", "driver_version", "memory.total")


def survey(env: Mapping[str, str]) -> dict[str, Any]:
    """The facts, JSON values; what is not there is null. `env` is the environment: search path and thread settings."""
    try:
        device, reason = choose_device("auto")
        chosen: dict[str, Any] = {"device": device, "reason": reason}
    except UnavailableError as e:
        chosen = {"device": None, "reason": str(e)}
    return {
        "schema": SCHEMA,
        "auto": chosen,
        "torch": _torch(),
        "drivers": _nvidia(env),
        "onnxruntime": _onnxruntime(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": {k: v for k, v in sorted(env.items()) if k.endswith("_NUM_THREADS")},
        "memory_bytes": _memory(),
        "memory_free_bytes": _free_memory(),
        "python": platform.python_version(),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
    }


def rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The facts for a person: (what, value)."""
    torch, onnx = found["torch"], found["onnxruntime"]
    cuda = [f"{d['name']}, {_gigabytes(d['memory_bytes'])}" for d in (torch or {}).get("devices", [])]
    threads = ", ".join(f"{k}={v}" for k, v in found["threads"].items())
    return [
        ("device", f"{found['auto']['device'] or 'none'}: {found['auto']['reason']}"),
        ("torch", f"{torch['version']}, {torch['build']}" if torch else "not installed"),
        ("CUDA devices", "; ".join(cuda) or "none"),
        ("MPS", "yes" if torch and torch["mps"] else "no"),
        ("driver", "; ".join(f"{d['name']}, {d['driver']}" for d in found["drivers"] or ()) or "not visible"),
        ("ONNX Runtime", f"{onnx['version']}: {', '.join(onnx['providers'])}" if onnx else "not installed"),
        ("cores", f"{found['cores']}; torch threads {torch['threads'] if torch else '-'}; {threads or 'none set'}"),
        ("memory", f"{_gigabytes(found['memory_bytes'])}, free {_gigabytes(found['memory_free_bytes'])}"),
        ("system", f"{found['os']} {found['machine']}, Python {found['python']}"),
    ]


def _torch() -> dict[str, Any] | None:
    try:
        import torch
    except (ImportError, OSError):
        return None
    cuda = torch.version.cuda
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    properties = [torch.cuda.get_device_properties(k) for k in range(count)]
    return {
        "version": str(torch.__version__),
        "build": f"CUDA {cuda}" if cuda else "ROCm" if torch.version.hip else "CPU",
        "devices": [{"name": p.name, "memory_bytes": int(p.total_memory)} for p in properties],
        "mps": bool(torch.backends.mps.is_available()),
        "threads": torch.get_num_threads(),
    }


def _nvidia(env: Mapping[str, str]) -> list[dict[str, Any]] | None:
    """Devices as the driver's own tool lists them, None where it is absent or silent."""
    program = shutil.which("nvidia-smi", path=env.get("PATH"))
    if program is None:
        return None
    command = [str(Path(program).resolve()), f"--query-gpu={','.join(SMI_FIELDS)}", "--format=csv,noheader,nounits"]
    clean = {"PATH": env.get("PATH", ""), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=SMI_S, env=clean, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_smi(done.stdout) if done.returncode == 0 else None


def parse_smi(data: bytes) -> list[dict[str, Any]]:
    """`name, driver, MiB` lines of nvidia-smi; lines of another shape are passed over."""
    found = []
    for line in data[:65_536].decode("utf-8", "replace").splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != len(SMI_FIELDS):
            continue
        memory = int(parts[2]) * 2**20 if parts[2].isdecimal() else None
        found.append({"name": parts[0][:100], "driver": parts[1][:100], "memory_bytes": memory})
    return found


def _onnxruntime() -> dict[str, Any] | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    return {"version": str(onnxruntime.__version__), "providers": list(onnxruntime.get_available_providers())}


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _free_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):
        return None


def _gigabytes(n: int | None) -> str:
    return "unknown" if n is None else f"{n / 2**30:.1f} GiB"
