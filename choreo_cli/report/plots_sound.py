"""Pictures of sound: waveform, onset and beats, mel and chroma images."""

from __future__ import annotations

from typing import Any

import numpy as np

from choreo_cli.report.content import Content
from choreo_cli.report.plots import AUDIO, HEART, INK, MOTION, SOFT, nothing

_COLUMNS = 1100
_ZOOM_S = 8.0


def audio(figure: Any, content: Content, session: str | None) -> None:
    """The waveform of all of it, eight seconds of onset with beats, and the mel image."""
    sound, features, track = content.body
    if not len(sound.samples):
        return nothing(figure, "no samples")
    wave, zoom, mel = figure.subplots(3, 1, height_ratios=(1, 1.1, 1.6))
    length = len(sound.samples) / sound.rate
    low, high = envelope(sound.samples, _COLUMNS)
    x = np.linspace(0, length, len(low))
    wave.fill_between(x, low, high, color=AUDIO, linewidth=0)
    wave.set(xlim=(0, length), ylabel="sample")
    wave.set_title(f"{length:.2f} s, peak {sound.peak:.3f}")
    t = features.times_s
    start = max(0.0, min(length / 2, length - _ZOOM_S))
    part = (t >= start) & (t <= start + _ZOOM_S)
    zoom.plot(t[part], features.onset[part], color=MOTION)
    for k, b in enumerate(track.beats_s[(track.beats_s >= start) & (track.beats_s <= start + _ZOOM_S)]):
        zoom.axvline(b, color=HEART, linewidth=0.9, label="beats" if k == 0 else None)
    zoom.set(ylabel="onset, dB", xlim=(start, min(length, start + _ZOOM_S)))
    tempo = f"{track.tempo_bpm:.2f} beats/min" if track.tempo_bpm else f"no tempo ({track.no_tempo})"
    zoom.set_title(f"onset strength and beats, {start:.1f} to {min(length, start + _ZOOM_S):.1f} s: {tempo}")
    if len(track.beats_s):
        zoom.legend(loc="upper right")
    mel_image(mel, features.mel, length)
    mel.set_xlabel("seconds")
    return None


def envelope(samples: np.ndarray[Any, Any], columns: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Lowest and highest sample of each of at most `columns` equal stretches."""
    size = max(1, -(-len(samples) // columns))
    starts = np.arange(0, len(samples), size)
    return np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)


def mel_image(ax: Any, mel: np.ndarray[Any, Any], length: float) -> None:
    """(bands, T) power as decibels below the loudest, 80 dB deep, at most 1,100 columns."""
    power = mel.astype(np.float64)
    size = max(1, -(-power.shape[1] // _COLUMNS))
    power = np.maximum.reduceat(power, np.arange(0, power.shape[1], size), axis=1)
    top = max(float(np.nanmax(power)), 1e-10) if power.size else 1e-10
    level = 10 * np.log10(np.maximum(power, 1e-10) / top)
    ax.imshow(level, origin="lower", aspect="auto", vmin=-80, vmax=0, extent=(0, length, 0, len(mel)))
    ax.grid(False)
    ax.set_ylabel("mel band")
    ax.set_title("mel spectrum, 80 dB below the loudest")


def features(figure: Any, content: Content, session: str | None) -> None:
    """Whatever the file has of mel, chroma and one-dimensional features, with its beats."""
    arrays = {k: a for k, a in content.body.items() if isinstance(a, np.ndarray) and a.dtype.kind in "fiub"}
    frames = content.rows
    fps = _fps(content.body, arrays)
    length = frames / fps if fps else float(frames)
    images = [(k, a) for k, a in arrays.items() if a.ndim == 2 and a.shape[1] == frames and a.shape[0] <= 512][:3]
    curves = [(k, a) for k, a in arrays.items() if a.ndim == 1 and len(a) == frames and frames > 1][:3]
    if not images and not curves:
        return nothing(figure, "no features over time")
    axes = np.atleast_1d(figure.subplots(len(images) + len(curves), 1, sharex=True))
    for ax, (name, a) in zip(axes, images, strict=False):
        _image(ax, name, a, length)
    x = np.arange(frames) / (fps or 1.0)
    for ax, (name, a) in zip(axes[len(images) :], curves, strict=True):
        ax.plot(x, a, color=MOTION if "onset" in name else INK, linewidth=0.7)
        ax.set_ylabel(name[:20])
        ax.set_xlim(0, length)
        for b in _beats(arrays, fps):
            ax.axvline(b, color=HEART, linewidth=0.4, alpha=0.6)
    axes[-1].set_xlabel("seconds" if fps else "frames", color=INK if fps else SOFT)
    return None


def _image(ax: Any, name: str, a: np.ndarray[Any, Any], length: float) -> None:
    if "mel" in name.lower() and np.nanmin(a) >= 0:
        mel_image(ax, a, length)
    else:
        live = a[np.isfinite(a)]
        lo, hi = np.quantile(live, (0.01, 0.99)) if live.size else (0, 1)
        ax.imshow(a, origin="lower", aspect="auto", vmin=lo, vmax=hi, extent=(0, length, 0, len(a)), cmap="viridis")
        ax.grid(False)
        ax.set_title(name)
    ax.set_ylabel(f"{len(a)} bands")


def _fps(body: dict[str, Any], arrays: dict[str, Any]) -> float | None:
    """Frames per second from `sr` and `hop`, or from a `fps`; None when the file does not say."""
    source = body.get("__source__")
    found = {k: float(a.reshape(-1)[0]) for k, a in arrays.items() if a.size == 1}
    for name in ("sr", "rate", "hop", "hop_length", "fps", "frame_rate"):
        value = getattr(source, name, None)
        if isinstance(value, tuple) and len(value) == 2 and value[1]:
            value = value[0] / value[1]
        if isinstance(value, int | float) and name not in found:
            found[name] = float(value)
    fps = found.get("fps") or found.get("frame_rate")
    rate, hop = found.get("sr") or found.get("rate"), found.get("hop") or found.get("hop_length")
    return fps or (rate / hop if rate and hop else None)


def _beats(arrays: dict[str, Any], fps: float | None) -> np.ndarray[Any, Any]:
    for name, a in arrays.items():
        if "beat" in name and a.ndim == 1 and a.size > 1:
            return np.asarray(a, np.float64) / ((fps or 1.0) if "frame" in name else 1.0)
    return np.empty(0)
