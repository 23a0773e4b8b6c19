"""The work of `choreo evaluate`: from what was named to the entries of one `choreo.metrics/1`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli.dataset.frameset import FrameSet, read_frames
from choreo_cli.errors import DataError, UsageError
from choreo_cli.metrics import beats as beat_scores
from choreo_cli.metrics.beat_files import read_beats
from choreo_cli.metrics.groove import groove
from choreo_cli.metrics.over_runs import Scored, over_runs, paired_losses
from choreo_cli.metrics.run_inputs import (
    Run,
    all_held_out,
    controls_at,
    controls_of_run,
    data_of,
    frames_of,
    held_out_controls,
    read_run,
    recorded_in,
    runs_of,
)
from choreo_cli.metrics.tracks import Track, pair_up_fitting

if TYPE_CHECKING:
    from formats.manifest import Manifest

Entry = dict[str, Any]
Score = Callable[..., Sequence[Entry]]
SAME_TEMPO = 0.02


@dataclass(slots=True)
class Evaluation:
    """What an evaluation found.

    Args:
        entries: Records of `choreo.metrics/1`.
        inputs: Provenance of what was read, `{role, sha256, schema}` each.
        notes: Sentences for the person.
    """

    entries: list[Entry]
    inputs: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)


def evaluate_groove(manifests: Sequence[Manifest], roots: Mapping[str, str], **how: Any) -> Evaluation:
    """Groove metrics of mapper runs on their held-out sessions, and of recorded performances.

    Args:
        manifests: `choreo.run/1`, or `choreo.sessions/1` of `choreo run-live`.
        roots: `--root` overrides.
        how: As `evaluate_runs_groove`.

    Raises:
        ChoreoError: see `metrics.run_inputs`.
    """
    recordings = [m for m in manifests if m.kind == "choreo.sessions"]
    runs = [m for m in manifests if m.kind != "choreo.sessions"]
    found = Evaluation([], []) if not runs else evaluate_runs_groove(runs_in(runs, roots), **how)
    for manifest in recordings:
        folder = recorded_in(manifest, roots)
        one = evaluate_controls_groove(folder, folder, **how)
        about = {"recording": manifest.sha256}
        found.entries += [{**e, "params": {**e["params"], **about}} for e in one.entries]
        found.inputs += one.inputs
        found.notes += one.notes
    found.inputs = _unique(found.inputs)
    return found


def evaluate_runs_groove(
    runs: Sequence[Run],
    *,
    against: Path | None,
    seed: int,
    draws: int,
    on_progress: Callable[..., None] | None = None,
) -> Evaluation:
    """Groove metrics of mapper runs on their held-out sessions, or against the sessions of another set.

    Raises:
        ChoreoError: see `metrics.run_inputs`.
    """
    found = Evaluation([], [])
    other = None if against is None else read_frames(against)
    for run in runs:
        controls, made_of = controls_of_run(run)
        own = frames_of(run)
        controls = held_out_controls(controls, own)
        tracks, left_out = pair_up_fitting(controls, own if other is None else other, in_order=other is not None)
        found.notes += _told(left_out)
        if other is not None:
            found.notes += same_tempo(tracks, pair_up_fitting(controls, own)[0])
        entries = groove(
            tracks, seed=seed, draws=draws, left_out=left_out, params={**run.about, **_control(other)},
            on_progress=on_progress,
        )  # fmt: skip
        found.entries += entries
        found.inputs += [run.source, *made_of, dict(own.source if other is None else other.source)]
    found.inputs = _unique(found.inputs)
    return found


def evaluate_controls_groove(
    path: Path,
    frames: Path | None,
    *,
    against: Path | None,
    seed: int,
    draws: int,
    on_progress: Callable[..., None] | None = None,
) -> Evaluation:
    """Groove metrics of any controls: against the frames of their own sessions, or of another set's.

    Raises:
        UsageError: neither frames nor another set.
        ChoreoError: see `metrics.run_inputs` and `metrics.tracks`.
    """
    source = against or frames
    if source is None:
        raise UsageError("--controls needs the frames of its sessions", hint="give --frames DATA, or --against DATA")
    controls, made_of = controls_at(path)
    other = read_frames(source)
    tracks, left_out = pair_up_fitting(controls, other, in_order=against is not None)
    notes = _told(left_out)
    if against is not None and frames is not None:
        notes += same_tempo(tracks, pair_up_fitting(controls, read_frames(frames))[0])
    entries = groove(
        tracks, seed=seed, draws=draws, left_out=left_out, params=_control(None if against is None else other),
        on_progress=on_progress,
    )  # fmt: skip
    return Evaluation(entries, _unique([*made_of, dict(other.source)]), notes)


def _told(left_out: Mapping[str, str]) -> list[str]:
    return [f"{session} is left out: {why}" for session, why in left_out.items()]


def _control(against: FrameSet | None) -> dict[str, Any]:
    """What says that an entry is the negative control."""
    return {} if against is None else {"decoupled": True, "against": against.source["sha256"]}


def same_tempo(tracks: Sequence[Track], own: Sequence[Track]) -> list[str]:
    """A sentence for each negative control whose other session runs at the same tempo: drift cannot fail there."""
    period = {o.session_id: o.beats.period_s for o in own}
    return [
        f"{t.session_id} and {t.reference} of the other set run at one tempo: drift cannot fail, make it 3-10 % apart"
        for t in tracks
        if t.session_id in period and abs(t.beats.period_s / period[t.session_id] - 1) < SAME_TEMPO
    ]


def _unique(inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [x for k, x in enumerate(inputs) if x not in inputs[:k]]


def evaluate_model(
    runs: Sequence[Run],
    score_of: Callable[[str], Score],
    on: FrameSet | None,
    on_progress: Callable[..., None] | None = None,
) -> Evaluation:
    """Held-out figures of runs by their own lane's `score`, seeds of one recipe together.

    Args:
        runs: Trained runs.
        score_of: Recipe -> the lane's `score(folder, frames, roots)`.
        on: Another corpus, all of it held out; None judges on the sessions each run held out.
        on_progress: Called as `on_progress(done, total)`.
    """
    scored: list[Scored] = []
    inputs: list[dict[str, Any]] = []
    for k, run in enumerate(runs):
        judged_on, source = (on, on.source) if on is not None else data_of(run)
        scored.append((run.about, score_of(run.entry["recipe"])(run.folder, judged_on, run.roots)))
        inputs += [run.source, dict(source)]
        if on_progress is not None:
            on_progress(k + 1, len(runs))
    entries = over_runs(scored)
    more = {} if on is None else {"on": on.source["sha256"]}
    return Evaluation([{**e, "params": {**e["params"], **more}} for e in entries], _unique(inputs))


def evaluate_normalizer(having: Path, lacking: Path, effect: Callable[..., Entry], seed: int) -> Evaluation:
    """What M2 does to the variance of the mapper's held-out loss over paired seeds.

    Args:
        having: Runs with M2.
        lacking: Runs of the same seeds without it.
        effect: The lane's `normalizer_effect`.
        seed: Seed of its bootstrap.
    """
    given, bare = read_run(having), read_run(lacking)
    pairs = paired_losses(given.entries, bare.entries)
    found = effect([w for _, w, _ in pairs], [wo for _, _, wo in pairs], seed=seed)
    found = {**found, "params": {**found["params"], "seeds": [s for s, _, _ in pairs]}}
    inputs = [
        {"role": role, "sha256": m.sha256, "schema": m.schema} for role, m in (("with", given), ("without", bare))
    ]
    return Evaluation([found], inputs)


def evaluate_planner(runs: Sequence[Run], score: Score) -> Evaluation:
    """What the lane's scorer says of the bar planner on each run's held-out sessions."""
    entries: list[Entry] = []
    inputs: list[dict[str, Any]] = []
    for run in runs:
        frames = frames_of(run)
        entries += [{**e, "params": {**e["params"], **run.about}} for e in score(run.folder, frames)]
        inputs += [run.source, dict(frames.source)]
    return Evaluation(entries, _unique(inputs))


def evaluate_beats(estimate: Path, reference: Path) -> Evaluation:
    """Scores of estimated beats against annotated ones.

    Raises:
        ChoreoError: a file that is missing or holds no beats.
    """
    from formats.atomic import sha256_file

    est, ref = read_beats(estimate), read_beats(reference)
    inputs = [
        {"role": role, "sha256": sha256_file(p), "schema": "beats"}
        for role, p in (("estimate", estimate), ("reference", reference))
    ]
    return Evaluation(beat_scores.entries(ref, est), inputs)


def other_corpus(path: Path) -> FrameSet:
    """A data set none of whose sessions was trained on. Raises DataError when it is empty."""
    frames = all_held_out(read_frames(path))
    if not frames.sessions:
        raise DataError(f"no sessions in {path}")
    return frames


def runs_in(manifests: Sequence[Manifest], roots: Mapping[str, str]) -> list[Run]:
    """Every run of some manifests, none twice. Raises UsageError when one is named twice."""
    found = [r for m in manifests for r in runs_of(m, roots)]
    for k, run in enumerate(found):
        if any(o.folder == run.folder for o in found[:k]):
            raise UsageError(f"{run.folder} is named twice")
    return found
