"""Dance to a song with a trained model, go on after it, follow frames as they come: python sample.py MODEL SONG"""

import sys
from pathlib import Path

import numpy as np

from choreo_cli.generate.generate_job import How, dance, pieces
from choreo_cli.generate.heard import hear
from choreo_cli.generate.keyframes import read_keyframes
from choreo_cli.generate.open_model import open_sampler
from choreo_cli.motion.choreo25 import decode
from formats import motion_npz

sampler = open_sampler(Path(sys.argv[1]))  # a run, a checkpoint, or an export of choreo export onnx
music = hear(Path(sys.argv[2]), sampler, seconds=5)

# A finished dance of any length: clamped, feet that stand held still. The report tells what that took.
made = dance(sampler, music, How(seed=1), number=0, name="dance")
motion_npz.write("dance.npz", made.clip)
print(f"dance.npz: joints {decode(made.clip).shape}, feet slide {made.report['slide_mm_s']['after']:.3f} mm/s")

# Its last frames are the first ones of the next dance, bit for bit.
keys, task = read_keyframes(Path("dance.npz"), sampler.fps, "predict")
after = dance(sampler, music, How(task=task, keys=keys, seed=2), number=0, name="after")
print("goes on exactly:", np.array_equal(after.clip.channels[: len(keys.rows)], made.clip.channels[-len(keys.rows) :]))

# Frames while they are made, a window at a time; the header has the body and where it starts.
header, frames = pieces(sampler, music, How(seed=1))
print("as they come:", " + ".join(str(len(piece)) for piece in frames), f"frames at {header.fps:g} fps")

# Under all that: raw channels (B, T, 25) of a batch, before anything is clamped. Row k follows from its own numbers.
# A distilled model has its guidance built in, any other takes a weight.
raw = sampler.dance(np.stack([music.values] * 2), rows=[(7, 0), (7, 1)], steps=2, cfg=None if sampler.baked else 1.0)
print(f"raw: {raw.shape} in {sampler.nfe} evaluations of the network")
