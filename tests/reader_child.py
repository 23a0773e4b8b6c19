"""A process that opens one damaged file after another in every way the program can, and says how each ended.

Reads paths on stdin, one a line; answers one JSON line: what happened, seconds, peak memory above the start.
Address space is capped, so that a reader that eats memory fails here and not on the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

MEMORY = 512 * 2**20


def _usage_kb() -> int:
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def _peak_kb() -> int:
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))


def _reset_peak() -> None:
    try:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except OSError:
        return  # then the peak is that of the whole life, which is stricter


def _address_space() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[0]) * resource.getpagesize()


def warm() -> None:
    """Load every library a reader may need, so that the cap measures files and not imports."""
    import mido
    import numpy
    import pyarrow.compute
    import pyarrow.parquet
    import scipy.fft
    import scipy.signal
    import soundfile
    import soxr
    import yaml  # noqa: F401

    with contextlib.suppress(ImportError):  # an extra
        import av  # noqa: F401
    from choreo_cli.report import recognise

    recognise.readers()
    for name in ("mido", "numpy", "pyarrow", "scipy", "soundfile", "soxr"):
        assert name in sys.modules
    del mido, numpy, pyarrow, scipy, soundfile, soxr


def open_every_way(path: Path, formats: tuple[str, ...]) -> str:
    """Check and inspect the file, then force on it the readers its original had; returns what was refused or read."""
    from choreo_cli.report import recognise
    from choreo_cli.report.content import open_content
    from choreo_cli.report.listing import record
    from choreo_cli.report.verify import check_file
    from formats.errors import FormatError
    from formats.foreign.source import Source

    verdict = check_file(path, path.name, named=False)
    outcome = "whole" if verdict.ok else "refused"
    try:
        content = open_content(path)
        if content.kind != "audio" or content.rows < 10_000_000:
            record(content)
    except FormatError:
        outcome += ", not opened"
    for reader in recognise.readers():
        if reader.format in formats:
            try:
                source = Source.of(path)
                facts = reader.facts(source)
                if reader.read is not None and facts.reason is None:
                    drain(reader.read(source))
            except FormatError:
                outcome += f", {reader.format} refused"
    return outcome


def drain(found: Any) -> None:
    """Decode sound to its end: damage may lie in the last block."""
    if hasattr(found, "blocks"):
        with found:
            for _ in found.blocks(0, 2_000_000, 65536):
                pass


def main() -> None:
    warm()
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY + (256 << 20), resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answer.write(json.dumps({"ready": True}) + "\n")
    answer.flush()
    for line in sys.stdin:
        path, formats = json.loads(line)
        _reset_peak()
        before, start = _usage_kb(), time.perf_counter()
        reply: dict[str, Any] = {"path": path, "error": None}
        try:
            reply["outcome"] = open_every_way(Path(path), tuple(formats))
        except BaseException as e:
            reply["error"] = "".join(traceback.format_exception(e))[-3000:]
        reply["seconds"] = time.perf_counter() - start
        reply["memory_mb"] = max(0, _peak_kb() - before) / 1024
        answer.write(json.dumps(reply) + "\n")
        answer.flush()


if __name__ == "__main__":
    main()
