"""Train a dancer on motions with music, as `choreo train flow` does: python train.py MOTIONS OUT"""

import sys
from pathlib import Path

from choreo_cli.generate import flow_recipe_torch as flow
from choreo_cli.outputs import output_folder
from choreo_cli.training.job import Around, Asked, open_job, run
from choreo_cli.training.recipe import Job

motions, out = Path(sys.argv[1]), Path(sys.argv[2])
# Everything that can be set is a field of flow.Config; examples/generation holds configurations that dance well.
config = flow.Config(size="tiny", steps=10, batch=8, warmup=2, ema=0.9, val_windows=8)
opened = open_job(Asked("flow", flow, Job(motions, None, config, seed=0)))
data = opened.recipe.source  # a MotionSet: windows of channels (T, 25) and audio features (T, A)
print(f"{len(data.windows('train'))} windows of {data.frames} frames, {data.audio_width} audio features a frame")

# A run that is stopped keeps its state in OUT: the same call goes on from there, to the same bits.
with output_folder(out, "run", opened.created_by) as folder:
    run(opened, folder, Around(note=print))
print(f"kept in {out}: python sample.py {out} SONG")
