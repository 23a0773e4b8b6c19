"""Frame in, controls out: M1, M2 and M3 for one frame at a time, without torch, proved when they are opened.

Which engine runs a part (`auto`): the fused numpy form, for both parts and both modes, because it is the fastest for a
single frame: it needs no call into another runtime, and where ONNX Runtime works a whole window off anew (its products
wait for each other) numpy advances all windows at once. `choreo bench live` measures both; `RULE` is the only place
to change. `onnx` asks for ONNX Runtime in both parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError, UsageError
from choreo_cli.reflex.inputs import PHASE, WIDTH
from choreo_cli.reflex.mapper import Mapper, model_latents
from choreo_cli.reflex.normalizer import CLAMP
from choreo_cli.reflex.rps import Rps
from formats import checkpoint
from formats.columns import INPUTS, MODALITIES

F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

ENGINES = ("auto", "onnx", "numpy")
RULE = {"rps": "numpy", "window": "numpy", "stream": "numpy"}
"""What `auto` chooses for M1 with M2, and for M3 by its mode."""
ATOL = 1e-5
PROBE = 96
"""Frames that the forms are compared on: longer than a window of 50, with every modality missing for a while."""


class _Latents(Protocol):
    def step(self, x: F32, mask: Bool) -> tuple[F32, F32]: ...


class _Controls(Protocol):
    def step(self, z: F32) -> F32: ...

    def reset(self) -> None: ...


@dataclass(slots=True)
class LiveModel:
    """The reflex models as the loop runs them; made by `LiveModel.open`.

    Args:
        rps: The plain form of M1 and M2.
        mapper: The plain form of M3.
        engine: `numpy` or `onnx`, what runs.
        parity: Largest difference from the plain forms over the probe, see `prove`.
        rps_folder: Where M1 lies.
        mapper_folder: Where M3 lies.
        latents: M1 and M2, one frame at a time.
        controls: M3, one frame at a time.
    """

    rps: Rps
    mapper: Mapper
    engine: str
    parity: float
    rps_folder: Path
    mapper_folder: Path
    latents: _Latents
    controls: _Controls

    @classmethod
    def open(cls, rps: str | Path, mapper: str | Path, engine: str = "auto") -> LiveModel:
        """Read two checkpoints and prove them.

        Args:
            rps: Folder of an M1 checkpoint.
            mapper: Folder of an M3 checkpoint that was trained on this M1.
            engine: `auto`, `onnx` or `numpy`, see `RULE`.

        Raises:
            UsageError: another engine.
            UnavailableError: `onnx` without onnxruntime.
            FormatError: no checkpoint, damaged, of another kind or architecture.
            DataError: M3 was trained on another M1, or a form differs by more than 1e-5 from the plain one.
        """
        if engine not in ENGINES:
            raise UsageError(f"no engine {engine!r}", hint=f"choose one of {', '.join(ENGINES)}")
        m1, m3 = Rps.read(rps), Mapper.read(mapper)
        if m3.rps_sha256 and m3.rps_sha256 != m1.sha256:
            raise DataError(
                f"the mapper in {mapper} was trained on another M1 than {rps}",
                hint="give the rps folder it was trained on, or train the mapper again",
            )
        latents, controls = _parts(m1, m3, Path(rps), Path(mapper), engine)
        chosen = "onnx" if engine == "onnx" else RULE[m3.mode]
        made = cls(m1, m3, chosen, 0.0, Path(rps), Path(mapper), latents, controls)
        made.parity = made.prove()
        made.reset()
        return made

    @property
    def mode(self) -> str:
        """`window` or `stream`: how the mapper was trained."""
        return self.mapper.mode

    @property
    def window(self) -> int:
        """Frames of a window; with `stream`, frames after which the state has settled."""
        return self.mapper.window

    def step(self, x: F32, mask: Bool) -> tuple[F32, F32]:
        """Normalised latents (104,) and controls (5,) in 0..1 of one more frame.

        Both arrays belong to the model and change with the next step. Controls are NaN where the latents were not
        finite; such a frame leaves no trace.

        Args:
            x: (11,) float32 inputs; NaN and infinite values are missing.
            mask: (4,) bool which modalities are measured.
        """
        z, feed = self.latents.step(x, mask)
        return z, self.controls.step(feed)

    def reset(self) -> None:
        """Start afresh, as after a gap longer than the window."""
        self.controls.reset()

    def prove(self) -> float:
        """Largest difference from the plain forms over a fixed sequence of frames.

        Of the controls as they are, and of the latents as a share of the 12 that the clamp leaves them: with a
        deviation of .1 a latent carries rounding of 5e-6 in either form.

        Raises:
            DataError: it is above 1e-5, or something is not finite.
        """
        x, mask = probe()
        wanted_z = self.rps.normalizer.apply(self.rps.latents(x, mask))
        wanted = self.mapper.controls(model_latents(self.rps, x, mask, self.mapper.normalized))
        self.reset()
        worst = 0.0
        for k in range(len(x)):
            z, y = self.step(x[k], mask[k])
            found = float(np.abs(z - wanted_z[k]).max()) / (2 * CLAMP), float(np.abs(y - wanted[k]).max())
            worst = max(worst, *(d if d == d else float("inf") for d in found))
        if not worst <= ATOL:
            raise DataError(
                f"the {self.engine} form of {self.mapper_folder} differs by {worst:.2g} from the plain one, at most "
                f"{ATOL:g} is allowed",
                hint="train or export it again, or choose another engine",
            )
        return worst


def probe() -> tuple[F32, Bool]:
    """Frames (96, 11) and masks (96, 4) that move through every input's range; each modality is missing for a while."""
    k = np.arange(PROBE, dtype=np.float64)
    x = np.empty((PROBE, WIDTH), np.float32)
    for at, column in enumerate(INPUTS):
        lo, hi = column.lo or 0.0, column.hi or 1.0
        x[:, at] = lo + (hi - lo) * (0.5 + 0.45 * np.sin(k * (0.11 + 0.037 * at) + at))
    x[:, PHASE] = (0.04 * k) % 1.0
    mask = np.ones((PROBE, len(MODALITIES)), bool)
    for at in range(len(MODALITIES)):
        mask[20 + 9 * at : 32 + 9 * at, at] = False  # neighbours overlap: two are missing at once
    x[~np.repeat(mask, [len(c) for c in MODALITIES.values()], axis=1)] = np.nan
    x[70, 3] = np.nan  # a single missing value inside a measured modality
    return x, mask


def _parts(rps: Rps, mapper: Mapper, m1: Path, m3: Path, engine: str) -> tuple[_Latents, _Controls]:
    use = {k: v if engine == "auto" else engine for k, v in RULE.items()}
    return _latents(rps, mapper, m1, use["rps"]), _controls(mapper, m3, use[mapper.mode])


def _latents(rps: Rps, mapper: Mapper, folder: Path, engine: str) -> _Latents:
    from choreo_cli.live import fused, onnx_steps

    if engine == "numpy":
        return fused.FusedRps(rps, mapper.normalized)
    return onnx_steps.OnnxRps(onnx_steps.session(folder, _twin(folder)), mapper.normalized)


def _controls(mapper: Mapper, folder: Path, engine: str) -> _Controls:
    from choreo_cli.live import fused, onnx_steps

    if engine == "numpy":
        return fused.FusedWindow(mapper) if mapper.mode == "window" else fused.FusedStream(mapper)
    running = onnx_steps.session(folder, _twin(folder))
    return (onnx_steps.OnnxWindow if mapper.mode == "window" else onnx_steps.OnnxStream)(running, mapper)


def _twin(folder: Path) -> str:
    return str(checkpoint.read_card(folder)["files"].get("model.onnx", ""))
