"""What the command line needs around `pair`: resolve the options, run, and put the result into words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from choreo_cli.dataset.readme import pack_readme
from choreo_cli.errors import DataError, NoAnswerError, UsageError
from choreo_cli.runtime import provenance
from choreo_cli.sessions import overrides as by_hand
from choreo_cli.sessions import pair as pairing
from choreo_cli.sessions.dataset_out import DatasetOptions
from choreo_cli.sessions.pair_report import half_width
from choreo_cli.sessions.pairing import PairOptions
from choreo_cli.sessions.prior import zone
from choreo_cli.sessions.profiles import check_profile
from formats import manifest as m
from formats.atomic import sha256_file, write_bytes
from formats.foreign.source import open_regular


@dataclass(slots=True)
class Job:
    """A resolved run."""

    manifest: m.Manifest
    roots: dict[str, Path]
    options: PairOptions
    cut: DatasetOptions
    created_by: dict[str, Any]
    manual: dict[str, by_hand.Override]
    overrides_file: Path | None
    mix: bool
    preview: bool


def plan(
    manifest: m.Manifest,
    roots: dict[str, Path],
    chosen: dict[str, Any],
    seed: int,
    previous: Path | None,
    overrides: Path | None,
) -> Job:
    """Check and resolve the options.

    Raises:
        UsageError: a rate, zone, split or group that does not exist.
        FormatError: a damaged overrides file or earlier split.
        DataError: the earlier split is another kind of manifest.
    """
    rate = int(chosen["rate"])
    if not 5 <= rate <= 200 or 1_000_000 % rate:
        raise UsageError(f"--rate {rate} is not a divisor of 1000000 between 5 and 200", hint="50, 25, 100...")
    inputs = [{"role": "inventory", "sha256": manifest.sha256, "schema": manifest.schema}]
    former = None
    if previous is not None:
        with open_regular(previous) as f:
            data = f.read()
        old = m.decode(data, source=str(previous), file=previous)
        if old.schema != "choreo.pairs/1":
            raise DataError(f"--previous {previous} is {old.schema}, need choreo.pairs/1", hint="name an earlier one")
        former = old.entries
        inputs.append({"role": "previous", "sha256": old.sha256, "schema": old.schema})
    manual: dict[str, by_hand.Override] = {}
    if overrides is not None:
        manual = by_hand.read(overrides)
        inputs.append({"role": "overrides", "sha256": sha256_file(overrides), "schema": "csv"})
    cut = DatasetOptions(
        chosen["split"], chosen["group"], former, int(chosen["window"]), int(chosen["stride"]), rate_hz=rate
    )
    if cut.split not in ("hash", "loso"):
        raise UsageError(f"--split {cut.split} is not hash or loso")
    if cut.group not in ("component", "session", "track"):
        raise UsageError(f"--group {cut.group} is not component, session or track")
    options = PairOptions(
        rate, seed, zone(chosen["tz"]), chosen["track"], chosen["bpm"], str(chosen.get("profile", ""))
    )
    if check_profile(options.profile) is not None and options.track:
        raise UsageError("--profile and --track exclude each other", hint="names say the music, or you do")
    created_by = provenance("pair", chosen, inputs, seed=seed)
    return Job(
        manifest, roots, options, cut, created_by, manual, overrides, bool(chosen["synthetic"]), bool(chosen["preview"])
    )


def run(job: Job, out: Any, on_progress: Callable[..., None], todo: Path | None = None) -> pairing.Paired:
    """Pair and write everything but the manifest; `todo` receives the overrides template of the refused sessions."""
    made = pairing.run(
        job.manifest.entries, job.roots, out, job.options, job.cut, job.created_by,
        manual=job.manual, overrides_file=job.overrides_file, mix_synthetic=job.mix, previews=job.preview,
        on_progress=on_progress,
    )  # fmt: skip
    if todo is not None:
        write_bytes(todo, by_hand.template(sorted(made.todo)))
    if not made.entries:
        raise NoAnswerError(made.nothing, hint=f"see {out.path / 'report.md'}")
    if made.pack is not None:
        out.write("readme", "README.md", pack_readme(made.pack).encode())
    return made


def table(document: bytes) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows for a person."""
    rows: list[tuple[str, ...]] = []
    for e in m.decode(document).entries:
        p = "-" if e["p"] is None else f"{e['p']:.2g}"
        offset = f"{e['offset_us'] / 1e6:+.3f} +-{half_width(e)}"
        state = ", ".join([e["identifiable"], *e["reasons"]])
        rows.append((e["pair_id"], e["track"], e["method"], offset, p, state, e["split"]))
    return ("pair", "track", "method", "offset s", "p", "identifiable", "split"), rows


def remarks(made: pairing.Paired, explain: bool) -> list[str]:
    """Lines for stderr: what was skipped, what to try, and the worked example when asked."""
    lines = []
    if made.skipped:
        first = made.report.skipped[0]
        more = f" and {made.skipped - 1} more" if made.skipped > 1 else ""
        lines.append(f"skipped {first[0]}: {first[1]}{more}; all are in report.md")
    lines += made.report.notes
    if made.split_conflict:
        lines.append(f"the earlier split cannot be kept: {made.split_conflict}")
    if explain:
        lines += [f"{k}: {v}" for k, v in made.report.sample.items()]
        lines += [f"assumed: {a}" for a in sorted(made.report.assumptions)]
    return lines
