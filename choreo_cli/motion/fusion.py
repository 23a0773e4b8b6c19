"""Fusion of cameras, a watch and head tracking into one pose: an extended Kalman filter that is right in any order.

Readings come with their own times, late and out of order. The filter keeps the last half second: a late reading is put
where it belongs and what came after it is filtered again, so the result is that of readings that all came in order.
Angles are compared by the shorter way, parts of a pose that do not fit are refused by their Mahalanobis distance, and
the covariance is updated in Joseph form (Bar-Shalom, Li & Kirubarajan 2001, sections 5.2-5.4 and 7.2).
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from choreo_cli.motion.capture_state import DOFS, WRAPPED, wrap
from choreo_cli.motion.fusion_model import (
    BLOCKS,
    GRAVITY,
    NOISE,
    SIZE,
    UP,
    Anchors,
    Noise,
    Process,
)
from choreo_cli.motion.fusion_readings import PointReading, PoseReading, Reading, WatchReading, checked, turned
from formats.motion_npz import Skeleton

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

LAG_US = 500_000
# Half a metre and a radian: the first pose says where the body is, later ones are not trusted blindly.
_TRIPLES = np.array([members for _, members in BLOCKS if len(members) == 3])
_SINGLES = np.array([members[0] for _, members in BLOCKS if len(members) == 1])
_IDENTITY = np.eye(DOFS)
_WRAPPED = np.isin(np.arange(DOFS), WRAPPED)
_BLOCK_OF = np.empty(DOFS, np.int64)
for _number, (_, _members) in enumerate(BLOCKS):
    _BLOCK_OF[list(_members)] = _number


@dataclass(frozen=True, slots=True)
class Belief:
    """What the filter believes at one time.

    Args:
        t_us: The time.
        x: (69,) positions, speeds and accelerations in the order of `capture_state.STATE`.
        p: (69, 69) covariance.
        taken_us: (9,) when each of `BLOCKS` last took a reading.
    """

    t_us: int
    x: F64
    p: F64
    taken_us: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How well a reading fitted.

    Args:
        nis: Normalised innovation squared of what was taken: chi square with `numbers` degrees of freedom.
        numbers: Numbers taken.
        refused: Parts refused by the gate, as in `BLOCKS`, or the whole reading.
        forced: Parts taken although they did not fit, because nothing else had for a while.
    """

    nis: float
    numbers: int
    refused: tuple[str, ...] = ()
    forced: tuple[str, ...] = ()


@dataclass(slots=True)
class _Entry:
    t_us: int
    order: int
    stream: str
    reading: Reading
    after: Belief | None = None
    verdict: Verdict | None = None


@dataclass(slots=True)
class StreamFacts:
    """What became of the readings of one stream: counts, and the sum of normalised innovations with its degrees."""

    taken: int = 0
    refused: int = 0
    late: int = 0
    bad: int = 0
    nis: float = 0.0
    numbers: int = 0
    parts: dict[str, int] = field(default_factory=dict)

    @property
    def mean_nis(self) -> float:
        """Mean normalised innovation squared a number; 1 when the noise is what it is said to be."""
        return self.nis / self.numbers if self.numbers else float("nan")


class Fusion:
    """The filter.

    Args:
        body: Skeleton of the one who is seen.
        noise: Noise values.
        lag_us: How old a reading may be, counted from the newest.
    """

    def __init__(self, body: Skeleton, noise: Noise = NOISE, *, lag_us: int = LAG_US) -> None:
        self._noise, self._lag_us = noise, lag_us
        self._process, self._anchors = Process(noise), Anchors(body)
        self._base: Belief | None = None
        self._entries: list[_Entry] = []
        self._stale = 0  # entries from here on must be filtered again
        self._count = 0
        self._facts: dict[str, StreamFacts] = {}

    def put(self, stream: str, reading: Reading) -> bool:
        """Take a reading; its work is done when it is next asked for a pose.

        Returns:
            False when it cannot be used: too late, nothing in it, or nothing known yet that it could refine.

        Raises:
            DataError: A reading that no sensor gives (`fusion_readings.checked`); it is counted and left out.
        """
        facts = self._facts.setdefault(stream, StreamFacts())
        try:
            checked(reading)
        except DataError:
            facts.bad += 1
            raise
        if self._base is None:
            started = isinstance(reading, PoseReading) and bool(np.isfinite(reading.z).all())
            if started:
                self._base = self._start(reading)  # type: ignore[arg-type]
            return started
        newest = self._entries[-1].t_us if self._entries else self._base.t_us
        if reading.t_us < self._base.t_us or reading.t_us < newest - self._lag_us:
            facts.late += 1
            return False
        self._count += 1
        entry = _Entry(reading.t_us, self._count, stream, reading)
        at = bisect.bisect_right(self._entries, entry.t_us, key=lambda e: e.t_us)
        self._entries.insert(at, entry)
        self._stale = min(self._stale, at)
        return True

    def at(self, t_us: int) -> Belief | None:
        """The belief at a time that is not before what was forgotten; None before the first whole pose."""
        if self._base is None:
            return None
        self._filter()
        self._forget()
        last = self._base
        after = bisect.bisect_right(self._entries, t_us, key=lambda e: e.t_us)
        if after and (kept := self._entries[after - 1].after) is not None:
            last = kept
        if t_us <= last.t_us:
            return last
        x, p = self._process.predict(last.x, last.p, t_us - last.t_us)
        return Belief(t_us, x, p, last.taken_us)

    @property
    def newest_us(self) -> int | None:
        """Time of the newest reading."""
        if self._entries:
            return self._entries[-1].t_us
        return None if self._base is None else self._base.t_us

    def facts(self) -> Mapping[str, StreamFacts]:
        """What became of the readings, by stream; those of the last half second are counted when they are settled."""
        return self._facts

    def settle(self) -> None:
        """Count the readings of the last half second too: no older ones will come."""
        self._filter()
        for entry in self._entries:
            self._tally(entry)
        if self._entries and (last := self._entries[-1].after) is not None:
            self._base = last
        self._entries, self._stale = [], 0

    def _start(self, pose: PoseReading) -> Belief:
        p = np.zeros((SIZE, SIZE))
        np.fill_diagonal(
            p, np.concatenate([np.diag(pose.r), np.full(DOFS, self._noise.start_speed**2), self._noise.accel**2])
        )
        p[:DOFS, :DOFS] = (pose.r + pose.r.T) / 2
        x = np.concatenate([pose.z, np.zeros(2 * DOFS)])
        return Belief(pose.t_us, x, p, np.full(len(BLOCKS), pose.t_us, np.int64))

    def _filter(self) -> None:
        for k in range(self._stale, len(self._entries)):
            before = self._entries[k - 1].after if k else self._base
            entry = self._entries[k]
            assert before is not None
            entry.after, entry.verdict = self.step(before, entry.reading)
        self._stale = len(self._entries)

    def _forget(self) -> None:
        """Settle what no reading can come before any more."""
        if not self._entries:
            return
        limit = self._entries[-1].t_us - self._lag_us
        gone = bisect.bisect_left(self._entries, limit, key=lambda e: e.t_us)
        if gone:
            for entry in self._entries[:gone]:
                self._tally(entry)
            self._base = self._entries[gone - 1].after
            del self._entries[:gone]
            self._stale = len(self._entries)

    def _tally(self, entry: _Entry) -> None:
        facts, verdict = self._facts[entry.stream], entry.verdict
        assert verdict is not None
        facts.taken += verdict.numbers > 0
        facts.refused += verdict.numbers == 0
        for name in verdict.refused:
            facts.parts[name] = facts.parts.get(name, 0) + 1
        if not verdict.forced:
            facts.nis += verdict.nis
            facts.numbers += verdict.numbers

    def step(self, before: Belief, reading: Reading) -> tuple[Belief, Verdict]:
        """Predict to a reading's time and take it: the whole filter, as a pure function."""
        x, p = before.x, before.p
        if reading.t_us > before.t_us:
            x, p = self._process.predict(x, p, reading.t_us - before.t_us)
        if isinstance(reading, PoseReading):
            return self._take_pose(x, p, before.taken_us, reading)
        return self._take_point(x, p, before.taken_us, reading)

    def _take_pose(self, x: F64, p: F64, taken_us: NDArray[np.int64], pose: PoseReading) -> tuple[Belief, Verdict]:
        nu = pose.z - x[:DOFS]
        nu[_WRAPPED] = wrap(nu[_WRAPPED])
        seen = np.isfinite(nu)
        nu = np.where(seen, nu, 0.0)
        both = seen[:, None] & seen
        noise = np.where(both, pose.r, _IDENTITY)
        far = self._far(nu, p[:DOFS, :DOFS] + noise)
        names = np.array([seen[list(m)].any() for _, m in BLOCKS])
        silent = pose.t_us - taken_us >= self._noise.lost_s * 1e6
        forced, refused = names & far & silent, names & far & ~silent
        if forced.any():
            # Nothing has fitted for a while: the belief is wrong, not the sensor. Its doubt grows by what was missed.
            each = np.flatnonzero(forced[_BLOCK_OF] & seen)
            p = p.copy()
            p[each, each] += nu[each] ** 2
        rows = np.flatnonzero(seen & ~refused[_BLOCK_OF])
        taken_us = np.where(names & ~refused, pose.t_us, taken_us)
        verdict = Verdict(0.0, 0, _names(refused), _names(forced))
        if not len(rows):
            return Belief(pose.t_us, x, p, taken_us), verdict
        cross = p[rows]
        r = noise[np.ix_(rows, rows)]
        inverse = np.linalg.inv(cross[:, rows] + r)
        nu = nu[rows]
        gain = cross.T @ inverse
        x = x + gain @ nu
        p = p - gain @ cross
        p = p - p[:, rows] @ gain.T + gain @ r @ gain.T
        verdict = Verdict(float(nu @ inverse @ nu), len(rows), verdict.refused, verdict.forced)
        return Belief(pose.t_us, x, (p + p.T) / 2, taken_us), verdict

    def _far(self, nu: F64, s: F64) -> Bool:
        """(9,) which of `BLOCKS` are outside the gate; numbers that were not seen count as fitting."""
        d = nu[_TRIPLES]
        triples = (
            np.einsum(
                "bi,bi->b", d, np.linalg.solve(s[_TRIPLES[:, :, None], _TRIPLES[:, None, :]], d[:, :, None])[:, :, 0]
            )
            > self._noise.gate_3
        )
        singles = nu[_SINGLES] ** 2 > self._noise.gate_1 * s[_SINGLES, _SINGLES]
        return np.concatenate([triples, singles])

    def _take_point(
        self, x: F64, p: F64, taken_us: NDArray[np.int64], reading: PointReading | WatchReading
    ) -> tuple[Belief, Verdict]:
        nu, columns, h = self._compare(x, reading)
        cross = h @ p[columns]
        s = cross[:, columns] @ h.T
        s[np.arange(len(nu)), np.arange(len(nu))] += reading.sigma**2
        inverse = np.linalg.inv(s)
        nis = float(nu @ inverse @ nu)
        if nis > (self._noise.gate_3 if len(nu) == 3 else self._noise.gate_1):
            return Belief(reading.t_us, x, p, taken_us), Verdict(nis, 0, (reading.point,))
        gain = cross.T @ inverse
        p = p - gain @ cross
        p = p - (p[:, columns] @ h.T) @ gain.T + reading.sigma**2 * (gain @ gain.T)
        return Belief(reading.t_us, x + gain @ nu, (p + p.T) / 2, taken_us), Verdict(nis, len(nu))

    def _compare(self, x: F64, reading: PointReading | WatchReading) -> tuple[F64, slice, F64]:
        """Innovation, the part of the state it tells of, and its derivative by that part."""
        if isinstance(reading, PointReading):
            place, j = self._anchors.jacobian(x[:DOFS], reading.point)
            return reading.z - place, slice(0, DOFS), j
        accel, j = self._anchors.acceleration(x, reading.point)
        force = accel + GRAVITY * UP
        columns = slice(2 * DOFS, SIZE)
        if reading.attitude is not None:
            return turned(reading.attitude, reading.force) - force, columns, j
        size = float(np.sqrt(force @ force))
        along = force / max(size, 1e-9)
        return np.array([np.sqrt(reading.force @ reading.force) - size]), columns, (along @ j)[None]


def _names(which: Bool) -> tuple[str, ...]:
    return tuple(name for (name, _), yes in zip(BLOCKS, which, strict=True) if yes)
