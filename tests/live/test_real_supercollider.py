"""SuperCollider plays examples/receivers/recv.scd on a JACK dummy server, and its recording follows all five controls."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from choreo_cli.live.osc_port import OscPort
from tests.live.jack_server import jack_server
from tests.live.receiver_bench import (
    RECEIVERS,
    free_port,
    hear,
    need,
    play,
    process,
    programme,
    read_wav,
    seconds_of,
    wait_for,
)

pytestmark = pytest.mark.live
HEADLESS = {
    "QT_QPA_PLATFORM": "offscreen",
    "QTWEBENGINE_DISABLE_SANDBOX": "1",
    "QTWEBENGINE_CHROMIUM_FLAGS": "--no-sandbox",
}


@pytest.mark.timeout(120)
def test_the_sound_of_supercollider_follows_every_control(tmp_path: Path) -> None:
    need("sclang", "scsynth", "jackd")
    port, log, take = free_port(), tmp_path / "sclang.log", tmp_path / "take.wav"
    holds = programme(1.2)
    own = {
        "CHOREO_OSC_PORT": str(port),
        "CHOREO_SERVER_PORT": str(free_port()),
        "CHOREO_RECORD": str(take),
        "CHOREO_SECONDS": f"{seconds_of(holds) + 1.5:.1f}",
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
    }
    with (
        jack_server(tmp_path, period=1024) as jack,
        process(["sclang", "-D", RECEIVERS / "recv.scd"], log, {**jack, **HEADLESS, **own}) as sclang,
    ):
        wait_for("SuperCollider", lambda: "choreo listens" in log.read_text(errors="replace"), 30, log)
        out = OscPort("127.0.0.1", port, "choreo")
        out.open()
        play(out, holds)
        out.close()
        wait_for("the recording", lambda: sclang.poll() is not None, 20, log)
    audio, rate = read_wav(take)
    heard = hear(audio, rate, holds)
    print(f"SuperCollider: {heard}")

    assert all(a > b for a, b in pairwise(heard.levels)), heard
    assert heard.levels[0] > 5 * heard.levels[-1], heard
    assert all(a < b for a, b in pairwise(heard.centroids)), heard
    assert heard.centroids[-1] > 3 * heard.centroids[0], heard
    assert heard.tension > heard.repeat + 1, heard
    assert heard.tails[1] > 10 * heard.tails[0] and heard.tails[1] > 0.05 * heard.levels[0], heard
    assert heard.pulses == pytest.approx((8 * 0.8, 8 * 1.25), rel=0.06), heard
