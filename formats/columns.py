"""Column tables: name, type, unit and bounds of every field; schema, validator, manual and generator follow from them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a record or a table.

    Args:
        name: Field name.
        dtype: `int32 int64 float32 float64 bool str json`, `list<T>` (any length) or `T[N]` (fixed length).
        unit: Unit of the value, empty for none.
        lo: Lowest legal value, inclusive.
        hi: Highest legal value, inclusive unless `open_hi`.
        nullable: Whether null is legal. Missing values are null, never 0.
        doc: One line for the manual.
        choices: The closed list of legal values, for strings.
        open_hi: The upper bound itself is not legal.
    """

    name: str
    dtype: str
    unit: str = ""
    lo: float | None = None
    hi: float | None = None
    nullable: bool = False
    doc: str = ""
    choices: tuple[str, ...] = ()
    open_hi: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A format: its schema name, version and columns in order."""

    schema: str
    doc: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)


_f32 = "float32"

MOT = ("motion_energy", "motion_freq", "jerk", "hip_sway", "hip_bounce", "symmetry")
HR = ("hr", "hr_slope")
AUD = ("audio_energy", "audio_brightness")
CTX = ("beat_phase",)
MODALITIES: dict[str, tuple[str, ...]] = {"mot": MOT, "hr": HR, "aud": AUD, "ctx": CTX}
MASKS = ("m_mot", "m_hr", "m_aud", "m_ctx")

INPUTS: tuple[Column, ...] = (
    Column("motion_energy", _f32, "1", 0, 1, True, "mean joint speed over its 95th percentile, saturating at 1"),
    Column("motion_freq", _f32, "Hz", 0, 8, True, "dominant rate of motion_energy over the last 4 s"),
    Column("jerk", _f32, "1", 0, 1, True, "mean norm of the third difference over its 99th percentile"),
    Column("hip_sway", _f32, "1", -1, 1, True, "lateral pelvis displacement over 0.15 body heights, 2 s high-pass"),
    Column("hip_bounce", _f32, "1", -1, 1, True, "vertical pelvis displacement, same scale"),
    Column("symmetry", _f32, "1", 0, 1, True, "1 minus the normalised left/right speed difference"),
    Column("hr", _f32, "beats/min", 30, 220, True, "heart rate"),
    Column("hr_slope", _f32, "beats/min/s", -10, 10, True, "least-squares slope of heart rate over the last 4 s"),
    Column("audio_energy", _f32, "1", 0, 1, True, "RMS level, -60..0 dBFS"),
    Column("audio_brightness", _f32, "1", 0, 1, True, "log spectral centroid, 200..8000 Hz"),
    Column("beat_phase", _f32, "cycle", 0, 1, True, "position inside the beat", open_hi=True),
)

FRAMES = Table(
    "choreo.frames/1",
    "One row per 20 ms of one session on the music clock: the 11 model inputs, index columns and masks.",
    (
        Column("session_id", "str", doc="session the row belongs to; rows are sorted by (session_id, t_us)"),
        Column("t_us", "int64", "us", doc="time on the music clock, strictly increasing inside a session"),
        *INPUTS,
        Column("beat_idx", "int32", lo=-1, doc="index of the current beat, -1 outside the beats"),
        Column("m_mot", "bool", doc="motion_energy, motion_freq and jerk are measured"),
        Column("m_hr", "bool", doc="heart rate is measured (interpolated over at most 5 s)"),
        Column("m_aud", "bool", doc="the audio inputs are measured"),
        Column("m_ctx", "bool", doc="the beat phase is known"),
        Column("synthetic", "bool", doc="made by `choreo synth`, not recorded"),
    ),
)
