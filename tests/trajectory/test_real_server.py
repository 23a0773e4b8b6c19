"""The language model's path against a real server: `transformers serve` with a tiny Llama of random weights.

Model and tokenizer are made here, nothing is downloaded. Random weights say nothing that can be used, and the server
takes a JSON schema without holding to it: what is proved is that whatever a model says is checked, asked for once more,
and then told by template, counted.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from choreo_cli.trajectory import solver
from choreo_cli.trajectory.language import OpenAiServer
from formats import manifest, tables
from formats.trajectory import DESCRIPTIONS
from tests.trajectory.small_sets import make_set

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(600)]
pytest.importorskip("torch")
pytest.importorskip("transformers")
ROWS = 3
CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    model: str
    process: subprocess.Popen[bytes]
    log: Path


def make_model(folder: Path) -> int:
    """Write a Llama with random weights and a tokenizer of the 256 bytes; returns the number of weights."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: k for k, token in enumerate(["<s>", "</s>", *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=64, intermediate_size=136, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=8192, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return int(sum(p.numel() for p in model.parameters()))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(url.removesuffix("/v1") + "/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"no server after {seconds:g} s: {log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    top = tmp_path_factory.mktemp("server")
    model = top / "tiny-llama"
    weights = make_model(model)
    assert 100_000 < weights < 140_000
    port, log = free_port(), top / "server.log"
    command = [
        sys.executable, "-m", "transformers.cli.transformers", "serve", str(model), "--host", "127.0.0.1", "--port",
        str(port), "--device", "cpu", "--default-seed", "0",
    ]  # fmt: skip
    env = {
        "PATH": os.environ.get("PATH", ""), "HOME": str(top), "HF_HOME": str(top / "hf"), "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env, cwd=top)
    try:
        wait_until_it_answers(f"http://127.0.0.1:{port}/v1", process, log)
        yield Served(f"http://127.0.0.1:{port}/v1", str(model), process, log)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def test_it_answers_and_its_tokens_are_counted(served: Served) -> None:
    model = OpenAiServer(served.url, served.model, max_tokens=24, timeout_s=120)
    answer = model.ask([{"role": "user", "content": "A line."}], {"type": "object"}, seed=1)
    assert answer.text and answer.tokens > 24 and not answer.cached
    assert answer.finish in ("length", "stop")
    assert (model.budget.sent, model.budget.used) == (1, answer.tokens)
    assert model.ask([{"role": "user", "content": "A line."}], {"type": "object"}, seed=1).text == answer.text


def test_whatever_it_says_is_checked_asked_for_once_more_and_told_by_template(
    choreo, served: Served, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    of = make_set(tmp_path / "set", test=8, grid=0)
    how = ("--rows", ROWS, "--cache", "answers", "--retries", "0", "--timeout", "120", "--no-gate")
    line = ("describe", "trajectories", "set", "--solver", f"llm:{served.url}", "--model", served.model, *how)
    done = choreo(*line, "-o", "told", timeout=400)
    assert done.returncode == 0, done.stderr
    assert f"0 of {ROWS} are told by the model, {ROWS} by template in its place".encode() in done.stderr
    told = tables.read_table(tmp_path / "told" / "descriptions.parquet", DESCRIPTIONS).to_pylist()
    fits = solver.fit(of.shown("test", slice(0, ROWS)))
    for row in told:
        assert (row["engine"], row["asked"]) == ("template", 2)
        assert row["fallback"]
        assert (
            row["parsed"] and row["family"] == ("linear", "circular", "helical", "parabolic")[fits.family[row["row"]]]
        )
    entries = manifest.decode((tmp_path / "told" / "metrics.json").read_bytes()).entries
    by_name = {e["name"]: e for e in entries}
    assert by_name["describe.told_by_model"]["value"] == by_name["describe.first_answer_used"]["value"] == 0.0
    assert by_name["describe.told_by_model"]["params"]["model"] == served.model
    assert by_name["describe.model.slots"]["status"] == "insufficient"
    kept = [json.loads(p.read_bytes()) for p in sorted((tmp_path / "answers").iterdir())]
    assert len(kept) == 2 * ROWS
    repairs = [k for k in kept if "cannot be used" in k["request"]["messages"][-1]["content"]]
    assert len(repairs) == ROWS
    assert all(k["text"] and k["tokens"] > 100 for k in kept)

    again = choreo(*line, "--replay", "-o", "again", timeout=120)
    assert again.returncode == 0, again.stderr
    kept_bytes = [(tmp_path / name / "descriptions.parquet").read_bytes() for name in ("told", "again")]
    assert kept_bytes[0] == kept_bytes[1]


def test_a_model_of_another_name_is_refused_by_the_server_in_one_line(choreo, served: Served, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make_set(tmp_path / "set", test=8, grid=0)
    done = choreo(
        "describe", "trajectories", "set", "--solver", f"llm:{served.url}", "--model", "another", "-o", "told"
    )
    assert done.returncode == 69, done.stderr
    assert b"status 400" in done.stderr and done.stderr.count(b"\n") == 1
    assert not (tmp_path / "told" / "metrics.json").exists()


def test_the_server_went_on_through_all_of_it(served: Served) -> None:
    """Last in this file: nothing that was asked brought it down, and it listens on this machine only."""
    assert served.process.poll() is None
    with urllib.request.urlopen(served.url.removesuffix("/v1") + "/health", timeout=10) as reply:
        assert reply.status == 200
