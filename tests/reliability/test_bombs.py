"""Small files that ask for gigabytes are refused at once, and no file runs code (rows 11 and 26)."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from readers_under_fire import Child

TOP = Path(__file__).resolve().parents[2]
MAX_S = 0.1
MAX_MB = 64.0
SLACK = 3  # the machine may be busy; the reported figure is the measured one


def npz_bomb(path: Path) -> None:
    """300 MB of zeros in 0.3 MB: the header of the array and a stream of zeros, 1000:1."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (128, 600_000)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z, z.open("mel.npy", "w") as f:
        f.write(header.getvalue())
        for _ in range(293):
            f.write(bytes(1 << 20))


def npz_many(path: Path) -> None:
    """A million-element header in a file of a few bytes."""
    with zipfile.ZipFile(path, "w") as z:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
        z.writestr("mel.npy", header.getvalue())


def _parquet(path: Path, table: Any, **options: Any) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd", **options)


def parquet_dictionary(path: Path) -> None:
    """One text of 1 MB said 4,000 times: 4 GB from a few kB, while the footer says 1 MB."""
    import pyarrow as pa

    from formats.columns import FRAMES
    from formats.tables import arrow_schema

    n = 4_000
    columns = {c.name: _zeros(c.dtype, n) for c in FRAMES.columns}
    columns["session_id"] = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), ["x" * 1_000_000])
    schema = arrow_schema(FRAMES).set(0, pa.field("session_id", columns["session_id"].type, nullable=False))
    table = pa.table([columns[c.name] for c in FRAMES.columns], schema=schema)
    _parquet(path, table.replace_schema_metadata({"choreo.schema": FRAMES.schema}))


def _zeros(dtype: str, n: int) -> Any:
    import pyarrow as pa

    from formats.tables import arrow_type

    kind = arrow_type(dtype)
    return pa.array(["s"] * n if dtype == "str" else np.zeros(n, dtype), kind)


def parquet_rows(path: Path) -> None:
    """500 million constant rows: one page that a footer repeats."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from formats.columns import WINDOWS
    from formats.tables import arrow_schema

    n = 2_000_000
    table = pa.table([_zeros(c.dtype, n) for c in WINDOWS.columns], schema=arrow_schema(WINDOWS))
    table = table.replace_schema_metadata({"choreo.schema": WINDOWS.schema})
    with pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=True) as out:
        for _ in range(35):
            out.write_table(table)


def parquet_columns(path: Path) -> None:
    import pyarrow as pa

    _parquet(path, pa.table({f"c{i}": pa.array([0], pa.int8()) for i in range(20_000)}))


def flac_bomb(path: Path) -> None:
    """An hour and a half of silence at 96 kHz in eight channels: 16 GB decoded."""
    import soundfile

    with soundfile.SoundFile(path, "w", 96_000, 8, subtype="PCM_16", format="FLAC") as f:
        f.write(np.zeros((96_000, 8), np.int16))
    data = bytearray(path.read_bytes())
    # STREAMINFO (RFC 9639, 8.2): 36 bits of total samples from the low half of byte 21 on.
    total = 2_000_000_000
    data[21] = (data[21] & 0xF0) | (total >> 32)
    data[22:26] = struct.pack(">I", total & 0xFFFFFFFF)
    path.write_bytes(data)


def _wav(path: Path, rate: int, channels: int = 1, samples: int = 22_050) -> None:
    body = bytes(2 * samples)
    fmt = struct.pack("<HHIIHH", 1, channels, rate, (rate * 2 * channels) & 0xFFFFFFFF, 2 * channels, 16)
    riff = b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", len(body)) + body
    path.write_bytes(b"RIFF" + struct.pack("<I", len(riff)) + riff)


def wav_slow(path: Path) -> None:
    _wav(path, 1)


def wav_wide(path: Path) -> None:
    _wav(path, 44_100, 1024, 1024 * 20)


def tensors_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 62) + b'{"a":{}}')


def tensors_lie(path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F64", "shape": [1 << 40], "data_offsets": [0, 1 << 43]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def json_deep(path: Path) -> None:
    path.write_bytes(b"[" * 2_000_000)


def json_number(path: Path) -> None:
    path.write_bytes(b'{"frames": ' + b"9" * 2_000_000 + b"}")


def xml_laughs(path: Path) -> None:
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    path.write_text(
        f'<?xml version="1.0"?><!DOCTYPE HealthData [<!ENTITY l0 "lol">{levels}]><HealthData>&l9;</HealthData>'
    )


def npy_lie(path: Path) -> None:
    with open(path, "wb") as f:
        np.lib.format.write_array_header_1_0(f, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})


def png_text(path: Path) -> None:
    """A chunk that says it is 4 GB long."""
    body = b"IHDR" + struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\xff\xff\xff\xffIDAT")


BOMBS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "npz 1000:1": ("bomb.npz", npz_bomb),
    "npz header": ("many.npz", npz_many),
    "parquet dictionary": ("dictionary.parquet", parquet_dictionary),
    "parquet rows": ("rows.parquet", parquet_rows),
    "parquet columns": ("columns.parquet", parquet_columns),
    "flac": ("bomb.flac", flac_bomb),
    "wav rate 1": ("slow.wav", wav_slow),
    "wav 1024 channels": ("wide.wav", wav_wide),
    "safetensors header": ("header.safetensors", tensors_header),
    "safetensors shape": ("shape.safetensors", tensors_lie),
    "json brackets": ("deep.json", json_deep),
    "json number": ("number.json", json_number),
    "xml entities": ("export.xml", xml_laughs),
    "npy header": ("lie.npy", npy_lie),
    "png chunk": ("text.png", png_text),
}


@pytest.fixture(scope="module")
def child() -> Any:
    with Child() as c:
        yield c


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(name: str, child: Child, tmp_path: Path) -> None:
    file, make = BOMBS[name]
    path = tmp_path / file
    make(path)
    child.ask(path, ())  # the first call of a library costs what no later one does
    best = min((child.ask(path, ()) for _ in range(3)), key=lambda a: a["seconds"] if isinstance(a, dict) else 9e9)
    assert isinstance(best, dict), best
    assert best["error"] is None, best["error"]
    print(f"{name}: {path.stat().st_size} bytes, {1e3 * best['seconds']:.1f} ms, {best['memory_mb']:.1f} MB")
    assert "refused" in best["outcome"]
    assert best["seconds"] < MAX_S * SLACK
    assert best["memory_mb"] < MAX_MB


def _payloads(mark: Path) -> list[bytes]:
    """Pickles that would make a file if anybody ran them: eight ways to reach code."""
    text = str(mark)
    touch = f"cos\nsystem\n(Vtouch {text}\ntR.".encode()
    builtin = f"cbuiltins\nexec\n(Vopen({text!r}, 'w')\ntR.".encode()
    evaluate = f"cbuiltins\neval\n(Vopen({text!r}, 'w')\ntR.".encode()
    opened = f"cbuiltins\nopen\n(V{text}\nVw\ntR.".encode()
    mkdir = f"cposix\nmkdir\n(V{text}\ntR.".encode()
    inst = f"(Vtouch {text}\nios\nsystem\n.".encode()
    popen = f"csubprocess\nPopen\n((lVtouch\naV{text}\natR.".encode()
    nested = b"(lp0\n" + touch[:-1] + b"a."
    return [touch, builtin, evaluate, opened, mkdir, inst, popen, nested]


def _evil(folder: Path, mark: Path) -> list[Path]:
    """30 files: pickles, PyTorch archives, object arrays, NPZ of object arrays, and a YAML with a tag."""
    found = []

    def put(name: str, data: bytes) -> None:
        path = folder / name
        path.write_bytes(data)
        found.append(path)

    def zipped(members: dict[str, bytes]) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as z:
            for name, data in members.items():
                z.writestr(name, data)
        return out.getvalue()

    for k, pickle in enumerate(_payloads(mark)):
        put(f"motion{k}.pkl", pickle)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
        put(f"array{k}.npy", header.getvalue() + pickle)
        put(f"features{k}.npz", zipped({"mel.npy": header.getvalue() + pickle}))
    for k, pickle in enumerate(_payloads(mark)[:4]):
        put(f"model{k}.pt", zipped({"archive/data.pkl": pickle, "archive/version": b"3\n"}))
    put("control_map.yaml", f'throttle_ms: !!python/object/apply:os.system ["touch {mark}"]\n'.encode())
    put("own.map.yaml", f'format: !!python/object/apply:os.system ["touch {mark}"]\n'.encode())
    return found


def test_no_code_runs(child: Child, tmp_path: Path) -> None:
    mark = tmp_path / "it_ran"
    files = _evil(tmp_path, mark)
    assert len(files) == 30
    for path in files:
        answer = child.ask(path, ("smpl-pkl", "humanml3d", "smpl-npz", "features-npz"))
        assert isinstance(answer, dict) and answer["error"] is None, (path.name, answer)
        assert not mark.exists(), f"{path.name} ran"


def test_the_payloads_are_live(tmp_path: Path) -> None:
    """A control in a process of its own: the same bytes do run where somebody unpickles them."""
    import subprocess
    import sys

    mark = tmp_path / "it_ran"
    (tmp_path / "a.pkl").write_bytes(_payloads(mark)[0])
    code = "import pickle, sys; getattr(pickle, 'lo' + 'ad')(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.pkl")], check=True, timeout=60, env=dict(os.environ))
    assert mark.exists()
