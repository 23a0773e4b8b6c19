"""What `choreo bench` can measure: modules by name, so that a listing loads none of them."""

from __future__ import annotations

from typing import Any

# module -> what it is called with for --quick, and the rows it measures with what they mean
SUITES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "choreo_cli.metrics.bench_start": (
        {"count": 1},
        {
            "data.start_help": "slowest help page against a bare typer program; one row more for each page",
            "data.start_modules": "heavy packages that help pages load",
        },
    ),
    "choreo_cli.metrics.bench_install": (
        {},
        {
            "data.install_size": "base install on disk",
            "data.install_time": "from a clone to a finished discover | pair (with --install)",
        },
    ),
    "choreo_cli.audio.bench": (
        {"seconds": 10.0, "repeats": 1},
        {
            "data.audio_mp3": "MP3 to mel, chroma, MFCC, onset and beats against a plain librosa script",
            "data.audio_features": "the same with decoding apart",
            "data.audio_mel_error": "mel spectrum against librosa's",
        },
    ),
    "choreo_cli.dataset.bench": (
        {"rows": 200_000, "repeats": 2},
        {
            "data.pair_rows": "joining and writing a million pose rows against pandas",
            "data.feed": "windows from the pack against random Parquet row groups",
            "data.feed_torch": "the same through a torch DataLoader",
        },
    ),
    "choreo_cli.sessions.bench_discover": (
        {"files": 2000, "again": 500, "count": 1},
        {
            "data.discover_walk": "walking 100,000 files against scandir and stat",
            "data.discover_first": "first run over them against a bare read and hash loop, wall",
            "data.discover_again": "10,000 unchanged files beyond start-up, against git status",
        },
    ),
    "choreo_cli.sessions.bench_pair": (
        {"entries": 600, "sessions": 1, "minutes": 0.4, "count": 1},
        {
            "data.memory": "peak of discover and pair over 100,000 recordings, above import",
            "data.end_to_end": "discover | pair on a synthetic set",
        },
    ),
    "choreo_cli.training.bench": (
        {"rows": 2_000_000, "steps": 40, "session_rows": 3000},
        {
            "train.rps_share": "share of an epoch of M1 in forward, backward and optimiser",
            "train.mapper_share": "the same of M3",
            "train.memory": "anonymous memory of training on a sparse pack of 180 M rows (1,000 h)",
        },
    ),
    "choreo_cli.motion.bench": (
        {"seconds": 8.0, "clips": 2, "repeats": 2, "peer_frames": 20},
        {
            "motion.encode": "22 joints to choreo25 with the skeleton fitted, batched, one core",
            "motion.decode": "choreo25 to 22 joints, batched, one core",
            "motion.bvh": "63 s of BVH read and its joints placed, against a loop over joints",
        },
    ),
    "choreo_cli.motion.bench_render": (
        {"seconds": 3.0, "repeats": 2, "peer_frames": 5},
        {
            "motion.raster": "a dancer, floor and time bar drawn at 512x512, one core, against matplotlib animation",
            "motion.mp4": "a 30 s clip and its music to MP4, against matplotlib's frames alone",
        },
    ),
    "choreo_cli.generate.bench": (
        {"rounds": 2, "count": 2, "clips": 1},
        {
            "generate.step_b1": "one evaluation of Tiny for one clip, T=64, ONNX Runtime, against arithmetic and torch",
            "generate.step_b2": "the same for two clips, which is what guidance takes",
            "generate.step_eager": "how much faster than torch eager in the same run",
            "generate.sample": "a clip of 2.13 s by steps and backend, against DDIM-50; p50 here, p95 in params",
            "generate.clip_cfg": "a clip in 4 guided steps as one graph, one core",
            "generate.clip_distilled": "a clip in 1 step of a distilled network, one core",
            "generate.large": "core-seconds per second of dance, against a network of the size of EDGE's",
        },
    ),
    "choreo_cli.generate.bench_train": (
        {"steps": 2, "rounds": 1},
        {"generate.train": "optimiser steps a second on one core, against arithmetic"},
    ),
    "choreo_cli.generate.bench_device": (
        {},
        {"generate.phone": "a clip on a phone, from --device-file; else not measured"},
    ),
    "choreo_cli.trajectory.bench": (
        {"videos": 64, "repeats": 2, "peer_videos": 8, "rows": 3600, "steps": 1, "fits": 20},
        {
            "trajectory.dot": "videos of dots through a 200 MB buffer, one core, against OpenCV and writing the buffer",
            "trajectory.share": "the same over writing the buffer",
            "trajectory.peer": "the same over OpenCV's circles",
            "trajectory.trail": "videos of trails through that buffer, against OpenCV",
            "trajectory.augmented": "216,000 augmented videos from their rows to pixels, two threads, nothing stored",
            "trajectory.recipes": "the rows of these videos on disk",
            "trajectory.train_step": "a training step of 16 videos, against its forward pass",
            "trajectory.solver": "one curve fitted to 16 points by the equation solver",
        },
    ),
    "choreo_cli.live.bench_model": (
        {"rounds": 4, "count": 20},
        {
            "live.model": "encoders, prox, normaliser and GRU step for one frame, fused in numpy",
            "live.model_eager": "the same against torch eager in a process of its own",
            "live.model_onnx": "ONNX Runtime, kept or rejected by its figure",
            "live.model_int8": "ONNX Runtime with dynamic int8 weights, kept or rejected",
            "live.model_jit": "frozen TorchScript, kept or rejected",
        },
    ),
    "choreo_cli.live.bench_loop": (
        {"seconds": 1.2},
        {
            "live.loop": "frame in to packet out on a real clock, p99, against a bare deadline loop in turns",
            "live.loop_slow": "frames over 50 ms",
            "live.cadence": "lateness of the 20 ms ticks, p99, against the bare loop",
            "live.drift": "how far the ticks have left their grid at the end",
        },
    ),
    "choreo_cli.live.bench_osc": (
        {"rounds": 4, "count": 2},
        {
            "live.osc_cold": "a packet read afresh against python-osc",
            "live.osc_first": "the same with a layout remembered that never comes again",
            "live.osc_known": "a packet whose layout is remembered against python-osc",
            "live.osc_encode": "a packet written against python-osc",
            "live.osc_loopback": "written, sent, received and read in one thread, against a raw socket",
        },
    ),
    "choreo_cli.live.bench_memory": (
        {"minutes": 2.5, "beside": False},
        {
            "live.rss": "run-live and everything it writes, over 30 min of frames at 100x",
            "live.growth": "last quarter of them against the first",
            "live.files": "open files and sockets that come or go meanwhile",
            "live.threads": "threads that come or go meanwhile",
        },
    ),
}

LANES = {
    "data": "start-up, discover, features, pair, feed, memory",
    "train": "training and its memory",
    "motion": "choreo25 codec, BVH, drawing, film",
    "generate": "an evaluation, whole clips, training, a phone's own file",
    "trajectory": "drawing, rows to pixels, training step, solver",
    "live": "model step, loop, cadence, OSC, memory",
}
