"""The figures: what they show follows from the files, and print files have the promised size and fonts."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import run_material as material

from choreo_cli.report import run_files
from choreo_cli.report.run_draw import svg
from choreo_cli.report.run_figures import plain
from choreo_cli.report.run_figures_groove import signed
from choreo_cli.report.run_series import envelope, signed_phase

INCH = 25.4


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("figures")


@pytest.fixture(scope="module")
def data(top: Path) -> Path:
    return material.dataset(top / "data")


def facts(report: Any, name: str) -> dict[str, Any]:
    return next(f["facts"] for f in report.document["figures"] if f["name"] == name)


def test_a_control_on_the_beat_is_shown_on_it(top: Path, data: Path) -> None:
    made = material.report([material.run(top / "m", "mapper", data)])
    phase, energy = facts(made, "phase"), facts(made, "energy")
    assert phase["v"] > 0.9 and abs(phase["mean_ms"]) < 20 and phase["n"] > 100
    assert phase["band"][0] < 1 / 24 < phase["band"][1]
    assert (energy["lag_ms"], energy["session"]) == (0.0, "session-0002") and energy["r"] > 0.99


def test_a_late_control_is_shown_as_late(top: Path, data: Path) -> None:
    made = material.report([material.run(top / "late", "mapper", data, late_s=0.08)])
    assert facts(made, "energy")["lag_ms"] == pytest.approx(80)
    assert facts(made, "phase")["mean_ms"] == pytest.approx(80, abs=15)
    text = next(f["text"] for f in made.document["figures"] if f["name"] == "phase")
    assert "ms after it" in text


def test_drift_and_bounds_are_those_of_the_controls(top: Path, data: Path) -> None:
    made = material.report([material.run(top / "b", "mapper", data)])
    lo, hi = facts(made, "drift")["ci"]
    assert lo <= facts(made, "drift")["ppm"] <= hi and lo < 0 < hi
    controls = facts(made, "controls")
    assert controls["clipped"]["fx_send"] == 1.0 and controls["clipped"]["tempo_scale"] == 0.0
    assert controls["held"] == pytest.approx(0.1, abs=0.002)


def test_a_figure_that_cannot_be_drawn_says_why(top: Path, data: Path) -> None:
    run = material.run(top / "bare", "mapper", data, log=False)
    for file in (run / "controls").iterdir():
        file.unlink()
    texts = {f["name"]: f["text"] for f in material.report([run]).document["figures"] if f["missing"]}
    assert texts["phase"] == "MISSING: the run folders hold no controls of a held-out session."
    assert texts["loss-mapper"] == "MISSING: no log.jsonl with a step in it in the run folders."
    assert texts["m2"] == "MISSING: no paired seeds with and without M2."


def test_moved_frames_are_said_to_be_missing_and_found_again(top: Path, data: Path, tmp_path: Path) -> None:
    own = material.dataset(tmp_path / "data", seed=5)
    run = material.run(tmp_path / "m", "mapper", own)
    moved = own.rename(tmp_path / "moved")
    lost = next(f for f in material.report([run]).document["figures"] if f["name"] == "energy")
    assert lost["missing"] and "not where the run says they are" in lost["text"]
    assert facts(material.report([run], data=str(moved)), "energy")["lag_ms"] == 0.0


def test_forms_stand_side_by_side(top: Path, data: Path) -> None:
    good = [
        material.run(top / f"r{s}", "rps", data, seed=s, metrics=material.rps_metrics(0.2 + s / 100)) for s in range(2)
    ]
    bad = material.run(top / "lit", "rps", data, config={"form": "literal"}, metrics=material.rps_metrics(1.4))
    shown = facts(material.report([bad, *good]), "rps-forms")
    assert shown == {
        "rps": {m: pytest.approx([0.2, 0.21]) for m in material.LANE},
        "rps, form=literal": {m: [1.4] for m in material.LANE},
    }


def test_names_from_data_are_neither_formulas_nor_paths(top: Path, data: Path) -> None:
    good = material.run(top / "usual", "rps", data, metrics=material.rps_metrics())
    other = material.run(top / "other", "../../_$x", data)
    files = run_files.drawings(material.report([good, other]))
    assert set(files) == {f"{n}.{e}" for n in ("loss-rps", "loss-x") for e in ("pdf", "png")}
    assert plain("__$\\frac{$") == r"\$\frac{\$"


def test_the_effect_of_m2_is_paired(top: Path, data: Path) -> None:
    run = material.run(top / "mm", "mapper", data)
    doc = material.figures(top / "m2.json", "evaluate normalizer", material.normalizer(), [run / "run.json"])
    shown = facts(material.report([run, doc]), "m2")
    assert shown["with"] == [1.0, 1.1, 0.9, 1.0, 1.05] and shown["without"] == [1.0, 2.0, 0.5, 1.4, 1.1]


def test_print_files_have_column_width_and_embedded_fonts(top: Path, data: Path) -> None:
    files = run_files.drawings(material.report([material.run(top / "p", "mapper", data)]))
    assert {n.split(".")[0] for n in files} == {"phase", "energy", "drift", "controls", "loss-mapper"}
    for name, double in (("phase", False), ("controls", True)):
        width, _ = struct.unpack(">II", files[f"{name}.png"][16:24])
        assert width == pytest.approx((178 if double else 85) / INCH * 300, abs=1.5)
        dots = files[f"{name}.png"].index(b"pHYs")
        assert struct.unpack(">I", files[f"{name}.png"][dots + 4 : dots + 8])[0] == pytest.approx(
            300 / INCH * 1000, abs=1
        )
        pdf = files[f"{name}.pdf"]
        box = [float(x) for x in pdf.split(b"/MediaBox [")[1].split(b"]")[0].split()]
        assert box[2] == pytest.approx((178 if double else 85) / INCH * 72, abs=0.5)
        assert b"/FontFile2" in pdf and b"/CreationDate" not in pdf


def test_numbers_on_an_axis_are_not_cut_like_coordinates() -> None:
    def draw(figure: Any, _: Any) -> None:
        ax = figure.add_subplot()
        ax.plot([0, 1 / 3], [0, 1 / 7])
        ax.set_yticks([0.0125], ["0.0125"])

    text = svg(draw, "x", 40, "title", "0.123456 & <b>")
    assert ">0.0125</text>" in text and "0.123456 &amp; &lt;b&gt;</desc>" in text
    assert not re.search(r'd="[^"]*\.\d{3}', text)


def test_whole_numbers_have_a_true_sign() -> None:
    assert [signed(v) for v in (-75.4, 0.2, -0.2, 12.6)] == ["−75", "0", "0", "+13"]


def test_envelope_keeps_the_extremes() -> None:
    t = np.arange(10_000) / 50
    y = np.sin(t)
    y[1234], y[5000:5300] = 7.0, np.nan
    at, low, mean, high = envelope(t, y, 100)
    assert len(at) <= 100 and high.max() == 7.0 and low.min() == pytest.approx(-1, abs=1e-3)
    assert ((low <= mean) & (mean <= high)).all() and (np.diff(at) > 0).all()
    assert all(len(a) == 0 for a in envelope(t[:5], np.full(5, np.nan), 10))


def test_signed_phase_wraps_at_the_off_beat() -> None:
    assert signed_phase(np.array([0.0, 0.25, 0.49, 0.5, 0.75])) == pytest.approx([0, 0.25, 0.49, -0.5, -0.25])
