"""Whatever the model says and whenever: no NaN out, no value out of range, nothing faster than the map allows."""

from __future__ import annotations

import ast
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choreo_cli.live.guards import LONGEST_S, Guards
from choreo_cli.live.port import Outgoing
from formats.control_map import DEFAULT, Clamp, Control, ControlMap, Ease
from formats.packets import CONTROL_BOUNDS, CONTROLS, ControlPacket, check
from tests.nightly import size

TOP = Path(__file__).resolve().parents[2]
NAN, INF = math.nan, math.inf
KINDS = ("none", "linear", "exp", "scurve")


def one_map(kind: str = "none", ms: float = 0.0, rate: float = 1000.0, clamp: Clamp | None = None) -> ControlMap:
    """All five alike, but for their CC and the range of the tempo."""
    ease = Ease(kind, ms)  # type: ignore[arg-type]
    tempo = Control(0.8, 1.25, 1.0, ease, 20, rate)
    return ControlMap(20, clamp or Clamp(), tempo, *[Control(0.0, 1.0, 0.5, ease, 20 + k, rate) for k in range(1, 5)])


def play(guards: Guards, rows: list[list[float]], dt: float = 0.02, **how: bool) -> list[Outgoing]:
    return [guards.release(np.array(y, np.float32), dt, k, k * 20_000, **how) for k, y in enumerate(rows)]


def density(outs: list[Outgoing]) -> list[float]:
    return [round(float(o.values[1]), 6) for o in outs]


def rows(*values: float) -> list[list[float]]:
    return [[v] * 5 for v in values]


# ---------------------------------------------------------------------------------------------- no way around them


def live_trees() -> list[tuple[str, ast.Module]]:
    files = [*(TOP / "choreo_cli" / "live").rglob("*.py"), *(TOP / "commands").rglob("*.py")]
    return [(f.name, ast.parse(f.read_text(encoding="utf-8"))) for f in files]


def makers(tree: ast.Module) -> list[str]:
    """Calls by which an `Outgoing` comes to be: by its name, its type, or a copy with anything but `send` changed."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).split(".")[-1]
        fields = {k.arg for k in node.keywords}
        if name == "Outgoing" or (name == "replace" and fields & {"values", "unit", "held", "seq"}):
            found.append(ast.unparse(node))
        if name in ("__new__", "__setattr__") and "Outgoing" in ast.unparse(node):
            found.append(ast.unparse(node))
    return found


def test_only_the_guards_make_what_a_port_takes() -> None:
    made = {name: makers(tree) for name, tree in live_trees()}
    assert made.pop("guards.py"), "the walk sees the one place"
    assert {name: calls for name, calls in made.items() if calls} == {}


def test_the_walk_would_see_a_bypass() -> None:
    for text in ("port.Outgoing(1, 2)", "replace(out, values=v)", "dataclasses.replace(out, unit=v, send=s)",
                 "object.__setattr__(Outgoing, 'values', v)"):  # fmt: skip
        assert makers(ast.parse(text)), text
    assert makers(ast.parse("replace(out, send=s)")) == []


def test_what_left_cannot_be_written() -> None:
    out = play(Guards(DEFAULT), rows(0.5))[0]
    for array in (out.values, out.unit, out.send):
        with pytest.raises(ValueError):
            array[0] = 7
    other = replace(out, send=np.zeros(5, bool))
    assert other.values is out.values


def test_consecutive_ticks_do_not_share_memory() -> None:
    a, b = play(Guards(one_map()), rows(0.1, 0.9))
    assert density([a, b]) == [0.1, 0.9]


# ---------------------------------------------------------------------------------------------- mapping and start


def test_start_is_neutral_and_the_model_is_mapped_to_the_range() -> None:
    quiet = play(Guards(DEFAULT), rows(NAN))[0]
    assert quiet.values.tolist() == pytest.approx([1.0, 0.5, 0.5, 0.5, 0.0]) and quiet.held
    assert quiet.unit.tolist() == pytest.approx([0.2 / 0.45, 0.5, 0.5, 0.5, 0.0])
    guards = Guards(one_map())
    for y, tempo in ((0.0, 0.8), (1.0, 1.25), (0.5, 1.025)):
        out = play(guards, rows(y))[0]
        assert float(out.values[0]) == pytest.approx(tempo) and out.unit.tolist() == pytest.approx([y] * 5, abs=1e-7)
        assert y == 0.5 or set(out.unit.tolist()) == {y}, "the ends are exact"
        assert not out.held and out.send.all() and out.values.dtype == out.unit.dtype == np.float32


def test_beat_and_numbers_go_through() -> None:
    out = Guards(DEFAULT).release([0.5] * 5, 0.02, 7, 99, beat=3.5, bpm=90.0)
    assert (out.seq, out.t_us, out.beat, out.bpm) == (7, 99, 3.5, 90.0)


def test_five_controls_or_an_error() -> None:
    with pytest.raises(ValueError, match="4 controls, not 5"):
        Guards(DEFAULT).release([0.5] * 4, 0.02, 0, 0)


# ---------------------------------------------------------------------------------------------- holding


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_not_finite_holds_the_last_valid_then_goes_to_neutral(bad: float) -> None:
    guards = Guards(one_map(clamp=Clamp(hold_s=0.1)))
    outs = play(guards, rows(0.9, bad, bad, bad, bad, bad, bad, 0.2))
    assert density(outs) == [0.9, 0.9, 0.9, 0.9, 0.9, 0.5, 0.5, 0.2]
    assert [o.held for o in outs] == [False, *[True] * 6, False]
    assert guards.counts["not_finite"] == 30 and guards.counts["to_neutral"] == 5


def test_the_hold_counts_time_not_ticks() -> None:
    guards = Guards(one_map(clamp=Clamp(hold_s=0.1)))
    play(guards, rows(0.9))
    assert density(play(guards, rows(NAN, NAN, NAN), dt=0.04)) == [0.9, 0.9, 0.5]


def test_the_map_may_ask_for_neutral_at_once() -> None:
    outs = play(Guards(one_map(clamp=Clamp(not_finite="neutral"))), rows(0.9, NAN, 0.9))
    assert density(outs) == [0.9, 0.5, 0.9]


def test_holding_is_per_control() -> None:
    guards = Guards(one_map())
    play(guards, rows(0.2))
    out = play(guards, [[0.9, NAN, 0.9, 0.9, 0.9]])[0]
    assert out.unit.tolist() == pytest.approx([0.9, 0.2, 0.9, 0.9, 0.9]) and out.held
    assert guards.holding == ("density",)


def test_out_of_range_is_clamped_or_held() -> None:
    assert density(play(Guards(one_map()), rows(0.7, 1.5, -0.5))) == [0.7, 1.0, 0.0]
    guards = Guards(one_map(clamp=Clamp(out_of_range="hold")))
    outs = play(guards, rows(0.7, 1.5, -0.5, 1.0))
    assert density(outs) == [0.7, 0.7, 0.7, 1.0] and [o.held for o in outs] == [False, True, True, False]
    assert guards.counts["out_of_range"] == 10


def test_neutral_is_eased_and_limited_after_a_hold() -> None:
    guards = Guards(one_map("exp", 100.0, 1.0, Clamp(hold_s=0.0)))
    play(guards, rows(*[1.0] * 200))
    path = density(play(guards, rows(*[NAN] * 200)))
    assert path[0] == pytest.approx(1.0 - 0.02) and path[-1] == pytest.approx(0.5, abs=1e-6)
    assert all(0 <= a - b <= 0.02 + 1e-6 for a, b in pairwise(path))


def test_median_of_three_drops_a_spike_and_costs_one_tick() -> None:
    values = (0.2, 0.2, 0.2, 1.0, 0.2, 0.2, 0.6, 0.6, 0.6)
    assert max(density(play(Guards(one_map(), median=True), rows(*values)))[:6]) == pytest.approx(0.2)
    assert density(play(Guards(one_map(), median=True), rows(*values)))[6:] == [0.2, 0.6, 0.6]
    assert density(play(Guards(one_map()), rows(*values)))[3] == 1.0


# ---------------------------------------------------------------------------------------------- a person's keys


def test_frozen_holds_what_is_sent_and_goes_on_from_there() -> None:
    for kind in KINDS:
        guards = Guards(one_map(kind, 200.0, 2.0))
        moving = play(guards, rows(*[1.0] * 5))
        frozen = play(guards, rows(*[0.0, NAN, 1.0] * 30), frozen=True)
        assert {tuple(o.values.tolist()) for o in frozen} == {tuple(moving[-1].values.tolist())}
        assert all(o.held for o in frozen)
        after = play(guards, rows(*[1.0] * 3))
        assert 0 <= float(after[0].values[1]) - float(frozen[-1].values[1]) <= 0.04


def test_neutral_goes_to_neutral_and_back() -> None:
    guards = Guards(one_map(rate=5.0))
    play(guards, rows(*[0.9] * 10))
    away = density(play(guards, rows(*[0.9] * 6), neutral=True))
    assert away == pytest.approx([0.8, 0.7, 0.6, 0.5, 0.5, 0.5])
    assert density(play(guards, rows(0.9, 0.9))) == pytest.approx([0.6, 0.7])


# ---------------------------------------------------------------------------------------------- time


def test_a_late_tick_moves_further_but_not_faster() -> None:
    guards = Guards(one_map(rate=1.0))
    play(guards, rows(*[0.0] * 40))
    path = [0.0]
    for dt in (0.02, 0.02, 0.2, 0.001):
        path.append(density(play(guards, rows(1.0), dt=dt))[0])
    assert [b - a for a, b in pairwise(path)] == pytest.approx([0.02, 0.02, 0.2, 0.001])


@pytest.mark.parametrize("dt", [0.0, -1.0, NAN, -INF])
def test_without_time_nothing_moves(dt: float) -> None:
    guards = Guards(one_map())
    before = play(guards, rows(0.5))[0]
    after = play(guards, rows(1.0), dt=dt)[0]
    assert after.values.tolist() == before.values.tolist() and guards.counts["no_time"] == 1


@pytest.mark.parametrize("dt", [3.0, 3600.0, INF])
def test_after_a_hang_one_second_counts(dt: float) -> None:
    guards = Guards(one_map(rate=0.25))
    play(guards, rows(*[0.0] * 200))
    assert density(play(guards, rows(1.0), dt=dt)) == [pytest.approx(0.25)]
    assert guards.counts["stalls"] == 1


def test_the_same_way_whatever_the_rate_of_ticks() -> None:
    """Easing by real time: after 120 ms both stand at the same place."""
    for kind in ("exp", "linear"):
        fine, coarse = Guards(one_map(kind, 200.0)), Guards(one_map(kind, 200.0))
        a = density(play(fine, rows(*[1.0] * 12), dt=0.01))[-1]
        b = density(play(coarse, rows(*[1.0] * 3), dt=0.04))[-1]
        assert a == pytest.approx(b, abs=1e-5), kind


# ---------------------------------------------------------------------------------------------- reload


def narrower(control_map: ControlMap, lo: float, hi: float, **change: object) -> ControlMap:
    return msgspec.structs.replace(
        control_map, density=msgspec.structs.replace(control_map.density, min=lo, max=hi, neutral=lo, **change)
    )


def test_a_reload_goes_on_from_where_it_stands() -> None:
    for kind in KINDS:
        start = one_map("exp", 40.0, 3.0)
        guards = Guards(start)
        before = play(guards, rows(*[0.9] * 50))[-1]
        other = one_map(kind, 300.0, 0.5)
        guards.reload(other)
        after = play(guards, rows(*[0.1] * 200))
        steps = [abs(float(b.values[1]) - float(a.values[1])) for a, b in pairwise([before, *after])]
        assert max(steps) <= 0.01 and guards.map is other
        assert float(after[-1].values[1]) == pytest.approx(0.1, abs=2e-3)


def test_a_value_outside_the_new_range_goes_in_at_the_new_rate_and_never_out_again() -> None:
    for how in ({}, {"frozen": True}, {"neutral": True}):
        guards = Guards(one_map("exp", 500.0, 10.0))
        before = play(guards, rows(*[1.0] * 300))[-1]
        guards.reload(narrower(one_map("exp", 500.0, 10.0), 0.1, 0.4, rate_per_s=2.0))
        outs = play(guards, rows(*[1.0] * 60), **how)
        path = [float(o.values[1]) for o in [before, *outs]]
        assert path[1] == pytest.approx(0.96, abs=1e-5), "no jump to the new bound"
        first_in = next(k for k, v in enumerate(path) if v <= 0.4)
        assert first_in == 15, "as fast as the rate allows, not eased"
        assert path[: first_in + 1] == sorted(path[: first_in + 1], reverse=True)
        assert all(0.1 <= v <= 0.4 for v in path[first_in:])


def test_a_cc_does_not_jump_when_its_range_is_edited() -> None:
    guards = Guards(one_map(rate=1.0))
    before = play(guards, rows(*[0.4] * 100))[-1]
    guards.reload(narrower(one_map(rate=1.0), 0.0, 0.5))
    outs = play(guards, rows(*[0.8] * 60))
    assert {round(float(o.values[1]), 6) for o in outs} == {0.4}
    unit = [float(o.unit[1]) for o in [before, *outs]]
    assert max(abs(b - a) for a, b in pairwise(unit)) <= 0.02 / 0.5 + 1e-6
    assert unit[0] == pytest.approx(0.4) and unit[-1] == pytest.approx(0.8)


def test_a_hold_lasts_over_a_reload() -> None:
    guards = Guards(one_map())
    play(guards, rows(0.9, NAN))
    guards.reload(one_map(clamp=Clamp(hold_s=60.0)))
    assert density(play(guards, rows(*[NAN] * 200)))[-1] == pytest.approx(0.9)


# ---------------------------------------------------------------------------------------------- properties


@st.composite
def maps(draw: st.DrawFn) -> ControlMap:
    controls = []
    for k, name in enumerate(CONTROLS):
        lo, hi = CONTROL_BOUNDS[name]
        a, b = sorted(draw(st.lists(st.floats(lo, hi), min_size=2, max_size=2, unique=True)))
        if b - a < 1e-3:
            a, b = lo, hi
        ease = Ease(draw(st.sampled_from(KINDS)), draw(st.sampled_from([0.0, 1.0, 20.0, 333.3, 5000.0])))
        rate = draw(st.sampled_from([1e-4, 0.1, 0.5, 3.7, 10.0, 1000.0]))
        controls.append(Control(a, b, draw(st.floats(a, b)), ease, k, rate))
    clamp = Clamp(
        draw(st.sampled_from(["clamp", "hold"])), draw(st.sampled_from(["hold", "neutral"])),
        draw(st.sampled_from([0.0, 0.05, 2.0, 60.0])),
    )  # fmt: skip
    return ControlMap(20, clamp, *controls)


def inside(control: Control, value: float) -> bool:
    return control.min <= value <= control.max


def hold_to_promise(before: Outgoing, after: Outgoing, dt: float, control_map: ControlMap) -> None:
    """What must be true of two consecutive packets."""
    counted = min(max(dt, 0.0), LONGEST_S) if dt == dt else 0.0
    for i, control in enumerate(control_map.controls):
        old, new, unit = float(before.values[i]), float(after.values[i]), float(after.unit[i])
        assert math.isfinite(new) and 0.0 <= unit <= 1.0
        assert abs(new - old) <= control.rate_per_s * counted
        if inside(control, old):
            assert inside(control, new)
        else:
            edge = control.min if old < control.min else control.max
            assert abs(new - edge) <= abs(old - edge) or inside(control, new)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(maps(), min_size=1, max_size=3),
    st.lists(
        st.tuples(
            st.lists(
                st.one_of(st.floats(0, 1), st.sampled_from([NAN, INF, -INF, -0.1, 1.1, 1e30, 0.0, 1.0])),
                min_size=5, max_size=5,
            ),
            st.one_of(st.sampled_from([0.02, 0.02, 0.02, 0.0, -0.5, NAN, 5.0]), st.floats(1e-6, 1.0)),
            st.sampled_from(["", "", "", "frozen", "neutral", "reload"]),
        ),
        min_size=5, max_size=80,
    ),
    st.booleans(),
)  # fmt: skip
def test_bounds_and_rate_are_never_broken(
    found: list[ControlMap], ticks: list[tuple[list[float], float, str]], median: bool
) -> None:
    guards = Guards(found[0], median=median)
    before = guards.release([NAN] * 5, 0.02, 0, 0)
    for k, (y, dt, key) in enumerate(ticks):
        if key == "reload":
            guards.reload(found[k % len(found)])
        how = {key: True} if key in ("frozen", "neutral") else {}
        after = guards.release(np.array(y, np.float32), dt, k + 1, k, **how)
        hold_to_promise(before, after, dt, guards.map)
        before = after


@settings(max_examples=60, deadline=None, derandomize=True)
@given(maps(), st.lists(st.floats(0, 1), min_size=5, max_size=5), st.lists(st.floats(0.001, 0.5), max_size=60))
def test_the_way_to_a_goal_is_monotone_and_ends_there(found: ControlMap, y: list[float], steps: list[float]) -> None:
    guards = Guards(found)
    path = [guards.release([NAN] * 5, 0.02, 0, 0)]
    path += [guards.release(y, dt, k, k) for k, dt in enumerate(steps)]
    path += [guards.release(y, 1.0, k, k) for k in range(60)]
    for i, control in enumerate(found.controls):
        goal = control.min + y[i] * (control.max - control.min)
        left = [abs(goal - float(o.values[i])) for o in path]
        assert all(b <= a + 1e-6 for a, b in pairwise(left)), CONTROLS[i]
        if control.rate_per_s >= 0.1 and control.ease.ms <= 1000:
            assert left[-1] <= 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_goal_nothing_drifts(kind: str) -> None:
    """An hour at 50 Hz of the same output is one value, to the bit, once it has arrived."""
    guards = Guards(msgspec.structs.replace(one_map(kind, 40.0, 10.0)))
    y = np.array([0.1, 1 / 3, 0.7, 0.9999, 1e-7], np.float32)
    for k in range(500):
        out = guards.release(y, 0.02, k, k)
    still = out.values.tolist()
    for k in range(20_000):
        assert guards.release(y, (0.02, 0.0, 0.3)[k % 3], k, k).values.tolist() == still


def storm(seed: int, seconds: float) -> None:
    """Minutes of everything at once, in virtual time; every packet also passes its contract."""
    rng = np.random.default_rng(seed)
    other = narrower(one_map("scurve", 150.0, 4.0), 0.2, 0.7)
    wide = [DEFAULT, other, one_map("linear", 60.0, 0.8), one_map("none", 0.0, 25.0, Clamp("hold", "neutral", 0.5))]
    guards, y, now, held = Guards(DEFAULT, median=bool(seed % 2)), np.full(5, 0.5), 0.0, 0
    before, k = guards.release(y, 0.02, 0, 0), 0
    while now < seconds:
        k += 1
        y = np.clip(y + rng.normal(0, 0.05, 5), 0, 1)
        said = y.astype(np.float32)
        event = rng.random()
        if event < 0.05:
            said[rng.integers(5)] = (NAN, INF, -INF, 1e9, -3.0)[rng.integers(5)]
        elif event < 0.07:
            said[:] = NAN
        dt = float(rng.choice([0.02, 0.021, 0.0, 0.08, -0.02, 0.4, 2.5], p=[0.8, 0.1, 0.03, 0.04, 0.01, 0.015, 0.005]))
        phase = int(now) % 20
        if rng.random() < 0.002:
            guards.reload(wide[rng.integers(len(wide))])
        blank = np.full(5, NAN, np.float32) if phase in (7, 8, 9) else said
        after = guards.release(blank, dt, k, int(now * 1e6), frozen=phase == 12, neutral=phase == 15)
        hold_to_promise(before, after, dt, guards.map)
        check(ControlPacket(int(now * 1e6), k, *[float(v) for v in after.values], held=after.held))
        held += after.held
        now, before = now + max(dt, 0.0), after
    counts = guards.counts
    assert held and all(counts[what] > 0 for what in counts), counts


def test_five_minutes_of_everything_at_once() -> None:
    storm(0, 300.0)
    storm(1, 300.0)


@pytest.mark.slow
def test_eight_hours_of_everything_at_once() -> None:
    storm(2, size(8 * 3600))


def test_float32_never_passes_a_bound_that_it_cannot_hold() -> None:
    """0.1 and 0.7 lie between two float32; the bounds sent are those inside."""
    control_map = narrower(one_map(), 0.1, 0.7)
    guards = Guards(control_map)
    low, high = play(guards, rows(0.0, 1.0))
    assert 0.1 <= float(low.values[1]) < 0.1 + 1e-7 and 0.7 - 1e-7 < float(high.values[1]) <= 0.7
    assert float(np.float32(0.7)) < 0.7 < float(np.nextafter(np.float32(0.7), np.float32(1)))
    assert float(np.float32(0.1)) > 0.1


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(1e-5, 1.0), st.floats(1e-4, 0.5))
def test_rounding_to_float32_never_breaks_the_rate(rate: float, dt: float) -> None:
    guards = Guards(one_map(rate=rate))
    before = guards.release([0.5] * 5, dt, 0, 0)
    for k in range(40):
        after = guards.release([1.0] * 5, dt, k, k)
        assert abs(float(after.values[1]) - float(before.values[1])) <= rate * dt
        before = after


def test_a_range_too_narrow_for_float32_is_its_neutral() -> None:
    control_map = narrower(one_map(), 0.1, math.nextafter(0.1, 1))
    outs = play(Guards(control_map), rows(0.0, 1.0, NAN))
    assert {float(o.values[1]) for o in outs} == {float(np.float32(0.1))}
    assert all(0 <= float(o.unit[1]) <= 1 for o in outs)
