"""The comparison as a page, as Markdown and as JSON: the rule first, one set of figures, nothing from outside."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from choreo_cli.report import compare_page
from choreo_cli.report.compare_figures import looks, make_figures
from choreo_cli.report.run_draw import PRINT
from choreo_cli.trajectory import compare, compare_runs
from formats.sealed import parse
from tests.trajectory.compare_material import make_branch
from tests.trajectory.small_sets import make_set

HOSTILE = "x<script>alert(1)</script>|y"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> compare.Built:
    top = tmp_path_factory.mktemp("page")
    of = make_set(top / "set")
    make_branch(top / "runs", of, "branch0", seeds=2)
    make_branch(top / "runs", of, "seer", seeds=2, right=0.97, off=0.02)
    found = compare_runs.find([top / "runs"], {})
    found.runs = [compare_runs.Trained(r.run, HOSTILE if r.branch == "seer" else r.branch, r.seed) for r in found.runs]
    return compare.build(found, of, {"run_id": "abc"}, compare.Options(draws=200, told=8, worst=2))


@pytest.fixture(scope="module")
def files(built: compare.Built) -> dict[str, bytes]:
    return compare_page.files(built.document, built.pictures)


def test_the_same_document_gives_three_files_and_their_pictures(built: compare.Built, files: dict[str, bytes]) -> None:
    assert list(files)[-1] == "comparison.json", "its presence means complete"
    assert {"PARALLEL_RESULTS_COMPARISON.md", "comparison.html"} <= set(files)
    assert parse(files["comparison.json"])["verdict"] == built.document["verdict"]
    text = files["PARALLEL_RESULTS_COMPARISON.md"].decode()
    named = re.findall(r"\]\(([^)]+\.png)\)", text)
    assert len(named) == 4 + 9 and set(named) <= set(files)
    assert all(data.startswith(b"\x89PNG") for name, data in files.items() if name.endswith(".png"))


def test_the_rule_stands_before_the_verdict_and_both_before_any_figure(files: dict[str, bytes]) -> None:
    for name in ("PARALLEL_RESULTS_COMPARISON.md", "comparison.html"):
        text = files[name].decode()
        text = text[text.index("<main>") :] if "<main>" in text else text
        parts = ("highest mean accuracy over seeds leads", "There is no verdict yet", "Where the branches stand")
        order = [text.index(part) for part in parts]
        assert order == sorted(order), name
        assert not re.search(r"\d\.\d+ %", text[: order[1]]), "no number before the rule"


def test_the_page_needs_nothing_and_runs_nothing(files: dict[str, bytes]) -> None:
    text = files["comparison.html"].decode()
    assert "<script" not in text and " onload" not in text
    assert HOSTILE.split("|")[0] not in text and "x&lt;script&gt;" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:image/png;base64,|#)", text)
    assert "default-src 'none'" in text and "@import" not in text
    assert text.count("data:image/png;base64,") == 4
    assert text.count("<svg") == 5 + 4
    assert "<script" not in files["PARALLEL_RESULTS_COMPARISON.md"].decode()


def test_every_figure_is_in_all_three(built: compare.Built, files: dict[str, bytes]) -> None:
    row = built.document["branches"][0]
    for value in (f"{100 * row['accuracy']:.2f} %", f"{row['mae_pct']:.2f} %", f"{row['rmse']:.3f}"):
        assert value in files["comparison.html"].decode() and value in files["PARALLEL_RESULTS_COMPARISON.md"].decode()
    for line in built.document["missing"]:
        assert line.replace("<", "&lt;") in files["PARALLEL_RESULTS_COMPARISON.md"].decode()


def test_equal_documents_give_equal_bytes(built: compare.Built, files: dict[str, bytes]) -> None:
    figures = make_figures(built.document)
    assert compare_page.page(built.document, figures, built.pictures) == files["comparison.html"]


def test_a_terminal_is_told_the_verdict_and_what_is_missing(built: compare.Built) -> None:
    def columns(rows: Any, header: Any) -> list[str]:
        return ["  ".join(map(str, r)) for r in (header, *rows)]

    lines = compare_page.lines(built.document, columns)
    assert lines[0].startswith("○ INCOMPLETE: ")
    assert any(x.startswith("MISSING branch0 has 2 of 3 seeds") for x in lines)
    assert any(x.startswith("ensemble  all") for x in lines)


def test_nine_branches_look_different(built: compare.Built) -> None:
    doc = {"branches": [{"branch": f"branch{k}"} for k in range(9)]}
    seen = {repr(sorted(v.items())) for v in looks(doc, PRINT).values()}
    assert len(seen) == 9


def test_without_a_log_the_learning_curves_are_missing(built: compare.Built) -> None:
    doc = {**built.document, "learning": [{**r, "points": []} for r in built.document["learning"]]}
    (figure,) = [f for f in make_figures(doc) if f.name == "learning"]
    assert figure.draw is None and figure.text.startswith("MISSING")
    words = [replace(f, draw=None) for f in make_figures(doc)]  # the drawings have tests of their own
    page = compare_page.page(doc, words, built.pictures)
    assert b"MISSING: no log.jsonl" in page


def test_folders_of_pictures_lie_below_the_output(files: dict[str, bytes]) -> None:
    assert all(".." not in Path(name).parts and not name.startswith("/") for name in files)
