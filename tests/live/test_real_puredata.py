"""Pure Data plays examples/receivers/choreo.pd, and what it records follows all five controls."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from choreo_cli.live.osc_port import OscPort
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
    udp_is_bound,
    wait_for,
)

pytestmark = pytest.mark.live


@pytest.mark.timeout(90)
def test_the_sound_of_puredata_follows_every_control(tmp_path: Path) -> None:
    need("pd")
    port, log, take = free_port(), tmp_path / "pd.log", tmp_path / "take.wav"
    holds = programme(1.5)
    keep_ms = round(seconds_of(holds) * 1000) + 1000
    sends = ["pd dsp 1", f"choreo-listen {port}", f"choreo-record {take} {keep_ms}"]
    argv = ["pd", "-nogui", "-noaudio", "-nomidi", "-stderr", *(w for s in sends for w in ("-send", s))]
    with process([*argv, RECEIVERS / "choreo.pd"], log):
        wait_for("Pure Data", lambda: udp_is_bound(port), 15, log)
        out = OscPort("127.0.0.1", port, "choreo")
        out.open()
        play(out, holds)
        out.close()
        wait_for("the recording", lambda: _ended(take, keep_ms), 10, log)
    audio, rate = read_wav(take)
    heard = hear(audio, rate, holds)
    print(f"Pure Data: {heard}")

    assert all(a > b for a, b in pairwise(heard.levels)), heard
    assert heard.levels[0] > 5 * heard.levels[-1], heard
    assert all(a < b for a, b in pairwise(heard.centroids)), heard
    assert heard.centroids[-1] > 3 * heard.centroids[0], heard
    assert heard.tension > heard.repeat + 1, heard
    assert heard.tails[1] > 10 * heard.tails[0] and heard.tails[1] > 0.1 * heard.levels[0], heard
    assert heard.pulses == pytest.approx((8 * 0.8, 8 * 1.25), rel=0.06), heard


def _ended(take: Path, keep_ms: int) -> bool:
    """The header of a WAV file is written when it is closed."""
    import soundfile

    try:
        return bool(soundfile.info(take).duration > keep_ms / 1000 - 0.5)
    except soundfile.LibsndfileError:
        return False
