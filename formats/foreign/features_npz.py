"""Feature archives: ours, and what people's librosa scripts save, under the names they give things."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats import audio_npz
from formats.errors import FormatError
from formats.foreign.model import F32, F64, Facts
from formats.foreign.source import Source
from formats.npz_guard import BUDGET_BYTES, member_names, npz_keys, read_npz

DEFAULT_SR, DEFAULT_HOP = 22_050, 512
ALIASES: dict[str, tuple[str, ...]] = {
    "mel": ("mel", "mel_spectrogram", "melspec", "mel_spec", "melspectrogram", "mel_power", "log_mel", "logmel",
            "log_mel_spectrogram", "mel_db", "melspec_db", "mel_spectrogram_db", "log_mel_spec"),
    "chroma": ("chroma", "chroma_stft", "chromagram", "chroma_cqt", "chroma_cens"),
    "mfcc": ("mfcc", "mfccs"),
    "onset": ("onset", "onset_env", "onset_strength", "onset_envelope"),
    "rms": ("rms", "rmse", "rms_energy"),
    "centroid": ("centroid", "spectral_centroid"),
    "tempo": ("tempo", "bpm", "tempo_bpm"),
    "beat_frames": ("beat_frames", "beats_frames"),
    "beat_times": ("beat_times", "beats_s", "beats_sec", "beat_time"),
    "beats": ("beats",),
    "sr": ("sr", "sample_rate", "samplerate", "fs"),
    "hop": ("hop", "hop_length", "hop_size"),
    "n_fft": ("n_fft",),
}  # fmt: skip
_ROLE = {alias: role for role, aliases in ALIASES.items() for alias in aliases}
_EVIDENCE = ("mel", "chroma", "mfcc", "onset", "tempo", "beat_frames", "beat_times", "beats")
_BODY = {"poses", "betas", "trans", "mocap_framerate", "mocap_frame_rate", "root_orient", "dmpls", "joints", "xyz"}


@dataclass(frozen=True, slots=True)
class FeatureArchive:
    """Features somebody computed; what a file does not hold is None.

    Args:
        mel: (M, T) float32 power.
        chroma: (12, T) float32.
        mfcc: (K, T) float32.
        onset: (T,) float32.
        rms: (T,) float32.
        centroid: (T,) float32 Hz.
        tempo_bpm: None when the file holds none, or says 0.
        tempo_candidates: (bpm, score).
        beats_s: (B,) float64 seconds, strictly increasing; None when the file holds none.
        sr, hop, n_fft: Frame k is at k * hop / sr seconds.
        n_frames: T.
        duration_us: Length of the recording.
        mel_relative: The mel power is relative to its own maximum, its absolute level is lost.
        ours: Written by us and verified by its digest.
        provenance: The `created_by` record of ours.
        assumptions: What was taken for granted.
        problems: `code: sentence`.
    """

    mel: F32 | None
    chroma: F32 | None
    mfcc: F32 | None
    onset: F32 | None
    rms: F32 | None
    centroid: F32 | None
    tempo_bpm: float | None
    tempo_candidates: tuple[tuple[float, float], ...]
    beats_s: F64 | None
    sr: int
    hop: int
    n_fft: int
    n_frames: int
    duration_us: int
    mel_relative: bool = False
    ours: bool = False
    provenance: dict[str, Any] | None = None
    assumptions: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def sniff_npz(head: bytes, name: str, size: int) -> bool:
    """Tell a feature archive from its first members; an archive of bodies is left to its own reader."""
    if head[:4] != b"PK\x03\x04":
        return False
    keys = {n.removesuffix(".npy").lower() for n in member_names(head) if n.endswith(".npy")}
    if keys & _BODY:
        return False
    return bool(keys & set(_ROLE)) or (bool(keys) and name.lower().endswith(".npz"))


def npz_facts(source: Source) -> Facts:
    """Read what an archive holds. Raises FormatError when it is damaged."""
    data = source.read_bytes(BUDGET_BYTES)
    keys = npz_keys(data, file=source.path)
    if not audio_npz.is_ours(data) and not any(_ROLE.get(k.lower()) in _EVIDENCE for k in keys):
        found = ", ".join(sorted(keys)[:6])
        return Facts("other", "npz", reason=f"an NPZ without mel, chroma, mfcc, onset, tempo or beats (it has {found})")
    a = _read(data, source.path)
    meta: dict[str, Any] = {"keys": sorted(keys)[:64], "sr": a.sr, "hop": a.hop, "ours": a.ours}
    meta |= {"tempo_bpm": a.tempo_bpm, "beats": None if a.beats_s is None else int(a.beats_s.size)}
    meta |= {"of_sha256": (a.provenance or {}).get("recording")}  # ours name the sound they were made of
    meta |= {"n_mels": None if a.mel is None else int(a.mel.shape[0]), "assumptions": list(a.assumptions)}
    return Facts(
        "features", "features-npz", a.n_frames or None, (a.sr, a.hop), a.duration_us or None, None,
        problems=a.problems, meta={k: v for k, v in meta.items() if v is not None and v != []},
    )  # fmt: skip


def read_features(source: Source) -> FeatureArchive:
    """Read a feature archive, ours or anyone's. Raises FormatError."""
    return _read(source.read_bytes(BUDGET_BYTES), source.path)


def _read(data: bytes, file: Path) -> FeatureArchive:
    if audio_npz.is_ours(data):
        return _ours(*audio_npz.decode(data, file=file))
    return _foreign(read_npz(data, file=file, want=lambda k: k.lower() in _ROLE), file)


def _ours(arrays: dict[str, NDArray[Any]], provenance: dict[str, Any]) -> FeatureArchive:
    tempo = float(arrays["tempo"])
    return FeatureArchive(
        mel=arrays["mel"], chroma=arrays["chroma"], mfcc=arrays["mfcc"], onset=arrays["onset"], rms=arrays["rms"],
        centroid=arrays["centroid"],
        tempo_bpm=None if np.isnan(tempo) else tempo,
        tempo_candidates=tuple((float(b), float(s)) for b, s in arrays["tempo_candidates"]),
        beats_s=arrays["beat_times"],
        sr=int(arrays["sr"]), hop=int(arrays["hop"]), n_fft=int(arrays["n_fft"]),
        n_frames=int(arrays["onset"].size), duration_us=int(arrays["duration_us"]),
        ours=True, provenance=provenance,
    )  # fmt: skip


def _foreign(arrays: dict[str, NDArray[Any]], file: Path) -> FeatureArchive:
    found = _by_role(arrays)
    said: list[str] = []
    doubts: list[str] = []
    sr = _whole(found.get("sr"), DEFAULT_SR, "sr", 1_000, 400_000, said, file)
    hop = _whole(found.get("hop"), DEFAULT_HOP, "hop", 1, 1 << 20, said, file)
    n_fft = _whole(found.get("n_fft"), 2_048, None, 2, 1 << 20, said, file)
    rows = {k: _row(found.get(k), k, file, doubts) for k in ("onset", "rms", "centroid")}
    chroma = _bands(found.get("chroma"), 12, None, "chroma", file, said, doubts)
    lengths = [r.size for r in rows.values() if r is not None] + ([] if chroma is None else [chroma.shape[1]])
    frames = max(lengths) if lengths else None
    mel = _bands(found.get("mel"), None, frames, "mel", file, said, doubts)
    relative = False
    if mel is not None:
        mel, relative = _to_power(mel, _name_of(arrays, "mel"), said)
    mfcc = _bands(
        found.get("mfcc"), None, frames or (None if mel is None else mel.shape[1]), "mfcc", file, said, doubts
    )
    n = max([*lengths, *(a.shape[1] for a in (mel, mfcc) if a is not None)], default=0)
    beats = _beats(found, sr, hop, said, doubts)
    return FeatureArchive(
        mel, chroma, mfcc, rows["onset"], rows["rms"], rows["centroid"], _tempo(found.get("tempo"), doubts), (), beats,
        sr, hop, n_fft, n, n * hop * 1_000_000 // sr, relative, assumptions=tuple(said), problems=tuple(doubts),
    )  # fmt: skip


def _by_role(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays by what they are; of two names for one thing the earlier in `ALIASES` counts."""
    lower = {k.lower(): a for k, a in arrays.items()}
    return {
        role: next(lower[a] for a in names if a in lower) for role, names in ALIASES.items() if set(names) & set(lower)
    }


def _name_of(arrays: dict[str, NDArray[Any]], role: str) -> str:
    lower = {k.lower() for k in arrays}
    return next(a for a in ALIASES[role] if a in lower)


def _numbers(a: NDArray[Any], name: str, file: Path) -> F64:
    if a.dtype.kind not in "fiub":
        raise FormatError(f"{a.dtype} values where numbers belong", file=file, field=name)
    return np.asarray(a, np.float64)


def _whole(
    a: NDArray[Any] | None, default: int, name: str | None, lo: int, hi: int, said: list[str], file: Path
) -> int:
    if a is None:
        if name:
            said.append(f"{name} is not in the file: {default} taken")
        return default
    values = _numbers(a, name or "n_fft", file).reshape(-1)
    if values.size != 1 or not lo <= values[0] <= hi or values[0] != round(float(values[0])):
        raise FormatError(f"not one whole number in {lo}..{hi}", file=file, field=name)
    return int(values[0])


def _finite(a: F64, name: str, doubts: list[str]) -> F64:
    bad = ~np.isfinite(a)
    if bad.any():
        doubts.append(f"not_finite: {name} has {int(bad.sum())} values that are not finite")
    return a


def _row(a: NDArray[Any] | None, name: str, file: Path, doubts: list[str]) -> F32 | None:
    """One value a frame; librosa gives rms and centroid as (1, T)."""
    if a is None:
        return None
    values = np.squeeze(_numbers(a, name, file))
    if values.ndim != 1 or values.size == 0:
        raise FormatError(f"shape {a.shape}, needs one value a frame", file=file, field=name)
    with np.errstate(over="ignore"):
        return _finite(values, name, doubts).astype(np.float32)


def _bands(
    a: NDArray[Any] | None, bands: int | None, frames: int | None, name: str, file: Path, said: list[str],
    doubts: list[str],
) -> F32 | None:  # fmt: skip
    """Bring a spectrogram to (bands, frames)."""
    if a is None:
        return None
    values = _numbers(a, name, file)
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2 or 0 in values.shape:
        raise FormatError(f"shape {a.shape}, needs bands x frames", file=file, field=name)
    if _frames_first(values.shape, bands, frames):
        said.append(f"{name} has shape {values.shape}: frames first")
        values = values.T
    with np.errstate(over="ignore"):
        return _finite(values, name, doubts).astype(np.float32)


def _frames_first(shape: tuple[int, ...], bands: int | None, frames: int | None) -> bool:
    first, last = shape
    if bands is not None:
        return last == bands and first != bands
    if frames is not None and first != last and abs(first - frames) <= 1 < abs(last - frames):
        return True
    if frames is not None and abs(last - frames) <= 1:
        return False
    usual = (13, 20, 40, 64, 80, 96, 128, 229, 256)
    return last in usual and first not in usual


def _to_power(mel: F32, name: str, said: list[str]) -> tuple[F32, bool]:
    """Turn a mel spectrum in dB or natural log into power; returns (power, its level is relative to its maximum)."""
    finite = mel[np.isfinite(mel)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low >= 0 and not ("log" in name or "db" in name.split("_")):
        return mel, False
    with np.errstate(over="ignore"):
        if low >= 0:
            said.append(f"{name} is not negative: taken as log(1 + power)")
            return np.expm1(mel), False
        if low >= -30 and high - low < 45:
            said.append(f"{name} spans {low:.1f}..{high:.1f}: taken as natural log of power")
            return np.exp(mel), False
        relative = abs(high) < 1e-3
        reference = "its own maximum" if relative else "power 1"
        said.append(f"{name} spans {low:.1f}..{high:.1f}: taken as dB over {reference}")
        return np.power(np.float32(10), mel / np.float32(10)), relative


def _tempo(a: NDArray[Any] | None, doubts: list[str]) -> float | None:
    """A scalar, 0-d or 1-d array; more than one value (a curve) counts by its median."""
    if a is None or a.dtype.kind not in "fiu":
        return None
    values = np.asarray(a, np.float64).reshape(-1)
    values = values[np.isfinite(values) & (values > 0)]
    if values.size == 0:
        doubts.append("no_tempo: the file's tempo is 0 or not a number")
        return None
    return float(np.median(values))


def _beats(found: dict[str, NDArray[Any]], sr: int, hop: int, said: list[str], doubts: list[str]) -> F64 | None:
    if "beat_times" in found:
        values, frames = found["beat_times"], False
    elif "beat_frames" in found:
        values, frames = found["beat_frames"], True
    elif "beats" in found:
        values = found["beats"]
        frames = values.dtype.kind in "iu"
        said.append(f"beats are {values.dtype}: taken as {'frames' if frames else 'seconds'}")
    else:
        return None
    if values.dtype.kind not in "fiu":
        doubts.append("no_beats: the file's beats are not numbers")
        return None
    times = np.asarray(values, np.float64).reshape(-1) * (hop / sr if frames else 1.0)
    kept = np.unique(times[np.isfinite(times) & (times >= 0) & (times < 1e6)])
    if kept.size != times.size or not np.array_equal(kept, times):
        doubts.append(f"beats_repaired: {times.size} beats in the file, {kept.size} distinct ones in order")
    return kept
