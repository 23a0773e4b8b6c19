"""Strudel in a headless browser plays our patches, and what leaves it follows the controls.

The page of examples/receivers/strudel-page is built in a temporary folder from the npm packages it names. By MIDI the
bytes of our own port go over JACK into a stand-in for `requestMIDIAccess`: browsers find no ALSA on such machines.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.live.calibrate_latency import find_onsets, switch
from choreo_cli.live.midi import MidiPort
from choreo_cli.live.websocket import WebSocketPort
from formats.control_map import DEFAULT
from tests.live.jack_server import jack_server
from tests.live.receiver_bench import (
    RECEIVERS,
    Audio,
    centroid,
    first_sound,
    hear,
    need,
    plateaus,
    play,
    process,
    programme,
    rms,
    seconds_of,
    wait_for,
)

pytestmark = pytest.mark.live
DRIVER = Path(__file__).with_name("strudel_driver.mjs")
PLAYWRIGHT = "playwright-core@1.65.1"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Folder and address of the page, built from the packages at the versions it names."""
    need("node", "npm", "chromium")
    top = tmp_path_factory.mktemp("strudel")
    for name in ("strudel", "strudel-page"):
        shutil.copytree(RECEIVERS / name, top / name, ignore=shutil.ignore_patterns("node_modules"))
    folder = top / "strudel-page"
    shutil.copy(DRIVER, folder / "driver.mjs")
    npm = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error", PLAYWRIGHT]
    done = subprocess.run(npm, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install Strudel here: {done.stderr.strip()[-200:]}")
    build = ["node_modules/.bin/esbuild", "main.mjs", "--bundle", "--format=esm", "--outdir=.", "--log-level=error"]
    subprocess.run(build, cwd=folder, check=True, timeout=60)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def recorded(
    page: tuple[Path, str], query: str, seconds: float, perform: Callable[[], object], folder: Path, relay: str = ""
) -> tuple[Audio, int, float]:
    """What leaves the page during a performance, its sample rate, and when its first sample was made [s, Unix time]."""
    source, address = page
    log, kept = folder / "driver.log", folder / "kept.f32"
    keep_ms = round(seconds * 1000) + 2000
    argv = [
        "node",
        source / "driver.mjs",
        shutil.which("chromium") or "",
        f"{address}?{query}",
        str(keep_ms),
        kept,
        relay,
    ]
    with process(argv, log) as driver:
        wait_for("Strudel", lambda: "ready" in log.read_text() or driver.poll() is not None, 30, log)
        assert "ready" in log.read_text(), log.read_text()[-2000:]
        perform()
        wait_for("the samples", lambda: driver.poll() is not None, 20, log)
    said = log.read_text()
    assert "done" in said and "error" not in said, said[-2000:]
    rate = int(said.split("ready ")[1].split()[0])
    first_s = float(said.split("done ")[1].split()[1]) / 1000
    return np.fromfile(kept, np.float32).astype(np.float64), rate, first_s


@pytest.mark.timeout(150)
def test_the_sound_of_strudel_follows_every_control_by_websocket(page: tuple[Path, str], tmp_path: Path) -> None:
    holds = programme(1.8, 3.6)
    port = WebSocketPort()
    port.open()
    try:
        audio, rate, _ = recorded(
            page, f"patch=core&address={port.url}", seconds_of(holds), lambda: play(port, holds), tmp_path
        )
        acks = port.facts()["acks"]
    finally:
        port.close()
    heard = hear(audio, rate, holds, (2.5, 7))
    print(f"Strudel by WebSocket: {heard}; {acks} frames confirmed by the page")
    assert acks > 100, "the page says which frames it has"

    assert all(a > b for a, b in pairwise(heard.levels)), heard
    assert heard.levels[0] > 10 * heard.levels[-1], heard
    assert heard.centroids[-1] > 2 * heard.centroids[0], heard
    assert all(a < b for a, b in pairwise(heard.centroids[:4])), heard
    assert heard.tension > heard.repeat + 1, heard
    assert heard.tails[1] > 10 * heard.tails[0] and heard.tails[1] > 0.02 * heard.levels[0], heard
    assert heard.pulses == pytest.approx((4 * 0.8, 4 * 1.25), rel=0.08), heard


STEPS = 12


@pytest.mark.timeout(120)
def test_the_latency_of_patterns_is_what_the_manual_says(page: tuple[Path, str], tmp_path: Path) -> None:
    """By design: look-ahead and overlap of 0.1 s each, 0.1 s on top, then the next event (here every 125 ms)."""
    port = WebSocketPort()
    port.open()
    put, rng, steps = switch(port, "density", DEFAULT), np.random.default_rng(0), []

    def perform() -> None:
        put(False)
        time.sleep(1.0)
        for _ in range(STEPS):
            steps.append(time.time())
            put(True)
            time.sleep(0.6)
            put(False)
            time.sleep(rng.uniform(0.9, 1.1))

    try:
        audio, rate, first_s = recorded(page, f"patch=bass&address={port.url}", STEPS * 1.7 + 1, perform, tmp_path)
    finally:
        port.close()
    heard = first_s + find_onsets(audio.astype(np.float32), rate, 0.005, 0.3) / rate
    took = heard - np.array(steps) if len(heard) == STEPS else np.zeros(0)
    assert len(took) == STEPS, (len(heard), steps)
    p50 = float(np.median(took))
    print(f"Strudel patterns: step to sound p50 {p50 * 1e3:.0f} ms, {took.min() * 1e3:.0f} to {took.max() * 1e3:.0f}")
    assert took.min() > 0.05 and 0.15 < p50 < 0.8, took


def relay_of(jack_name: str) -> tuple[Any, Any]:
    """A MIDI input on JACK, and a WebSocket server that passes its bytes on."""
    import rtmidi
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.server import ServerConnection, serve

    pages: list[ServerConnection] = []

    def stay(connection: ServerConnection) -> None:
        pages.append(connection)
        for _ in connection:
            pass

    def heard(event: tuple[list[int], float], _: object) -> None:
        for connection in pages:
            try:
                connection.send(bytes(event[0]))
            except ConnectionClosed:
                pages.remove(connection)

    server = serve(stay, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ear = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name=jack_name)
    ear.set_callback(heard)
    ear.open_virtual_port("in")
    return ear, server


@pytest.mark.timeout(150)
def test_the_sound_of_strudel_follows_by_midin_through_a_stand_in(
    page: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All other patches at once, by `midin`, with a stand-in for requestMIDIAccess: no ALSA here."""
    pytest.importorskip("rtmidi", reason="python-rtmidi is not installed (pip install 'choreo[live]')")
    holds = {name: part for name, part in programme(2.0).items() if name in ("density", "brightness")}
    with jack_server(tmp_path) as env:
        for key, value in env.items():
            monkeypatch.setenv(key, value)
        ear, server = relay_of("choreo_relay")
        port = MidiPort("choreo_relay", DEFAULT, api="jack")
        try:
            port.open()
            relay = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
            audio, rate, _ = recorded(
                page, "patch=all&address=midi:choreo", seconds_of(holds), lambda: play(port, holds), tmp_path, relay
            )
        finally:
            port.close()
            ear.close_port()
            ear.delete()
            server.shutdown()
    at = first_sound(audio, rate)
    both = plateaus(audio, rate, [*holds["density"], *holds["brightness"]], at)
    levels, centroids = [rms(x) for x in both[:5]], [centroid(x, rate) for x in both[5:]]
    print(f"Strudel by midin (stand-in): density -> RMS {levels}; brightness -> centroid {centroids} Hz")

    assert all(a > b for a, b in pairwise(levels)), levels
    assert levels[0] > 10 * levels[-1], levels
    assert centroids[-1] > 1.5 * centroids[0], centroids
