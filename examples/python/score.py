"""Score the controls a mapper made for sessions it has not seen: python score.py RUN"""

import sys
from pathlib import Path

from choreo_cli.metrics.groove import COHERENCE, DRIFT, ENERGY, groove
from choreo_cli.metrics.run_inputs import controls_of_run, frames_of, held_out_controls, read_run, runs_of
from choreo_cli.metrics.tracks import pair_up

for run in runs_of(read_run(Path(sys.argv[1])), {}):
    frames = frames_of(run)
    controls, _ = controls_of_run(run)
    tracks = pair_up(held_out_controls(controls, frames), frames)
    print(f"{run.entry['recipe']}, seed {run.entry['seed']}: {len(tracks)} held-out sessions")
    # `chance` is what 95 % of a null stays below: stretched clocks, shifted controls, other sessions at the same tempo.
    for figure in groove(tracks, seed=0):
        if figure["name"] not in (COHERENCE, ENERGY, DRIFT):
            continue
        if figure["value"] is None:
            print(f"  {figure['name']}: {figure['status']}, {figure['why']}")
            continue
        verdict = {True: "pass", False: "FAIL", None: figure["why"]}[figure["pass"]]
        chance, p = (f"{x:.2g}" if x is not None else "unknown" for x in (figure["chance"], figure["p"]))
        print(f"  {figure['name']}: {figure['value']:.3f}, n {figure['n']}, chance {chance}, p {p}: {verdict}")
