"""A film as one HTML file: both dancers on canvases, sound, orbit and scrubbing, their figures beside them.

The page asks nobody for anything: no font, no script, no request; its policy names the hashes of its own script and
style. Positions travel as 16-bit numbers, millimetres unless a dance goes further than 32 m. What comes from data is
set as text, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.motion.camera import facing
from choreo_cli.motion.scene import Actor, Scene

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

TEMPLATES = Path(__file__).resolve().parent / "templates"
MAX_FPS = 60.0
_LIMIT = 32767


def page(
    film: Scene,
    title: str,
    sound: tuple[F32, int] | None = None,
    metrics: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """The HTML.

    Args:
        film: Whom to show, its beats and its view.
        title: Heading.
        sound: Samples (N,) or (N, C) and their rate; kept as MP3.
        metrics: Entries of `choreo.metrics/1` to show under the figures that are computed here.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    env = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    script, style = ((TEMPLATES / f"player.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    text = env.get_template("player.html.j2").render(
        title=title,
        facts=f"{film.frames} frames · {film.fps:g} fps · {film.frames / film.fps:.1f} s",
        duration=f"{film.frames / film.fps:.3f}",
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
        data=Markup(_json(_data(film, sound, metrics))),
    )
    return text.encode("utf-8")


def figures(actor: Actor, fps: float) -> dict[str, tuple[float, str]]:
    """What a pair of dancers is compared by at a glance: name -> (figure, unit).

    Speeds and jerk are over all 22 joints; foot slide is the ankles' floor speed in frames of contact.
    """
    j, dt = actor.joints, 1.0 / fps
    found: dict[str, tuple[float, str]] = {"length": (len(j) * dt, "s")}
    path = np.diff(j[:, 0, [0, 2]], axis=0)
    found["way of the pelvis"] = (float(np.sqrt((path**2).sum(-1)).sum()), "m")
    found["height of the pelvis"] = (float(j[:, 0, 1].mean()), "m")
    if len(j) > 1:
        speed = np.sqrt((np.diff(j, axis=0) ** 2).sum(-1)) / dt
        found["joint speed, mean"] = (float(speed.mean()), "m/s")
        found["joint speed, 99 %"] = (float(np.quantile(speed, 0.99)), "m/s")
        still = actor.contacts[1:] > 0.5
        slide = np.sqrt((np.diff(j[:, [7, 8]][..., [0, 2]], axis=0) ** 2).sum(-1)) / dt
        found["foot slide in contact"] = (float(slide[still].mean() * 1000) if still.any() else math.nan, "mm/s")
    if len(j) > 3:
        jerk = np.sqrt((np.diff(j, 3, axis=0) ** 2).sum(-1)) / dt**3
        found[f"jerk, mean at {fps:g} fps"] = (float(jerk.mean()), "m/s³")
    for side, name in enumerate(("left", "right")):
        found[f"{name} foot stands"] = (float((actor.contacts[:, side] > 0.5).mean() * 100), "%")
    return found


def distance_mm(a: Actor, b: Actor) -> float:
    """Mean distance of equal joints of two dancers about their pelvises, mm."""
    n = min(len(a.joints), len(b.joints))
    pair = [c.joints[:n] - c.joints[:n, :1] for c in (a, b)]
    return float(np.sqrt(((pair[0] - pair[1]) ** 2).sum(-1)).mean() * 1000)


def _data(film: Scene, sound: Any, metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    step = max(math.ceil(film.fps / MAX_FPS - 1e-9), 1)
    found = [figures(a, film.fps) for a in film.actors]
    origin = film.actors[0].joints[0, 0] * [1, 0, 1]
    rows = [
        {"name": name, "unit": unit, "values": [_number(f[name][0]) if name in f else "–" for f in found]}
        for name, (_, unit) in found[0].items()
    ]
    if len(film.actors) == 2:
        apart = _number(distance_mm(film.actors[0], film.actors[1]))
        rows.append({"name": "joints apart, about the pelvis", "unit": "mm", "values": ["", apart]})
    for m in metrics:
        value = "–" if m["value"] is None else _number(float(m["value"]))
        rows.append({"name": m["name"], "unit": m["unit"], "values": [""] * (len(found) - 1) + [value]})
    return {
        "fps": film.fps / step, "beats": [round(float(b), 4) for b in film.beats_s], "view": film.look.view,
        "heading": round(facing(film.actors[0].joints), 5), "follow": film.look.follow, "start": 0,
        "clips": [_clip(a, step, origin) for a in film.actors], "audio": None if sound is None else _mp3(film, sound),
        "columns": [a.role or a.name for a in film.actors], "rows": rows,
    }  # fmt: skip


def _clip(actor: Actor, step: int, origin: F64) -> dict[str, Any]:
    """Positions about an origin on the floor, in steps of a millimetre, or larger ones where 16 bits need it."""
    metres = actor.joints[::step] - origin
    unit = max(1e-3, float(np.abs(metres).max()) / _LIMIT)
    stands = (actor.contacts[::step] > 0.5).astype(np.uint8)
    return {
        "name": actor.name, "role": actor.role, "unit": unit,
        "xyz": _text(np.rint(metres / unit).astype("<i2").tobytes()),
        "contacts": _text((stands[:, 0] | stands[:, 1] << 1).tobytes()),
    }  # fmt: skip


def _mp3(film: Scene, sound: tuple[F32, int]) -> str:
    """The sound as a data URI; MP3 plays everywhere and soundfile writes it."""
    import soundfile
    import soxr

    samples, rate = sound
    samples = samples[: round(film.frames / film.fps * rate)]
    if samples.ndim == 2 and samples.shape[1] > 2:
        samples = samples.mean(1)
    if rate not in (44100, 48000, 32000, 22050, 24000, 16000):
        samples, rate = soxr.resample(samples, rate, 44100), 44100
    out = io.BytesIO()
    soundfile.write(out, np.clip(samples, -1, 1), rate, format="MP3")
    return "data:audio/mpeg;base64," + _text(out.getvalue())


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _json(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
