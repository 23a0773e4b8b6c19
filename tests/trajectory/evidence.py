"""`make evidence`: the tests of true vision fail on the broken twin, every one, and pass on the product.

`python evidence.py FOLDER` keeps both logs in FOLDER: evidence-red.log and evidence-green.log. Exit 1 when the twin
passes a test, or the product fails one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as Tree
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILE = HERE / "test_true_vision.py"
NAMED = (
    "test_renderer_outputs_image_tensor_not_coordinates", "test_rendered_frames_have_correct_shape",
    "test_different_trajectories_produce_different_images", "test_rendering_respects_camera_parameters",
    "test_trajectory_appears_in_correct_image_locations", "test_generates_correct_number_of_samples",
    "test_balanced_class_distribution", "test_all_samples_are_images_not_coordinates",
    "test_augmentation_creates_variations", "test_dataset_saves_and_loads_correctly",
    "test_model_must_accept_image_tensors_not_coordinates", "test_a_black_video_gives_chance_accuracy",
    "test_pixels_shuffled_by_one_fixed_permutation_destroy_accuracy",
)  # fmt: skip


def run(log: Path, *more: str) -> dict[str, set[str]]:
    """Run the tests; returns how each named one ended: `passed`, `failure`, `error`, `skipped`."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        words = ["-p", "no:cacheprovider", "-p", "no:xdist", "-rA", "--tb=short", f"--junitxml={report}", *more]
        paths = os.pathsep.join([str(HERE), str(HERE.parents[1])])
        with open(log, "wb") as out:
            subprocess.run(
                [sys.executable, "-m", "pytest", *words, str(FILE)], stdout=out, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": paths}, check=False,
            )  # fmt: skip
        ended: dict[str, set[str]] = {name: set() for name in NAMED}
        for case in Tree.parse(report).getroot().iter("testcase"):
            how = {child.tag for child in case} & {"failure", "error", "skipped"}
            ended.setdefault(str(case.get("name")).partition("[")[0], set()).update(how or {"passed"})
        return ended


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    red = run(folder / "evidence-red.log", "-p", "broken_twin")
    green = run(folder / "evidence-green.log")
    bad = [
        f"{name}: {', '.join(sorted(how)) or 'not run'} on the twin" for name, how in red.items() if how != {"failure"}
    ]
    bad += [f"{name}: {', '.join(sorted(how)) or 'not run'}" for name, how in green.items() if how != {"passed"}]
    for line in bad:
        print(line)
    print(f"{len(red)} tests: red on the broken twin, green here; logs in {folder}" if not bad else "no evidence")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "artifacts")))
