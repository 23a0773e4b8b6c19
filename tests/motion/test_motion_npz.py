"""The clip file: exact round trip, equal bytes, refusal of damage and of layouts it does not know."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.motion.skeleton import canonical_skeleton
from formats import motion_npz
from formats.errors import FormatError
from formats.foreign import registry
from formats.foreign.source import Source
from formats.motion_npz import CHANNELS, MOTION_NPZ, Header, MotionClip, Skeleton, out_of_range

MADE = {"command": "test", "run_id": "0" * 12, "choreo": "0"}
EXAMPLE = Path(__file__).resolve().parents[2] / "examples/data/dance.npz"
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def make(n: int = 7, **changed: Any) -> MotionClip:
    rng = np.random.default_rng(0)
    header = Header(
        29.97, canonical_skeleton(1.63), 0.25, -1.5, 2.0, 1.63, 1.04, {"format": "bvh", "fps": 29.97003},
        "CC BY 4.0", "somebody", {"inverted": False, "updot": 0.9},
    )  # fmt: skip
    return MotionClip(rng.uniform(-1, 1, (n, 25)).astype(np.float32) * 0.5, replace(header, **changed))


def members(data: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(data), allow_pickle=False) as z:
        return dict(z)


def sealed(arrays: dict[str, Any]) -> bytes:
    """Any arrays under a valid digest, as a program of another version would write them."""
    import hashlib

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, array in arrays.items():
            body = io.BytesIO()
            np.lib.format.write_array(body, np.asarray(array), allow_pickle=False)
            z.writestr(f"{name}.npy", body.getvalue())
        z.comment = b"choreo.motion_npz/1 sha256:" + b"0" * 64
    data = out.getvalue()[:-64]
    return data + hashlib.sha256(data).hexdigest().encode()


def text(value: Any) -> Any:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def test_everything_comes_back(tmp_path: Path) -> None:
    clip = make()
    sha = motion_npz.write(tmp_path / "a.npz", clip, MADE)
    found = motion_npz.read(tmp_path / "a.npz")
    assert found.created_by == MADE and np.array_equal(found.channels, clip.channels)
    assert found.channels.dtype == np.float32
    assert np.array_equal(found.header.skeleton.to_vector(), clip.header.skeleton.to_vector())
    assert replace(found.header, skeleton=clip.header.skeleton) == clip.header
    assert motion_npz.write(tmp_path / "b.npz", found, found.created_by) == sha
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert motion_npz.encode(replace(clip, created_by=MADE)) == (tmp_path / "a.npz").read_bytes()


def test_numpy_alone_reads_it() -> None:
    found = members(EXAMPLE.read_bytes())
    assert set(found) == {*MOTION_NPZ.names, motion_npz.PROVENANCE}
    assert found["channels"].shape == (60, 25) and float(found["fps"]) == 30.0


def test_the_channel_table_is_the_layout() -> None:
    assert len(CHANNELS) == 25 and len({c.name for c in CHANNELS}) == 25
    assert all(c.unit and c.doc and c.lo is not None and c.hi is not None for c in CHANNELS)
    shapes = motion_npz.SKELETON_SHAPES
    assert sum(int(np.prod(s)) for s in shapes.values()) == motion_npz.SKELETON_SIZE == 58


def test_a_skeleton_is_58_numbers() -> None:
    s = canonical_skeleton(1.7)
    again = Skeleton.of_vector(s.to_vector())
    assert np.array_equal(again.to_vector(), s.to_vector()) and again.oc.shape == (5, 3) and again.kb == s.kb
    with pytest.raises(FormatError, match="a skeleton of 57 numbers, 58 are needed"):
        Skeleton.of_vector(np.zeros(57))


@pytest.mark.parametrize("at", [10, 200, 3000, -300, -70, -1])
def test_one_flipped_bit_is_found(at: int) -> None:
    data = bytearray(motion_npz.encode(make(60)))
    data[at] ^= 1
    with pytest.raises(FormatError, match=r"sha256|damaged"):
        motion_npz.decode(bytes(data))


@pytest.mark.parametrize("keep", [0, 3, 100, 5000, -1, -64])
def test_cut_files(keep: int) -> None:
    with pytest.raises(FormatError, match=r"cut or damaged|damaged archive"):
        motion_npz.decode(motion_npz.encode(make(60))[:keep])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layout_version": np.int32(2)}, r"2 is not known, 1 is \(layout_version\): update choreo"),
        ({"layout_version": np.int32(0)}, r"0 is not known, 1 is \(layout_version\)$"),
        ({"layout_version": np.float64(1)}, r"no whole number \(layout_version\)"),
        ({"channels": np.zeros((3, 24), np.float32)}, r"shape \(3, 24\), needs float32\[T,25\] \(channels\)"),
        ({"channels": np.zeros((0, 25), np.float32)}, r"no frames \(channels\)"),
        ({"channels": np.full((3, 25), np.nan, np.float32)}, r"75 values are not finite \(channels\)"),
        ({"channels": np.zeros((3, 25), "<U4")}, r"<U4 values, needs float32\[T,25\]"),
        ({"fps": 0.0}, r"values outside 0.01..10000 \(fps\)"),
        ({"fps": np.nan}, r"1 values are not finite \(fps\)"),
        ({"thigh": np.array([0.4, -0.4])}, r"values outside 0\.\.100 \(thigh\)"),
        ({"op": np.zeros((3, 2))}, r"shape \(3, 2\), needs float64\[3,3\] \(op\)"),
        ({"scale_applied": 0.0}, r"not above 0 \(scale_applied\)"),
        ({"extra": np.zeros(2)}, r"unknown key \(extra\)"),
        ({"kb": None}, r"missing \(kb\)"),
        ({"header.json": text([1])}, r"not an object \(header.json\)"),
        ({"header.json": None}, r"missing, or not text \(header.json\)"),
        ({"__choreo__.json": None}, r"missing, or not text \(__choreo__.json\)"),
    ],
)
def test_what_breaks_the_table_is_refused(change: dict[str, Any], sentence: str) -> None:
    arrays = {**members(motion_npz.encode(make(), MADE)), **change}
    with pytest.raises(FormatError, match=sentence):
        motion_npz.decode(sealed({k: v for k, v in arrays.items() if v is not None}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"units": "cm"}, "units is 'cm', not 'm'"),
        ({"up": "z"}, "up is 'z', not 'y'"),
        ({"layout": "choreo26"}, "layout is 'choreo26', not 'choreo25'"),
        ({"licence": 3}, "licence is neither text nor null"),
        ({"flags": []}, "flags is not an object"),
        ({"colour": "red"}, "'colour' is unknown"),
    ],
)
def test_headers_are_checked(change: dict[str, Any], sentence: str) -> None:
    arrays = members(motion_npz.encode(make(), MADE))
    told = {**json.loads(arrays["header.json"].tobytes()), **change}
    with pytest.raises(FormatError, match=sentence):
        motion_npz.decode(sealed({**arrays, "header.json": text(told)}))


def test_bare_channels_are_refused_with_what_to_do() -> None:
    out = io.BytesIO()
    np.savez(out, channels=np.zeros((5, 25), np.float32))
    with pytest.raises(FormatError, match=r"bare channels cannot be decoded.*choreo retarget FILE --map"):
        motion_npz.decode(out.getvalue())


def test_nothing_is_written_of_a_broken_clip(tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        motion_npz.write(tmp_path / "a.npz", replace(make(), channels=np.full((2, 25), np.inf, np.float32)))
    with pytest.raises(FormatError, match="header is not JSON"):
        motion_npz.write(tmp_path / "a.npz", make(flags={"updot": float("nan")}))
    assert list(tmp_path.iterdir()) == []


def test_values_beyond_their_range_are_counted_not_refused() -> None:
    channels = np.zeros((4, 25), np.float32)
    channels[:2, 3], channels[3, 22:25] = 16, 1.0
    assert out_of_range(channels) == {"w": 2, "ankle_r_norm": 1}
    clip = replace(make(), channels=channels)
    assert np.array_equal(motion_npz.decode(motion_npz.encode(clip)).channels, channels)


def test_discover_knows_it(tmp_path: Path) -> None:
    for n in (3, 5000):  # the members behind a long first one are not in the head
        path = tmp_path / f"{n}.npz"
        motion_npz.write(path, make(n), MADE)
        source = Source.of(path)
        reader = registry.recognise(source.head, source.name, source.size)
        assert reader.format == "choreo25"
        facts = reader.facts(source)
        assert (facts.kind, facts.n, facts.channels, facts.reason) == ("motion", n, 22, None)
        assert facts.rate == (30000, 1001) and facts.meta["licence"] == "CC BY 4.0"


def test_pair_reads_its_joints() -> None:
    from choreo_cli.motion.clip_stream import read_stream

    stream = read_stream(EXAMPLE)
    assert stream.xyz.shape == (60, 22, 3) and stream.units == "m" and stream.rate == (30, 1)
    assert 0.5 < float(stream.xyz[:, 0, 1].mean()) < 1.1


def test_check_and_inspect(choreo: Run, tmp_path: Path) -> None:
    assert choreo("check", str(EXAMPLE)).returncode == 0
    shown = choreo("inspect", str(EXAMPLE), "--table")
    assert shown.returncode == 0
    lines = shown.stdout.decode().splitlines()
    for c in CHANNELS:
        assert any(line.startswith(f"{c.name} ") and f" {c.unit} " in line for line in lines), c.name
    assert any("layout: choreo25 version 1" in line for line in lines)
    rows = choreo("inspect", str(EXAMPLE), "--lines").stdout.decode().splitlines()
    assert len(rows) == 60 and set(json.loads(rows[0])) == {"t_us", *(c.name for c in CHANNELS)}
    bad = bytearray(EXAMPLE.read_bytes())
    bad[2000] ^= 4
    (tmp_path / "bad.npz").write_bytes(bad)
    found = choreo("check", str(tmp_path / "bad.npz"))
    assert found.returncode == 1 and b"does not match its sha256" in found.stdout
    assert choreo("inspect", str(tmp_path / "bad.npz")).returncode == 65
