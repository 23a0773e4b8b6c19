"""Guidance without a classifier, one weight a condition, inside an interval of the way from noise to data.

`v = v0 + w_a (v_a - v0) + w_t (v_at - v_a)`: nothing, audio, audio and text (Ho and Salimans 2022; the nested form of
Brooks et al., CVPR 2023; the interval of Kynkaanniemi et al., NeurIPS 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from choreo_cli.errors import UsageError

MOST_WEIGHT = 20.0  # beyond it every channel lies at its bound
Branch = tuple[bool, bool]  # audio is heard, text is read


@dataclass(frozen=True, slots=True)
class Guidance:
    """Weights of the conditions.

    Args:
        audio: w_a; 1 takes the music as it was learned, 0 ignores it.
        text: w_t.
        low, high: Part of the way, 0 noise and 1 data, inside which the weights hold; outside everything weighs 1.

    Raises:
        UsageError: a weight outside 0..20, or an interval outside 0..1.
    """

    audio: float = 1.0
    text: float = 1.0
    low: float = 0.1
    high: float = 0.9

    def __post_init__(self) -> None:
        for weight in (self.audio, self.text):
            if not 0 <= weight <= MOST_WEIGHT:
                raise UsageError(f"a weight of {weight:g}", hint=f"need 0 to {MOST_WEIGHT:g}")
        if not 0 <= self.low <= self.high <= 1:
            raise UsageError(f"guidance between {self.low} and {self.high}", hint="need 0 <= low <= high <= 1")

    def branches(self, way: float, *, audio: bool = True, text: bool = False) -> list[tuple[Branch, float]]:
        """What the network is asked at a point of the way, and the weight of each answer; weights sum to 1.

        Args:
            way: 0 noise, 1 data.
            audio: There is music.
            text: There is a text.
        """
        full = (audio, text)
        if not self.low <= way <= self.high:
            return [(full, 1.0)]
        weights: dict[Branch, float] = {}
        told = (((False, False), 1 - self.audio), ((audio, False), self.audio - self.text), (full, self.text))
        for branch, weight in told:
            weights[branch] = weights.get(branch, 0.0) + weight
        kept = [(b, w) for b, w in weights.items() if abs(w) > 1e-12]
        return kept or [((False, False), 1.0)]


PLAIN = Guidance()


def combine(answers: Sequence[Any], weights: Sequence[float]) -> Any:
    """The weighted sum of answers; a single one comes back as it is."""
    if len(answers) == 1 and weights[0] == 1.0:
        return answers[0]
    total = answers[0] * weights[0]
    for answer, weight in zip(answers[1:], weights[1:], strict=True):
        total = total + answer * weight
    return total
