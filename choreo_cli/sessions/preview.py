"""See and hear an alignment: a picture of four rows, and music left with clicks at motion impacts right."""

from __future__ import annotations

import io
import re
import wave
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.sessions.clocks import impact_of
from choreo_cli.sessions.pairing import Draft
from choreo_cli.sessions.target import Target

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
SECONDS = 20.0
CLICK_HZ = 1_800.0
AUDIO_HZ = 22_050
_UNSAFE = re.compile(r"[^\w.-]+")


def write_all(drafts: list[Draft], sound: Any, out: Target) -> None:
    """Write preview/NAME.png and, where the music has sound, preview/NAME.wav for every pair.

    Args:
        drafts: The pairs.
        sound: (draft, rate) -> mono samples of its music, None without sound.
        out: The output folder.
    """
    for d in drafts:
        name = _UNSAFE.sub("-", d.entry["pair_id"]).strip("-")
        out.write("preview", f"preview/{name}.png", picture(d))
        samples = sound(d, AUDIO_HZ)
        if samples is not None:
            out.write("preview", f"preview/{name}.wav", clicks(d, samples))


def impacts_us(d: Draft) -> NDArray[np.int64]:
    """Times of the body's impacts on the music clock: peaks of its impact envelope above the upper quartile."""
    from scipy.signal import find_peaks

    env = impact_of(d.stream)
    value = np.nan_to_num(env.value)
    if len(value) < 3 or not value.max() > 0:
        return np.empty(0, np.int64)
    gap = max(1, round(0.2 * env.rate_hz))
    peaks, _ = find_peaks(value, height=float(np.quantile(value, 0.75)), distance=gap)
    # Not moved by `bias_us`: that is mostly the latency of the music's envelope, and no click is made from it.
    return d.model.to_music(env.t_us[peaks])


def clicks(d: Draft, samples: F32) -> bytes:
    """PCM WAV: the music on the left, a click at every impact on the right."""
    right = np.zeros(len(samples), np.float32)
    t = np.arange(round(0.02 * AUDIO_HZ)) / AUDIO_HZ
    click = (0.6 * np.sin(2 * np.pi * CLICK_HZ * t) * np.exp(-t * 250)).astype(np.float32)
    for at in np.rint(impacts_us(d) / 1e6 * AUDIO_HZ).astype(np.int64):
        part = click[: max(0, len(right) - at)]
        if at >= 0 and len(part):
            right[at : at + len(part)] += part
    peak = max(1.0, float(np.abs(samples).max(initial=0.0)))
    both = np.stack([samples / np.float32(peak), np.clip(right, -1, 1)], axis=1)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as f:
        f.setnchannels(2)
        f.setsampwidth(2)
        f.setframerate(AUDIO_HZ)
        f.writeframes(np.rint(both * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def picture(d: Draft) -> bytes:
    """PNG bytes: envelopes before and after, the correlation curve, the beat-phase histogram, and the gaps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 9), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(4, 1, height_ratios=[2.2, 1.6, 1.4, 0.9])
    _envelopes(axes[0], d)
    _correlation(axes[1], d)
    _phases(axes[2], d)
    _gaps(axes[3], d)
    figure.suptitle(_title(d), fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "choreo pair --preview"})
    return buffer.getvalue()


def _title(d: Draft) -> str:
    e = d.entry
    half = "unbounded" if e["offset_ci_us"] is None else f"{(e['offset_ci_us'][1] - e['offset_ci_us'][0]) / 2e6:.3f} s"
    p = "no test" if e["p"] is None else f"p = {e['p']:.2g}, z = {e['z']:.1f}"
    why = f" ({', '.join(e['reasons'])})" if e["reasons"] else ""
    first = f"{e['pair_id']} on {e['track']}"
    second = f"{e['method']}: offset {e['offset_us'] / 1e6:+.3f} s +- {half}, {p}"
    return f"{first}\n{second}, identifiable: {e['identifiable']}{why}"


def _shape(t: F64, v: F32, lo: float, hi: float) -> tuple[F64, F64]:
    inside = (t >= lo) & (t <= hi) & np.isfinite(v)
    x, y = t[inside], v[inside].astype(np.float64)
    top = float(np.quantile(y, 0.99)) if len(y) else 1.0
    return x, np.clip(y / (top or 1.0), 0, 1)


def _envelopes(ax: Any, d: Draft) -> None:
    lo = d.entry["start_us"] / 1e6
    lo += max(0.0, min((d.entry["end_us"] / 1e6 - lo - SECONDS) / 2, 20.0))
    hi = min(lo + SECONDS, d.entry["end_us"] / 1e6)
    if d.music.onset is not None and d.music.onset_t_us is not None:
        x, y = _shape(d.music.onset_t_us / 1e6, d.music.onset, lo, hi)
        ax.fill_between(x, 2, 2 + y, color="#7f7f7f", lw=0, label="music onsets")
    env = impact_of(d.stream)
    prior = d.entry["prior_window_us"]
    before = env.t_us + (d.entry["offset_us"] if prior is None else sum(prior) // 2)
    for level, t, colour, label in (
        (1, before / 1e6, "#d8b365", "impacts, clocks alone"),
        (0, d.model.to_music(env.t_us) / 1e6, "#2166ac", "impacts, aligned"),
    ):
        x, y = _shape(t, env.value, lo, hi)
        ax.fill_between(x, level, level + y, color=colour, lw=0, label=label)
    beats = d.music.beats_s
    for b in beats[(beats >= lo) & (beats <= hi)]:
        ax.axvline(b, color="#b2182b", lw=0.5, alpha=0.6)
    ax.set(xlim=(lo, max(hi, lo + 0.1)), ylim=(0, 3.05), yticks=[], xlabel="music time (s); red: beats")
    ax.legend(loc="upper right", fontsize=8, ncols=3)


def _correlation(ax: Any, d: Draft) -> None:
    curves = d.estimate.curves or next((e.curves for e in d.estimate.evidence if e.curves is not None), None)
    if curves is None or not len(curves.lags_us):
        ax.text(
            0.5,
            0.5,
            "no correlation was computed: " + (", ".join(d.entry["reasons"]) or d.entry["method"]),
            ha="center",
        )
        ax.set(xticks=[], yticks=[])
        return
    x = curves.lags_us / 1e6
    ax.plot(x, curves.correlation, color="#2166ac", lw=1.2)
    if curves.null95 is not None:
        ax.axhline(curves.null95, color="#b2182b", lw=1, ls="--", label="95 % of surrogates' maxima")
    if d.entry["prior_window_us"] is not None:
        a, b = (v / 1e6 for v in d.entry["prior_window_us"])
        ax.axvspan(a, b, color="#d8b365", alpha=0.3, label="prior window")
    for k, c in enumerate(d.entry["candidates_us"][:3]):
        ax.axvline(c / 1e6, color="#1b7837" if k == 0 else "#999999", lw=1)
    ax.axvline(d.entry["offset_us"] / 1e6, color="#1b7837", lw=1.6, label="chosen offset")
    ax.set(xlabel="offset (s)", ylabel="correlation", xlim=(x[0], x[-1]))
    ax.legend(loc="upper right", fontsize=8)


def _phases(ax: Any, d: Draft) -> None:
    at = impacts_us(d)
    phase, _ = d.music.phase(at)
    phase = phase[np.isfinite(phase)]
    ax.hist(phase, bins=np.linspace(0, 1, 25), color="#2166ac")
    n = len(phase)
    if n:
        mean = n / 24
        low, high = max(0.0, mean - 2 * mean**0.5), mean + 2 * mean**0.5
        ax.axhspan(low, high, color="#999999", alpha=0.3, label="uniform, 95 %")
        r = float(np.abs(np.exp(2j * np.pi * phase).mean()))
        p = float(np.exp(np.sqrt(1 + 4 * n + 4 * (n * n - (n * r) ** 2)) - (1 + 2 * n)))  # Zar's Rayleigh approximation
        ax.set_title(f"beat phase of {n} impacts, R = {r:.2f}, Rayleigh p = {p:.2g}", fontsize=9)
        ax.legend(loc="upper right", fontsize=8)
    ax.set(xlabel="beat phase (cycles)", ylabel="impacts", xlim=(0, 1))


def _gaps(ax: Any, d: Draft) -> None:
    c = d.block.columns
    names = ("m_mot", "m_hr", "m_aud", "m_ctx")
    if len(c["t_us"]):
        image = np.stack([np.asarray(c[n], float) for n in names])
        lo, hi = c["t_us"][0] / 1e6, c["t_us"][-1] / 1e6 + 0.02
        ax.imshow(image, aspect="auto", extent=(lo, hi, 4, 0), cmap="Greys", vmin=0, vmax=1.4, interpolation="nearest")
    ax.set(yticks=np.arange(4) + 0.5, xlabel="music time (s); dark: measured")
    ax.set_yticklabels(["motion", "heart", "audio", "beat"])
