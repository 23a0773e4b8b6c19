"""The page: self-contained, small, accessible, deterministic, and safe whatever the data are called."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import run_material as material

from choreo_cli.report import run_files, run_gather, run_page
from choreo_cli.report.run_document import Report
from formats import sealed
from formats.metrics import entry

EVIL = "<script>alert(1)</script>\"' onload=x {{7*7}} `rm` | &amp; ]] --> \u202e"


class Page(HTMLParser):
    """Tags, attributes, ids and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, k, v or "") for k, v in attrs]

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return material.report(material.complete(tmp_path_factory.mktemp("page")))


@pytest.fixture(scope="module")
def html(made: Report) -> str:
    return run_page.page(made.document, made.figures).decode()


def test_the_page_needs_nothing_else(html: str) -> None:
    page = Page(html)
    assert set(page.tags) & {"script", "link", "img", "iframe", "object", "embed", "image", "base", "form"} == set()
    assert [a for a in page.attributes if a[1].startswith("on")] == []
    links = [v for _, k, v in page.attributes if k in ("href", "xlink:href", "src")]
    assert links and all(v.startswith("#") for v in links)
    assert "@import" not in html and "url(http" not in html and "@font-face" not in html
    assert len(html.encode()) < run_page.MAX_BYTES


def test_every_link_has_its_target_and_every_id_is_unique(html: str) -> None:
    page = Page(html)
    ids = [v for _, k, v in page.attributes if k == "id"]
    assert len(ids) == len(set(ids))
    named = [v[1:] for _, k, v in page.attributes if k in ("href", "xlink:href")]
    named += re.findall(r"url\(#([^)]+)\)", html)
    named += [i for _, k, v in page.attributes if k == "aria-labelledby" for i in v.split()]
    assert set(named) <= set(ids)


def test_drawings_are_well_formed_named_and_of_both_themes(html: str, made: Report) -> None:
    drawings = re.findall(r"<svg xmlns.*?</svg>", html, re.S)
    assert len(drawings) == sum(f.draw is not None for f in made.figures) == 8
    for text in drawings:
        root = ElementTree.fromstring(text)
        names = [child.tag.split("}")[1] for child in root][:2]
        assert names == ["title", "desc"] and all(len(child.text or "") > 10 for child in list(root)[:2])
        assert root.get("role") == "img" and root.get("viewBox") and root.get("width") is None
    colours = set(re.findall(r"#[0-9a-f]{6}\b", "".join(drawings)))
    assert colours == set(), "a colour of its own would not follow the theme"
    assert set(re.findall(r"var\(--c-(\w+)\)", html)) <= set(re.findall(r"--c-(\w+):", html.split("@media")[1]))


def test_tables_have_headers_and_the_order_is_the_promised_one(html: str) -> None:
    page = Page(html)
    assert page.tags.count("table") == page.tags.count("thead")
    assert page.tags.count("th") == sum(t == "th" and k == "scope" for t, k, _ in page.attributes) > 50
    order = [v for t, k, v in page.attributes if t == "section" and k == "id"]
    assert order == ["runs", "datasets", "metrics", "figures", "again", "where", "evidence"]
    assert html.index('id="decision"') < html.index('id="runs"')


def test_three_files_tell_the_same(made: Report) -> None:
    doc = run_files.encode(made)
    files = run_files.files(made, doc)
    assert list(files)[-1] == "report.json"
    read = sealed.parse(files["report.json"])
    assert read == json.loads(json.dumps(made.document)) and read["schema"] == "choreo.report/1"
    page, text = files["report.html"].decode(), files["report.md"].decode()
    for words in ("PROMOTE", *(r["name"] for r in read["metrics"]), *(r["title"] for r in read["runs"])):
        plain = Page(page)
        assert words in "".join(plain.text)
        assert words in text.replace("\\", "")
    assert read["reproduction"]["script"] in text


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    data = material.dataset(tmp_path / "data")
    paths = [material.run(tmp_path / f"r{s}", "rps", data, seed=s, metrics=material.rps_metrics()) for s in range(2)]
    first, again = (material.report(paths) for _ in range(2))
    assert run_files.files(first, run_files.encode(first)) == run_files.files(again, run_files.encode(again))
    assert run_files.drawings(first) == run_files.drawings(again)


def test_names_from_data_are_text_and_never_markup(tmp_path: Path) -> None:
    data = material.dataset(tmp_path / "data")
    record = material.data_record(data, {"train": [EVIL], "test": ["session-0002", EVIL]}, notes=[EVIL], leaks=[EVIL])
    metrics = [entry(f"rps.{EVIL}", 0.5, EVIL, "higher", n=3, goal=(">=", 0.9), params={"session": EVIL})]
    folder = tmp_path / "<b>run<b>"
    argv = ["train", "rps", EVIL, "--config", EVIL, "-o", EVIL]
    run = material.run(
        folder, "rps", data, record=record, metrics=metrics, config={"form": EVIL, EVIL: EVIL}, argv=argv
    )
    made = material.report([run])
    page = run_page.page(made.document, made.figures).decode()
    clean = material.report([material.run(tmp_path / "plain", "rps", data, metrics=material.rps_metrics())])
    usual = set(Page(run_page.page(clean.document, clean.figures).decode()).tags)
    assert set(Page(page).tags) <= usual | {"details", "summary", "table", "code", "wbr"}
    assert "alert(1)" in "".join(Page(page).text) and "49" not in re.findall(
        r"onload=x (\S+)", "".join(Page(page).text)
    )
    text = run_files.files(made, b"")["report.md"].decode()
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    assert not re.search(r"(?<!\\)<", prose) and not re.search(r"(?<!\\)`", prose)


def test_a_report_of_nothing_but_a_dataset(tmp_path: Path) -> None:
    made = material.report([material.dataset(tmp_path / "data")])
    page = run_page.page(made.document, made.figures).decode()
    assert made.exit == 3 and "no metric has a gate" in page and 'id="runs"' not in page


def test_a_named_run_twice_counts_once(tmp_path: Path) -> None:
    run = material.run(tmp_path / "r", "rps", material.dataset(tmp_path / "data"), metrics=material.rps_metrics())
    found = run_gather.gather([run, run / "run.json"], (run / "run.json").read_bytes(), {})
    assert len(found.runs) == 1 and len(found.inputs) == 1
