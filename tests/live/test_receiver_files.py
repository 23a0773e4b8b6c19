"""The receivers in examples are whole without their programs at hand: they parse, and all five controls reach the sound."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from formats.control_map import DEFAULT
from formats.packets import CONTROLS

TOP = Path(__file__).resolve().parents[2]
RECEIVERS = TOP / "examples" / "receivers"
STRUDEL = RECEIVERS / "strudel"
PATCHES = ("core", "drums", "bass", "pads", "fx")
PAGE = RECEIVERS / "strudel-page"
Graph = dict[tuple[str, int], list[str]]


def reached(graph: Graph, start: tuple[str, int]) -> set[str]:
    """Everything that a message leaving that outlet can get to."""
    seen: set[str] = set()
    todo = list(graph[start])
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += [n for (a, _), to in graph.items() if a == node for n in to]
    return seen


def test_only_our_own_text_is_kept() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "examples/receivers"], cwd=TOP, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    files = listed.stdout.split()
    assert files
    kinds = {Path(f).suffix or Path(f).name for f in files}
    assert kinds <= {".md", ".txt", ".scd", ".pd", ".maxpat", ".js", ".mjs", ".html", ".json", "LICENSE", ".gitignore"}
    assert not [f for f in files if "node_modules" in f or "lock" in f or f.endswith("/main.js")]
    assert all((TOP / f).stat().st_size < 64 * 1024 for f in files)


def test_the_readme_names_every_receiver() -> None:
    text = (RECEIVERS / "README.md").read_text()
    for item in RECEIVERS.iterdir():
        name = f"{item.name}/" if item.is_dir() else item.name
        assert item.name == "README.md" or f"`{name}`" in text, name
    assert all(f"`{name}`" in text for name in CONTROLS)


def max_patch() -> tuple[dict[str, dict[str, Any]], Graph]:
    patcher = json.loads((RECEIVERS / "choreo.maxpat").read_text())["patcher"]
    boxes = {b["box"]["id"]: b["box"] for b in patcher["boxes"]}
    assert len(boxes) == len(patcher["boxes"])
    graph: Graph = defaultdict(list)
    for item in patcher["lines"]:
        (source, outlet), (target, inlet) = item["patchline"]["source"], item["patchline"]["destination"]
        assert outlet < boxes[source]["numoutlets"], boxes[source]
        assert inlet < boxes[target]["numinlets"], boxes[target]
        graph[source, outlet].append(target)
    return boxes, graph


def test_max_leads_every_control_to_the_loudspeaker() -> None:
    boxes, graph = max_patch()
    (route,) = (i for i, b in boxes.items() if b.get("text", "").startswith("route "))
    assert boxes[route]["text"].split()[1:] == [f"/choreo/{name}" for name in CONTROLS]
    assert boxes[route]["numoutlets"] == len(CONTROLS) + 1
    (speaker,) = (i for i, b in boxes.items() if b["maxclass"] == "ezdac~")
    (udp,) = (i for i, b in boxes.items() if b.get("text", "").startswith("udpreceive"))
    assert route in graph[udp, 0]
    for outlet in range(len(CONTROLS)):
        assert speaker in reached(graph, (route, outlet)), CONTROLS[outlet]
    for box in boxes.values():
        assert len(box.get("outlettype", [])) == box["numoutlets"], box
    assert any("Parsed, not run" in b.get("text", "") for b in boxes.values())


def pd_canvases() -> list[tuple[list[str], list[tuple[int, int, int, int]]]]:
    """Objects and cords of each canvas, inner ones first; a finished canvas is one object of the outer one."""
    text = (RECEIVERS / "choreo.pd").read_text()
    done, stack = [], []
    for entry in re.split(r"(?<!\\);\s*\n", text):
        words = entry.split()
        if not words:
            continue
        if words[0] == "#N":
            stack.append(([], []))
        elif words[1] == "connect":
            stack[-1][1].append(tuple(map(int, words[2:6])))
        elif words[1] == "restore":
            done.append(stack.pop())
            stack[-1][0].append(" ".join(words[4:]))
        else:
            stack[-1][0].append(" ".join(words[4:]))
    assert len(stack) == 1, "a canvas is not closed"
    return [*done, stack.pop()]


def test_pd_leads_every_control_to_the_loudspeaker() -> None:
    graph: Graph = defaultdict(list)
    objects: dict[str, str] = {}
    for number, (texts, cords) in enumerate(pd_canvases()):
        for at, text in enumerate(texts):
            objects[f"{number}.{at}"] = text
        for a, outlet, b, _ in cords:
            assert max(a, b) < len(texts), (number, a, b)
            graph[f"{number}.{a}", outlet].append(f"{number}.{b}")
    # What is sent by name arrives by name, and a table that is written is what is read.
    ends: dict[str, list[str]] = defaultdict(list)
    for node, text in objects.items():
        kind, _, name = text.partition(" ")
        if kind in ("r", "r~", "delread~", "tabread"):
            ends[name.split()[0]].append(node)
    for node, text in objects.items():
        kind, _, name = text.partition(" ")
        if kind in ("s", "s~", "delwrite~"):
            assert ends[name.split()[0]], f"nobody receives {name}"
            graph[node, 0] += ends[name.split()[0]]
    (speaker,) = (node for node, text in objects.items() if text == "dac~")
    (route,) = (node for node, text in objects.items() if text.startswith("route tempo_scale"))
    assert objects[route].split()[1:] == list(CONTROLS)
    for outlet in range(len(CONTROLS)):
        assert speaker in reached(graph, (route, outlet)), CONTROLS[outlet]
    assert any("localhost" in text for text in objects.values() if text.startswith("netreceive"))


def test_supercollider_hears_every_control() -> None:
    text = re.sub(r"//[^\n]*", "", (RECEIVERS / "recv.scd").read_text())
    for opening, closing in ("()", "{}", "[]"):
        assert text.count(opening) == text.count(closing)
    neutral = re.search(r"var neutral = \((.*?)\);", text)
    assert neutral and [part.split(":")[0].strip() for part in neutral[1].split(",")] == list(CONTROLS)
    assert '"/choreo/" ++ name' in text
    for name in CONTROLS[2:]:
        assert f"In.kr({name})" in text and f"{name}: ~choreoBus[\\{name}]" in text, name
    assert "< ~choreo[\\density]" in text and "clock.tempo = 2 * value" in text


def test_strudel_reads_every_control_from_the_state() -> None:
    text = (STRUDEL / "connect.txt").read_text()
    assert re.findall(r"^const (\w+) = ref\(\(\) => state\.(\w+)\);$", text, re.M) == [(n, n) for n in CONTROLS]
    assert "setcpm(state.cpm * " in text and "Object.assign(state, controls)" in text


@pytest.mark.parametrize("file", [STRUDEL / "connect.txt", RECEIVERS / "hydra.js"], ids=lambda p: p.name)
def test_pages_confirm_what_they_have(file: Path) -> None:
    """Run by node with a socket that is a stub: every frame is answered with its number, a cue is not."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed (apt package nodejs)")
    text = file.read_text()
    code = text[text.index("const url") : text.index("state.told = 0" if file.suffix == ".txt" else "// Lines by")]
    stub = """
const sent = [];
globalThis.window = globalThis; globalThis.setcpm = () => {};
globalThis.WebSocket = class { constructor() { globalThis.made = this; } send(t) { sent.push(t); } close() {} };
"""
    tell = """
made.onmessage({ data: '{"t":1,"seq":7,"controls":{"density":0.25}}' });
made.onmessage({ data: '{"cue":{"kind":"plan","name":"drop"}}' });
console.log(JSON.stringify([sent, state.density]));
"""
    done = subprocess.run([node, "-e", stub + code + tell], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout) == [['{"ack":7}'], 0.25]


def test_strudel_reads_the_controllers_of_the_default_map() -> None:
    text = (STRUDEL / "midin.txt").read_text()
    found = re.findall(r"^const (\w+) = cc\((\d+)\)", text, re.M)
    assert found == [(n, str(c.cc)) for n, c in zip(CONTROLS, DEFAULT.controls, strict=True)]
    assert f".range({DEFAULT.tempo_scale.min:g}, {DEFAULT.tempo_scale.max:g})" in text


@pytest.mark.parametrize("patch", PATCHES)
def test_every_strudel_patch_uses_the_controls_and_loads_nothing(patch: str) -> None:
    text = re.sub(r"//[^\n]*", "", (STRUDEL / f"{patch}.txt").read_text())
    assert {name for name in CONTROLS[1:] if re.search(rf"\b{name}\b", text)} == set(CONTROLS[1:])
    assert "samples(" not in text and "http" not in text
    sounds = {s for group in re.findall(r'\bs\("([^"]*)"\)', text) for s in group.split()}
    assert sounds <= {"sawtooth", "square", "triangle", "sine", "white", "pink", "sbd"}


def test_the_page_pins_what_it_loads_and_says_its_licence() -> None:
    facts = json.loads((PAGE / "package.json").read_text())
    pinned = {**facts["dependencies"], **facts["devDependencies"]}
    assert pinned and all(re.fullmatch(r"\d+\.\d+\.\d+", v) for v in pinned.values()), pinned
    source = (PAGE / "main.mjs").read_text()
    assert set(re.findall(r"from '(@[^']+)'", source)) == set(facts["dependencies"])
    assert facts["license"] == "AGPL-3.0-or-later" and facts["private"] is True
    for name in ("LICENSE", "main.mjs", "index.html"):
        assert "SPDX-License-Identifier: AGPL-3.0-or-later" in (PAGE / name).read_text()
    assert {re.sub(r".*/", "", p) for p in re.findall(r"from '(\.\./strudel/[^']+)'", source)} == {
        p.name for p in STRUDEL.iterdir()
    }
    assert "127.0.0.1" in facts["scripts"]["start"]


SCRIPTS = [RECEIVERS / "hydra.js", PAGE / "main.mjs", *sorted(STRUDEL.glob("*.txt"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_scripts_are_javascript(script: Path, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed (apt package nodejs)")
    copy = tmp_path / "script.mjs"
    # A module takes a label once; in Strudel every `$:` is a pattern of its own.
    lines = script.read_text().splitlines()
    copy.write_text("\n".join(re.sub(r"^\$:", f"$label{k}:", line) for k, line in enumerate(lines)) + "\n")
    done = subprocess.run([node, "--check", copy], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_hydra_draws_with_every_control() -> None:
    text = re.sub(r"//[^\n]*", "", (RECEIVERS / "hydra.js").read_text())
    drawing = text[text.index("osc(") :]
    assert all(f"state.{name}" in drawing for name in CONTROLS)
