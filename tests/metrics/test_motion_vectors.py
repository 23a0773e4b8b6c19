"""Published motion metrics against the reference vectors: what the peers' own code gave for the same input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choreo_cli.metrics import motion_text as text
from choreo_cli.metrics.motion_beats import bas_motion, bas_music, motion_beats_bailando, motion_beats_mint
from choreo_cli.metrics.motion_contact import pbc, pfc
from choreo_cli.metrics.motion_kinetic import kinetic
from choreo_cli.metrics.motion_manual import Lengths, manual32
from choreo_cli.metrics.motion_sets import diversity, frechet, frechet_published, normalised
from choreo_cli.metrics.motion_skate import skate_gmd

CLIPS = ("synth0", "synth1", "synth2", "synth3")


class Case:
    """One case of the vectors: inputs, expected numbers, and how close they have to be."""

    def __init__(self, folder: Path, name: str) -> None:
        self.found = json.loads((folder / "expected.json").read_text())["cases"][name]
        self.expected, self.params = self.found["expected"], self.found.get("params", {})
        file = folder / f"{name}.npz"
        self.inputs = dict(np.load(file, allow_pickle=False)) if file.exists() else {}

    def near(self, key: str, found: Any, expected: Any) -> None:
        how = self.found["tolerance"][key]
        if how == "exact":
            assert np.array_equal(found, expected), key
        else:
            np.testing.assert_allclose(found, expected, rtol=how.get("rtol", 0), atol=how.get("atol", 0), err_msg=key)


@pytest.fixture(scope="session")
def generation(vectors: Path) -> Path:
    folder = vectors.parent / "generation"
    if not folder.is_dir():
        pytest.skip(f"no reference vectors at {folder}")
    return folder


@pytest.mark.parametrize("clip", CLIPS)
def test_features_beats_and_scores(generation: Path, clip: str) -> None:
    case = Case(generation, "motions_60fps_yup")
    x, want = case.inputs[clip].astype(np.float64), case.expected[clip]
    case.near("kinetic72", kinetic(x, 60.0, "compat:mint"), want["kinetic72"])
    for scale in ("manual32_peer_scale", "manual32_own_scale"):
        lengths = Lengths(*(case.params[scale][k] for k in ("hl", "sw", "hw")))
        found = manual32(x, 60.0, lengths, published=True)
        case.near(scale, found, want[scale])
    beats, length = motion_beats_bailando(x)
    assert length == want["bailando_vel_len"]
    case.near("bailando_motion_beats", beats, want["bailando_motion_beats"])
    case.near("mint_motion_beats", motion_beats_mint(x), want["mint_motion_beats"])
    music = np.asarray(want["music_beats"], np.float64)
    case.near("BA_bailando_music_centric", bas_music(x, music), want["BA_bailando_music_centric"])
    case.near("BA_mint_motion_centric", bas_motion(x, music), want["BA_mint_motion_centric"])


def test_kinetic_energy_depends_on_the_place_as_published_and_not_when_repaired(generation: Path) -> None:
    x = Case(generation, "motions_60fps_yup").inputs["synth0"].astype(np.float64)
    case = Case(generation, "kinetic_translation")
    moved = x + np.array([1.0, 0, 0])
    for key, joints, variant in (
        ("energy_mean_at_origin", x, "compat:mint"),
        ("energy_mean_shifted_1m_x", moved, "compat:mint"),
        ("energy_mean_second_difference", x, "fixed"),
        ("energy_mean_second_difference", moved, "fixed"),
    ):
        found = kinetic(joints, 60.0, variant)
        assert found is not None
        case.near(key, found[2::3].mean(), case.expected[key])
    assert kinetic(moved, 60.0, "compat:bailando") == pytest.approx(kinetic(x, 60.0, "compat:bailando"), rel=1e-9)


def test_contact_scores(generation: Path) -> None:
    case = Case(generation, "pfc_30fps_zup")
    found: dict[str, list[float]] = {"PFC": [], "PBC": []}
    for name in ("m0", "m1", "m2"):
        x = case.inputs[name].astype(np.float64)
        upright = np.stack([x[..., 0], x[..., 2], -x[..., 1]], -1)
        for key, score in (("PFC", pfc), ("PBC", pbc)):
            value = score(upright)
            assert value is not None
            case.near(f"{key}_each", value, case.expected[f"{key}_each"][name])
            found[key].append(value)
    for key, values in found.items():
        case.near(f"{key}_mean", np.mean(values), case.expected[f"{key}_mean"])


@pytest.mark.parametrize("letter", ["k", "g"])
def test_set_distances(generation: Path, letter: str) -> None:
    case = Case(generation, "feature_sets")
    real, made = (case.inputs[f"{side}_{letter}"].astype(np.float64) for side in ("gt", "gen"))
    want = case.expected[letter]
    a, b = normalised(real, made)
    case.near("fid_bailando", frechet_published(a, b, "compat:bailando"), want["fid_bailando"])
    case.near("fid_mint", frechet_published(a, b, "compat:mint"), want["fid_mint"])
    case.near("fid_raw", frechet(real, made), want["fid_raw"])
    case.near("div_gen", diversity(b), want["div_gen"])
    case.near("div_gt", diversity(a), want["div_gt"])


def test_text_metrics(generation: Path) -> None:
    case = Case(generation, "rprecision_embeddings")
    words, motions = case.inputs["text"], case.inputs["motion"]
    case.near("top1_3", text.r_precision(words, motions), case.expected["top1_3"])
    case.near("whole_set_top1_3", text.r_precision(words, motions, group=None), case.expected["whole_set_top1_3"])
    case.near("mm_dist", text.mm_distance(words, motions), case.expected["mm_dist"])
    first, second = case.inputs["div_idx1"], case.inputs["div_idx2"]
    case.near("diversity", text.diversity_at(motions, first, second), case.expected["diversity"])


def test_skating(generation: Path) -> None:
    case = Case(generation, "skating_20fps_yup")
    found = [skate_gmd(x.astype(np.float64)) for x in case.inputs["synth"]]
    assert None not in found
    case.near("ratio", [f[0] for f in found if f], case.expected["ratio"])
    case.near("skate_vel_mean", [f[1] for f in found if f], case.expected["skate_vel_mean"])
