"""The player in Chromium: keys, scrubbing, orbit, speed and the clock, driven as a person would."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.motion import player
from choreo_cli.motion.scene import Look, scene
from tests.motion.render_material import actor

pytestmark = pytest.mark.live
FRAMES, FPS = 90, 30.0


class Tab:
    """One page of a browser over its debugging socket."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.numbers = socket, itertools.count(1)
        self.heard: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=30))
            if message.get("id") == number:
                return dict(message.get("result", {}))
            self.heard.append(message)

    def value(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def key(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=key if len(key) == 1 else "")
        time.sleep(0.15)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", **more)

    def frame(self) -> int:
        return int(re.search(r"#(\d+)", self.value("document.getElementById('clock').textContent"))[1])  # type: ignore[index]

    def picture(self) -> str:
        time.sleep(0.15)
        return str(self.value("document.querySelector('#panels canvas').toDataURL()"))


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here (apt package chromium)")
    client = pytest.importorskip("websockets.sync.client", reason="pip install 'choreo[live]'")
    sound = np.sin(np.arange(round(FRAMES / FPS * 22050)) * 0.1).astype(np.float32)[:, None] * np.float32(0.2)
    film = scene(
        [actor(FRAMES, role="reference"), actor(FRAMES, 1, role="generated")], FPS, Look(96, 96, engine="numpy")
    )
    (tmp_path / "page.html").write_bytes(player.page(film, "page", (sound, 22050)))
    process = subprocess.Popen(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--window-size=1200,800",
         f"--user-data-dir={tmp_path / 'profile'}", "--autoplay-policy=no-user-gesture-required", "about:blank"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        port = next(m[1] for line in process.stderr if (m := re.search(r"ws://[^/]+:(\d+)/", line)))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            address = next(t["webSocketDebuggerUrl"] for t in json.load(answer) if t["type"] == "page")
        with client.connect(address, max_size=2**26) as socket:
            page = Tab(socket)
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.call(f"{domain}.enable")
            page.call("Page.navigate", url=(tmp_path / "page.html").as_uri())
            for _ in range(100):
                if page.value("document.documentElement.dataset.ready") == "yes":
                    break
                time.sleep(0.1)
            yield page
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_a_person_at_the_keyboard_and_the_mouse(tab: Tab) -> None:
    assert tab.frame() == 0
    tab.key("ArrowRight"), tab.key("ArrowRight"), tab.key("ArrowLeft")
    assert tab.frame() == 1
    tab.key("End")
    assert tab.frame() == FRAMES - 1
    tab.key("Home")
    pictures = [tab.picture()]
    for key in ("2", "4", "a", "w", "+", "f"):  # each shows something else
        tab.key(key)
        pictures.append(tab.picture())
    assert len(set(pictures)) == len(pictures)
    tab.key("]")
    assert tab.value("document.getElementById('speed').value") == "1.5"
    tab.key("["), tab.key(" ")
    time.sleep(1.0)
    played = tab.frame()
    assert played > 5 and tab.value("document.getElementById('play').textContent") == "Pause"
    tab.key(" ")
    stopped = tab.frame()
    time.sleep(0.4)
    assert tab.frame() == stopped >= played
    left, top, width, height = tab.value(
        "(() => { const r = document.getElementById('track').getBoundingClientRect(); return [r.left, r.top, r.width, r.height] })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        tab.mouse(kind, left + 14 + (width - 28) / 2, top + height / 2, buttons=1, clickCount=1)
    time.sleep(0.2)
    assert abs(tab.frame() - FRAMES // 2) <= 1
    before = tab.picture()
    tab.mouse("mousePressed", 300, 300, buttons=1, clickCount=1)
    tab.mouse("mouseMoved", 340, 305, buttons=1), tab.mouse("mouseMoved", 400, 310, buttons=1)
    tab.mouse("mouseReleased", 400, 310, buttons=0, clickCount=1)
    assert tab.picture() != before
    troubles = [m for m in tab.heard if m["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert troubles == []
    asked = [m["params"]["request"]["url"][:5] for m in tab.heard if m["method"] == "Network.requestWillBeSent"]
    assert set(asked) <= {"file:", "data:"}
