"""Joint names: the same word is another joint in another family."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.foreign.joints import (
    BY_COUNT,
    CANONICAL,
    PARENTS,
    canonical_names,
    numbered,
    split_name,
    with_pelvis,
)

FAMILIES = {
    "mixamo": (
        ["mixamorig:Hips", "mixamorig:Spine", "mixamorig:Spine1", "mixamorig:Spine2", "mixamorig:LeftShoulder",
         "mixamorig:LeftArm", "mixamorig:LeftForeArm", "mixamorig:LeftHand", "mixamorig:LeftUpLeg", "mixamorig:LeftLeg",
         "mixamorig:LeftFoot", "mixamorig:LeftToeBase"],
        ["pelvis", "spine1", "spine2", "chest", "l_collar", "l_shoulder", "l_elbow", "l_wrist", "l_hip", "l_knee",
         "l_ankle", "l_toe"],
    ),
    "collar": (
        ["Hips", "LeftCollar", "LeftShoulder", "LeftElbow", "LeftWrist", "LeftHip", "LeftKnee", "LeftAnkle"],
        ["pelvis", "l_collar", "l_shoulder", "l_elbow", "l_wrist", "l_hip", "l_knee", "l_ankle"],
    ),
    "smpl": (
        ["Pelvis", "L_Hip", "R_Hip", "Spine1", "L_Knee", "Spine2", "L_Ankle", "Spine3", "L_Foot", "Neck", "L_Collar",
         "L_Shoulder", "L_Wrist", "L_Hand"],
        ["pelvis", "l_hip", "r_hip", "spine1", "l_knee", "spine2", "l_ankle", "chest", "l_toe", "neck", "l_collar",
         "l_shoulder", "l_wrist", "L_Hand"],
    ),
    "bandai": (
        ["Hips", "UpperLeg_L", "LowerLeg_L", "Foot_L", "Toes_L", "Shoulder_L", "UpperArm_L", "LowerArm_L", "Hand_L"],
        ["pelvis", "l_hip", "l_knee", "l_ankle", "l_toe", "l_collar", "l_shoulder", "l_elbow", "l_wrist"],
    ),
    "cmu": (
        ["Hips", "LHipJoint", "LeftUpLeg", "LeftLeg", "LeftFoot"],
        ["pelvis", "LHipJoint", "l_hip", "l_knee", "l_ankle"],
    ),
    "kinect": (
        ["SpineBase", "SpineMid", "SpineShoulder", "ShoulderLeft", "ElbowLeft", "WristLeft", "HipLeft", "KneeLeft", "AnkleLeft", "FootLeft"],
        ["pelvis", "spine2", "chest", "l_shoulder", "l_elbow", "l_wrist", "l_hip", "l_knee", "l_ankle", "l_toe"],
    ),
    "coco": (
        ["nose", "left_shoulder", "left_elbow", "left_wrist", "left_hip", "left_knee", "left_ankle"],
        ["nose", "l_shoulder", "l_elbow", "l_wrist", "l_hip", "l_knee", "l_ankle"],
    ),
    "mediapipe": (["LEFT_FOOT_INDEX", "LEFT_ANKLE", "LEFT_HEEL"], ["l_toe", "l_ankle", "LEFT_HEEL"]),
    "arkit": (
        ["hips_joint", "left_upLeg_joint", "left_shoulder_1_joint", "left_arm_joint", "left_forearm_joint", "left_hand_joint", "spine_7_joint"],
        ["pelvis", "l_hip", "l_collar", "l_shoulder", "l_elbow", "l_wrist", "chest"],
    ),
    "vision": (
        ["root", "left_upLeg_joint", "left_shoulder_1_joint", "left_forearm_joint", "left_hand_joint", "neck_1_joint"],
        ["pelvis", "l_hip", "l_shoulder", "l_elbow", "l_wrist", "neck"],
    ),
    "vision swift": (["root", "neck", "leftShoulder", "leftElbow", "leftHip"], ["pelvis", "neck", "l_shoulder", "l_elbow", "l_hip"]),
    "lower glued": (["pelvis", "lhip", "rknee", "lshoulder"], ["pelvis", "l_hip", "r_knee", "l_shoulder"]),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    theirs, ours = FAMILIES[family]
    assert canonical_names(theirs) == tuple(ours)


@pytest.mark.parametrize("family", FAMILIES)
def test_right_is_the_mirror_of_left(family: str) -> None:
    theirs, ours = FAMILIES[family]
    swap = {"Left": "Right", "left": "right", "LEFT": "RIGHT", "L_": "R_", "_L": "_R", "LHip": "RHip"}
    for a, b in swap.items():
        theirs = [t.replace(a, b) if t not in ("lhip", "lshoulder") else t for t in theirs]
    mirrored = canonical_names(theirs)
    for name, left in zip(mirrored, ours, strict=True):
        if left in CANONICAL and left.startswith("l_") and family != "lower glued":
            assert name == "r_" + left[2:]


def test_canonical_is_a_tree_and_names_itself() -> None:
    assert canonical_names(CANONICAL) == CANONICAL and len(CANONICAL) == len(PARENTS) == 22
    assert all(p < i for i, p in enumerate(PARENTS))
    assert split_name("mixamorig:LeftUpLeg") == ("l", "upleg") and split_name("Bip01 R Thigh") == ("r", "thigh")


@given(st.lists(st.text(max_size=12), max_size=30))
def test_names_stay_unique_whatever_they_are(names: list[str]) -> None:
    found = canonical_names(names)
    assert len(found) == len(names) and len(set(found)) == len(found)


def test_sets_by_count_have_that_count() -> None:
    assert all(len(names) == count for count, names in BY_COUNT.items() if count <= 33)
    assert numbered(["landmark_2", "landmark_0", "landmark_1"]) == [1, 2, 0]
    assert numbered(["1", "2", "3"]) == [0, 1, 2]
    assert numbered(["0", "2"]) is None and numbered(["nose", "1"]) is None


def test_the_derived_pelvis_is_missing_where_a_hip_is() -> None:
    xyz = np.array([[[0.0, 0, 0], [2.0, 4, 6]], [[np.nan] * 3, [2.0, 4, 6]]])
    names, points, scores, added = with_pelvis(("l_hip", "r_hip"), xyz, np.array([[0.2, 0.9], [0.0, 1.0]]))
    assert added and names == ("l_hip", "r_hip", "pelvis") and scores is not None
    assert points[0, 2].tolist() == [1, 2, 3] and np.isnan(points[1, 2]).all() and scores[:, 2].tolist() == [0.2, 0.0]
    assert not with_pelvis(("pelvis", "l_hip", "r_hip"), np.zeros((1, 3, 3)), None)[3]
