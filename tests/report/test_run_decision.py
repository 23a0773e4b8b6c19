"""PROMOTE only with everything judged, passed and there; each thing taken away is named."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import run_material as material

from choreo_cli.report.run_metrics import number, over_seeds, student_interval


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return material.complete(tmp_path_factory.mktemp("complete"))


def missing(report: Any) -> set[str]:
    return {e["what"] for e in report.document["evidence"] if not e["there"]}


def test_everything_there_and_passed_is_promoted(everything: list[Path]) -> None:
    made = material.report(everything)
    assert missing(made) == set()
    assert made.document["decision"]["word"] == "PROMOTE" and made.exit == 0
    assert made.document["decision"]["reasons"] == []


@pytest.mark.parametrize(
    "without,what",
    [
        ("literal", {"literal RPS"}),
        ("groove", {"phase coherence", "energy correlation", "drift stability"}),
        ("control", {"decoupled control"}),
        ("m2", {"effect of M2"}),
        ("rps-2", {"seeds of rps"}),
        ("mapper-1", {"seeds of mapper"}),
    ],
)
def test_each_thing_taken_away_is_missing(everything: list[Path], without: str, what: set[str]) -> None:
    made = material.report([p for p in everything if p.stem != without])
    assert missing(made) == what
    assert (made.document["decision"]["word"], made.exit) == ("INCOMPLETE", 3)
    assert all(r.startswith("MISSING ") for r in made.document["decision"]["reasons"])


def test_what_is_missing_says_the_command_that_makes_it(everything: list[Path]) -> None:
    made = material.report([p for p in everything if p.stem not in ("control", "groove", "rps-2")])
    texts = {e["what"]: e["text"] for e in made.document["evidence"]}
    assert "choreo evaluate groove RUN --against DATA" in texts["decoupled control"]
    assert "choreo evaluate groove RUN does it" in texts["drift stability"]
    assert "choreo train rps --seeds 0,1,2" in texts["seeds of rps"]


def test_a_figure_without_a_value_is_no_evidence(everything: list[Path], tmp_path: Path) -> None:
    entries = [{**e, "value": None, "why": "no session is held out", "pass": None} for e in material.groove()]
    kept = [p for p in everything if p.stem != "groove"]
    empty = material.figures(tmp_path / "groove.json", "evaluate groove", entries, [kept[4] / "run.json"])
    made = material.report([*kept, empty])
    assert missing(made) == {"phase coherence", "energy correlation", "drift stability", "gates"}
    texts = {e["what"]: e["text"] for e in made.document["evidence"]}
    assert texts["drift stability"] == "could not be measured: no session is held out"


def test_a_licence_is_asked_of_recorded_data_alone(everything: list[Path], tmp_path: Path) -> None:
    data = everything[0].parent / "data"
    (data / "LICENSE").rename(tmp_path / "kept")
    try:
        assert missing(material.report(everything)) == {"licence of data"}
    finally:
        (tmp_path / "kept").rename(data / "LICENSE")
    assert material.report(everything).document["datasets"][0]["licence"] == "CC-BY-4.0"


def test_synthetic_data_alone_is_incomplete_and_says_what_it_shows(tmp_path: Path) -> None:
    data = material.dataset(tmp_path / "data")
    runs = [material.run(tmp_path / f"r{s}", "rps", data, seed=s, metrics=material.rps_metrics()) for s in range(3)]
    made = material.report(runs)
    assert missing(made) == {"real recordings", "literal RPS"}
    assert made.document["datasets"][0]["licence"] == "none needed: generated"
    scope = " ".join(made.document["decision"]["scope"])
    assert "Every session here is synthetic" in scope and "do not show that it works on recorded people" in scope


def test_a_failed_gate_holds_whatever_is_missing(tmp_path: Path) -> None:
    data = material.dataset(tmp_path / "data")
    made = material.report([material.run(tmp_path / "r", "rps", data, metrics=material.rps_metrics(0.41))])
    assert (made.document["decision"]["word"], made.exit) == ("HOLD", 1)
    assert made.document["decision"]["sentence"] == "4 gates failed. 3 pieces of evidence are missing besides."
    assert made.document["decision"]["reasons"][0] == "rps.normalised_error.mot (rps): 0.41, gate ≤ 0.4"


def test_a_control_that_passes_its_gate_holds(everything: list[Path], tmp_path: Path) -> None:
    locked = material.figures(
        tmp_path / "control.json", "evaluate groove", material.groove(0.9), [everything[4] / "run.json"], decoupled=True
    )
    made = material.report([*(p for p in everything if p.stem != "control"), locked])
    assert made.exit == 1
    assert (
        "groove.phase_coherence of the decoupled control passes its gate, and must not"
        in (made.document["decision"]["reasons"])
    )


def test_comparisons_do_not_decide(everything: list[Path]) -> None:
    rows = material.report(everything).document["metrics"]
    beside = [r for r in rows if r["role"] == "beside"]
    assert {r["verdict"] for r in beside} == {"fail", "no gate"} and {r["source"] for r in beside} == {
        "rps, form=literal"
    }


def test_a_leak_holds(everything: list[Path], tmp_path: Path) -> None:
    data = everything[0].parent / "data"
    torn = {"train": ["a", "b"], "val": [], "test": ["b"]}
    record = material.data_record(data, torn, synthetic=False, leaks=["song x is in train and in test"])
    made = material.report([material.run(tmp_path / "r", "rps", data, record=record, metrics=material.rps_metrics())])
    assert made.exit == 1
    assert made.document["datasets"][0]["leaks"] == [
        "song x is in train and in test",
        "session b is in train and in test",
    ]


def test_a_gate_nobody_could_judge_is_missing_evidence(everything: list[Path], tmp_path: Path) -> None:
    few = material.figures(
        tmp_path / "few.json",
        "evaluate groove",
        [material.gate("groove.phase_coherence.again", 0.9, status="insufficient")],
        [],
    )
    made = material.report([*everything, few])
    assert made.exit == 3
    assert next(e["text"] for e in made.document["evidence"] if e["what"] == "gates") == (
        "1 of 9 gates could not be judged: groove.phase_coherence.again (insufficient)"
    )


def test_changed_weights_hold(everything: list[Path], tmp_path: Path) -> None:
    data = everything[0].parent / "data"
    run = material.run(tmp_path / "r", "rps", data, metrics=material.rps_metrics())
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert (
        "r/model.safetensors is not what its run wrote: damaged or changed"
        in (material.report([run]).document["decision"]["reasons"])
    )


def test_a_figure_over_seeds_is_their_mean_and_every_seed_counts() -> None:
    values = [0.7, 0.8, 0.9]
    made = over_seeds([material.gate("x", v, 0.75) for v in values], "s", "judged", 3)
    assert made["value"] == pytest.approx(0.8) and made["n"] == 3 and made["seeds"] == values
    half = 4.302653 * 0.1 / math.sqrt(3)  # Student's t, two degrees of freedom
    assert made["interval"] == pytest.approx([0.8 - half, 0.8 + half], abs=1e-6)
    assert (made["verdict"], made["why"]) == ("fail", "2 of 3 seeds pass")
    good = over_seeds([material.gate("x", v, 0.6) for v in values], "s", "judged", 3)
    assert (good["verdict"], good["why"]) == ("pass", None)
    control = over_seeds([material.gate("x", v, 0.85) for v in values], "s", "control", 3)
    assert control["verdict"] == "passes", "one seed of a negative control that passes is one too many"


def test_student_interval_needs_two() -> None:
    assert student_interval([1.0]) is None and student_interval([2.0, 2.0]) == [2.0, 2.0]


@pytest.mark.parametrize(
    "value,text",
    [(None, "–"), (0.0, "0"), (12345.0, "12\u202f345"), (-0.25, "−0.25"), (0.00012, "1.2e-4"), (1234.56, "1\u202f235")],
)
def test_numbers_for_a_person(value: float | None, text: str) -> None:
    assert number(value) == text
