"""Write joints as plain arrays, and as the 263 features of HumanML3D."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.humanml3d import features_of_joints
from formats.errors import FormatError
from formats.foreign.joints import CANONICAL

F64 = NDArray[np.float64]


def joints_arrays(joints: F64, fps: float) -> dict[str, NDArray[Any]]:
    """`joints` (T, 22, 3) float32 metres, y up, canonical order; `fps`; `names` as UTF-8 bytes, one a line;
    `floor_m`, the floor's height: a reader need not look for it."""
    names = np.frombuffer("\n".join(CANONICAL).encode(), np.uint8)
    return {"joints": joints.astype(np.float32), "fps": np.array(float(fps)), "names": names, "floor_m": np.array(0.0)}


def features_arrays(joints: F64, fps: float, target: F64 | None) -> tuple[NDArray[np.float32], F64]:
    """HumanML3D features (T - 1, 263) float32 at 20 fps, and the joints (T, 22, 3) they describe.

    Args:
        joints: (T, 22, 3) metres.
        fps: Their rate.
        target: (22, 3) offsets of a body to retarget to, None keeps the body.

    Raises:
        DataError: too few frames.
    """
    features, kept = features_of_joints(joints, fps, target_offsets=target)
    if not len(features):
        raise DataError("too short for features at 20 fps", hint="at least two frames, 0.05 s apart, are needed")
    return features.astype(np.float32), kept


def load_target(path: Path) -> F64:
    """Offsets (22, 3) of the body to retarget features to: a JSON of `offsets` or `joints`, or a .npy.

    Raises:
        FormatError: no body.
        OSError: it cannot be opened.
    """
    from formats.foreign.smpl_body import load_body

    try:
        return load_body(path)
    except FormatError as e:
        raise FormatError(e.message, file=path, field=e.field, hint=e.hint or "22 offsets in metres") from None
