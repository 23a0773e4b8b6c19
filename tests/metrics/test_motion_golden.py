"""The formulas of metrics-motion.md a second time, in plain loops over frames, joints and pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from choreo_cli.metrics import motion_text as text
from choreo_cli.metrics.motion_beats import bas_motion, bas_music, motion_beats_bailando, motion_beats_mint
from choreo_cli.metrics.motion_clip import foot_contacts
from choreo_cli.metrics.motion_contact import contact_balance, pbc, pfc, pfc_motioncritic
from choreo_cli.metrics.motion_kinetic import kinetic
from choreo_cli.metrics.motion_manual import Lengths, lengths_of, manual32
from choreo_cli.metrics.motion_sets import diversity, frechet, frechet_published, kernel_mmd
from choreo_cli.metrics.motion_skate import skate_gmd, skate_lodge, slide
from choreo_cli.metrics.motion_smooth import bone_drift, jerk
from formats.foreign.joints import SMPL_24
from tests.metrics.motion_material import clip_of, noise_walk

T = 80
SEEDS = (0, 1, 2)
# The 32 relations once more, as words: kind, joints, comparison, threshold in body lengths or degrees.
RELATIONS = """
nspeed neck r_hip l_hip r_wrist > 1.8 hl
nspeed neck l_hip r_hip l_wrist > 1.8 hl
along chest neck neck r_wrist > 0.2 hl
along chest neck neck l_wrist > 0.2 hl
speed spine1 chest chest > 1.8 hl
speed spine1 chest chest > 1.8 hl
angle r_elbow r_shoulder r_elbow r_wrist in 0 110
angle l_elbow l_shoulder l_elbow l_wrist in 0 110
along l_shoulder r_shoulder l_wrist r_wrist > 2.5 sw
speed l_wrist r_wrist r_wrist > 1.4 hl
speed r_wrist pelvis l_wrist > 1.4 hl
speed l_wrist pelvis r_wrist > 1.4 hl
fast r_wrist > 2.5 hl
fast l_wrist > 2.5 hl
plane pelvis l_hip l_toe r_ankle > 0.38 hl
plane pelvis r_hip r_toe l_ankle > 0.38 hl
height r_ankle > 1.2 hl
height l_ankle > 1.2 hl
along l_hip r_hip l_ankle r_ankle > 2.1 hw
angle r_knee r_hip r_knee r_ankle in 0 110
angle l_knee l_hip l_knee l_ankle in 0 110
fast r_ankle > 2.5 hl
fast l_ankle > 2.5 hl
angle neck pelvis r_shoulder r_elbow in 25 180
angle neck pelvis l_shoulder l_elbow in 25 180
angle neck pelvis r_hip r_knee in 50 180
angle neck pelvis l_hip l_knee in 50 180
plane r_ankle neck l_ankle pelvis > 0.5 hl
lying neck pelvis in 70 110
height r_wrist < 1.2 hl
height l_wrist < 1.2 hl
fast pelvis > 2.3 hl
""".strip().splitlines()
NAMES = list(SMPL_24)


def length(v: np.ndarray) -> float:
    return math.sqrt(sum(float(c) ** 2 for c in v))


def relation(line: str, now: np.ndarray, before: np.ndarray, dt: float, size: dict[str, float]) -> bool:
    words = line.split()
    kind = words[0]
    cut = next(i for i, w in enumerate(words) if w in "<>" or w == "in")
    at = [NAMES.index(w) for w in words[1:cut]]
    p, v = [now[i] for i in at], [(now[i] - before[i]) / dt for i in at]

    def unit(w: np.ndarray) -> np.ndarray:
        return w / length(w)

    def degrees(a: np.ndarray, b: np.ndarray) -> float:
        return math.degrees(math.acos(max(-1.0, min(1.0, float(unit(a) @ unit(b))))))

    value = {
        "nspeed": lambda: (v[3] - v[0]) @ unit(np.cross(p[2] - p[0], p[1] - p[0])),
        "plane": lambda: (p[3] - p[0]) @ unit(np.cross(p[2] - p[0], p[1] - p[0])),
        "along": lambda: (p[3] - p[2]) @ unit(p[1] - p[0]),
        "speed": lambda: (v[2] - v[0]) @ unit(p[1] - p[0]),
        "fast": lambda: length(v[0]),
        "angle": lambda: degrees(p[1] - p[0], p[3] - p[2]),
        "lying": lambda: degrees(p[1] - p[0], np.array([0.0, 1, 0])),
        "height": lambda: p[0][1] - min(float(q[1]) for q in now),
    }[kind]()
    if words[cut] == "in":
        return float(words[cut + 1]) < value < float(words[cut + 2])
    limit = float(words[cut + 1]) * size[words[cut + 2]]
    return bool(value > limit) if words[cut] == ">" else bool(value < limit)


@pytest.mark.parametrize("seed", SEEDS)
def test_manual_relations(seed: int) -> None:
    x = noise_walk(T, 24, seed)
    size = {"hl": 0.3, "sw": 0.4, "hw": 0.2}
    want = [sum(relation(r, x[t], x[t - 1], 1 / 120, size) for t in range(1, T)) / (T - 1) for r in RELATIONS]
    found = manual32(x, 60.0, Lengths(0.3, 0.4, 0.2), published=True)
    assert found == pytest.approx(want, abs=1e-12)
    assert 0 < np.mean(want) < 1


def test_repaired_relations_follow_the_wrists_at_the_true_rate() -> None:
    x = noise_walk(T, 24, 4)
    own = lengths_of(x)
    size = {"hl": own.upper_arm, "sw": own.shoulders, "hw": own.hips}
    lines = list(RELATIONS)
    lines[4], lines[5] = "speed spine1 chest r_wrist > 1.8 hl", "speed spine1 chest l_wrist > 1.8 hl"
    want = [sum(relation(r, x[t], x[t - 1], 1 / 30, size) for t in range(1, T)) / (T - 1) for r in lines]
    assert manual32(x, 30.0) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("variant", ["compat:mint", "compat:bailando", "fixed"])
def test_kinetic_features(seed: int, variant: str) -> None:
    x, dt = noise_walk(T, 24, seed), 1 / 60
    p = x - x[0, 0] if variant == "compat:bailando" else x
    want = []
    for j in range(24):
        across = up = energy = 0.0
        for t in range(1, T):
            steps = [p[s, j] - p[s - 1, j] for s in range(t - 2, t + 3) if s - 1 >= 0 and s < T]
            mean = sum(steps) / len(steps) / dt
            across += mean[0] ** 2 + mean[2] ** 2
            up += mean[1] ** 2
            changes = []
            for s in range(t - 2, t + 3):
                if s - 1 >= 0 and s + 1 < T:
                    later = (p[s + 1, j] - p[s, j]) / dt
                    sooner = (p[s, j] - p[s - 1, j]) / dt if variant == "fixed" else p[s, j] - p[s - 1, j] / dt
                    changes.append((later - sooner) / dt)
            energy += length(sum(changes) / len(changes)) if changes else 0.0
        want += [across / (T - 1), up / (T - 1), energy / (T - 1)]
    assert kinetic(x, 60.0, variant) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_beats_and_both_published_alignments(seed: int) -> None:
    x = noise_walk(120, 24, seed)
    speed = [sum(length(x[t + 1, j] - x[t, j]) for j in range(24)) for t in range(119)]
    # Gaussian with 4 sigma either way and reflected ends (d c b a | a b c d).
    kernel = [math.exp(-(k**2) / (2 * 5.0**2)) for k in range(-20, 21)]
    smooth = []
    for t in range(119):
        total = 0.0
        for k in range(-20, 21):
            i = t + k
            i = -i - 1 if i < 0 else 2 * 119 - 1 - i if i >= 119 else i
            total += kernel[k + 20] * speed[i] / 24
        smooth.append(total / sum(kernel))
    low = [t for t in range(1, 118) if smooth[t] < smooth[t - 1] and smooth[t] < smooth[t + 1]]
    assert motion_beats_bailando(x)[0].tolist() == low
    padded = [0.0, *speed]
    ends = [t for t in range(10, 110) if all(padded[t] < padded[t + k] for k in range(-10, 11) if k)]
    # Nearer to an end the window is cut; those frames are in the reference vectors.
    assert [t for t in motion_beats_mint(x).tolist() if 10 <= t < 110] == ends
    music = [7, 30, 61, 95, 118]

    def score(of: list[int], to: list[int]) -> float:
        return sum(math.exp(-min((a - b) ** 2 for b in to) / 18.0) for a in of) / len(of)

    assert bas_music(x, np.array(music, float)) == pytest.approx(score(music, low))
    mint = motion_beats_mint(x).tolist()
    assert bas_motion(x, np.array(music, float)) == pytest.approx(score(mint, music) if mint else 0.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_contact_scores(seed: int) -> None:
    x, fps = noise_walk(T, 24, seed), 30.0
    rows, critic, balance, own = [], [], [], []
    acc = [(x[t + 2, 0] - 2 * x[t + 1, 0] + x[t, 0]) * fps**2 for t in range(T - 2)]
    upward = [length(np.array([a[0], max(a[1], 0.0), a[2]])) for a in acc]
    every = [length(a) for a in acc]
    tops = {j: max(length(x[t + 2, j] - 2 * x[t + 1, j] + x[t, j]) for t in range(T - 2)) for j in (12, 13, 14)}
    for t in range(T - 2):
        step = {j: x[t + 2, j] - x[t + 1, j] for j in range(24)}
        flat = {j: math.hypot(step[j][0], step[j][2]) for j in (7, 10, 8, 11)}
        feet = min(flat[7], flat[10]) * min(flat[8], flat[11])
        rows.append(feet * upward[t] / max(upward))
        critic.append(feet * every[t] / max(every))
        own.append(feet * fps**2 * upward[t] / 9.81)
        share = {j: length(x[t + 2, j] - 2 * x[t + 1, j] + x[t, j]) / tops[j] for j in tops}
        balance.append(
            0.01 * min(length(step[20]), length(step[22])) * share[13]
            + 0.01 * min(length(step[21]), length(step[23])) * share[14]
            + 0.1 * length(step[15]) * share[12]
            - rows[-1]
        )
    assert pfc(x) == pytest.approx(1e4 * np.mean(rows))
    assert pfc_motioncritic(x) == pytest.approx(np.mean(critic))
    assert pbc(x) == pytest.approx(1e4 * np.mean(balance))
    assert contact_balance(x, fps) == pytest.approx(np.mean(own))


@pytest.mark.parametrize("seed", SEEDS)
def test_skating(seed: int) -> None:
    x = noise_walk(T, 22, seed)
    x[:, [7, 8, 10, 11], 1] = np.abs(x[:, [7, 8, 10, 11], 1]) * 0.08
    x[:, [7, 8, 10, 11]] *= [3, 1, 3]
    speed = {j: [math.hypot(*(x[t + 1, j] - x[t, j])[[0, 2]]) * 20 for t in range(T - 1)] for j in (10, 11)}
    skating, total = 0, 0.0
    for t in range(T - 1):
        hit = False
        for j in (10, 11):
            mean = sum(speed[j][i] for i in range(t - 2, t + 3) if 0 <= i < T - 1) / 5
            down = x[t, j, 1] < 0.05 and x[t + 1, j, 1] < 0.05
            total += mean if down else 0.0
            hit |= down and speed[j][t] > 0.5 and mean > 0.5
        skating += hit
    found = skate_gmd(x)
    assert found == pytest.approx((skating / (T - 1), total / (2 * (T - 1))))
    assert found is not None and found[1] > 0
    assert seed != 1 or 0 < skating < T - 1
    ground = min(x[0, 10, 1], x[0, 11, 1])
    for foot, (ankle, toe) in enumerate(((7, 10), (8, 11))):
        stands = slides = 0
        for t in range(T - 1):
            if x[t, ankle, 1] <= ground + 0.08 and x[t, toe, 1] <= ground + 0.05:
                stands += 1
                slides += any(abs((x[t + 1, j] - x[t, j])[[0, 2]].sum()) / 2 > 0.01 for j in (ankle, toe))
        assert stands and skate_lodge(x)[foot] == pytest.approx(slides / stands)


def test_sliding_of_standing_feet_in_metres_a_second() -> None:
    x = noise_walk(T, 22, 3)
    contacts = (np.random.default_rng(0).random((T, 2)) > 0.4).astype(float)
    path, steps, fast = 0.0, 0, 0
    for foot, ankle in enumerate((7, 8)):
        for t in range(T - 1):
            if contacts[t, foot] and contacts[t + 1, foot]:
                v = math.hypot(*(x[t + 1, ankle] - x[t, ankle])[[0, 2]]) * 30
                path, steps, fast = path + v, steps + 1, fast + (v > 0.1)
    clip = clip_of(x, contacts=contacts)
    found = slide(clip)
    assert found is not None
    assert (found.m_per_s, found.share_sliding) == pytest.approx((path / steps, fast / steps))
    assert found.contact_fraction == pytest.approx(contacts.mean())
    assert (foot_contacts(clip) == (contacts > 0)).all()


def test_jerk_and_bones() -> None:
    x = noise_walk(T, 22, 1)
    sizes = [
        length(x[t + 3, j] - 3 * x[t + 2, j] + 3 * x[t + 1, j] - x[t, j]) * 60**3
        for t in range(T - 3)
        for j in range(22)
    ]
    found = jerk(x, 60.0)
    assert found is not None
    assert (found.mean, found.p99) == pytest.approx((np.mean(sizes), np.quantile(sizes, 0.99)))
    thigh = [length(x[t, 4] - x[t, 1]) for t in range(T)]
    assert bone_drift(x)[3] == pytest.approx(np.std(thigh) / np.mean(thigh))


def test_distances_of_sets_where_the_answer_is_known() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4000, 3)) * [1, 2, 3]
    b = rng.normal(size=(4000, 3)) * [2, 2, 1] + np.array([1, 0, 0])
    # Independent features: the distance is the sum over features of (mean)^2 + (sd - sd)^2.
    assert frechet(a, b) == pytest.approx(1 + 1 + 0 + 4, rel=0.05)
    assert frechet(a, b) == pytest.approx(frechet_published(a, b) or 0, rel=1e-6)
    x, y = a[:40] / 3, b[:30] / 3

    def k(u: np.ndarray, v: np.ndarray) -> float:
        return float((u @ v / 3 + 1) ** 3)

    same = [np.mean([k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (x, y)]
    cross = np.mean([k(u, v) for u in x for v in y])
    assert kernel_mmd(x, y) == pytest.approx(sum(same) - 2 * cross)
    pairs = [length(x[i] - x[j]) for i in range(40) for j in range(i)]
    assert diversity(x) == pytest.approx(np.mean(pairs))


def test_text_metrics_one_by_one() -> None:
    rng = np.random.default_rng(2)
    words = rng.normal(size=(70, 8))
    motions = words + rng.normal(size=(70, 8)) * 0.9
    hits = [0, 0, 0]
    for start in (0, 32):
        for i in range(start, start + 32):
            own = length(words[i] - motions[i])
            rank = sum(length(words[i] - motions[j]) < own for j in range(start, start + 32))
            for k in range(3):
                hits[k] += rank <= k
    assert text.r_precision(words, motions) == pytest.approx([h / 64 for h in hits])
    assert text.mm_distance(words, motions) == pytest.approx(
        np.mean([length(a - b) for a, b in zip(words, motions, strict=True)])
    )
    many = rng.normal(size=(5, 30, 8))
    draw = np.random.default_rng(7)
    first, second = draw.choice(30, 10, replace=False), draw.choice(30, 10, replace=False)
    want = np.mean([length(many[t, a] - many[t, b]) for t in range(5) for a, b in zip(first, second, strict=True)])
    assert text.multimodality(many, np.random.default_rng(7)) == pytest.approx(want)
