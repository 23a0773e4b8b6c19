"""Swift around the Core ML packages: the class that runs them and the one that times them, from what they take."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from choreo_cli import __version__
from choreo_cli.dataset.motions_stats import SWIVELS
from choreo_cli.errors import DataError, UnavailableError
from choreo_cli.generate.swift_bench import BENCH
from choreo_cli.generate.swift_wrapper import FEEDS, WRAPPER
from formats.export_card import PARSED, ExportCard

SWIFT_LINE = "pip install 'choreo[coreml]'"
FILES = ("OnDeviceMotionGen.swift", "Bench.swift")
LONGEST = 110
OUTPUT = "out"
Inputs = Mapping[str, Sequence[Any]]


def sources(card: ExportCard, graphs: Mapping[str, Inputs], precisions: Sequence[str]) -> dict[str, str]:
    """The two files by name.

    Args:
        card: What a sidecar says of the model; its graphs are not looked at.
        graphs: Inputs of every package of a Core ML export, by the name of the graph.
        precisions: Precisions in which each of them lies there.

    Raises:
        DataError: a package with an input that the class cannot feed, or without a whole sampler.
    """
    samplers = {name: inputs for name, inputs in graphs.items() if name.startswith("sampler")}
    if not samplers:
        raise DataError("the export has no whole sampler: the Swift class runs one")
    feeds = [f"            case {_text(name)}:\n                {_feed(name)}" for name in _names(samplers.values())]
    guidance = card.facts["defaults"]["guidance"]
    stats, steps = card.facts["stats"], sorted(int(n.removeprefix("sampler")) for n in samplers)
    usual = int(card.facts["defaults"]["steps"])
    told = {
        "VERSION": __version__, "STATUS": PARSED, "WEIGHTS": card.weights["sha256"], "LAYOUT": card.layout.name,
        "LAYOUT_VERSION": card.layout.version, "FRAMES": card.arch["frames"], "FPS": float(card.facts["fps"]),
        "CHANNELS": _list([_text(c) for c in card.layout.channels]), "AUDIO": card.arch["audio_width"],
        "TEXT": card.arch["text_width"], "TASKS": _list([_text(t) for t in card.tasks]),
        "GROUPS": "\n".join(f"        ({_text(n)}, {a}..<{b})," for n, (a, b) in card.groups.items()),
        "SWIVELS": _list([str(k) for k in SWIVELS]), "MEAN": _numbers(stats["mean"]), "STD": _numbers(stats["std"]),
        "AUDIO_MEAN": _numbers(stats["audio_mean"]), "AUDIO_STD": _numbers(stats["audio_std"]),
        "STEPS": usual if usual in steps else steps[-1], "WEIGHT": float(guidance["audio"]),
        "OUTPUT": OUTPUT, "STEP_LIST": ", ".join(str(n) for n in steps),
        "INPUTS": "\n".join(_inputs(n, told) for n, told in graphs.items()),
        "CASES": "\n".join(f"    case {t.lower()} = {k}" for k, t in enumerate(card.tasks)), "FEEDS": "\n".join(feeds),
        "PRECISIONS": _list([_text(p) for p in sorted(precisions)], short=True),
    }  # fmt: skip
    return {name: _filled(text, told) for name, text in zip(FILES, (WRAPPER, BENCH), strict=True)}


def parse(files: Mapping[str, str]) -> None:
    """Refuse what is not Swift by its grammar. An unknown type or function passes: nothing is compiled.

    Raises:
        DataError: a syntax error, with its line.
        UnavailableError: tree-sitter is not installed.
    """
    try:
        import tree_sitter_swift
        from tree_sitter import Language, Parser
    except (ImportError, OSError) as e:
        raise UnavailableError(f"Swift is parsed by tree-sitter ({e})", hint=SWIFT_LINE) from None
    parser = Parser(Language(tree_sitter_swift.language()))
    for name, text in files.items():
        root = parser.parse(text.encode()).root_node
        if root.has_error:
            raise DataError(f"{name}: no Swift in line {_fault(root)}")


def _fault(node: Any) -> int:
    if node.is_error or node.is_missing:
        return int(node.start_point[0]) + 1
    return next((_fault(child) for child in node.children if child.has_error), int(node.start_point[0]) + 1)


def _filled(text: str, told: Mapping[str, Any]) -> str:
    # The longest names first: one may begin another.
    for name in sorted(told, key=len, reverse=True):
        text = text.replace(f"${name}", str(told[name]))
    return text


def _names(graphs: Iterable[Inputs]) -> list[str]:
    names: dict[str, None] = {}
    for inputs in graphs:
        names |= dict.fromkeys(inputs)
    return list(names)


def _feed(name: str) -> str:
    key = "noise" if name.startswith("noise") else name
    if key not in FEEDS:
        raise DataError(f"the Swift class does not know what to give {name!r}")
    return FEEDS[key]


def _inputs(name: str, inputs: Inputs) -> str:
    rows = [f"            ({_text(n)}, {_list([str(k) for k in s], short=True)})," for n, s in inputs.items()]
    return "\n".join([f"        {_text(name)}: [", *rows, "        ],"])


def _text(value: str) -> str:
    return json.dumps(value)


def _numbers(values: Sequence[float]) -> str:
    return _list([f"{float(v):.9g}" for v in values])


def _list(parts: Sequence[str], *, short: bool = False) -> str:
    if short or sum(len(p) + 2 for p in parts) < LONGEST - 40:
        return f"[{', '.join(parts)}]"
    lines, line = [], ""
    for part in parts:
        if len(line) + len(part) > LONGEST - 10:
            lines.append(line)
            line = ""
        line += f"{part}, "
    return "[\n" + "\n".join(f"        {row.rstrip()}" for row in [*lines, line]) + "\n    ]"
