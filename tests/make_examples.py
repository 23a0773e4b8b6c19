"""Make `examples/data`: two seconds of every format, from a fixed seed. `python tests/make_examples.py [FOLDER]`."""

from __future__ import annotations

import hashlib
import io
import json
import plistlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

TOP = Path(__file__).resolve().parent.parent
SECONDS = 2
FPS = 30
T0 = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
MADE = {"run_id": "000000000000", "command": "example", "choreo": "0.1.0", "git": None, "seed": 0,
        "deterministic": True, "params": {}, "inputs": [], "outputs": []}  # fmt: skip


def main(folder: Path) -> None:
    """Write every file, then the manifests that name them, then SHA256SUMS."""
    from choreo_cli.sessions.synth import generate_session
    from choreo_cli.sessions.synth_score import SynthOptions

    folder.mkdir(parents=True, exist_ok=True)
    session = generate_session(0, SynthOptions(sessions=1, minutes=0.2, seed=0))
    music = _music(folder)
    _poses(folder, session)
    _wearables(folder)
    _beats_and_lists(folder)
    _ours(folder, session, music)
    _motion(folder)
    _mocap(folder / "mocap")
    _teacher_pairs(folder)
    _manifests(folder)
    _told(folder)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    sums = [f"{_sha(folder / n)}  {n}\n" for n in names if n != "SHA256SUMS"]
    _put(folder, "SHA256SUMS", "".join(sums))


def _put(folder: Path, name: str, data: str | bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _lines(rows: list[Any]) -> str:
    return "".join(json.dumps(r) + "\n" for r in rows)


def _csv(header: list[str], rows: list[list[Any]]) -> str:
    return "".join(",".join(str(v) for v in row) + "\n" for row in [header, *rows])


def _music(folder: Path) -> Any:
    """Two seconds of music as WAV and FLAC, our features of it, and the file a librosa script would write."""
    import soundfile

    from choreo_cli.audio.archive import archive_arrays
    from choreo_cli.audio.beats import track_beats
    from choreo_cli.audio.features import extract
    from choreo_cli.audio.render import render_track, wav_bytes
    from formats import audio_npz

    rng = np.random.default_rng(0)
    samples = render_track(np.arange(0.0, SECONDS + 0.5, 0.5), 0.8, SECONDS, rng, rate=22050)
    _put(folder, "music.wav", wav_bytes(samples, rate=22050, title="Example", comment="synthetic"))
    flac = io.BytesIO()
    soundfile.write(flac, np.rint(samples * 32767).astype(np.int16), 22050, format="FLAC", subtype="PCM_16")
    _put(folder, "music.flac", flac.getvalue())
    features = extract(samples)
    track = track_beats(features)
    audio_npz.write(folder / "features.npz", archive_arrays(features, track), MADE)
    script = io.BytesIO()
    np.savez(script, mel=features.mel, bpm=np.float64(120.0), beat_frames=np.arange(0, 86, 21),
             onset=features.onset, chroma=features.chroma, sr=22050, hop=512)  # fmt: skip
    _put(folder, "librosa.npz", script.getvalue())
    return features


def _poses(folder: Path, session: Any) -> None:
    """The same two seconds in every dialect of poses."""
    from choreo_cli.sessions.synth_material import pose_lines
    from formats.foreign.joints import ARKIT, CANONICAL, COCO_17, VISION

    t_us, xyz = session.pose_log()
    t_us, xyz = t_us[: SECONDS * FPS], xyz[: SECONDS * FPS]
    _put(folder, "poses.jsonl", pose_lines(t_us, T0, xyz))
    seconds = [round(float(t) / 1e6, 6) for t in t_us]
    place = {n: i for i, n in enumerate(CANONICAL)}
    array = [{"timestamp": f"2026-01-01T00:00:{2 + t:06.3f}Z", "pose": {n: _round(p[i]) for n, i in place.items()}}
             for t, p in zip(seconds, xyz, strict=True)]  # fmt: skip
    _put(folder, "poses_iso.json", json.dumps(array))
    own = [{"clock": {"sec": 1_767_225_600 + t}, "body": {"pts": [_round(p[i]) for i in _OWN]}}
           for t, p in zip(seconds, xyz, strict=True)]  # fmt: skip
    _put(folder, "own_keys.json", json.dumps(own))
    pixels = np.stack([320 + 200 * xyz[:, :, 0], 460 - 240 * xyz[:, :, 1]], axis=2)
    coco = [pixels[:, place.get(n, place["head"])] for n in COCO_17]
    theirs = [n.replace("l_", "left_").replace("r_", "right_") if n[1] == "_" else n for n in COCO_17]
    header = ["time", *(f"{n}_{a}" for n in theirs for a in ("x", "y", "score"))]
    rows = [[t, *(v for c in coco for v in (*_round(c[i], 2), 0.9))] for i, t in enumerate(seconds)]
    _put(folder, "coco.csv", _csv(header, rows))
    for i in range(0, 60, 6):
        flat = [v for k in range(25) for v in (*_round(pixels[i, min(k, 21)], 2), 0.8)]
        person = {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": flat}]}
        _put(folder, f"openpose/dance_{i // 6:012d}_keypoints.json", json.dumps(person))
    names = ["root", *ARKIT][:91]
    frames = [{"timestamp": t, "joints": {n: _round(p[k % 22] + 0.001 * k) for k, n in enumerate(names)}}
              for t, p in zip(seconds[::6], xyz[::6], strict=True)]  # fmt: skip
    _put(folder, "arkit.json", json.dumps({"fps": 5, "frames": frames}))
    points = [{"time": t, "points": {n: _round(0.5 + 0.2 * p[place[j], :2], 4) for n, j in VISION.items() if j in place}}
              for t, p in zip(seconds[::3], xyz[::3], strict=True)]  # fmt: skip
    _put(folder, "vision.json", json.dumps({"frames": points}))
    _poses_2d(folder, seconds[::3], pixels[::3], xyz[::3])
    still = np.abs(np.diff(xyz, axis=0)).sum(axis=(1, 2))
    qom = [[i + 1, f"{(i + 1) / FPS:.4f}", f"{v:.6f}", 0.5, 0.5] for i, v in enumerate(still)]
    _put(folder, "motion.csv", _csv(["frame", "time_s", "qom", "centroid_x", "centroid_y"], qom))
    _put(folder, "dance.bvh", _bvh(seconds))


def _poses_2d(folder: Path, seconds: list[float], pixels: Any, xyz: Any) -> None:
    """What image pose estimators write: points by number, at ten a second."""
    from formats.foreign.joints import COCO_17, MEDIAPIPE_33

    frames = range(len(seconds))
    marks = [[*_round(0.5 + 0.2 * xyz[i, min(k, 21)]), 0.9] for i in frames for k in range(33)]
    keys = ("x", "y", "z", "visibility")
    by_frame = [{"timestamp": seconds[i], "landmarks": [dict(zip(keys, marks[33 * i + k], strict=True)) for k in range(33)]}
                for i in frames]  # fmt: skip
    _put(folder, "mediapipe.json", json.dumps(by_frame))
    header = ["time", *(f"{n}_{a}" for n in MEDIAPIPE_33 for a in keys)]
    rows = [[seconds[i], *(v for k in range(33) for v in marks[33 * i + k])] for i in frames]
    _put(
        folder,
        "mediapipe.csv",
        _csv([h.replace("l_toe", "left_foot_index").replace("r_toe", "right_foot_index") for h in header], rows),
    )
    coco = [{"image_id": i, "category_id": 1, "score": 0.9, "timestamp": seconds[i],
             "keypoints": [v for k in range(len(COCO_17)) for v in (*_round(pixels[i, k], 2), 0.9)]} for i in frames]  # fmt: skip
    _put(folder, "coco.json", json.dumps(coco))
    tensor = [[_round(0.5 + 0.2 * xyz[i, min(k, 21), :2]) for k in range(18)] for i in frames]
    _put(
        folder,
        "dwpose.json",
        json.dumps({"fps": 10.0, "frame_count": len(seconds), "bpm": 120.0, "pose_tensor": tensor}),
    )
    names = ("head", "l_wrist", "r_wrist", "l_hip", "r_hip")
    plain = [[seconds[i], *(v for k in (15, 20, 21, 1, 2) for v in _round(xyz[i, k]))] for i in frames]
    _put(folder, "poses.csv", _csv(["time_s", *(f"{n}_{a}" for n in names for a in "xyz")], plain))


_OWN = (0, 10, 13, 14, 20, 21)


def _round(p: Any, digits: int = 4) -> list[float]:
    return [round(float(v), digits) + 0.0 for v in p]


def _bvh(seconds: list[float]) -> str:
    """A body of sixteen joints that sways and bends its knees twice a second."""
    tree = [("Hips", 0, (0, 0, 0)), ("LeftUpLeg", 1, (9, 0, 0)), ("LeftLeg", 2, (0, -42, 0)), ("LeftFoot", 3, (0, -41, 0)),
            ("RightUpLeg", 1, (-9, 0, 0)), ("RightLeg", 2, (0, -42, 0)), ("RightFoot", 3, (0, -41, 0)),
            ("Spine", 1, (0, 20, 0)), ("LeftArm", 2, (16, 25, 0)), ("LeftForeArm", 3, (27, 0, 0)), ("LeftHand", 4, (25, 0, 0)),
            ("RightArm", 2, (-16, 25, 0)), ("RightForeArm", 3, (-27, 0, 0)), ("RightHand", 4, (-25, 0, 0)),
            ("Neck", 2, (0, 28, 0)), ("Head", 3, (0, 10, 0))]  # fmt: skip
    out, open_ = ["HIERARCHY"], 0
    for k, (name, depth, offset) in enumerate(tree):
        while open_ > depth:
            open_ -= 1
            out.append("\t" * open_ + "}")
        pad = "\t" * depth
        out += [
            f"{pad}{'JOINT' if depth else 'ROOT'} {name}",
            pad + "{",
            f"{pad}\tOFFSET {offset[0]} {offset[1]} {offset[2]}",
        ]
        places = "" if depth else "Xposition Yposition Zposition "
        out.append(f"{pad}\tCHANNELS {3 if depth else 6} {places}Zrotation Xrotation Yrotation")
        if k + 1 == len(tree) or tree[k + 1][1] <= depth:
            out += [f"{pad}\tEnd Site", pad + "\t{", f"{pad}\t\tOFFSET 0 -8 0", pad + "\t}"]
        open_ = depth + 1
    out += ["\t" * k + "}" for k in range(open_ - 1, -1, -1)]
    out += ["MOTION", f"Frames: {len(seconds)}", "Frame Time: 0.0333333"]
    for t in seconds:
        s, b = np.sin(2 * np.pi * t), np.cos(4 * np.pi * t)
        knee = 12 - 10 * b
        turn = [[0, 0, 0], [0, -knee / 2, 0], [0, knee, 0], [0, -knee / 2, 0]]
        row = [8 * s, 92 + 2 * b, 0, *turn[0], *(v for r in turn[1:] * 2 for v in r), 3 * s, 0, 0]
        row += [-60 + 20 * b, 0, 0, 0, 0, -15, 0, 0, 0, 60 - 20 * b, 0, 0, 0, 0, 15, 0, 0, 0, -3 * s, 0, 0, 0, 0, 0]
        out.append(" ".join(f"{v + 0.0:.4f}" for v in row))
    return "\n".join(out) + "\n"


def _wearables(folder: Path) -> None:
    """Heart rate of a strap, an Empatica wristband, Garmin and Apple watches; acceleration."""
    iso = [f"2026-01-01T00:00:{i // 4:02d}.{250 * (i % 4):03d}+00:00" for i in range(4 * SECONDS)]
    _put(folder, "heart_rate.csv", _csv(["t_unix_s", "hr"], [[1_767_225_600 + i, 92 + i] for i in range(SECONDS + 1)]))
    heart = [{"t": 1_767_225_600 + i, "hr": 92 + i, "rr": [650 - i]} for i in range(SECONDS + 1)]
    _put(folder, "heart_rate.jsonl", _lines(heart))
    _put(folder, "garmin_acc.csv", "".join(f"{t};-36;{600 + i};-824\n" for i, t in enumerate(iso)))
    _put(folder, "empatica/HR.csv", "1767225600.00\n1.000000\n" + "".join(f"{92 + i}.00\n" for i in range(SECONDS + 1)))
    acc = "".join(f"{-61 + i % 5},{25 - i % 3},{6 + i % 2}\n" for i in range(32 * SECONDS))
    _put(folder, "empatica/ACC.csv", "1767225600.00, 1767225600.00, 1767225600.00\n32.0, 32.0, 32.0\n" + acc)
    _put(
        folder, "empatica/IBI.csv", "1767225600.00, IBI\n" + "".join(f"{0.65 * i + 0.5:.4f},0.6{i}\n" for i in range(3))
    )
    _put(folder, "garmin.csv", "".join(f"{t};HEART_RATE;{92 + i}.0\n" for i, t in enumerate(iso)))
    records = "".join(
        f'<Record type="HKQuantityTypeIdentifierHeartRate" unit="count/min" '
        f'startDate="2026-01-01 00:00:{i:02d} +0000" value="{92 + i}"/>\n' for i in range(SECONDS + 1)
    )  # fmt: skip
    _put(
        folder,
        "apple_health.xml",
        f'<?xml version="1.0" encoding="UTF-8"?>\n<HealthData locale="en_GB">\n{records}</HealthData>\n',
    )


def _beats_and_lists(folder: Path) -> None:
    """Beats as text, chart and MIDI; playlists; metadata of a session; a map of one's own keys."""
    import mido

    _put(folder, "beats.txt", "".join(f"{0.5 * i:.4f}\t{i % 4 + 1}\n" for i in range(2 * SECONDS + 1)))
    _put(folder, "onsets.txt", "# onsets\n" + "".join(f"{0.25 * i + 0.1:.4f}\n" for i in range(4 * SECONDS)))
    _put(folder, "tempo.txt", "# tempo\n60.0 120.0\t0.7\n")
    brace = {"example.0": {"bpm": 120.0, "beats_sec": [0.5 * k for k in range(2 * SECONDS + 1)]}}
    _put(folder, "brace.json", json.dumps(brace))
    chart = "#VERSION:0.83;\n#TITLE:Example;\n#MUSIC:music.wav;\n#OFFSET:0.000;\n#BPMS:0.000=120.000;\n#STOPS:;\n"
    _put(folder, "chart.ssc", chart + "#NOTEDATA:;\n#STEPSTYPE:dance-single;\n#NOTES:\n1000\n0100\n0010\n0001\n;\n")
    midi, track = mido.MidiFile(ticks_per_beat=96), mido.MidiTrack()
    midi.tracks.append(track)
    track.append(mido.MetaMessage("set_tempo", tempo=500_000))
    for i in range(2 * SECONDS):
        track.append(mido.Message("note_on", note=36, velocity=100, time=0 if i == 0 else 48))
        track.append(mido.Message("note_off", note=36, velocity=0, time=48))
    out = io.BytesIO()
    midi.save(file=out)
    _put(folder, "tempo.mid", out.getvalue())
    tracks = [{"index": 1, "title": "Example", "file": "music.wav", "duration_s": float(SECONDS)}]
    _put(folder, "playlist.json", json.dumps({"name": "Example mix", "tracks": tracks}, indent=1) + "\n")
    _put(folder, "playlist.m3u8", f"#EXTM3U\n#EXTINF:{SECONDS},Example\nmusic.wav\n")
    _put(
        folder,
        "mix.cue",
        'TITLE "Example mix"\nFILE "music.wav" WAVE\n  TRACK 01 AUDIO\n    TITLE "Example"\n    INDEX 01 00:00:00\n',
    )
    box = '<TRACK TrackID="1" Name="Example" TotalTime="2" Location="file://localhost/music/music.wav"/>'
    lists = '<NODE Type="0" Name="ROOT"><NODE Type="1" Name="Example mix" KeyType="0"><TRACK Key="1"/></NODE></NODE>'
    _put(
        folder,
        "rekordbox.xml",
        f'<?xml version="1.0" encoding="UTF-8"?>\n<DJ_PLAYLISTS Version="1.0.0">\n<COLLECTION Entries="1">{box}</COLLECTION>\n<PLAYLISTS>{lists}</PLAYLISTS>\n</DJ_PLAYLISTS>\n',
    )
    library = {"Major Version": 1, "Tracks": {"1": {"Track ID": 1, "Name": "Example", "Total Time": 1000 * SECONDS}},
               "Playlists": [{"Name": "Example mix", "Playlist Items": [{"Track ID": 1}]}]}  # fmt: skip
    _put(folder, "apple_music.xml", plistlib.dumps(library))
    meta = {"session": "example", "started_at": "2026-01-01T00:00:00Z", "track": {"title": "Example", "index": 1},
            "devices": ["phone-1"], "performer": "nobody", "synthetic": True}  # fmt: skip
    _put(folder, "metadata.json", json.dumps(meta, indent=1) + "\n")


def _ours(folder: Path, session: Any, features: Any) -> None:
    """Every artefact of ours that holds data."""
    from formats import control_map, packet_log, poses, status, tables, tensors
    from formats.columns import CONTEXT, FRAMES, INPUTS, WINDOWS
    from formats.foreign.pose_log import read_json
    from formats.foreign.source import Source
    from formats.packets import ControlPacket, LatentPacket, SensorPacket

    keep = {"choreo": json.dumps(MADE, sort_keys=True)}
    n = 50 * SECONDS
    frames = {k: np.asarray(v)[:n] for k, v in session.frames.items()}
    frames["session_id"] = ["example"] * n
    tables.write_table(folder / "frames.parquet", FRAMES, frames, keep)
    stream = read_json(Source.of(folder / "poses.jsonl"))
    tables.write_table(folder / "poses.parquet", poses.POSES, poses.columns(stream, "example"),
                       {**keep, **poses.metadata(stream, "example", True)})  # fmt: skip
    slow = slice(0, None, FPS)
    k = len(stream.t_us[slow])
    context = {"session_id": ["example"] * k, "t_us": stream.t_us[slow], "t_device_us": stream.t_us[slow],
               "age_us": [None, *np.diff(stream.t_us[slow]).tolist()], "beat_phase": np.zeros(k, np.float32),
               "beat_idx": np.arange(k, dtype=np.int32) * 2, "n_joints": np.full(k, 22, np.int32),
               "xyz": stream.xyz[slow].reshape(k, -1), "synthetic": np.ones(k, bool)}  # fmt: skip
    tables.write_table(folder / "context.parquet", CONTEXT, context, keep)
    windows = {"pair_id": ["example"] * 4, "row_start": np.arange(4) * 25, "len": np.full(4, 25, np.int32),
               "stride": np.full(4, 25, np.int32), "audio_start": np.arange(4) * 21, "audio_len": np.full(4, 21, np.int32),
               "valid_fraction": np.ones(4, np.float32), "split": ["train"] * 4}  # fmt: skip
    tables.write_table(folder / "windows.parquet", WINDOWS, windows, keep)
    _reflex(folder, frames, keep)
    _live(folder, frames, keep)
    tensors.write(
        folder / "weights.safetensors", {"layer.weight": features.mel[:8, :6], "layer.bias": features.rms[:8]}, keep
    )
    status.write(folder / "status.json", status.Status("pair", "running", 1, "aligning", 1, 2, T0, None))
    control_map_text = control_map.dump(control_map.load(TOP / "examples" / "control_map.yaml"))
    _put(folder, "control_map.yaml", control_map_text)
    names = [c.name for c in INPUTS]
    packets: list[Any] = []
    for i in range(0, n, 10):
        values = tuple(None if v != v else round(float(v), 6) for v in (float(frames[c][i]) for c in names))
        t = 20_000 * i
        packets.append(SensorPacket(t, t + 3000, values, 15))
        packets.append(LatentPacket(t, (0.125,) * 64, (0.25,) * 16, (0.5,) * 16, (0.0625,) * 8))
        packets.append(ControlPacket(t, i // 10, 1.0, 0.5, 0.25, 0.75, 0.0, False))
    _put(folder, "packets.jsonl", packet_log.encode(packets))


def _mocap(folder: Path) -> None:
    """Motion as other tools keep it: each by the writer that the tests of its reader use."""
    import pickle

    from formats import tables
    from formats.media import CAPTURE_LEDGER

    sys.path.insert(0, str(TOP / "tests" / "formats"))
    import test_foreign_acclaim as acclaim
    import test_foreign_body_arrays as arrays
    import test_foreign_markers as markers
    import test_foreign_pickles as pickles

    walk = acclaim.Walk(60)
    _put(folder, "walk.asf", walk.asf())
    _put(folder, "walk_01.amc", walk.amc())
    _put(folder, "aist.pkl", pickle.dumps(pickles.motion(60), protocol=4))
    _put(folder, "markers.c3d", markers.Writer().bytes())
    _put(folder, "markers.trc", markers.table())
    # scipy writes the day into the text at the start
    _put(folder, "toolbox.mat", b"MATLAB 5.0 MAT-file, example".ljust(116) + markers.mat(**markers.toolbox())[116:])
    for name, values in (("features263", arrays.features(arrays.JOINTS)), ("joints", arrays.JOINTS)):
        np.save(folder / f"{name}.npy", values.astype(np.float32))
    np.savez(folder / "joints.npz", joints=arrays.JOINTS.astype(np.float32), fps=30.0)
    np.savez(folder / "amass.npz", **arrays.layouts()["float32"])
    due = np.arange(60) * 16_667 + 500_000
    tables.write_table(folder.parent / "capture_ledger.parquet", CAPTURE_LEDGER, {
        "shown_us": due - 25_000, "due_us": due, "newest_us": due - 9_000, "arrival_us": due - 1_000,
        "work_us": 1_000.0 + 50.0 * np.sin(np.arange(60)),
    })  # fmt: skip


def _teacher_pairs(folder: Path) -> None:
    """Two pairs of eight frames: what a student learns."""
    from formats import tables
    from formats.teacher_pairs import TEACHER_PAIRS

    rng = np.random.default_rng(3)
    mask = np.zeros((2, 8 * 7), bool)
    mask[1, : 2 * 7] = True
    tables.write_table(folder / "teacher_pairs.parquet", TEACHER_PAIRS, {
        "pair": np.arange(2), "window": np.array([4, 1]), "epoch": np.zeros(2, np.int64), "task": ["GEN", "PREDICT"],
        "heard": np.array([True, False]), "guidance": np.full(2, 2.0, np.float32), "mask": mask,
        "noise": rng.standard_normal((2, 8 * 25), np.float32),
        "data": 0.5 * rng.standard_normal((2, 8 * 25), np.float32),
    })  # fmt: skip


def _motion(folder: Path) -> None:
    """A dance of two seconds as a choreo25 clip, with its round trip."""
    from choreo_cli.motion import choreo25
    from choreo_cli.motion.dancer import choreograph, poses, write_score
    from formats import motion_npz

    rng = np.random.default_rng(0)
    dance = choreograph(write_score(np.arange(-1.0, SECONDS + 1.5, 0.5), 0.7, rng), rng)
    joints = poses(dance, np.arange(SECONDS * FPS) / FPS)
    source = {"format": "dancer", "rig": "own", "fps": FPS}
    clip = choreo25.encode(joints, FPS, source=source, licence="CC0-1.0", origin="choreo")
    motion_npz.write(folder / "dance.npz", clip, MADE)


def _reflex(folder: Path, frames: dict[str, Any], keep: dict[str, str]) -> None:
    """Latents, controls and answers of a rater; the latents are drawn, the controls are the teacher's."""
    from choreo_cli.reflex.teacher import teach
    from formats import tables
    from formats.columns import CONTROL_NAMES, CONTROLS, INPUTS, LATENT_NAMES, LATENTS, MASKS, PREFERENCES

    n, rng = len(frames["t_us"]), np.random.default_rng(0)
    index = {"session_id": ["example"] * n, "t_us": frames["t_us"], "synthetic": np.ones(n, bool)}
    masks = {m: frames[m] for m in MASKS}
    z = rng.normal(0, 0.125, (n, len(LATENT_NAMES))).round(3).astype(np.float32)
    tables.write_table(
        folder / "latents.parquet", LATENTS, {**index, **masks, **dict(zip(LATENT_NAMES, z.T, strict=True))}, keep
    )
    x = np.stack([np.asarray(frames[c.name], np.float32) for c in INPUTS], axis=1)
    y = teach(x, np.stack([masks[m] for m in MASKS], axis=1).astype(bool), np.asarray(frames["t_us"], np.int64))
    y = np.nan_to_num(y, nan=0.5).astype(np.float32)
    held = {"held": np.zeros(n, bool)}
    tables.write_table(
        folder / "controls.parquet", CONTROLS, {**index, **held, **dict(zip(CONTROL_NAMES, y.T, strict=True))}, keep
    )
    sha = _sha(folder / "frames.parquet")
    answers = {
        "pair_id": ["example-0", "example-1"], "session_a": ["example"] * 2, "session_b": ["example"] * 2,
        "start_a_us": np.array([0, 500_000]), "end_a_us": np.array([500_000, 1_000_000]),
        "start_b_us": np.array([1_000_000, 0]), "end_b_us": np.array([1_500_000, 500_000]),
        "source_a_sha256": [sha] * 2, "source_b_sha256": [sha] * 2, "choice": ["a", "same"],
        "shown_first": ["a", "b"], "rater": ["nobody"] * 2, "seconds": np.array([2.5, 4.0]), "synthetic": np.ones(2, bool),
    }  # fmt: skip
    tables.write_table(folder / "preferences.parquet", PREFERENCES, answers, keep)


def _live(folder: Path, frames: dict[str, Any], keep: dict[str, str]) -> None:
    """What a performance leaves beside its frames and controls; the times of its stages are made up."""
    from formats import event_log, tables
    from formats.columns import LEDGER, SENT

    n = len(frames["t_us"])
    start = 1_000_000_000 + 20_000_000 * np.arange(n, dtype=np.int64)
    index = {"session_id": ["example"] * n, "t_us": frames["t_us"], "synthetic": np.ones(n, bool),
             "seq": np.arange(n), "held": np.zeros(n, bool)}  # fmt: skip
    ledger = {
        **index, "t_sensor_us": [None] * n, "t_arrival_ns": start - 2_000_000, "t_frame_ns": start + 40_000,
        "t_model_ns": start + 130_000, "t_guard_ns": start + 160_000, "t_sent_ns": start + 200_000,
        "t_acked_ns": [None] * n, "missed": np.zeros(n, np.int32), "mask": np.full(n, 15, np.int32),
        "late_ns": np.full(n, 20_000),
    }  # fmt: skip
    tables.write_table(folder / "ledger.parquet", LEDGER, ledger, keep)
    fixed = {"tempo_scale": 1.0, "density": 0.5, "tension": 0.25, "brightness": 0.75, "fx_send": 0.0}
    sent = {
        **index, **{k: np.full(n, v, np.float32) for k, v in fixed.items()}, "ports": np.ones(n, np.int32),
        "beat": np.arange(n) / 25, "bpm": np.full(n, 120.0),
    }  # fmt: skip
    tables.write_table(folder / "sent.parquet", SENT, sent, keep)
    events: list[tuple[int, str, dict[str, Any]]] = [
        (0, "start", {"source": "demo", "ports": ["loop:"]}), (500_000, "modality", {"name": "hr", "measured": False}),
        (1_500_000, "port", {"port": "loop:", "state": "lost"}), (1_980_000, "stop", {"reason": "ended"}),
    ]  # fmt: skip
    lines = [event_log.event_line(t, kind, facts) for t, kind, facts in events]
    _put(folder, "events.jsonl", b"".join([event_log.FIRST, *lines, event_log.last_line(len(events))]))


def _manifests(folder: Path) -> None:
    """Inventory, pairs, sessions and metrics over the files beside them."""
    from formats.manifest import Manifest, Root, encode
    from formats.metrics import entry

    def put(kind: str, entries: list[dict[str, Any]], outputs: list[str]) -> None:
        made = {**MADE, "outputs": [{"role": "data", "path": n, "sha256": _sha(folder / n)} for n in outputs]}
        _put(folder, f"{kind}.json", encode(Manifest(f"choreo.{kind}/1", made, entries, [Root("out", ".", True)])))

    put("inventory", [_recording(folder, *r) for r in _RECORDINGS], [])
    put("pairs", [_pair(folder)], ["context.parquet", "features.npz", "frames.parquet", "windows.parquet"])
    sha = _sha(folder / "frames.parquet")
    put("sessions", [{
        "id": f"s:{sha[:16]}", "session_id": "example", "path": ".", "frames": "frames.parquet", "frames_sha256": sha,
        "n_frames": 50 * SECONDS, "duration_us": SECONDS * 1_000_000, "bpm": 120.0, "seed": 0, "synthetic": True,
        "files": {n: _sha(folder / n) for n in ("frames.parquet", "heart_rate.csv", "poses.jsonl")},
    }], [])  # fmt: skip
    put("motions", [_clip(folder)], ["dance.npz"])
    put("videos", [_video(folder)], [])
    put("trajectories", _curves(folder), ["curves.parquet", "views.parquet", "pixels.parquet"])
    names = ("controls.parquet", "latents.parquet", "weights.safetensors")
    put("run", [{
        "id": "000000000000", "recipe": "mapper", "seed": 0, "path": ".", "state": "done", "steps": 100, "epochs": 5.0,
        "parameters": 58661, "device": "cpu", "config": {"epochs": 5}, "data": {
            "schema": "choreo.sessions/1", "sha256": "0" * 64, "root": "out", "path": "sessions.json",
            "sessions": {"train": ["example"]}, "rows": {"train": 50 * SECONDS}, "leaks": [], "notes": [],
            "synthetic": True,
        }, "parents": [], "files": {n: _sha(folder / n) for n in names}, "metrics": [
            entry("mapper.r2.density", None, "1", "higher", goal=(">=", 0.85), status="insufficient"),
        ], "synthetic": True,
    }], list(names))  # fmt: skip
    put("metrics", [
        entry("mel, chroma, onset, beats", 0.021, "s", "lower", n=5, ci=(0.020, 0.023), baseline=("librosa script", 0.19),
              goal=("<=", 0.05), params={"seconds": SECONDS}),
        entry("energy correlation", 0.41, "1", "higher", n=100, chance=0.05, goal=(">=", 0.3), p=0.01, p_max=0.05),
        entry("a peer that is not installed", 1.0, "s", "lower", why="the peer is not installed"),
    ], [])  # fmt: skip


def _curves(folder: Path) -> list[dict[str, Any]]:
    """Curves, the test's views and their pixels under the names of their tables; entries of `trajectories.json`."""
    from choreo_cli.trajectory import sets

    asked = sets.SetOptions(num=20, test=4, grid=4, seed=0)
    with tempfile.TemporaryDirectory() as name:
        made = sets.write_set(asked, Path(name), {}, freeze=True)
        kept = [e for e in made.entries if e["split"] in ("all", "test")]
        for e in kept:
            data = (Path(name) / e["path"]).read_bytes()
            e["path"] = f"{e['role']}.parquet"
            _put(folder, e["path"], data)
    return kept


def _told(folder: Path) -> None:
    """What a branch that is nearly right would say of the views, and what the solver tells of them."""
    from choreo_cli.trajectory import describe_job, predictions, sets
    from choreo_cli.trajectory.camera import to_camera
    from formats.manifest import decode

    file = folder / "trajectories.json"
    of = sets.open_set(decode(file.read_bytes(), file=file))
    looks, rng = of.looks["test"], np.random.default_rng(0)
    chance = np.full((len(looks), 4), 0.05, np.float32)
    chance[np.arange(len(looks)), of.family("test")] = 0.85
    future = of.future("test") + 0.02 * rng.normal(size=(len(looks), 4, 3))
    shown = to_camera(of.clean("test")[:, :16], looks.cameras)
    facts = {"choreo.set": of.sha256, "choreo.split": "test", "choreo.branch": "example"}
    said = predictions.Predictions(looks.base, chance, future.astype(np.float32), shown.astype(np.float32), facts)
    predictions.write(folder / "predictions.parquet", said)
    describe_job.write(folder / "descriptions.parquet", describe_job.describe_set(of, "test", 0, "fit", None), {})


_RECORDINGS = (
    ("audio", "wav", "music.wav", 2 * 22050, (22050, 1), 1),
    ("features", "choreo.audio_npz/1", "features.npz", 87, (22050, 512), None),
    ("motion", "bvh", "dance.bvh", 60, (30, 1), 16),
    ("pose", "pose-jsonl", "poses.jsonl", 60, (30, 1), 22),
    ("wearable", "heart-csv", "heart_rate.csv", 3, (1, 1), 1),
)


def _recording(
    folder: Path, kind: str, format_: str, path: str, n: int, rate: tuple[int, int], channels: int | None
) -> dict[str, Any]:
    sha = _sha(folder / path)
    return {
        "id": f"{kind[0]}:{sha[:16]}", "kind": kind, "format": format_, "root": "out", "path": path,
        "bytes": (folder / path).stat().st_size, "sha256": sha, "session": "example", "n": n, "rate_num": rate[0],
        "rate_den": rate[1], "duration_us": SECONDS * 1_000_000, "channels": channels,
        "t0_utc_us": None, "t0_source": "none", "t0_sigma_us": None, "t0_naive": False, "reason": None,
        "acknowledged": False, "problems": [], "synthetic": True, "meta": {},
    }  # fmt: skip


def _clip(folder: Path) -> dict[str, Any]:
    from formats import motion_npz
    from formats.media import MOTION

    sha, h = _sha(folder / "dance.npz"), motion_npz.read(folder / "dance.npz").header
    entry = {
        "id": f"m:{sha[:16]}", "path": "dance.npz", "sha256": sha, "layout": "choreo25", "source": "dancer",
        "source_sha256": None, "n_frames": SECONDS * FPS, "fps": float(FPS), "duration_us": SECONDS * 1_000_000,
        "rig": "own", "height_m": round(h.height_m, 3), "scale": 1.0, "mean_mm": None, "p95_mm": None,
        "foot_mm_s": None, "clamped": 0, "flags": {}, "report": {}, "music": None, "group_id": "example",
        "split": "train", "performer": "nobody", "captions": ["a dancer steps and turns on the beat"],
        "licence": "CC0-1.0", "synthetic": True,
    }  # fmt: skip
    return {name: entry[name] for name in MOTION.names}


def _video(folder: Path) -> dict[str, Any]:
    """How the dance was drawn; its film is not kept here: `choreo render motion dance.npz` makes it again."""
    from formats.media import VIDEO

    entry = {
        "id": "v:0000000000000000", "path": None, "sha256": None, "source": "dance.npz",
        "source_sha256": _sha(folder / "dance.npz"), "reference": None, "reference_sha256": None,
        "music": "music.wav", "music_sha256": _sha(folder / "music.wav"), "n_frames": SECONDS * FPS, "fps": float(FPS),
        "duration_us": SECONDS * 1_000_000, "start_us": 0, "width": 512, "height": 512, "n_beats": 4, "camera": {
            "view": "three-quarter", "azimuth": 0.77, "elevation": 0.244, "distance": 3.98, "zoom": 182.6,
            "projection": "perspective", "follow": False,
        }, "files": {}, "notes": ["the film is not kept here"], "group_id": "example", "split": "none",
        "licence": "CC0-1.0", "synthetic": True,
    }  # fmt: skip
    return {name: entry[name] for name in VIDEO.names}


def _pair(folder: Path) -> dict[str, Any]:
    from formats.columns import PAIR

    music, poses = _sha(folder / "music.wav"), _sha(folder / "poses.jsonl")
    entry = {
        "pair_id": "example", "session_id": "example", "pose_id": f"p:{poses[:16]}", "audio_id": f"a:{music[:16]}",
        "track": "music.wav", "track_group": "example", "method": "metadata", "offset_us": 0,
        "offset_ci_us": [-1_000_000, 1_000_000], "drift_ppm": 0.0, "drift_ci": [-100.0, 100.0],
        "prior_window_us": [-1_000_000, 1_000_000], "bias_us": 0, "bias_config_hash": None, "peak": None, "z": None,
        "p": None, "second_ratio": None, "identifiable": "no", "candidates_us": [], "reasons": ["too_short"],
        "assumptions": ["clock of phone-1 is UTC +-0.5 s from unix_time"], "evidence": [],
        "real_fraction": {"mot": 0.6, "hr": 0.02, "aud": 1.0, "ctx": 1.0},
        "max_gap_us": {"mot": 33_333, "hr": 1_000_000, "aud": 0, "ctx": 0}, "start_us": 0,
        "end_us": SECONDS * 1_000_000 - 20_000, "row_start": 0, "rows": 50 * SECONDS, "context_rows": 2,
        "features": "features.npz", "group_id": "example", "split": "train", "performer": "nobody", "bpm": 120.0,
        "synthetic": True, "pose_path": "poses.jsonl",
    }  # fmt: skip
    return {name: entry[name] for name in PAIR.names}


if __name__ == "__main__":
    sys.path.insert(0, str(TOP))
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TOP / "examples" / "data")
