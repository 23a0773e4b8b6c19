"""`choreo inspect` as a shell sees it: JSON, table, lines, CSV, maps, pictures, exit codes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from formats import manifest, sealed
from formats.columns import FRAMES
from formats.tables import read_table, write_table

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"


def test_json_in_a_pipe(choreo: Any) -> None:
    done = choreo("inspect", DATA / "frames.parquet")
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (found["schema"], found["rows"], found["ok"]) == ("choreo.frames/1", 100, True)
    assert [c["name"] for c in found["columns"]] == list(FRAMES.names)
    assert found["clock"]["rate_hz"] == 50
    energy = next(c for c in found["columns"] if c["name"] == "motion_energy")
    values = read_table(DATA / "frames.parquet", FRAMES).column("motion_energy").to_numpy()
    assert energy["max"] == pytest.approx(float(values.max()), rel=1e-6)
    assert found["facts"]["motion is real"] == "100.0 %"


def test_a_table_fits_the_width(choreo: Any) -> None:
    done = choreo("inspect", DATA / "frames.parquet", "--table", env={"COLUMNS": "100"})
    lines = done.stdout.decode().splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("motion_energy") and "█" in line for line in lines)
    assert lines[-1].startswith("keep it with -o")


@pytest.mark.parametrize("name", sorted(p.name for p in DATA.iterdir() if p.is_file()))
def test_every_example_opens(name: str) -> None:
    from choreo_cli.report.content import open_content
    from choreo_cli.report.listing import column_rows, facts_lines, record
    from formats.errors import FormatError

    if name == "own_keys.json":
        return
    try:
        found = record(open_content(DATA / name))
    except FormatError as e:
        pytest.fail(str(e))
    json.dumps(found, allow_nan=False)
    assert facts_lines(found)[0].startswith(f"{name}: ")
    assert len(column_rows(found)) == len(found["columns"])
    assert found["ok"], found["problems"]


def test_a_broken_bound_is_exit_1(choreo: Any, tmp_path: Path) -> None:
    table = read_table(DATA / "frames.parquet", FRAMES)
    columns = {
        n: table.column(n).to_pylist() if n == "session_id" else table.column(n).to_numpy().copy() for n in FRAMES.names
    }
    columns["hr"][4] = 300
    write_table(tmp_path / "frames.parquet", FRAMES, columns)
    done = choreo("inspect", tmp_path / "frames.parquet", "--table")
    assert done.returncode == 1
    assert b"BROKEN hr: 1 values outside [30, 220] beats/min, first 300.0 at row 4" in done.stdout


def test_lines_of_a_manifest_are_its_entries(choreo: Any) -> None:
    from formats.manifest import decode, entry_line

    done = choreo("inspect", DATA / "inventory.json", "--lines")
    entries = decode((DATA / "inventory.json").read_bytes()).entries
    assert done.stdout.splitlines() == [entry_line(e) for e in entries]


def test_lines_of_frames_and_poses(choreo: Any) -> None:
    rows = [json.loads(x) for x in choreo("inspect", DATA / "frames.parquet", "--lines").stdout.splitlines()]
    values = read_table(DATA / "frames.parquet", FRAMES).column("hip_sway").to_numpy()
    np.testing.assert_array_equal(np.array([r["hip_sway"] for r in rows], np.float32), values)
    poses = [json.loads(x) for x in choreo("inspect", DATA / "poses.jsonl", "--lines").stdout.splitlines()]
    source = [json.loads(x) for x in (DATA / "poses.jsonl").read_text().splitlines()]
    assert [p["joints"]["pelvis"] for p in poses] == [s["joints"]["pelvis"] for s in source]


def test_csv_reads_back(choreo: Any, tmp_path: Path) -> None:
    out = tmp_path / "frames.csv"
    done = choreo("inspect", DATA / "frames.parquet", "--to", "csv", "-o", out)
    assert (done.returncode, done.stdout) == (0, b"")
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    table = read_table(DATA / "frames.parquet", FRAMES)
    for name in ("motion_energy", "hr", "t_us"):
        want = table.column(name).to_numpy()
        np.testing.assert_array_equal(np.array([r[name] for r in rows]).astype(want.dtype), want)
    assert out.read_bytes() == choreo("inspect", DATA / "frames.parquet", "--to", "csv").stdout


def test_missing_is_empty_in_csv_and_null_in_lines(choreo: Any) -> None:
    lines = choreo("inspect", DATA / "context.parquet", "--lines").stdout.splitlines()
    assert json.loads(lines[0])["age_us"] is None
    cells = choreo("inspect", DATA / "context.parquet", "--to", "csv").stdout.decode().splitlines()
    assert next(csv.DictReader(io.StringIO("\n".join(cells))))["age_us"] == ""


def test_a_map_for_own_keys(choreo: Any, tmp_path: Path) -> None:
    suggested = choreo("inspect", DATA / "own_keys.json", "--suggest-map")
    assert suggested.returncode == 0 and b"body.pts" in suggested.stdout
    text = suggested.stdout.decode().replace("key: null, unit: frame", "key: clock.sec, unit: s")
    text = text.replace("map: {}", "map: {point_0: pelvis, point_4: l_wrist, point_5: r_wrist}")
    (tmp_path / "map.yaml").write_text(text)
    done = choreo("inspect", DATA / "own_keys.json", "--map", tmp_path / "map.yaml")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rows"] == 60
    assert found["clock"]["rate_hz"] == pytest.approx(30, rel=0.02)
    assert choreo("inspect", DATA / "own_keys.json", "--map", tmp_path / "none.yaml").returncode == 66


def test_a_picture(choreo: Any, tmp_path: Path) -> None:
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    done = choreo("inspect", DATA / "frames.parquet", "--plot", a)
    assert (done.returncode, done.stdout) == (0, b"")
    choreo("inspect", DATA / "frames.parquet", "--plot", b, env={"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"})
    assert a.read_bytes() == b.read_bytes()


def test_exit_codes(choreo: Any, tmp_path: Path) -> None:
    assert choreo("inspect", tmp_path / "none").returncode == 66
    both = choreo("inspect", DATA / "frames.parquet", "--lines", "--to", "csv")
    assert both.returncode == 2 and both.stderr.count(b"\n") == 1
    bad = tmp_path / "frames.parquet"
    bad.write_bytes((DATA / "frames.parquet").read_bytes()[:500])
    cut = choreo("inspect", bad)
    assert cut.returncode == 65 and cut.stderr.count(b"\n") == 1 and cut.stdout == b""
    place = choreo("inspect", DATA / "frames.parquet", "--plot", tmp_path / "no" / "a.png")
    assert place.returncode == 73
    assert choreo("inspect", DATA / "metadata.json", "--session", "x").returncode == 0


def test_a_run_folder_is_its_run_and_a_report_folder_its_report(choreo: Any, tmp_path: Path) -> None:
    for name, schema in (("run", "choreo.run/1"), ("metrics", "choreo.metrics/1")):
        doc = manifest.encode(manifest.Manifest(schema, {}, [], [manifest.Root("out", str(tmp_path), True)]))
        (tmp_path / f"{name}.json").write_bytes(doc)
    assert json.loads(choreo("inspect", tmp_path).stdout)["schema"] == "choreo.run/1"
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.json").write_bytes(sealed.dumps({"schema": "choreo.report/1", "decision": {}}))
    assert json.loads(choreo("inspect", tmp_path / "report").stdout)["schema"] == "choreo.report/1"


def test_a_folder_of_frames(choreo: Any) -> None:
    found = json.loads(choreo("inspect", DATA / "openpose", "--fps", "5").stdout)
    assert (found["schema"], found["rows"]) == ("openpose-folder", 10)
    assert found["clock"]["rate_hz"] == 5


@pytest.mark.parametrize("name", ["frames.parquet", "dance.bvh"])
def test_head_closes_the_pipe_quietly(name: str) -> None:
    import os
    import subprocess
    import sys

    top = Path(__file__).resolve().parents[2]
    script = (
        f"set -o pipefail; {sys.executable} -m choreo_cli inspect {DATA / name} --lines | head -n 1 >/dev/null; echo $?"
    )
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, timeout=60, check=False, cwd=top,
                          env={"PATH": os.environ["PATH"], "PYTHONPATH": str(top)})  # fmt: skip
    assert done.stderr == b""
    assert done.stdout.strip() in (b"0", b"141")
