"""How every `choreo evaluate` ends: remarks, one metrics manifest, and whether a gate failed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from choreo_cli import streams


def finish(
    what: str,
    entries: Sequence[dict[str, Any]],
    inputs: Sequence[dict[str, Any]],
    notes: Sequence[str],
    params: dict[str, Any],
    seed: int | None,
    quiet: bool,
    **where: Any,
) -> bool:
    """Write the manifest where `streams.emit` is told; returns whether a gate was judged and failed.

    Args:
        what: Subcommand.
        entries: Records of `choreo.metrics/1`.
        inputs: Provenance of what was read.
        notes: Sentences for the person, before those about gates.
        params: Parameters of the command.
        seed: Of its draws.
        quiet: No remarks.
        where: `out`, `json` and `as_table` of `streams.emit`.
    """
    from choreo_cli import runtime
    from choreo_cli.metrics import table
    from choreo_cli.progress import Progress
    from formats.manifest import Manifest, encode

    for line in [*notes, *table.remarks(entries)]:
        Progress(f"evaluate {what}", quiet=quiet).note(line)
    made_by = runtime.provenance(f"evaluate {what}", params, list(inputs), seed=seed)
    doc = encode(Manifest("choreo.metrics/1", made_by, list(entries)))
    shown = partial(streams.columns, table.rows(entries), table.HEADER)
    streams.emit(doc, shown, **where, keep="keep it with -o FILE, or pipe it on: choreo report -")
    return table.failed(entries)
