"""Read the tempo map of a standard MIDI file: beats (quarter notes) over its whole duration."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from formats.errors import FormatError
from formats.foreign.guard import contained
from formats.foreign.model import F64, Beats, Facts
from formats.foreign.registry import Reader
from formats.foreign.source import Source

# A busy three-minute piece is 100 kB; parsing costs about a second a megabyte.
CAP = 4 * 2**20
MAX_BEATS = 1_000_000
LONGEST_S = 86_400.0
DEFAULT_TEMPO_US = 500_000


@dataclass(frozen=True, slots=True)
class TempoMap:
    """Tempo changes and the length of a file.

    Args:
        ticks: (N,) tick of each change, the first at 0. tempo_us: (N,) microseconds a quarter from there on.
        ticks_per_beat: Ticks a quarter. end_tick: The last event. notes: Notes struck.
        signature: First time signature, e.g. (4, 4), or None.
    """

    ticks: F64
    tempo_us: F64
    ticks_per_beat: int
    end_tick: int
    notes: int
    signature: tuple[int, int] | None

    def seconds(self, tick: F64) -> F64:
        """Time of each tick in seconds from the start."""
        per_tick = self.tempo_us / (1e6 * self.ticks_per_beat)
        at_change = np.concatenate(([0.0], np.cumsum(np.diff(self.ticks) * per_tick[:-1])))
        i = np.searchsorted(self.ticks, tick, side="right") - 1
        return np.asarray(at_change[i] + (tick - self.ticks[i]) * per_tick[i], np.float64)


@contained
def read_map(source: Source) -> TempoMap:
    """Parse the file once.

    Raises:
        FormatError: damaged, larger than 4 MiB, SMPTE time division, independent tracks, or longer than a day.
    """
    import mido

    data = source.read_bytes(CAP)
    division = int.from_bytes(data[12:14], "big") if len(data) >= 14 else 0
    if not 0 < division < 0x8000:
        raise FormatError("the time division is SMPTE or 0: there are no beats in it")
    try:
        # Out-of-range data bytes of a damaged file are an error, not something to clip.
        midi = mido.MidiFile(file=io.BytesIO(data), clip=False)
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, mido.KeySignatureError) as e:
        raise FormatError(f"not a usable MIDI file: {type(e).__name__}: {str(e)[:80]}") from None
    if midi.type == 2:
        raise FormatError("type 2: its tracks have independent times")
    changes: dict[int, int] = {}
    end, notes, signature = 0, 0, None
    for track in midi.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "set_tempo":
                changes[tick] = message.tempo
            elif message.type == "note_on" and message.velocity > 0:
                notes += 1
            elif message.type == "time_signature" and signature is None:
                signature = (message.numerator, message.denominator)
        end = max(end, tick)
    if any(tempo <= 0 for tempo in changes.values()):
        raise FormatError("a tempo of 0")
    changes.setdefault(0, DEFAULT_TEMPO_US)
    ticks = np.array(sorted(changes), np.float64)
    tempi = np.array([changes[int(t)] for t in ticks], np.float64)
    found = TempoMap(ticks, tempi, division, end, notes, signature)
    if float(found.seconds(np.array([float(end)]))[0]) > LONGEST_S or end // division > MAX_BEATS:
        raise FormatError("longer than a day or a million beats")
    return found


def _main_bpm(found: TempoMap) -> float:
    """BPM of the tempo that lasts longest."""
    edges = found.seconds(np.append(found.ticks, max(float(found.end_tick), float(found.ticks[-1]))))
    return 60e6 / float(found.tempo_us[int(np.argmax(np.diff(edges)))])


def _beats(found: TempoMap) -> F64:
    return found.seconds(np.arange(0, found.end_tick + 1, found.ticks_per_beat, dtype=np.float64))


@contained
def read(source: Source) -> Beats:
    """Read the beat grid: one beat a quarter note from the start to the last event.

    Raises:
        FormatError: as `read_map`.
    """
    found = read_map(source)
    return Beats(_beats(found), _main_bpm(found))


def _sniff(head: bytes, name: str, size: int) -> bool:
    return head[:4] == b"MThd"


def _facts(source: Source) -> Facts:
    found = read_map(source)
    bpms = 60e6 / found.tempo_us
    meta: dict[str, object] = {
        "bpm": round(_main_bpm(found), 4),
        "bpm_range": [round(float(bpms.min()), 4), round(float(bpms.max()), 4)],
        "tempo_changes": len(found.ticks) - 1,
        "notes": found.notes,
        "time_signature": list(found.signature) if found.signature else None,
    }
    duration = round(float(found.seconds(np.array([float(found.end_tick)]))[0]) * 1e6)
    return Facts("beats", "midi", n=found.end_tick // found.ticks_per_beat + 1, duration_us=duration, meta=meta)


READERS: tuple[Reader, ...] = (Reader("midi", "beats", _sniff, _facts, read, order=10),)
