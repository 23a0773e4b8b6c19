"""HumanML3D's 263 features a frame: recovery of the 22 joints (motion.md, section 9)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from formats.errors import FormatError
from formats.foreign.body import Scaling, finish, leg_length
from formats.foreign.guard import contained
from formats.foreign.joints import CANONICAL
from formats.foreign.model import F64, Facts, PoseStream
from formats.foreign.npy import load_array, npy_header
from formats.foreign.pose_clock import frame_times, rate_of
from formats.foreign.registry import Reader
from formats.foreign.smpl import motion_facts
from formats.foreign.source import Source

FPS, WIDTH = 20.0, 263
ASSUMED = "20 fps by the format: HumanML3D files do not say theirs"
_HEIGHT, _CONTACTS = 3, slice(259, 263)
_SOFT, _FAR = 0.02, 0.2


def recover_joints(features: F64) -> F64:
    """Joint positions of 263-D features.

    Heading r_t is the sum of the half-angle rates before t, the root's path the sum of its velocities turned by it;
    joints are local positions turned by the heading (Guo et al. 2022; formula in motion.md, section 9).

    Args:
        features: (T, 263), not normalised.

    Returns:
        (T, 22, 3) float64 metres, y up, the first root above the origin.
    """
    half = np.concatenate([[0.0], np.cumsum(features[:-1, 0])])
    cos, sin = np.cos(-2 * half), np.sin(-2 * half)
    step = np.zeros((len(features), 2))
    vx, vz = features[:-1, 1], features[:-1, 2]
    step[1:, 0] = cos[1:] * vx + sin[1:] * vz
    step[1:, 1] = -sin[1:] * vx + cos[1:] * vz
    path = np.cumsum(step, axis=0)
    local = features[:, 4:67].reshape(-1, 21, 3)
    out = np.empty((len(features), 22, 3))
    out[:, 0, 0], out[:, 0, 1], out[:, 0, 2] = path[:, 0], features[:, _HEIGHT], path[:, 1]
    out[:, 1:, 0] = cos[:, None] * local[..., 0] + sin[:, None] * local[..., 2] + path[:, :1]
    out[:, 1:, 1] = local[..., 1]
    out[:, 1:, 2] = -sin[:, None] * local[..., 0] + cos[:, None] * local[..., 2] + path[:, 1:]
    return out


def looks_normalised(features: F64) -> bool:
    """Whether features were divided by their statistics: their contact flags then lie far from 0 and from 1.

    A model's soft flags lie near one of them; those of HumanML3D's own statistics become 0.4 and -2.4.
    """
    contacts = features[:, _CONTACTS]
    away = np.minimum(np.abs(contacts), np.abs(contacts - 1))
    return float(np.median(away)) > _FAR or float(np.mean(contacts < -2 * _FAR)) > 0.02


def statistics_beside(file: Path) -> tuple[F64, F64] | None:
    """Mean and Std (263,) from `Mean.npy` and `Std.npy` in the file's folder; None without them."""
    found = []
    for stem in ("Mean", "Std"):
        names = (f"{stem}.npy", f"{stem.lower()}.npy")
        path = next((file.parent / n for n in names if (file.parent / n).is_file()), None)
        if path is not None:
            found.append(load_array(Source.of(path)).reshape(-1))
    return (found[0], found[1]) if [f.shape for f in found] == [(WIDTH,)] * 2 else None


@contained
def _read(source: Source, fps: float | None) -> PoseStream:
    features = load_array(source)
    if features.ndim == 3 and features.shape[0] == 1:
        features = features[0]
    if features.shape == (0, WIDTH):
        raise FormatError("no frames", file=source.path)
    if features.ndim != 2 or features.shape[1] != WIDTH:
        raise FormatError(f"shape {features.shape}, (T, {WIDTH}) is read", file=source.path)
    if not np.isfinite(features).all():
        raise FormatError("holds numbers that are not finite: the path of the root is lost", file=source.path)
    notes, problems = [], []
    if looks_normalised(features):
        statistics = statistics_beside(source.path)
        if statistics is None:
            raise FormatError(
                "looks normalised", file=source.path, hint="put the Mean.npy and Std.npy it was made with beside it"
            )
        features = features * statistics[1] + statistics[0]
        notes.append("normalised features, Mean.npy and Std.npy beside them undone")
    xyz = recover_joints(features)
    contacts = features[:, _CONTACTS]
    soft = float(np.mean(np.minimum(np.abs(contacts), np.abs(contacts - 1)) > _SOFT))
    if soft > 0.01:
        problems.append(f"soft_contacts: {100 * soft:.0f} % of the contact flags are neither 0 nor 1, made by a model")
    leg = leg_length(xyz)
    if not 0.1 < leg < 2:
        raise FormatError(f"legs of {leg:.3g} m: these are not HumanML3D features", file=source.path)
    rate = rate_of(fps) or rate_of(FPS)
    body = finish(xyz, Scaling(declared=(1.0, "m")), rate[0] / rate[1] if rate else None)
    notes = [*notes, *([] if rate_of(fps) else [ASSUMED]), "time rebuilt from i/fps", *body.notes]
    return PoseStream(
        t_us=frame_times(np.arange(len(xyz), dtype=np.int64), rate), xyz=body.xyz.astype(np.float32), joints=CANONICAL,
        units="m", up="+y", rate=rate, rate_source="user" if rate_of(fps) else "format",
        problems=(*problems, *body.problems), assumptions=("rig humanml3d", *notes),
    )  # fmt: skip


def read(source: Source, fps: float | None = None) -> PoseStream:
    """Read 263-D features as the 22 joints in metres, y up: positions are the truth, rotations are not used.

    Args:
        source: A .npy of (T, 263); normalised ones need `Mean.npy` and `Std.npy` beside them.
        fps: Frames per second, 20 without.

    Raises:
        FormatError: another shape, not finite, or normalised without its statistics.
    """
    stream: PoseStream = _read(source, fps)
    return stream


def facts(source: Source) -> Facts:
    """HumanML3D features, or the statistics that come with them."""
    found = npy_header(source.head)
    shape = found[2] if found else ()
    if shape[-1:] == (251,):
        why = "251 features are KIT-ML's 21 joints, which are not read: export its joints and use --map"
        return Facts("motion", "humanml3d", n=shape[0], reason=why, meta={"shape": list(shape)})
    if len(shape) == 1:
        note = "statistics, not a recording"
        return Facts("other", "humanml3d-statistics", n=shape[0], meta={"note": note, "shape": list(shape)})
    return motion_facts(read(source), "humanml3d", {"rig": "humanml3d", "shape": list(shape)})


def sniff(head: bytes, name: str, size: int) -> bool:
    """A .npy of (T, 263), of (1, T, 263), or the statistics (263,)."""
    found = npy_header(head)
    return found is not None and found[2][-1:] in ((WIDTH,), (251,)) and len(found[2]) <= 3


READERS: tuple[Reader, ...] = (Reader("humanml3d", "motion", sniff, facts, read, 21),)
