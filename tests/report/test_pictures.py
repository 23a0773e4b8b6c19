"""A picture of everything: deterministic bytes, provenance inside, and the right session."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from choreo_cli.errors import UsageError
from choreo_cli.report.content import open_content
from choreo_cli.report.plots import picture
from choreo_cli.report.verify import check_file
from formats.atomic import sha256_file

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
FILES = (
    "frames.parquet", "context.parquet", "windows.parquet", "poses.parquet", "poses.jsonl", "dance.bvh",
    "heart_rate.csv", "beats.txt", "music.wav", "features.npz", "librosa.npz", "inventory.json", "pairs.json",
    "metrics.json", "sessions.json", "playlist.json", "weights.safetensors", "metadata.json", "openpose",
)  # fmt: skip


def _size(png: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("name", FILES)
def test_every_kind_has_a_picture(name: str, tmp_path: Path) -> None:
    png = picture(open_content(DATA / name))
    (tmp_path / "a.png").write_bytes(png)
    assert check_file(tmp_path / "a.png", "a.png").ok
    assert _size(png) == (1200, 750)
    assert len(png) > 4000


def test_equal_input_equal_bytes() -> None:
    first = picture(open_content(DATA / "frames.parquet"))
    assert first == picture(open_content(DATA / "frames.parquet"))
    assert sha256_file(DATA / "frames.parquet").encode() in first, "the source's sha256 rides in a tEXt chunk"


def test_frames_show_three_overlaid_signals() -> None:
    """Motion energy, heart rate and beat phase share the first axes and its twin."""
    from matplotlib.figure import Figure

    from choreo_cli.report.plots_tables import frames

    figure = Figure()
    frames(figure, open_content(DATA / "frames.parquet"), None)
    top, twin = figure.axes[0], next(a for a in figure.axes if a.get_ylabel() == "beats/min")
    assert {line.get_label() for line in top.lines} >= {"beat_phase", "motion_energy"}
    assert [line.get_label() for line in twin.lines] == ["hr"]
    assert top.get_position().bounds == twin.get_position().bounds


def test_an_unknown_session_is_told() -> None:
    with pytest.raises(UsageError, match="no session 'nobody'"):
        picture(open_content(DATA / "frames.parquet"), "nobody")
