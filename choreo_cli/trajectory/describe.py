"""Equations and sentences for trajectories: from the fit, from templates, or worded by a language model and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from choreo_cli.errors import UnavailableError
from choreo_cli.trajectory import words
from choreo_cli.trajectory.curves import FAMILIES, Canonical, equation
from choreo_cli.trajectory.expressions import EquationError, form_of, numbers_of, parse
from choreo_cli.trajectory.language import Answer, BudgetSpent, LanguageModel, Message
from choreo_cli.trajectory.solver import Fits

F64 = NDArray[np.float64]

TOLERANCE = 0.05  # of the diagonal: largest distance at 64 times in 0..1.25
CHECK_TIMES: F64 = np.linspace(0, 1.25, 64)
_SLOT: dict[str, Any] = {
    "family": {"type": "string", "enum": list(FAMILIES)},
    "direction": {"type": ["string", "null"], "enum": [*words.AXES, None]},
    "speed": {"type": ["number", "null"], "minimum": 0, "maximum": 100},
    "turns": {"type": ["number", "null"], "minimum": 0, "maximum": 20},
    "radius": {"type": ["number", "null"], "minimum": 0, "maximum": 20},
    "rise": {"type": ["number", "null"], "minimum": -20, "maximum": 20},
}
# Every string and number is bounded: a decoder held to a schema guarantees only that a prefix is valid.
SCHEMA: dict[str, Any] = {
    "type": "object", "additionalProperties": False, "required": ["equation", *_SLOT, "text"],
    "properties": {
        "equation": {"type": "string", "maxLength": 400}, **_SLOT, "text": {"type": "string", "maxLength": 300},
    },
}  # fmt: skip
SYSTEM = (
    "You put a fitted curve into words. Answer with one JSON object and nothing else. `equation` holds x, y and z as "
    "functions of t, separated by semicolons, built from numbers, t, pi, + - * / **, sin and cos only. Copy the "
    "numbers given; do not invent any. A fact that is null stays null. `text` is one sentence of 40 words at most."
)
PROMPT = hashlib.sha256((SYSTEM + json.dumps(SCHEMA, sort_keys=True)).encode()).hexdigest()[:12]
SILENT = 3  # trajectories in a row without any answer, after which the model is not asked again


@dataclass(frozen=True, slots=True)
class Told:
    """One trajectory in words.

    Args:
        engine: `fit`, `template` or `llm`: who speaks in the end.
        family: As told; `none` when the equation has the structure of no family.
        equation, text: As told. slots: Facts as told.
        asked: Turns with the model. fallback: Why the fit speaks in place of the model.
        errors: Standard error of each number, where the fit gives them.
    """

    engine: str
    family: str
    equation: str
    text: str
    slots: Mapping[str, Any]
    asked: int = 0
    fallback: str | None = None
    errors: Mapping[str, float] | None = None


def from_fit(fits: Fits, row: int, engine: str = "fit") -> Told:
    """The fitted curve as equation and template sentence."""
    form = fits.form(row)
    facts = words.facts(form)
    errors = {name: error for name, (_, error) in fits.numbers(row).items()}
    return Told(engine, facts["family"], equation(form), words.sentence(facts), facts, errors=errors)


def from_model(fits: Fits, row: int, model: LanguageModel, seed: int) -> Told:
    """The same facts worded by a language model: asked, checked, asked once more with what was wrong, or not used.

    Raises:
        BudgetSpent: nothing more may be asked.
        UnavailableError: the first question had no answer; what comes and cannot be used becomes a fallback to the fit.
    """
    plain = from_fit(fits, row)
    messages: list[Message] = question(fits, row)
    why = ""
    for turn in (1, 2):
        try:
            answer = model.ask(messages, SCHEMA, seed=seed)
        except BudgetSpent:
            raise
        except UnavailableError as e:
            if turn == 1:
                raise
            return _fallback(plain, turn, str(e))
        found, why = checked(answer)
        if found is not None:
            return Told(
                "llm", str(found["family"]), str(found["equation"]), str(found["text"]), found, turn,
                errors=plain.errors,
            )  # fmt: skip
        messages = [
            *messages, {"role": "assistant", "content": answer.text[:2000]},
            {"role": "user", "content": f"That cannot be used: {why}. Answer again with one valid JSON object."},
        ]  # fmt: skip
    return _fallback(plain, 2, why)


def _fallback(plain: Told, asked: int, why: str) -> Told:
    return Told(
        "template",
        plain.family,
        plain.equation,
        plain.text,
        plain.slots,
        asked,
        " ".join(why.split())[:200],
        plain.errors,
    )


def question(fits: Fits, row: int) -> list[Message]:
    """What the model is asked: the fitted numbers with their errors, never the truth."""
    form = fits.form(row)
    numbers = {k: {"value": round(v, 4), "standard_error": round(e, 4)} for k, (v, e) in fits.numbers(row).items()}
    given = {
        "family": FAMILIES[form.family],
        "equation": equation(form),
        "facts": words.facts(form),
        "numbers": numbers,
    }
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": json.dumps(given, sort_keys=True)}]


def checked(answer: Answer) -> tuple[dict[str, Any] | None, str]:
    """An answer that can be used, or None and why not: cut, no JSON, against the schema, or an equation refused."""
    if answer.finish == "length":
        return None, "the answer was cut at its longest"
    try:
        found = json.loads(answer.text)
    except (ValueError, RecursionError):
        return None, "it is not JSON"
    wrong = against_schema(found)
    if wrong:
        return None, wrong
    try:
        form = form_of(parse(found["equation"]))
    except EquationError as e:
        return None, f"equation: {e}"
    if form is None:
        return None, "equation: it has the structure of no family"
    return found, ""


def against_schema(found: Any) -> str:
    """The first way in which an answer breaks `SCHEMA`, empty when it does not: servers do not all hold to it."""
    if not isinstance(found, dict):
        return "it is not an object"
    for name in SCHEMA["required"]:
        if name not in found:
            return f"{name} is missing"
    for name, value in found.items():
        rule = SCHEMA["properties"].get(name)
        if rule is None:
            return f"{str(name)[:30]!r} is not asked for"
        kinds = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
        if value is None:
            if "null" not in kinds:
                return f"{name} is null"
        elif "string" in kinds:
            if not isinstance(value, str) or len(value) > rule.get("maxLength", 100):
                return f"{name} is not a short text"
            if "enum" in rule and value not in rule["enum"]:
                return f"{name} {value[:30]!r} is not one of {', '.join(str(v) for v in rule['enum'])}"
        elif isinstance(value, bool) or not isinstance(value, int | float):
            return f"{name} is not a number"
        elif not rule["minimum"] <= value <= rule["maximum"]:
            return f"{name} {value} is outside {rule['minimum']}..{rule['maximum']}"
    return ""


def tell_all(
    fits: Fits, engine: str, model: LanguageModel | None = None, *, seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Told]:  # fmt: skip
    """Every trajectory in words.

    Args:
        fits: The fits.
        engine: `fit`, `template` or `llm`.
        model: Of `llm`. When its budget is spent, or it no longer answers, the rest is told by template, and says so.
        seed: Given to the model.
        on_progress: `(done, total)`.

    Raises:
        UnavailableError: the model did not answer the very first question: there is nothing to word with.
    """
    found: list[Told] = []
    asking = None if engine != "llm" or model is None else _Asking(model, seed)
    for row in range(len(fits)):
        found.append(from_fit(fits, row, engine) if asking is None else asking.tell(fits, row))
        if on_progress:
            on_progress(row + 1, len(fits))
    return found


@dataclass(slots=True)
class _Asking:
    """A model that is asked about one trajectory after the other, until there is a reason not to."""

    model: LanguageModel
    seed: int
    answered: bool = False
    silent: int = 0
    over: str = ""

    def tell(self, fits: Fits, row: int) -> Told:
        if self.over:
            return _fallback(from_fit(fits, row), 0, self.over)
        try:
            told = from_model(fits, row, self.model, self.seed)
        except BudgetSpent as e:
            self.over = str(e)
            return _fallback(from_fit(fits, row), 0, self.over)
        except UnavailableError as e:
            if not self.answered:
                raise
            self.silent += 1
            if self.silent >= SILENT:
                self.over = f"not asked: {SILENT} in a row had no answer ({e})"
            return _fallback(from_fit(fits, row), 1, str(e))
        self.answered, self.silent = True, 0
        return told


@dataclass(frozen=True, slots=True)
class Score:
    """How one telling agrees with the true curve; see the columns of `choreo.descriptions/1`."""

    parsed: bool
    form: bool
    numeric: bool
    error: float | None
    within_5: bool
    within_10: bool
    within_3se: bool | None
    wrong_slots: tuple[str, ...]


def score(told: Told, truth: Canonical, diagonal: float) -> Score:
    """Judge one telling, in this order: parse, form, numeric equality, parameters; and the slots of its sentence.

    Args:
        told: What was said. truth: The curve. diagonal: Of the box of its shown points, the unit of the error.
    """
    agreed = words.agreement({**told.slots, "text": told.text}, words.facts(truth))
    wrong = tuple(name for name, good in agreed.items() if not good)
    try:
        axes = parse(told.equation)
    except EquationError:
        return Score(False, False, False, None, False, False, None, wrong)
    form = form_of(axes)
    points = np.stack([axis.at(CHECK_TIMES) for axis in axes], axis=-1)
    error = float(np.linalg.norm(points - truth.at(CHECK_TIMES), axis=-1).max() / diagonal)
    right = form is not None and form.family == truth.family
    within = {0.05: False, 0.1: False}
    within_3se: bool | None = None
    if right:
        assert form is not None
        true, said = numbers_of(truth), numbers_of(form)
        for share in within:
            within[share] = all(abs(said[k] - v) <= share * abs(v) for k, v in true.items())
        if told.errors is not None:
            within_3se = all(abs(said[k] - v) <= 3 * told.errors[k] for k, v in true.items() if k in told.errors)
    elif told.errors is not None:
        within_3se = False
    return Score(True, right, error <= TOLERANCE, error, within[0.05], within[0.1], within_3se, wrong)


def rates(scores: Sequence[Score]) -> dict[str, NDArray[np.float64]]:
    """Each judgement as (N,) 0 or 1, by name; `slot.<name>` for each fact of the sentence, `slots` for all of them."""
    found = {
        name: np.array([bool(getattr(s, name)) for s in scores], np.float64)
        for name in ("parsed", "form", "numeric", "within_5", "within_10", "within_3se")
    }
    for slot in (*words.SLOTS, "text"):
        found[f"slot.{slot}"] = np.array([slot not in s.wrong_slots for s in scores], np.float64)
    found["slots"] = np.array([not s.wrong_slots for s in scores], np.float64)
    return found
