"""The language model's path against a scripted server: patience, refusals, repair, memory, budget, hostile answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_server import Reply, serving

from choreo_cli.errors import DataError, UnavailableError, UsageError
from choreo_cli.trajectory import curves, describe, solver, words
from choreo_cli.trajectory.language import MAX_ANSWER, Budget, BudgetSpent, Memory, OpenAiServer

ASK = [{"role": "user", "content": "say"}]


def server(url: str, **more: Any) -> OpenAiServer:
    return OpenAiServer(url, "tiny", pause=[].append, **more)


def waits(model: OpenAiServer) -> list[float]:
    """How long it has waited, each time."""
    found: list[float] = model.pause.__self__  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="module")
def fits() -> solver.Fits:
    return solver.fit(curves.points(curves.draw(4, 0, 8))[:, :16])


def answer(fits: solver.Fits, row: int, **other: Any) -> str:
    told = describe.from_fit(fits, row)
    return json.dumps({"equation": told.equation, **told.slots, "text": told.text, **other})


def test_it_asks_with_a_schema_and_a_key_that_is_kept_nowhere(tmp_path: Path) -> None:
    with serving(Reply("hello")) as said:
        model = server(said.url, key="secret-key", memory=Memory(tmp_path))
        assert model.ask(ASK, {"type": "object"}, seed=7).text == "hello"
    (asked,) = said.asked
    assert said.paths == ["/v1/chat/completions"]
    assert asked["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (asked["model"], asked["seed"], asked["temperature"]) == ("tiny", 7, 0.0)
    assert said.headers[0]["authorization"] == "Bearer secret-key"
    kept = "".join(p.read_text() for p in tmp_path.iterdir())
    assert "hello" in kept
    assert "secret" not in kept
    assert "secret" not in repr(model)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_it_tries_again_and_waits_longer_each_time(status: int) -> None:
    with serving(Reply(status=status), Reply(status=status), Reply("at last")) as said:
        model = server(said.url)
        assert model.ask(ASK, {}, seed=0).text == "at last"
    assert waits(model) == [0.5, 1.0]
    assert model.budget.sent == 3


def test_it_waits_as_long_as_it_is_told_but_not_for_ever() -> None:
    with serving(Reply(status=429, headers={"Retry-After": "3"}), Reply(status=429, headers={"Retry-After": "86400"}),
                 Reply("ok")) as said:  # fmt: skip
        model = server(said.url)
        model.ask(ASK, {}, seed=0)
    assert waits(model) == [3.0, 30.0]


def test_a_server_that_never_answers_is_named_without_its_path() -> None:
    with serving(Reply("late", delay_s=0.6)) as said:
        model = server(said.url, timeout_s=0.1, retries=1)
        with pytest.raises(UnavailableError, match=r"no answer from http://127\.0\.0\.1:\d+: no answer in 0\.1 s"):
            model.ask(ASK, {}, seed=0)
    assert len(said.asked) == 2


def test_a_port_where_nobody_listens() -> None:
    model = server("http://127.0.0.1:9/v1", retries=0)
    with pytest.raises(UnavailableError, match="no answer from"):
        model.ask(ASK, {}, seed=0)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_tried_again(status: int) -> None:
    with serving(Reply(status=status)) as said, pytest.raises(UnavailableError, match="CHOREO_LLM_KEY"):
        server(said.url).ask(ASK, {}, seed=0)
    assert len(said.asked) == 1


def test_a_server_that_refuses_schemas_is_asked_without_one() -> None:
    with serving(Reply(status=400, raw=b'{"error":"response_format is not supported"}'), Reply("plain")) as said:
        model = server(said.url)
        assert model.ask(ASK, {"type": "object"}, seed=0).text == "plain"
        model.ask(ASK, {"type": "object"}, seed=1)
    assert ["response_format" in a for a in said.asked] == [True, False, False]


def test_it_does_not_follow_a_redirect_with_its_key() -> None:
    with serving(Reply("stolen")) as other, serving(Reply(status=307, headers={"Location": other.url})) as said:
        model = server(said.url, key="k")
        with pytest.raises(UnavailableError, match="status 307"):
            model.ask(ASK, {}, seed=0)
    assert other.asked == []


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b'{"choices":[]}', b'{"choices":[{"message":{"content":null}}]}', b"\xff\xfe", b"[" * 100_000,
     b'{"choices":' + b" " * MAX_ANSWER + b"1}"],
    ids=["empty", "cut", "array", "no choice", "no text", "bytes", "nested", "long"],
)  # fmt: skip
def test_what_is_no_completion_is_refused(raw: bytes) -> None:
    with serving(Reply(raw=raw)) as said, pytest.raises(UnavailableError, match="no answer from"):
        server(said.url, retries=1).ask(ASK, {}, seed=0)


def test_addresses_that_are_none_or_hold_a_key() -> None:
    for bad in ("file:///etc/passwd", "127.0.0.1:80", "ftp://h/"):
        with pytest.raises(UsageError, match="not an http"):
            OpenAiServer(bad, "m")
    with pytest.raises(UsageError, match="does not belong"):
        OpenAiServer("https://me:key@host/v1", "m")


def test_answers_are_kept_and_played_again_without_a_server(tmp_path: Path) -> None:
    with serving(Reply("once"), Reply("twice")) as said:
        model = server(said.url, memory=Memory(tmp_path))
        assert [model.ask(ASK, {}, seed=0).text for _ in range(3)] == ["once"] * 3
        assert model.ask(ASK, {}, seed=1).text == "twice"
    again = server("http://127.0.0.1:9/v1", memory=Memory(tmp_path, replay=True))
    assert again.ask(ASK, {}, seed=1).text == "twice"
    assert again.budget.sent == 0
    with pytest.raises(DataError, match="no recorded answer"):
        again.ask(ASK, {}, seed=2)
    for path in tmp_path.iterdir():
        path.write_bytes(b"{")
    with pytest.raises(DataError, match="damaged"):
        again.ask(ASK, {}, seed=1)


def test_a_budget_is_kept() -> None:
    with serving(Reply("a", tokens=60)) as said:
        model = server(said.url, budget=Budget(requests=2))
        model.ask(ASK, {}, seed=0)
        model.ask(ASK, {}, seed=1)
        with pytest.raises(BudgetSpent, match="2 requests"):
            model.ask(ASK, {}, seed=2)
        model = server(said.url, budget=Budget(tokens=100))
        model.ask(ASK, {}, seed=0)
        model.ask(ASK, {}, seed=1)
        with pytest.raises(BudgetSpent, match="100 tokens"):
            model.ask(ASK, {}, seed=2)


def test_a_good_answer_is_used(fits: solver.Fits) -> None:
    with serving(Reply(answer(fits, 0, text="A straight line."))) as said:
        told = describe.from_model(fits, 0, server(said.url), seed=0)
    assert (told.engine, told.asked, told.text) == ("llm", 1, "A straight line.")
    (asked,) = said.asked
    assert "equation" in asked["messages"][1]["content"]


BAD = {
    "cut": Reply('{"equation": "x', finish="length"),
    "no json": Reply("Sure! Here it is."),
    "array": Reply("[1]"),
    "missing": Reply('{"equation": "x = t; y = t; z = t"}'),
    "hostile": Reply(""),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_answer_is_asked_for_once_more_then_told_by_template(name: str, fits: solver.Fits) -> None:
    hostile = answer(fits, 1, equation="x = __import__('os').system('touch /tmp/owned'); y = t; z = t")
    bad = Reply(hostile) if name == "hostile" else BAD[name]
    with serving(bad, Reply(answer(fits, 1))) as said:
        told = describe.from_model(fits, 1, server(said.url), seed=0)
    assert (told.engine, told.asked) == ("llm", 2)
    assert "cannot be used" in said.asked[1]["messages"][-1]["content"]
    with serving(bad) as said:
        told = describe.from_model(fits, 1, server(said.url), seed=0)
    assert (told.engine, told.asked, len(said.asked)) == ("template", 2, 2)
    assert told.fallback
    assert told.equation == describe.from_fit(fits, 1).equation


@pytest.mark.parametrize(
    "change",
    [{"family": "spiral"}, {"speed": True}, {"speed": "fast"}, {"speed": 1e9}, {"text": "x" * 400}, {"extra": 1},
     {"direction": "up"}, {"equation": None}, {"family": None}, {"equation": "x = t**3; y = t; z = t"}],
)  # fmt: skip
def test_servers_do_not_all_hold_to_the_schema(change: dict[str, Any], fits: solver.Fits) -> None:
    found, why = describe.checked(type("A", (), {"text": answer(fits, 2, **change), "finish": "stop"})())  # type: ignore[arg-type]
    assert found is None
    assert why


def test_a_model_that_goes_away_and_a_budget_that_ends_cost_words_not_work(fits: solver.Fits) -> None:
    with serving(Reply(answer(fits, 0)), Reply(status=500)) as said:
        told = describe.tell_all(fits, "llm", server(said.url, retries=0, budget=Budget(requests=3)), seed=0)
    assert [t.engine for t in told] == ["llm"] + ["template"] * 7
    assert "status 500" in (told[1].fallback or "")
    assert "budget" in (told[-1].fallback or "")
    assert len(said.asked) == 3


def test_scores_tell_true_from_false(fits: solver.Fits) -> None:
    shapes = curves.draw(4, 0, 8)
    points = curves.points(shapes)[:, :16]
    for row in range(8):
        truth, told = curves.canonical(shapes, row), describe.from_fit(fits, row)
        diagonal = float(np.linalg.norm(np.ptp(points[row], axis=0)))
        good = describe.score(told, truth, diagonal)
        assert (good.parsed, good.form, good.numeric, good.within_5, good.wrong_slots) == (True, True, True, True, ())
        other = describe.from_fit(fits, (row + 1) % 8)
        bad = describe.score(other, truth, diagonal)
        assert not (bad.form or bad.numeric or bad.within_10)
        assert "family" in bad.wrong_slots
        assert "text" in bad.wrong_slots
    broken = describe.score(describe.Told("llm", "none", "x = os", "?", {}), truth, 1.0)
    assert not broken.parsed
    assert set(broken.wrong_slots) >= {"family", "speed"}


def test_a_sentence_that_names_another_family_contradicts() -> None:
    assert words.contradicts("A circle that spirals: a helix", 1)
    assert not words.contradicts("A helix with a pipeline inside", 2)
    assert words.contradicts("It is a line.", 2)
