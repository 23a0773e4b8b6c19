"""Whole batches: broken captures among good ones, hostile inventories, and no network at all."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from formats import manifest

TOP = Path(__file__).resolve().parents[2]


def program(
    *args: object, cwd: Path, input: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    base = {**os.environ, "PYTHONPATH": str(TOP), "XDG_CACHE_HOME": str(cwd / ".cache"), **(env or {})}
    return subprocess.run(
        [sys.executable, "-m", "choreo_cli", *map(str, args)],
        input=input,
        capture_output=True,
        cwd=cwd,
        env=base,
        timeout=280,
        check=False,
    )


def capture(k: int, n: int = 120) -> bytes:
    rng = random.Random(k)
    lines = []
    for i in range(n):
        joints = {j: [round(rng.uniform(-1, 1), 3) for _ in range(3)] for j in ("pelvis", "head", "l_wrist", "r_wrist")}
        lines.append(json.dumps({"t": 1_767_225_600 + k * 600 + i / 30, "joints": joints}))
    return ("\n".join(lines) + "\n").encode()


# Ways a capture breaks so that nothing in it can be used.
BREAK = [
    lambda b: b"",
    lambda b: b[:40],
    lambda b: b"\x00" * 500,
    lambda b: b[: len(b) // 2].replace(b"{", b"[") + b"}",
    lambda b: b.replace(b"joints", b"joints\xff"),
    lambda b: b"{" * 5000,
    lambda b: b.replace(b'"t": ', b'"t": NaN, "u": '),
    lambda b: b.replace(b'"t": 1', b'"t": 1e999, "u": 1'),
    lambda b: b"\x1f\x8b" + b,
    lambda b: b.replace(b"\n", b",\n"),
]


@pytest.mark.parametrize("n,bad", [(60, 10), pytest.param(500, 50, marks=pytest.mark.slow)])
def test_broken_captures_do_not_stop_the_batch(n: int, bad: int, tmp_path: Path) -> None:
    """The good ones are done, the broken ones listed with their reason, exit 3."""
    broken = {k * (n // bad): BREAK[k % len(BREAK)] for k in range(bad)}
    top = tmp_path / "captures"
    music = top / "music"
    music.mkdir(parents=True)
    make = "import sys; from choreo_cli.audio.render import wav_bytes, render_clicks; import numpy as np; open(sys.argv[1], 'wb').write(wav_bytes(render_clicks(np.arange(0.5, 9, 0.5), 9.0)))"
    done = subprocess.run(
        [sys.executable, "-c", make, str(music / "song.wav")], capture_output=True, cwd=TOP, check=False
    )
    assert done.returncode == 0, done.stderr
    for k in range(n):
        folder = top / f"take-{k:04d}"
        folder.mkdir()
        data = capture(k)
        (folder / "poses.jsonl").write_bytes(broken[k](data) if k in broken else data)
        when = 1_767_225_600 + k * 600
        (folder / "metadata.json").write_text(
            json.dumps({"session": f"take {k}", "track": {"title": "song"}, "started_at": when})
        )
    listed = program("discover", top, "-q", cwd=tmp_path)
    assert listed.returncode == 3 and b"Traceback" not in listed.stderr
    paired = program("pair", "-q", "-o", "d", cwd=tmp_path, input=listed.stdout)
    assert paired.returncode == 3, paired.stderr
    assert len(json.loads(paired.stdout)["entries"]) == n - bad
    report = json.loads((tmp_path / "d" / "report.json").read_bytes())
    named = {s["path"] for s in report["skipped"]} | {u["path"] for u in report["unused"]}
    assert {f"take-{k:04d}/poses.jsonl" for k in broken} <= named
    reasons = [s["reason"] for s in report["skipped"]]
    assert len(reasons) >= bad - 1 and all(reasons)


def hostile(entry: dict[str, Any], **change: Any) -> bytes:
    return manifest.encode(
        manifest.Manifest(
            "choreo.inventory/1", {"choreo": "0.1.0"}, [{**entry, **change}], [manifest.Root("r0", "ROOT")]
        )
    )


@pytest.mark.parametrize(
    "path",
    ["../secret.jsonl", "/etc/passwd", "a/../../secret.jsonl", "link.jsonl", "fifo.jsonl", "device.jsonl", "x\x00y"],
    ids=repr,
)
def test_an_inventory_cannot_reach_out_of_its_root(path: str, tmp_path: Path) -> None:
    """Refused with a reason, and nothing outside the root was opened (seen by an audit hook)."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "poses.jsonl").write_bytes(capture(1))
    (tmp_path / "secret.jsonl").write_bytes(capture(2))
    (root / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    os.mkfifo(root / "fifo.jsonl")
    try:
        os.mknod(root / "device.jsonl", 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero: no end of bytes
    except PermissionError:
        (root / "device.jsonl").symlink_to("/dev/zero")
    listed = json.loads(program("discover", root, cwd=tmp_path).stdout)
    entry = next(e for e in listed["entries"] if e["kind"] == "pose")
    doc = hostile(entry, path=path).replace(b'"ROOT"', json.dumps(str(root)).encode())
    head, _, _ = doc.partition(b"\n")
    import hashlib

    tail = doc.rfind(b'\n],"head_sha256":"')
    old = doc[tail + 18 : tail + 82]
    doc = doc.replace(old, hashlib.sha256(head + b"\n").hexdigest().encode())
    hook = (
        "import sys, runpy\nopened = []\n"
        "sys.addaudithook(lambda e, a: opened.append(str(a[0])) if e == 'open' else None)\n"
        "sys.argv = ['choreo', 'pair', '-', '-o', 'd']\n"
        "try:\n runpy.run_module('choreo_cli', run_name='__main__')\nfinally:\n"
        " bad = [o for o in opened if 'secret.jsonl' in o or o == '/etc/passwd']\n assert not bad, bad\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", hook], input=doc, capture_output=True, cwd=tmp_path, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(TOP)},
    )  # fmt: skip
    assert b"AssertionError" not in done.stderr and b"Traceback" not in done.stderr, done.stderr
    assert done.returncode in (1, 3, 65), done.stderr


def test_this_suite_has_no_network() -> None:
    """The hook of conftest.py holds for everything that runs in this process."""
    import socket

    with pytest.raises(PermissionError, match="no test may use the network"):
        socket.create_connection(("192.0.2.1", 9), 0.1)
    with pytest.raises(PermissionError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", ("192.0.2.1", 9))
    with pytest.raises(OSError), socket.socket() as s:
        s.settimeout(0.2)
        s.connect(("127.0.0.1", 9))


def test_nothing_but_loopback_is_ever_asked(tmp_path: Path) -> None:
    """A socket hook under the main job: discover, pair with previews, inspect, check."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def hook(event, args):\n"
        "    if event in ('socket.connect', 'socket.sendto', 'socket.getaddrinfo', 'urllib.Request'):\n"
        "        open(os.environ['NET_LOG'], 'a').write(f'{event} {args!r}\\n')\n"
        "sys.addaudithook(hook)\n"
    )
    log = tmp_path / "net.log"
    env = {"PYTHONPATH": f"{tmp_path / 'hook'}:{TOP}", "NET_LOG": str(log)}
    assert (
        program("synth", "sessions", "--sessions", 1, "--minutes", 0.4, "-o", "r", cwd=tmp_path, env=env).returncode
        == 0
    )
    listed = program("discover", "r", cwd=tmp_path, env=env)
    assert program("pair", "--preview", "-o", "d", cwd=tmp_path, input=listed.stdout, env=env).returncode == 0
    assert program("inspect", "d/frames.parquet", "--plot", "p.png", cwd=tmp_path, env=env).returncode == 0
    assert program("check", "d", cwd=tmp_path, env=env).returncode == 0
    control = subprocess.run(
        [sys.executable, "-c", "import socket\ntry:\n socket.create_connection(('127.0.0.1', 9), 1)\nexcept OSError:\n pass"],
        env={**os.environ, **env}, check=False,
    )  # fmt: skip
    assert control.returncode == 0
    lines = log.read_text().splitlines()
    assert any("127.0.0.1" in line for line in lines), "the hook hears"
    assert [line for line in lines if "127.0.0.1" not in line and "AF_UNIX" not in line and "/tmp/" not in line] == []
