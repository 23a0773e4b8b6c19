"""Scores of estimated beats against annotated ones, with the conventions of mir_eval.

Davies, Degara & Plumbley, Evaluation Methods for Musical Audio Beat Tracking Algorithms, QMUL C4DM-TR-09-06 (2009);
Raffel et al., mir_eval, ISMIR 2014. Times are seconds; every score is 0..1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import DataError
from formats.metrics import entry

F64 = NDArray[np.float64]

TRIM_S = 5.0
WINDOW_S = 0.07
SIGMA_S = 0.04
TOLERANCE = 0.175
BINS = 41
NAMES = {
    "f_measure": "F-measure",
    "cemgil": "Cemgil",
    "cml_c": "Correct Metric Level Continuous",
    "cml_t": "Correct Metric Level Total",
    "aml_c": "Any Metric Level Continuous",
    "aml_t": "Any Metric Level Total",
    "information_gain": "Information gain",
}


def check_beats(beats_s: F64) -> F64:
    """Beats as (n,) float64. Raises DataError unless they are finite, not negative and increasing."""
    found = np.asarray(beats_s, np.float64)
    if found.ndim != 1 or not np.isfinite(found).all() or (found < 0).any() or (np.diff(found) < 0).any():
        raise DataError("beats must be times in seconds that do not fall", hint="sort them")
    return found


def trim(beats_s: F64, start_s: float = TRIM_S) -> F64:
    """Beats from `start_s` on: a listener needs a moment to find the beat."""
    return beats_s[beats_s >= start_s]


def f_measure(reference_s: F64, estimate_s: F64, window_s: float = WINDOW_S) -> float:
    """Harmonic mean of precision and recall; beats within +-70 ms are matched one to one, as many as possible."""
    if not len(reference_s) or not len(estimate_s):
        return 0.0
    hits, i, j = 0, 0, 0
    # On a line the earliest partner that is left is always a best one, so walking both lists is optimal.
    while i < len(reference_s) and j < len(estimate_s):
        apart = estimate_s[j] - reference_s[i]
        if abs(apart) <= window_s:
            hits, i, j = hits + 1, i + 1, j + 1
        elif apart < 0:
            j += 1
        else:
            i += 1
    return 2 * hits / (len(reference_s) + len(estimate_s))


def cemgil(reference_s: F64, estimate_s: F64, sigma_s: float = SIGMA_S) -> float:
    """Gaussian weight of the distance from each reference beat to its nearest estimate, over the mean count."""
    if not len(reference_s) or not len(estimate_s):
        return 0.0
    near = np.abs(estimate_s[_nearest(estimate_s, reference_s)] - reference_s)
    return float(np.exp(-(near**2) / (2 * sigma_s**2)).sum() / (0.5 * (len(estimate_s) + len(reference_s))))


def _nearest(sorted_s: F64, at_s: F64) -> NDArray[np.int64]:
    """Index of the nearest element for each time; the earlier one on a tie."""
    right = np.clip(np.searchsorted(sorted_s, at_s), 1, max(len(sorted_s) - 1, 1))
    if len(sorted_s) == 1:
        return np.zeros(len(at_s), np.int64)
    left = right - 1
    return np.where(at_s - sorted_s[left] <= sorted_s[right] - at_s, left, right)


def continuity(reference_s: F64, estimate_s: F64, tolerance: float = TOLERANCE) -> tuple[float, float, float, float]:
    """(CMLc, CMLt, AMLc, AMLt): longest and total share of beats right in phase and period, at the annotated level
    and at the best of it, its off-beat, double and either half of its tempo."""
    if len(estimate_s) <= 1 or len(reference_s) <= 1:
        return 0.0, 0.0, 0.0, 0.0
    scores = [_continuity_at(level, estimate_s, tolerance) for level in metrical_levels(reference_s)]
    return scores[0][0], scores[0][1], max(s[0] for s in scores), max(s[1] for s in scores)


def metrical_levels(reference_s: F64) -> list[F64]:
    """The annotation, its off-beats, twice and half its tempo (from the first and from the second beat)."""
    at = np.arange(0, len(reference_s) - 0.5, 0.5)
    double = np.interp(at, np.arange(len(reference_s)), reference_s)
    return [reference_s, double[1::2], double, reference_s[::2], reference_s[1::2]]


def _continuity_at(reference_s: F64, estimate_s: F64, tolerance: float) -> tuple[float, float]:
    """(longest run, total) of right beats over the longer of both lists; each reference beat is used once."""
    if len(reference_s) < 2:
        return 0.0, 0.0
    used = np.zeros(len(reference_s), bool)
    right = np.zeros(len(estimate_s), bool)
    nearest = _nearest(reference_s, estimate_s)
    for m, k in enumerate(nearest):
        if used[k]:
            continue
        apart = abs(estimate_s[m] - reference_s[k])
        first = m == 0 or k == 0
        # The first beat is judged by the interval that follows, every other by the one before.
        if first and (m + 1 >= len(estimate_s) or k + 1 >= len(reference_s)):
            continue
        own = estimate_s[m + 1] - estimate_s[m] if first else estimate_s[m] - estimate_s[m - 1]
        want = reference_s[k + 1] - reference_s[k] if first else reference_s[k] - reference_s[k - 1]
        if apart / want < tolerance and abs(1 - own / want) < tolerance:
            used[k] = right[m] = True
    longer = max(len(estimate_s), len(reference_s))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], right, [False]]).astype(np.int8)))
    longest = int((edges[1::2] - edges[::2]).max(initial=0))
    return longest / longer, int(right.sum()) / longer


def information_gain(reference_s: F64, estimate_s: F64, bins: int = BINS) -> float:
    """1 - entropy / log2(bins) of the beat error histogram, the worse of both directions."""
    if len(reference_s) <= 1 or len(estimate_s) <= 1:
        return 0.0
    worst = max(_entropy(reference_s, estimate_s, bins), _entropy(estimate_s, reference_s, bins))
    return float((np.log2(bins) - worst) / np.log2(bins))


def _entropy(reference_s: F64, estimate_s: F64, bins: int) -> float:
    """Bits of the histogram of each estimate's error, in units of the interval on its side of the nearest beat."""
    k = _nearest(reference_s, estimate_s)
    apart = estimate_s - reference_s[k]
    step = np.diff(reference_s)
    # An estimate before the first beat has no interval: the library takes the span, backwards, and so do we, because
    # these scores exist to be compared with others'.
    before = np.concatenate([[reference_s[0] - reference_s[-1]], step])[k]
    after = np.concatenate([step, [step[-1]]])[k]
    before = np.where(k == len(reference_s) - 1, after, before)
    error = apart / np.where(apart < 0, before, after)
    counts = np.histogram(0.5 - (0.5 - error) % 1.0, np.linspace(-0.5, 0.5, bins + 1))[0]
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def scores(reference_s: F64, estimate_s: F64, trim_s: float = TRIM_S) -> dict[str, float]:
    """Every score by the library's name. Beats before `trim_s` are dropped from both first.

    Raises:
        DataError: beats that are not increasing times.
    """
    ref, est = trim(check_beats(reference_s), trim_s), trim(check_beats(estimate_s), trim_s)
    cml_c, cml_t, aml_c, aml_t = continuity(ref, est)
    return {
        NAMES["f_measure"]: f_measure(ref, est),
        NAMES["cemgil"]: cemgil(ref, est),
        NAMES["cml_c"]: cml_c,
        NAMES["cml_t"]: cml_t,
        NAMES["aml_c"]: aml_c,
        NAMES["aml_t"]: aml_t,
        NAMES["information_gain"]: float(information_gain(ref, est)),
    }


def entries(reference_s: F64, estimate_s: F64, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The scores as metrics; `insufficient` where the trim leaves too little to judge. Raises DataError."""
    ref, est = trim(check_beats(reference_s)), trim(check_beats(estimate_s))
    found = scores(reference_s, estimate_s)
    short = min(len(ref), len(est)) < 2
    why = f"{len(est)} estimated and {len(ref)} annotated beats from {TRIM_S:g} s on: need two of each"
    return [
        entry(
            f"beats.{key}", None if short else found[name], "1", "higher", n=len(ref),
            status="insufficient" if short else "ok", why=why if short else None,
            params={"trim_s": TRIM_S, "estimated": len(est), "definition": name, **(params or {})},
        )
        for key, name in NAMES.items()
    ]  # fmt: skip
