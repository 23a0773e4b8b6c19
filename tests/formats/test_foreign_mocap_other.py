"""Formats that are recognised and not read: named by content, never opened further than a header."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from formats.errors import FormatError
from formats.foreign import mocap_other
from formats.foreign.registry import Reader
from formats.foreign.source import Source

SAMPLES = {
    "mocap/asfamc/11.asf": ("asf", "ASF motion is recognised but not read yet", None, None),
    "mocap/asfamc/11_01.amc": ("amc", "AMC motion is recognised but not read yet", None, None),
    "mocap/c3d/pyomeca_markers_analogs.c3d": ("c3d", "C3D motion is recognised but not read yet", 580, (100, 1)),
    "mocap/trc/pyomeca_markers.trc": ("trc", "TRC motion is recognised but not read yet", 652, (100, 1)),
    "mocap/mat/mocaptoolbox_mcdemodata.mat": ("mat", "MAT motion is recognised but not read yet", None, None),
    "mocap/smpl/aistpp_gBR_sBM_cAll_d04_mBR0_ch01.pkl": ("smpl-pkl", "SMPL/AIST++ pickle motion is recognised but not read yet", None, None),
    "mocap/humanml3d/Mean.npy": ("humanml3d", "statistics, not a recording", 263, None),
    "mocap/humanml3d/Std.npy": ("humanml3d", "statistics, not a recording", 263, None),
}  # fmt: skip


def ask(source: Source) -> list[Reader]:
    return [r for r in mocap_other.READERS if r.sniff(source.head, source.name, source.size)]


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_named_and_give_their_reason(shared: Path, name: str) -> None:
    source = Source.of(shared / "data" / name)
    (reader,) = ask(source)
    fmt, reason, n, rate = SAMPLES[name]
    facts = reader.facts(source)
    assert (reader.format, facts.reason, facts.n, facts.rate) == (fmt, reason, n, rate)
    assert reader.read is None and facts.kind == ("other" if "npy" in name else "motion")


@pytest.mark.parametrize("shape, kind, reason", [
    ((120, 263), "motion", "HumanML3D motion is recognised but not read yet"), ((263,), "other", "statistics, not a recording"),
    ((60, 22, 3), "motion", "joint array motion is recognised but not read yet"), ((40, 40), None, None), ((), None, None),
])  # fmt: skip
def test_npy_by_shape(tmp_path: Path, shape: tuple[int, ...], kind: str | None, reason: str | None) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.float32))
    source = Source.of(tmp_path / "a.npy")
    found = ask(source)
    assert [r.format for r in found] == ([] if kind is None else ["humanml3d"])
    if found:
        facts = found[0].facts(source)
        assert (facts.kind, facts.reason) == (kind, reason)


@pytest.mark.parametrize("keys, known", [
    (("poses", "trans", "betas", "gender", "mocap_framerate"), True), (("trans", "root_orient", "pose_body", "mocap_frame_rate"), True),
    (("mel", "tempo"), False),
])  # fmt: skip
def test_amass_by_its_members(tmp_path: Path, keys: tuple[str, ...], known: bool) -> None:
    np.savez(tmp_path / "a.npz", **{k: np.zeros(3) for k in keys})
    source = Source.of(tmp_path / "a.npz")
    found = ask(source)
    assert [r.format for r in found] == (["smpl-npz"] if known else [])
    if known:
        facts = found[0].facts(source)
        assert facts.reason == "SMPL/AMASS motion is recognised but not read yet" and facts.meta["keys"] == sorted(keys)


def test_other_arrays_under_a_body_name_are_not_motion(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", betas=np.zeros(3), other=np.zeros(2))
    assert mocap_other.amass_facts(Source.of(tmp_path / "a.npz")).kind == "other"


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_is_listed_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x": _Evil()}, protocol=protocol))
    source = Source.of(tmp_path / "a.pkl")
    (reader,) = ask(source)
    facts = reader.facts(source)
    assert facts.reason == "a pickle can run code and is never opened" and facts.kind == "other"
    assert not (tmp_path / "ran").exists()


def test_a_damaged_zip_is_an_error(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        z.writestr("poses.npy", b"\x00" * 500)
    (tmp_path / "a.npz").write_bytes(buffer.getvalue()[:-30])
    with pytest.raises(FormatError):
        mocap_other.amass_facts(Source.of(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    "head, name", [(b"\x02\x50" + bytes(300), "a.c3d"), (b"\x00\x50" + bytes(2000), "a.bin"), (b"PK\x03\x04", "a.npz")]
)
def test_short_or_wrong_heads_are_nobodys(head: bytes, name: str) -> None:
    assert not [r.format for r in mocap_other.READERS if r.sniff(head, name, len(head))]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e30])
def test_a_lying_c3d_rate_is_no_rate(tmp_path: Path, value: float) -> None:
    head = bytearray(1024)
    head[0:2] = b"\x02\x50"
    struct.pack_into("<4H", head, 2, 30, 0, 1, 100)
    struct.pack_into("<f", head, 20, value)
    (tmp_path / "a.c3d").write_bytes(head)
    source = Source.of(tmp_path / "a.c3d")
    facts = ask(source)[0].facts(source)
    assert facts.rate is None and facts.duration_us is None and facts.n == 100
