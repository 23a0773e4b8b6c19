"""Which source a word on the command line means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from choreo_cli.errors import NoInputError, UsageError
from choreo_cli.live.replay import STEP_US
from choreo_cli.live.sample import Body, Source

if TYPE_CHECKING:
    from choreo_cli.live.relays import ClockRelay

FORMS = (
    "FILE (frames, a folder of sessions, poses, heart rate, packets), - (packets on stdin), osc:PORT[:PRESET], "
    "lsl:NAME, ble:[ADDRESS], audio:FILE, jack:[PORT], portaudio:[DEVICE], midi-clock:PORT, demo"
)
SOUND_KINDS = ("audio", "video")


def open_source(
    spec: str,
    *,
    session: str | None = None,
    listen: str = "127.0.0.1",
    mapping: Mapping[str, Any] | None = None,
    repeats: int = 1,
    stdin: Any = None,
    beats: bool = False,
    near_bpm: float | None = None,
    relay: ClockRelay | None = None,
    body: Body | None = None,
) -> list[Source]:
    """The sources that a word names; the loop opens them.

    Args:
        spec: One of `FORMS`.
        session: Which session of a folder.
        listen: Address that network sources bind to.
        mapping: Of an OSC source: address and index to input (`--map`).
        repeats: Play recorded frames so often, end to end.
        stdin: Binary stream behind `-`.
        beats: A sound source also gives the beats heard in it (for a transport led by `audio`).
        near_bpm: The tempo in which that sound is felt, roughly.
        body: Joints of poses over OSC or on stdin, in the order they are sent (`--body`).
        relay: Where a MIDI clock's start and stop go; None where it does not lead.

    Raises:
        UsageError: no such form, or a file of a kind that cannot be played.
        NoInputError: no such file.
        FormatError: a damaged file.
        UnavailableError: an extra is missing, with the line that installs it.
    """
    if spec == "demo":
        from choreo_cli.live.demo_source import demo_frames

        return [demo_frames(repeats=repeats)]
    if spec == "-":
        from choreo_cli.live.packet_source import PacketPipe

        if stdin is None:
            raise UsageError("source -: nothing is on stdin", hint="pipe JSON Lines of SensorPacket into it")
        if body is not None:
            from choreo_cli.live.pose_pipe import PosePipe

            return [PosePipe(stdin, body)]
        return [PacketPipe(stdin)]
    kind, colon, rest = spec.partition(":")
    if colon and kind in DEVICES and not Path(spec).exists():
        if kind in ("audio", "jack", "portaudio"):
            return [_sound(kind, rest, spec, beats, near_bpm)]
        if kind == "osc":
            return [_osc(spec, listen, mapping, body)]
        return [_device(kind, rest, spec, relay)]
    found = _file(Path(spec), spec, session, repeats)
    return [found] if found is not None else [_sound("audio", spec, spec, beats, near_bpm)]


DEVICES = ("osc", "lsl", "ble", "audio", "jack", "portaudio", "midi-clock")


def _sound(kind: str, rest: str, spec: str, beats: bool, near_bpm: float | None) -> Source:
    from choreo_cli.live.audio_in import AudioFile, JackIn, PortAudioIn

    if kind == "audio":
        if not rest:
            raise UsageError(f"source {spec}: no file is named", hint="audio:FILE")
        return AudioFile(Path(rest), name=spec, beats=beats, near_bpm=near_bpm)
    return (JackIn if kind == "jack" else PortAudioIn)(rest or None, beats=beats, near_bpm=near_bpm)


def _device(kind: str, rest: str, spec: str, relay: ClockRelay | None) -> Source:
    if kind == "lsl":
        from choreo_cli.live.lsl import LslSource

        if not rest:
            raise UsageError(f"source {spec}: no stream is named", hint="lsl:NAME, see run-live --list")
        return LslSource(rest)
    if kind == "ble":
        from choreo_cli.live.ble import BleHeart

        return BleHeart(rest or None)
    from choreo_cli.live.midi_in import MidiClockIn

    made: Source = MidiClockIn(rest, relay.estimator if relay else None, relay)
    return made


def osc_port(spec: str) -> tuple[int, str | None]:
    """Port and preset of `osc:PORT[:PRESET]`. Raises UsageError."""
    kind, _, rest = spec.partition(":")
    port, _, preset = rest.partition(":")
    if kind != "osc" or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        said = f"{port or 'nothing'} is not a port" if kind == "osc" else "not OSC"
        raise UsageError(f"source {spec}: {said}", hint="osc:PORT or osc:PORT:PRESET")
    return int(port), preset or None


def _osc(spec: str, listen: str, mapping: Mapping[str, Any] | None, body: Body | None) -> Source:
    from choreo_cli.live.osc_source import OscSource

    port, preset = osc_port(spec)
    source: Source = OscSource(listen, port, preset=preset, mapping=mapping, body=body)
    return source


def _file(path: Path, spec: str, session: str | None, repeats: int) -> Source | None:
    """A recording as a source; None for sound."""
    from choreo_cli.live import replay
    from formats.foreign import registry
    from formats.foreign.source import Source as File

    if not path.exists():
        raise NoInputError(f"no source {spec}", hint=f"a source is {FORMS}")
    if path.is_dir():
        return replay.frames(path, session, repeats=repeats, name=spec)
    file = File.of(path)
    if file.head[:4] == b"PAR1":
        from choreo_cli.live.pose_source import poses_table
        from formats.poses import POSES
        from formats.tables import schema_name

        if schema_name(path) == POSES.schema:
            return poses_table(path, name=spec)
        return replay.frames(path, session, repeats=repeats, name=spec)
    if path.name in ("sessions.json", "pairs.json", "pack.json"):
        return replay.frames(path, session, repeats=repeats, name=spec)
    from choreo_cli.live.packet_source import is_packet_lines, packet_file

    if is_packet_lines(file.head):
        return packet_file(path, name=spec)
    reader = registry.recognise(file.head, file.name, file.size)
    if reader.kind in SOUND_KINDS:
        return None
    from choreo_cli.live.pose_source import body_file

    return body_file(path, reader, name=spec)


def align(sources: Sequence[Source]) -> int:
    """Put several sources on one session clock; its time at the first tick.

    A recording begins at its own first time; when several are played together all begin at the earliest, so that
    they keep their distances. Sensors begin where the recordings do. Call it before the sources are opened.
    """
    played = [s.origin_us for s in sources if hasattr(s, "end_us")]
    origin = min(played, default=0) // STEP_US * STEP_US
    for source in sources:
        source.origin_us = origin
    return origin
