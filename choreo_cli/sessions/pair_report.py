"""The report of `pair`: inputs, outputs, counts, one concrete sample, every assumption, and what is missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from formats import sealed


@dataclass(slots=True)
class Report:
    """What happened, in the order a reader asks.

    Args:
        inputs: Entries of the inventory by kind.
        pairs: Entries of `choreo.pairs/1`.
        skipped: (path, reason, acknowledged) of everything that could not be used.
        unused: (path, why) of usable recordings that no pair needed.
        sample: One worked example, label -> value.
        counts: Rows, windows, seconds.
        split: Notes of the split.
        notes: Suggestions and warnings for the person.
        missing: What would make more of it, one sentence each.
    """

    inputs: dict[str, int] = field(default_factory=dict)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[tuple[str, str, bool]] = field(default_factory=list)
    unused: list[tuple[str, str]] = field(default_factory=list)
    sample: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def assumptions(self) -> Counter[str]:
        return Counter(a for p in self.pairs for a in p["assumptions"])

    def to_json(self) -> bytes:
        """Sealed JSON, the same facts for machines."""
        return sealed.dumps(
            {
                "schema": "choreo.pair-report/1",
                "inputs": self.inputs,
                "counts": self.counts,
                "identifiable": dict(sorted(Counter(p["identifiable"] for p in self.pairs).items())),
                "methods": dict(sorted(Counter(p["method"] for p in self.pairs).items())),
                "split": self.split,
                "sample": self.sample,
                "assumptions": dict(sorted(self.assumptions.items())),
                "skipped": [{"path": p, "reason": r, "acknowledged": a} for p, r, a in self.skipped],
                "unused": [{"path": p, "why": w} for p, w in self.unused],
                "notes": self.notes,
                "missing": self.missing,
            }
        )

    def to_markdown(self) -> bytes:
        """The page a person reads."""
        parts = ["# Paired dataset", "", self._headline(), "", "## Pairs", "", *self._pairs(), ""]
        parts += ["## Inputs", "", *_table(("kind", "count"), [(k, str(v)) for k, v in self.inputs.items()]), ""]
        parts += ["## Outputs", "", *_table(("what", "count"), [(k, str(v)) for k, v in self.counts.items()]), ""]
        parts += ["## Split", "", *_bullets(self._split_lines()), ""]
        parts += ["## One pair, worked through", "", *_bullets(f"{k}: {_words(v)}" for k, v in self.sample.items()), ""]
        parts += ["## Assumptions", "", *_bullets(f"{a} ({n} pairs)" for a, n in sorted(self.assumptions.items())), ""]
        parts += ["## Skipped", "", *_bullets(f"`{p}`: {r}{_seen(a)}" for p, r, a in self.skipped), ""]
        parts += ["## Usable but not paired", "", *_bullets(f"`{p}`: {w}" for p, w in self.unused), ""]
        parts += ["## What is missing", "", *_bullets([*self.missing, *self.notes]), ""]
        return "\n".join(parts).encode("utf-8", "replace")

    def _headline(self) -> str:
        by = Counter(p["identifiable"] for p in self.pairs)
        share = ", ".join(f"{by[k]} `{k}`" for k in ("yes", "mod_beat", "no") if by[k])
        synthetic = " Everything here is synthetic." if self.pairs and all(p["synthetic"] for p in self.pairs) else ""
        return f"{len(self.pairs)} pairs; the offset is identifiable: {share or 'none'}.{synthetic}"

    def _pairs(self) -> list[str]:
        rows: list[tuple[str, ...]] = []
        for p in self.pairs:
            offset = f"{p['offset_us'] / 1e6:+.3f} s +- {half_width(p)}"
            tail = (_number(p["p"]), p["identifiable"], why(p), p["split"])
            rows.append((p["pair_id"], p["track"], p["method"], offset, f"{p['drift_ppm']:+.1f}", *tail))
        return _table(("pair", "track", "method", "offset", "drift ppm", "p", "identifiable", "why", "split"), rows)

    def _split_lines(self) -> list[str]:
        return [f"{k}: {_words(v)}" for k, v in self.split.items() if v not in ([], {}, None)]


def why(pair: dict[str, Any]) -> str:
    """Why the offset is not simply known, in words; empty when it is."""
    if pair["identifiable"] == "mod_beat" and not pair["reasons"]:
        return "known up to a beat"
    return ", ".join(pair["reasons"])


def half_width(pair: dict[str, Any]) -> str:
    """Half of the offset's 95 % interval in seconds; `?` when nothing bounds it."""
    interval = pair["offset_ci_us"]
    return "?" if interval is None else f"{(interval[1] - interval[0]) / 2e6:.3f}"


def _words(value: Any) -> str:
    """A value for a person: no brackets, braces or quotes of a programming language."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {_words(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_words(v) for v in value)
    return "not measured" if value is None else str(value)


def _seen(acknowledged: bool) -> str:
    return " (acknowledged)" if acknowledged else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return ["none"]
    clean = [[str(c).replace("|", "\\|") for c in r] for r in rows]
    return [_row(header), _row(["---"] * len(header)), *(_row(r) for r in clean)]


def _row(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _bullets(lines: Any) -> list[str]:
    return [f"- {line}" for line in lines] or ["none"]
