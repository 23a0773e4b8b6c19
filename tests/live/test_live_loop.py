"""The loop on virtual time: cadence, silence, broken input, what it leaves behind."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import numpy as np
import pytest
from loop_material import MAPPER, RPS, STEP_NS, STEP_US, TOP, Script, dance, made, rows_of

from choreo_cli.live.clock import VirtualClock
from choreo_cli.live.latency import NONE, Ring, column, span_ms
from choreo_cli.live.loop import Loop
from choreo_cli.live.loopback import LoopbackPort
from choreo_cli.live.model import LiveModel
from choreo_cli.live.port import PortLost
from choreo_cli.live.replay import Replay
from choreo_cli.live.sample import Sample
from choreo_cli.live.watch import BeatCount, Gate
from choreo_cli.reflex.mapper import model_latents
from formats.control_map import DEFAULT
from formats.packets import CONTROL_BOUNDS, CONTROLS


def replay(x: np.ndarray, repeats: int = 1) -> Replay:
    return Replay("memory", "inputs", STEP_US * np.arange(len(x)), x, whole=True, repeats=repeats)


class Quiet:
    """A model that costs nothing: for what is about time alone."""

    window = 50

    def __init__(self) -> None:
        self.steps = self.resets = 0
        self.fail = False
        self.y = np.full(5, 0.5, np.float32)

    def step(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.fail:
            raise RuntimeError("broken")
        self.steps += 1
        return np.zeros(104, np.float32), self.y

    def reset(self) -> None:
        self.resets += 1


def ledger(loop: Loop) -> np.ndarray:
    return loop.ring.newest(loop.ring.size)


def check_sent(port: LoopbackPort) -> None:
    """Every value inside the map, and no faster than it allows between two of them."""
    values = np.array([out.values for out in port.sent], np.float64)
    t_s = np.array([out.t_us for out in port.sent]) / 1e6
    assert len(values) and np.isfinite(values).all()
    assert np.isfinite([out.unit for out in port.sent]).all()
    for k, (name, control) in enumerate(zip(CONTROLS, DEFAULT.controls, strict=True)):
        lo, hi = max(control.min, CONTROL_BOUNDS[name][0]), min(control.max, CONTROL_BOUNDS[name][1])
        assert (values[:, k] >= lo - 1e-6).all() and (values[:, k] <= hi + 1e-6).all(), name
        # A tick that skipped slots may move further, and the slots are 20 ms apart.
        assert (np.abs(np.diff(values[:, k])) <= control.rate_per_s * np.diff(t_s) + 2e-6).all(), name


def test_a_file_is_played_row_by_row_and_the_controls_are_those_of_the_offline_models() -> None:
    x = dance(400)
    loop, port, told = made([replay(x)])
    summary = loop.run()
    assert (summary.reason, summary.ticks, summary.missed) == ("ended", 400, 0)
    rows = ledger(loop)
    assert np.array_equal(column(rows, "t_us"), STEP_US * np.arange(400))
    assert np.array_equal(rows["floats"][:, :11], x)
    model = LiveModel.open(RPS, MAPPER, "numpy")
    wanted = model.mapper.controls(model_latents(model.rps, x, np.ones((400, 4), bool)))
    assert np.abs(rows["floats"][:, 11:16] - wanted).max() < 1e-5
    check_sent(port)
    assert [k for k, _, _ in told.all] == ["start", "stop"]


def test_ten_minutes_of_virtual_time_miss_nothing() -> None:
    loop, port, _ = made([replay(dance(1500), repeats=20)])
    summary = loop.run()
    assert (summary.ticks, summary.missed, summary.troubles) == (30_000, 0, {})
    assert summary.last_us == 30_000 * STEP_US - STEP_US
    assert summary.guards["not_finite"] == 0
    check_sent(port)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_eight_hours_of_virtual_time_in_flat_memory() -> None:
    import resource

    class Checked:
        """Keeps what it is given, and looks at it by the thousand: one by one that takes a tenth of the time."""

        name, quantum = "checked:", 1e-3

        def __init__(self) -> None:
            self.count = self.bad = 0
            self.units = np.full((5000, 5), np.nan, np.float32)

        def send(self, out: object) -> int:
            self.units[self.count % len(self.units)] = out.unit  # type: ignore[attr-defined]
            self.count += 1
            if self.count % len(self.units) == 0:
                self.look()
            return 1

        def look(self) -> None:
            """Count what is not within 0..1, NaN too, of what came since the last look."""
            new = self.units[: self.count % len(self.units) or len(self.units)]
            self.bad += int((~((new >= 0) & (new <= 1))).any(axis=1).sum())

        def cue(self, cue: object) -> int:
            return 0

        def silence(self) -> None: ...

        def facts(self) -> dict[str, int]:
            return {"count": self.count}

        def close(self) -> None: ...

    port = Checked()
    loop, _, _ = made([replay(dance(15_000), repeats=96)], ports=[port])
    marks: list[int] = []
    loop.on_frame = lambda frame, beat: (
        marks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) if frame.t_us % 3_600_000_000 == 0 else None
    )
    summary = loop.run()
    port.look()
    assert (summary.ticks, summary.missed, port.bad, summary.troubles) == (1_440_000, 0, 0, {})
    assert port.count > 1_000_000
    assert len(marks) == 8 and marks[-1] - marks[1] < 2048  # kB


def test_deadlines_are_absolute_and_a_late_tick_is_skipped_never_made_up() -> None:
    stalls = {50: 65_000_000, 51: 0, 90: 19_000_000, 120: 1_000_000_000}
    start = VirtualClock().now_ns() + 100_000_000

    def late(deadline: int) -> int:
        slot = (deadline - start) // STEP_NS
        return stalls.get(slot, 150_000)  # a real sleep always wakes a little late

    model = Quiet()
    loop, port, told = made([replay(dance(300))], late=late, model=model)
    summary = loop.run()
    rows = ledger(loop)
    t_us, missed, late_ns = column(rows, "t_us"), column(rows, "missed"), column(rows, "late_ns")
    assert (np.diff(t_us) >= STEP_US).all() and (t_us % STEP_US == 0).all()
    assert (np.diff(t_us)[np.diff(t_us) > STEP_US] // STEP_US - 1).tolist() == missed[missed > 0].tolist() == [3, 50]
    assert summary.missed == 53 and summary.ticks == 300 - 53
    # Nothing drifts: the last tick is as late as the first one.
    assert late_ns[-1] == late_ns[0] == 150_000 and late_ns.max() <= STEP_NS
    start_ns = summary.start_ns
    begun = start_ns + t_us * 1000 + late_ns
    assert (np.diff(begun) > 0).all() and np.diff(begun).min() >= 1_000_000
    assert [facts["missed"] for _, facts in told.of("xrun")] == [3, 50]
    check_sent(port)
    assert model.resets == 0  # 50 skipped frames are a window, not more


def test_a_hole_longer_than_the_window_resets_the_model() -> None:
    start = VirtualClock().now_ns() + 100_000_000
    model = Quiet()
    loop, _, _ = made(
        [replay(dance(300))], model=model, late=lambda d: 1_100_000_000 if (d - start) // STEP_NS == 100 else 0
    )
    assert loop.run().missed == 55
    assert model.resets == 1


def test_a_source_that_opens_slowly_costs_no_misses() -> None:
    class Slow(Replay):
        def open(self, clock: VirtualClock, start_ns: int) -> None:  # type: ignore[override]
            super().open(clock, start_ns)
            clock.jump(1_310_000_000)

    x = dance(200)
    loop, _, _ = made([Slow("slow", "inputs", STEP_US * np.arange(200), x, whole=True)])
    summary = loop.run()
    assert summary.missed == 0 and summary.ticks == 200 - 61


def test_what_is_missing_is_held_and_the_model_starts_afresh_as_offline() -> None:
    x = dance(300)
    x[100:160] = np.nan
    loop, port, told = made([replay(x)])
    loop.run()
    rows = ledger(loop)
    y = rows["floats"][:, 11:16]
    assert np.isnan(y[100:160]).all() and np.isfinite(y[:100]).all() and np.isfinite(y[160:]).all()
    assert column(rows, "no_model")[100:160].all() and column(rows, "held")[100:160].all()
    model = LiveModel.open(RPS, MAPPER, "numpy")
    wanted = model.mapper.controls(model_latents(model.rps, x[160:], np.ones((140, 4), bool)))
    assert np.abs(y[160:] - wanted).max() < 1e-5
    assert [facts["held"] for _, facts in told.of("hold")] == [True, False]
    gone = [facts["name"] for _, facts in told.of("modality") if not facts["measured"]]
    assert gone == ["mot", "hr", "aud", "ctx"]
    check_sent(port)


def test_a_modality_that_falls_silent_is_predicted_and_told() -> None:
    x = dance(400)
    heart = [(k * STEP_US, k * STEP_US, [np.nan] * 6 + [90.0, 0.0] + [np.nan] * 3) for k in range(400)]
    body = x.copy()
    body[:, 6:8] = np.nan
    body[150:, 8:10] = np.nan
    loop, _, told = made([Script(rows_of(body), name="body"), Script(heart[:100], name="heart")])
    summary = loop.run()
    rows = ledger(loop)
    assert summary.ticks == 400 and np.isfinite(rows["floats"][:, 11:16]).all()
    mask = column(rows, "mask")
    assert mask[50] == 15 and mask[399] & 4 == 0 and mask[399] & 1
    gone = {facts["name"]: (t, facts) for t, facts in told.of("modality") if not facts["measured"]}
    assert 150 * STEP_US < gone["aud"][0] <= 156 * STEP_US + 80_000
    assert gone["aud"][1]["instead"] == "predicted from the others"


def test_a_silent_source_is_told_after_two_seconds_reminded_after_five_and_welcomed_back() -> None:
    x = dance(500)
    rows = rows_of(x[:50]) + rows_of(x[50:100], start=400)
    loop, _, told = made([Script(rows, name="phone", endless=True), Script([], "target", name="fader", endless=True)])
    loop.run(until_us=449 * STEP_US)
    found = [(t, facts["state"]) for t, facts in told.of("source")]
    assert found == [(3_000_000, "lost"), (6_000_000, "silent"), (8_000_000, "recovered")]
    assert told.of("source")[1][1]["said"] == ["phone: listening on 127.0.0.1:9000"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_five_minutes_of_broken_input_never_give_a_broken_control(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 15_000 if seed == 1 else 2500
    x = dance(n, seed)
    x[rng.random(x.shape) < 0.05] = np.nan
    x[rng.random(x.shape) < 0.01] = np.inf
    x[rng.random(x.shape) < 0.01] *= -1e30
    rows = []
    for k in range(n):
        t = k * STEP_US
        if rng.random() < 0.05 or 0.30 < (k / n) < 0.33:
            continue  # lost, and one long gap
        stamp = t
        if rng.random() < 0.05:
            stamp -= int(rng.integers(0, 5)) * STEP_US  # again, or out of order
        if rng.random() < 0.02:
            stamp += int(rng.integers(-5_000_000, 5_000_000))  # the clock jumps
        if 0.6 < k / n < 0.7:
            stamp -= 3_600_000_000  # the sensor has restarted
        rows.append((t + int(rng.integers(0, 15_000)), stamp, x[k]))
    rows.sort(key=lambda r: r[0])
    loop, port, _told = made([Script(rows)])
    summary = loop.run()
    assert summary.missed == 0 and summary.ticks >= n - 1
    check_sent(port)
    assert summary.samples["not_increasing"] > 0 and summary.samples["future"] > 0
    assert summary.samples["clock_jumps"] > 2 and summary.troubles == {}
    found = ledger(loop)
    assert np.isfinite(found["floats"][:, 16:21]).all()
    # After the restart the frames go on arriving: they are taken at their arrival, not thrown away.
    if seed != 1:
        during = (column(found, "t_us") > 0.65 * n * STEP_US) & (column(found, "t_us") < 0.69 * n * STEP_US)
        assert (column(found, "mask")[during] > 0).mean() > 0.8


def sample(t_us: int, kind: str = "inputs") -> Sample:
    return Sample(kind, t_us, 0, np.zeros(11, np.float32))


def test_the_gate_by_its_rules() -> None:
    gate = Gate()
    first = sample(100)
    assert gate.admit(0, first, 100) == (first, False)
    assert gate.admit(0, sample(100), 120)[0] is None  # the same again
    assert gate.admit(0, sample(60), 120)[0] is None  # out of order
    assert gate.dropped == 2
    assert gate.admit(0, sample(60, "hr"), 120)[0] is not None  # another stream
    found, jumped = gate.admit(0, sample(400), 200)  # the future
    assert found is not None and (found.t_us, jumped, gate.future) == (200, False, 1)
    found, jumped = gate.admit(0, sample(-3_000_000), 300)
    assert found is not None and (found.t_us, jumped) == (300, True)
    found, jumped = gate.admit(0, sample(-2_999_900), 400)  # goes on from there: at its arrival, no second jump
    assert found is not None and (found.t_us, jumped) == (400, False)
    found, _ = gate.admit(0, sample(-2_999_800), 400)
    assert found is None or found.t_us > 400
    # A heart beats once in 1.2 s: no jump.
    assert [gate.admit(1, sample(k * 1_200_000, "hr"), k * 1_200_000)[1] for k in range(5)] == [False] * 5
    assert gate.counts["clock_jumps"] == 1
    # While the loop was away for 3 s, rows waited: none of them is late.
    gate = Gate()
    gate.admit(0, sample(0), 0)
    waited = [gate.admit(0, sample(k * 20_000), 3_000_000, 3_000_000) for k in range(1, 150)]
    assert all(found is not None and not jumped for found, jumped in waited) and gate.counts["clock_jumps"] == 0
    assert [found.t_us for found, _ in waited if found] == [k * 20_000 for k in range(1, 150)]


def test_beats_are_counted_by_the_phase() -> None:
    count = BeatCount()
    phases = [0.0, 0.4, 0.8, 0.2, 0.6, float("nan"), 0.9, 0.1]
    assert [count.of(p) for p in phases] == [0, 0, 0, 1, 1, -1, 2, 3]


def test_freeze_neutral_and_panic_from_outside() -> None:
    loop, port, _ = made([replay(dance(600))])

    def press(frame: object, beat: int) -> None:
        tick = frame.t_us // STEP_US  # type: ignore[attr-defined]
        loop.frozen = 100 <= tick < 200
        if tick == 400:
            loop.panic()

    loop.on_frame = press
    loop.run()
    rows = ledger(loop)["floats"][:, 16:21]
    assert np.ptp(rows[102:200], axis=0).max() == 0 and np.ptp(rows[202:300], axis=0).max() > 0.01
    assert port.silenced >= 2 and loop.neutral
    neutral = [c.neutral for c in DEFAULT.controls]
    assert np.abs(rows[-1] - neutral).max() < 1e-3
    assert np.abs(port.sent[-1].values - neutral).max() < 1e-3


def test_a_model_is_swapped_and_a_map_reloaded_between_two_ticks() -> None:
    first, second = Quiet(), Quiet()
    second.y = np.full(5, 0.9, np.float32)
    loop, _, told = made([replay(dance(300))], model=first)

    def act(frame: object, beat: int) -> None:
        tick = frame.t_us // STEP_US  # type: ignore[attr-defined]
        if tick == 100:
            loop.swap(second)
        if tick == 150:
            import msgspec

            narrow = msgspec.structs.replace(DEFAULT.density, max=0.6)
            loop.reload_map(msgspec.structs.replace(DEFAULT, density=narrow))

    loop.on_frame = act
    loop.run()
    assert (first.steps, second.steps) == (101, 199)
    assert len(told.of("model")) == 1 and second.resets == 1
    assert ledger(loop)["floats"][-1, 17] <= 0.6 + 1e-6


def test_nothing_that_a_part_raises_ends_it_and_it_is_told_once_a_second() -> None:
    class Broken(Script):
        def poll(self, now_ns: int) -> list[Sample]:
            raise OSError("cable")

    class Gone:
        name, quantum = "gone:", 1e-3
        closed = 0

        def send(self, out: object) -> int:
            raise PortLost("unplugged")

        def cue(self, cue: object) -> int:
            raise PortLost("unplugged")

        def silence(self) -> None:
            raise PortLost("unplugged")

        def facts(self) -> dict[str, int]:
            return {}

        def close(self) -> None:
            self.closed += 1

    class Stages:
        def step(self, *args: object) -> list[object]:
            raise ValueError("no bar")

    model, gone = Quiet(), Gone()
    model.fail = True
    loop, _, told = made([replay(dance(200)), Broken([], endless=True)], model=model, ports=[gone], stages=Stages())
    loop.origin_us = 0
    summary = loop.run(until_us=199 * STEP_US)
    assert summary.ticks == 200 and gone.closed == 1
    assert set(summary.troubles) == {"source script", "model", "port gone:", "stages"}
    assert all(n >= 200 for n in summary.troubles.values())
    assert len(told.of("error")) <= 4 * 5 + 4
    assert "PortLost: unplugged" in {facts["why"] for _, facts in told.of("error")}


def test_the_end_is_neutral_silent_and_closed_whatever_ends_it() -> None:
    class Bomb(Quiet):
        def step(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if self.steps == 100:
                raise KeyboardInterrupt
            return super().step(x, mask)

    bomb = Bomb()
    bomb.y = np.ones(5, np.float32)
    source = replay(dance(300))
    loop, port, told = made([source], model=bomb)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert not port.is_open and port.silenced == 1
    neutral = [c.neutral for c in DEFAULT.controls]
    assert np.abs(port.sent[-1].values - neutral).max() < 1e-3 and port.sent[-1].send.all()
    check_sent(port)
    assert told.of("stop")[0][1]["reason"].startswith("KeyboardInterrupt")
    assert gc.get_freeze_count() == 0 and gc.isenabled()


def test_a_late_machine_is_led_to_neutral_all_the_same() -> None:
    """Ticks that are behind come one by one: two at once would look as if the instrument stood still already."""
    late = iter([0] * 300 + [55_000_000, 0, 0] * 200)
    model = Quiet()
    model.y = np.ones(5, np.float32)
    loop, port, _ = made([replay(dance(300))], model=model, late=lambda _: next(late, 0))
    loop.run()
    neutral = [c.neutral for c in DEFAULT.controls]
    assert np.abs(port.sent[-2].values - neutral).max() < 1e-2, "it was there before it was told to be"
    assert np.abs(port.sent[-1].values - neutral).max() < 1e-3


def test_stop_ends_it_at_the_next_tick_and_a_source_that_cannot_be_opened_closes_the_rest() -> None:
    stop = threading.Event()
    loop, port, _ = made([Script([], endless=True)])
    loop.on_frame = lambda frame, beat: stop.set() if frame.t_us >= 40 * STEP_US else None
    summary = loop.run(stop=stop)
    assert (summary.reason, summary.ticks) == ("stopped", 41) and not port.is_open

    class Absent(Script):
        def open(self, clock: object, start_ns: int) -> None:  # type: ignore[override]
            raise OSError("no such device")

    first = Script([], endless=True)
    loop, port, _ = made([first, Absent([])])
    with pytest.raises(OSError, match="no such device"):
        loop.run()
    assert first.closed and not port.is_open


def test_a_file_with_faders_beside_it_ends_with_the_file() -> None:
    loop, _, _ = made([replay(dance(100)), Script([], "target", endless=True)])
    assert loop.run().reason == "ended"


def test_session_time_begins_where_the_first_source_does() -> None:
    x = dance(100)
    late = Replay("late", "inputs", 5_000_000 + STEP_US * np.arange(100), x, whole=True)
    loop, _, _ = made([late, Script([(5_500_000, 5_500_000, x[0])], endless=True)])
    summary = loop.run(until_us=5_000_000 + 99 * STEP_US)
    assert (summary.first_us, summary.last_us, summary.ticks) == (5_000_000, 5_000_000 + 99 * STEP_US, 100)


def test_the_ring_keeps_the_newest_and_counts_what_it_lost() -> None:
    ring = Ring(8)
    x, y = np.zeros(11, np.float32), np.zeros(5, np.float32)
    for k in range(5):
        ring.put((k, *[0] * 15), x, y, y, None, 120.0)
    assert column(ring.take(), "t_us").tolist() == [0, 1, 2, 3, 4] and ring.dropped == 0
    for k in range(5, 25):
        ring.put((k, *[0] * 15), x, y, y, None, 120.0)
    assert column(ring.take(), "t_us").tolist() == list(range(18, 25))  # one less than it holds: it may be half written
    assert ring.dropped == 13 and ring.waiting == 0
    assert column(ring.newest(3), "t_us").tolist() == [22, 23, 24]
    rows = ring.newest(1).copy()
    rows["ints"][:, 3], rows["ints"][:, 7] = 1_000_000, 4_500_000
    assert span_ms(rows, "t_arrival_ns", "t_sent_ns").tolist() == [3.5]
    rows["ints"][:, 3] = NONE
    assert len(span_ms(rows, "t_arrival_ns", "t_sent_ns")) == 0


def test_the_loop_loads_no_torch_no_scipy_no_pyarrow() -> None:
    code = (
        "import sys\nsys.path.insert(0, 'tests/live')\nfrom loop_material import *\n"
        "loop, port, told = made([Script(rows_of(dance(60)))])\nassert loop.run().ticks == 60\n"
        "import choreo_cli.live.recorder, choreo_cli.live.events\n"
        "print(' '.join(sorted({n.split('.')[0] for n in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TOP, timeout=60, check=True)
    assert set(done.stdout.split()) & {"torch", "scipy", "pyarrow", "onnxruntime", "matplotlib", "soundfile"} == set()


def test_a_look_from_outside() -> None:
    loop, _, _ = made([replay(dance(100))])
    assert loop.look().out is None
    loop.run()
    look = loop.look()
    assert look.out is not None and look.mask == (True,) * 4 and look.alive["mot"]
    assert look.t_us == 99 * STEP_US and len(look.arrival_to_sent_ms) > 0


def test_fifty_losses_of_a_kept_port_never_stop_it() -> None:
    from choreo_cli.live.keeper import Keeper

    clock, device = VirtualClock(), LoopbackPort("device:")
    keeper = Keeper(device, clock, threaded=False)
    keeper.open()
    loop, _, _ = made([replay(dance(3000), repeats=5)], clock=clock, ports=[keeper], model=Quiet())
    back: list[int] = []

    def unplug(frame: object, beat: int) -> None:
        tick = frame.t_us // STEP_US  # type: ignore[attr-defined]
        device.lost = tick % 300 >= 200  # two seconds of every six
        keeper.step()  # what its own thread does
        if keeper.state == "recovered" and (not back or back[-1] != tick // 300):
            back.append(tick // 300)

    loop.on_frame = unplug
    summary = loop.run()
    assert (summary.ticks, summary.missed, summary.troubles) == (15_000, 0, {})
    kept = summary.ports["device:"]["kept"]
    assert kept["losses"] == 50 and kept["recoveries"] >= 49 and len(back) >= 49
    assert kept["longest_lost_s"] < 2.0 + 1.1 and kept["resent"] >= 49
    units = np.array([out.unit for out in device.sent])
    assert np.isfinite(units).all() and ((units >= 0) & (units <= 1)).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_clock_that_wakes_at_random_keeps_the_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def late(deadline: int) -> int:
        return int(rng.exponential(3_000_000)) if rng.random() < 0.95 else int(rng.integers(0, 400_000_000))

    loop, port, told = made([replay(dance(1500))], late=late, model=Quiet())
    summary = loop.run()
    rows = ledger(loop)
    t_us, missed, late_ns = column(rows, "t_us"), column(rows, "missed"), column(rows, "late_ns")
    assert (t_us % STEP_US == 0).all() and late_ns.min() >= 0 and late_ns.max() <= STEP_NS
    assert summary.ticks + summary.missed == t_us[-1] // STEP_US + 1 and summary.missed == missed.sum() > 0
    assert np.array_equal(np.diff(t_us) // STEP_US - 1, missed[1:])
    # Never two ticks of one slot, never a burst: as many ticks as slots at any time.
    begun = t_us * 1000 + late_ns
    assert (np.diff(begun) > 0).all()
    spans = begun[10:] - begun[:-10]
    assert spans.min() >= 9 * STEP_NS
    assert sum(facts["missed"] for _, facts in told.of("xrun")) == summary.missed
    check_sent(port)
