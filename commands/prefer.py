"""`choreo prefer`: ask a person which of two clips is better, and keep every answer."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from choreo_cli import options, streams
from choreo_cli.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from choreo_cli.dataset.frameset import FrameSet
    from choreo_cli.reflex.preferences import Question

app = options.app()
EXITS = (ExitCode.DATA, ExitCode.NOINPUT, ExitCode.CANTCREAT, ExitCode.IO, ExitCode.TEMPFAIL, ExitCode.INT)
EXAMPLES = (
    ("choreo prefer recordings --rater-rule groove --noise 0.1 --pairs 40 -o preferences.parquet", "A rule, no person"),
    ("choreo prefer dataset --clip-s 4 --rater-rule groove --pairs 12 -o short.parquet", "Shorter clips"),
)
KINDS = ("choreo.sessions", "choreo.pairs")
ANSWERS = {"a": "left", "b": "right", "s": "same", "k": "skip"}
ASK = "A or B? (a/b, s = same, k = skip, q = quit) "


@app.command()
def prefer(
    sessions: Annotated[
        Path | None,
        typer.Argument(metavar="[SESSIONS|-]", help="Folder or manifest of pair or synth sessions, or frames."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Preferences; answers are added.")],
    pairs: Annotated[
        int, typer.Option("--pairs", min=1, help="Questions in all, those answered before among them.")
    ] = 40,
    clip_s: Annotated[float, typer.Option("--clip-s", metavar="SECONDS", help="Length of a clip.")] = 6.0,
    rater: Annotated[str | None, typer.Option("--rater", metavar="NAME", help="Who answers (default: me).")] = None,
    plots: Annotated[
        Path | None, typer.Option("--plots", metavar="DIR", help="Pictures of the pairs (default: beside FILE).")
    ] = None,
    controls: Annotated[
        Path | None, typer.Option("--controls", metavar="RUN", help="Also draw the controls of this mapper run.")
    ] = None,
    rule: Annotated[
        str | None, typer.Option("--rater-rule", metavar="NAME", help="A rule answers (groove); flagged synthetic.")
    ] = None,
    noise: Annotated[float, typer.Option("--noise", help="Share of the rule's answers that are turned round.")] = 0.1,
    seed: options.Seed = 0,
    roots: options.Roots = None,
    json: options.Json = False,
    table: options.TableOut = False,
    quiet: options.Quiet = False,
) -> int:
    """Ask which of two clips is better; the answers train a reward (choreo train reward FILE).

    Every pair is drawn as one picture, whose path is printed: A on the left, B on the right. Every answer is in FILE
    before the next question comes; ask again later and it goes on where it stopped. One question in ten comes twice
    with the sides exchanged. Nothing is asked without a terminal; --rater-rule answers openly by a rule instead.
    """
    from choreo_cli.reflex import preferences as p
    from choreo_cli.reflex.clips import cut_clips

    who = rater if rater is not None else (f"rule:{rule}" if rule else "me")
    if not who.strip() or not who.isprintable() or len(who) > 64:
        raise UsageError("--rater needs 1 to 64 printable characters")
    terminal = None if rule else _terminal(sessions)
    frames = _frames(sessions, options.root_overrides(roots))
    rows = p.read_answers(out)[0] if out.exists() else []
    asked = p.still_open(p.draw_questions(cut_clips(frames, clip_s), pairs, seed), rows, who)
    if not out.parent.is_dir():
        from choreo_cli.errors import CantCreateError

        raise CantCreateError(f"cannot create {out}", hint=f"make the folder {out.parent} first")
    if rule:
        made = p.rule_answers(frames, asked, rule=rule, noise=noise, rater=who, seed=seed)
        if made:
            p.append_answers(out, made, p.source_of(frames))
    elif terminal is not None:
        _ask_all(frames, asked, pairs, terminal, out=out, who=who, plots=plots, controls=controls, quiet=quiet)
    return _tell(out, who, pairs, json=json, table=table)


def _terminal(sessions: Path | None) -> TextIO:
    """Where the answers come from: stdin, or the terminal itself when the sessions were piped in."""
    need = UsageError("questions need a terminal", hint="run it in one, or let a rule answer: --rater-rule groove")
    if streams.is_terminal(sys.stdin):
        return sys.stdin
    if sessions is not None and str(sessions) != "-":
        raise need
    try:
        return open("/dev/tty", encoding="utf-8")
    except OSError:
        raise need from None


def _frames(sessions: Path | None, roots: dict[str, str]) -> FrameSet:
    from choreo_cli.dataset.frameset import read_frames

    if sessions is not None and str(sessions) != "-":
        return read_frames(sessions, roots=roots)
    return read_frames(None, streams.read_manifest(sessions, "prefer", KINDS), roots=roots)


def _ask_all(
    frames: FrameSet, asked: list[tuple[int, Question]], total: int, terminal: TextIO, *,
    out: Path, who: str, plots: Path | None, controls: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """Ask until the questions, or the patience, are at an end. Ctrl-C leaves every earlier answer in the file."""
    from choreo_cli.reflex import preferences as p

    folder = plots or out.with_name(f"{out.stem}-plots")
    where = p.source_of(frames)
    for number, question in asked:
        sides = (question.a, question.b) if question.left == "a" else (question.b, question.a)
        picture = _draw(frames, sides, folder / f"pair-{number + 1:04d}.png", f"{number + 1} of {total}", controls)
        _say(f"\nQuestion {number + 1} of {total}   {picture}\n" if not quiet else f"\n{picture}\n")
        started = time.monotonic()
        key = _key(terminal)
        if key is None:
            return
        choice = {"left": question.left, "right": "b" if question.left == "a" else "a"}.get(key, key)
        seconds = round(time.monotonic() - started, 3)
        p.append_answers(out, [p.Answer(question, choice, who, seconds, frames.synthetic)], where)


def _draw(frames: FrameSet, sides: tuple[Any, Any], file: Path, title: str, controls: Path | None) -> Path:
    """Write the picture of a pair, and show both energies as a line each; returns the picture's path."""
    from choreo_cli.reflex.clip_picture import curves, pair_png, sparkline
    from formats.atomic import write_bytes

    left, right = (curves(frames, clip, controls) for clip in sides)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, pair_png(left, right, title), sync=False)
    _say(f"\nA |{sparkline(left.energy)}|\nB |{sparkline(right.energy)}|")
    return file


def _key(terminal: TextIO) -> str | None:
    """`left`, `right`, `same` or `skip`; None to stop (q, or the end of the input)."""
    while True:
        _say(ASK)
        line = terminal.readline()
        key = line.strip().lower()
        if not line or key == "q":
            return None
        if key in ANSWERS:
            return ANSWERS[key]
        _say(f"{key[:20]!r} is none of a, b, s, k, q\n")


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _tell(out: Path, who: str, pairs: int, *, json: bool, table: bool) -> int:
    """What is in the file now."""
    from collections import Counter
    from json import dumps

    from choreo_cli.reflex.preferences import read_answers

    rows = read_answers(out)[0] if out.exists() else []
    own = Counter(str(r["choice"]) for r in rows if r["rater"] == who)
    told = {"file": str(out), "answers": len(rows), "rater": who, "asked": pairs, "choices": dict(sorted(own.items()))}
    done = sum(own.values())
    last = f"go on with the same command, or train: choreo train reward {out} -o reward" if done else "no answers yet"
    lines = streams.columns([(who, str(done), str(pairs), str(len(rows)))], ("rater", "answered", "of", "in the file"))
    streams.emit((dumps(told) + "\n").encode(), lines, out=None, json=json, as_table=table, keep=last)
    return int(ExitCode.OK)
