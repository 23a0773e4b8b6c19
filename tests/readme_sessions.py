"""Rewrite the outputs in README.md's console blocks with what the program says now: python tests/readme_sessions.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent


def refreshed(text: str) -> str:
    """The README with the real output under every `$ ` line."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        shim = Path(home, "choreo")
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m choreo_cli "$@"\n')
        shim.chmod(0o755)
        env = {
            "PATH": f"{home}:{os.environ['PATH']}", "PYTHONPATH": str(TOP), "HOME": home, "COLUMNS": "100",
            "XDG_CACHE_HOME": f"{home}/cache", "LC_ALL": "C.UTF-8",
        }  # fmt: skip

        def block(match: re.Match[str]) -> str:
            lines = []
            for line in match[1].splitlines():
                if line.startswith("$ "):
                    done = subprocess.run(
                        ["/bin/sh", "-c", line[2:]],
                        capture_output=True,
                        text=True,
                        cwd=folder,
                        env=env,
                        check=True,
                        timeout=200,
                    )
                    lines += [line + "\n", done.stdout]
            return f"```console\n{''.join(lines)}```"

        return re.sub(r"^```console\n(.*?)^```", block, text, flags=re.S | re.M)


if __name__ == "__main__":
    path = TOP / "README.md"
    path.write_text(refreshed(path.read_text(encoding="utf-8")), encoding="utf-8")
