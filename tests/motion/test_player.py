"""The player page: it carries the dancers exactly enough, asks nobody for anything, and runs in a browser."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.motion import player
from choreo_cli.motion.scene import Look, scene
from tests.motion.render_material import actor

EVIL = '</script><img src=x onerror="alert(1)"><b>&amp;'
SOUND = (np.sin(np.arange(22050) * 0.1).astype(np.float32)[:, None] * np.float32(0.3), 22050)


class Page(html.parser.HTMLParser):
    """Tags, and the text of scripts, styles and headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self.open: list[str] = ["document"]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "img", "br"):
            self.open.append(dict(attrs).get("id") or tag)

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.inside[self.open[-1]] = self.inside.get(self.open[-1], "") + data


def made(**more: Any) -> str:
    film = scene(
        [actor(20, name=EVIL, role="reference"), actor(20, 1, "b", "generated")],
        30.0,
        Look(96, 96, engine="numpy"),
        np.array([0.2]),
    )
    return player.page(film, EVIL, **more).decode()


def test_the_dancers_are_in_the_page() -> None:
    data = json.loads(Page(made()).inside["data"])
    for clip, who in zip(data["clips"], (actor(20), actor(20, 1)), strict=True):
        xyz = np.frombuffer(base64.b64decode(clip["xyz"]), "<i2").reshape(20, 22, 3) * clip["unit"]
        assert clip["unit"] == 0.001
        assert np.abs(xyz - (who.joints - actor(20).joints[0, 0] * [1, 0, 1])).max() <= 0.0005 + 1e-9
        bits = np.frombuffer(base64.b64decode(clip["contacts"]), np.uint8)
        assert (np.stack([bits & 1, bits >> 1], 1) == (who.contacts > 0.5)).all()
    assert data["fps"] == 30 and data["beats"] == [0.2] and data["columns"] == ["reference", "generated"]
    names = [r["name"] for r in data["rows"]]
    assert "foot slide in contact" in names and "joints apart, about the pelvis" in names
    assert all(len(r["values"]) == 2 for r in data["rows"])


def test_a_dance_may_begin_anywhere_and_go_far() -> None:
    who = actor(20)
    far = who.joints + [5000.0, 0, -300] + np.linspace(0, 100, 20)[:, None, None] * [1.0, 0, 0]
    film = scene([type(who)(far, who.contacts)], 30.0, Look(96, 96, engine="numpy"))
    clip = json.loads(Page(player.page(film, "far").decode()).inside["data"])["clips"][0]
    xyz = np.frombuffer(base64.b64decode(clip["xyz"]), "<i2").reshape(20, 22, 3) * clip["unit"]
    assert np.abs(xyz - (far - far[0, 0] * [1, 0, 1])).max() < 0.002


def test_words_of_the_data_are_never_markup() -> None:
    page = Page(made())
    assert page.inside["h1"] == EVIL and page.inside["title"] == EVIL
    assert json.loads(page.inside["data"])["clips"][0]["name"] == EVIL
    assert not {t for t, _ in page.tags} & {"img", "b", "iframe", "link", "object"}
    script = (player.TEMPLATES / "player.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script)


def test_the_page_needs_nothing_else() -> None:
    text = made(sound=SOUND)
    page = Page(text)
    assert "http://" not in text and "https://" not in text and "url(" not in text and "fetch(" not in text
    assert not [a for _, a in page.tags if "src" in a or "href" in a]
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a) or ""
    for kind, block in re.findall(r"<(script|style)>(.*?)</\1>", text, re.S):
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_the_sound_is_in_the_page(tmp_path: Path) -> None:
    import soundfile

    audio = json.loads(Page(made(sound=SOUND)).inside["data"])["audio"]
    (tmp_path / "a.mp3").write_bytes(base64.b64decode(audio.removeprefix("data:audio/mpeg;base64,")))
    samples, rate = soundfile.read(tmp_path / "a.mp3")
    assert rate == 22050 and len(samples) / rate == pytest.approx(20 / 30, abs=0.12)  # as long as the film


def test_metrics_stand_beside() -> None:
    rows = [{"name": "beat alignment", "value": 0.25, "unit": "1"}, {"name": "nothing", "value": None, "unit": ""}]
    data = json.loads(Page(made(metrics=rows)).inside["data"])
    assert data["rows"][-2:] == [
        {"name": "beat alignment", "unit": "1", "values": ["", "0.25"]}, {"name": "nothing", "unit": "", "values": ["", "–"]},
    ]  # fmt: skip


def test_figures_are_what_they_say() -> None:
    who = actor(20)
    still = player.figures(type(who)(np.repeat(who.joints[:1], 20, 0), np.ones((20, 2))), 30.0)
    assert still["way of the pelvis"][0] == still["joint speed, mean"][0] == still["foot slide in contact"][0] == 0
    gone = type(who)(who.joints[:1] + np.arange(20)[:, None, None] * [0.01, 0, 0], np.ones((20, 2)))
    moving = player.figures(gone, 30.0)
    assert moving["joint speed, mean"][0] == pytest.approx(0.3)
    assert moving["foot slide in contact"][0] == pytest.approx(300)
    assert moving["jerk, mean at 30 fps"][0] == pytest.approx(0, abs=1e-6)
    assert player.distance_mm(gone, type(who)(gone.joints + 5.0, gone.contacts)) == pytest.approx(0)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_clips_have_a_page(frames: int) -> None:
    film = scene([actor(frames)], 30.0, Look(96, 96, engine="numpy"))
    assert len(json.loads(Page(player.page(film, "short").decode()).inside["data"])["clips"]) == 1


@pytest.mark.live
def test_it_runs_in_a_browser(tmp_path: Path) -> None:
    """Chromium draws both dancers, fills the table, and asks for nothing that its policy refuses."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here (apt package chromium)")
    (tmp_path / "page.html").write_text(made(sound=SOUND))
    base = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr", "--window-size=1200,800", "--virtual-time-budget=3000"]  # fmt: skip
    url = (tmp_path / "page.html").as_uri()
    dom = subprocess.run([*base, "--dump-dom", url], capture_output=True, text=True, timeout=120, check=True)
    page = Page(dom.stdout)
    assert next(a for t, a in page.tags if t == "html").get("data-ready") == "yes"
    assert sum(t == "canvas" for t, _ in page.tags) == 3 and sum(t == "tr" for t, _ in page.tags) > 9
    assert "Content Security Policy" not in dom.stderr and "Uncaught" not in dom.stderr
    subprocess.run([*base, f"--screenshot={tmp_path / 'shot.png'}", url], capture_output=True, timeout=120, check=True)
    from PIL import Image

    shot = np.asarray(Image.open(tmp_path / "shot.png").convert("RGB")).astype(int)
    orange = (shot[..., 0] > 200) & (shot[..., 1] > 90) & (shot[..., 1] < 170) & (shot[..., 2] < 110)
    for half in (orange[80:600, :420], orange[80:600, 420:840]):
        assert half.sum() > 300  # a left arm and a left leg in each panel
