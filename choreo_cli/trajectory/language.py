"""A language model behind the OpenAI-compatible protocol, asked with a schema, with patience, a budget and a memory.

Hosted models, vLLM, llama.cpp, Ollama, LM Studio, mlx-lm and `transformers serve` all answer POST /chat/completions.
Answers are kept by the hash of their question, so that a run can be repeated without a key or a server.
"""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from choreo_cli.errors import DataError, UnavailableError, UsageError

MAX_ANSWER = 1 << 20
RETRIED = (408, 429, 500, 502, 503, 504)
LONGEST_WAIT_S = 30.0
SILENCE = "is the server running? try --retries"
Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said.

    Args:
        text: Its content.
        finish: `stop`, `length`...; `length` means that it was cut.
        tokens: Tokens of question and answer, 0 when the server does not say.
        cached: It came from the memory.
    """

    text: str
    finish: str
    tokens: int
    cached: bool = False


class LanguageModel(Protocol):
    """Anything that answers messages under a JSON schema."""

    name: str

    def ask(self, messages: Sequence[Message], schema: Mapping[str, Any], *, seed: int) -> Answer:
        """Raises UnavailableError when no answer comes, BudgetSpent when none may be asked for."""
        ...


class BudgetSpent(UnavailableError):
    """The budget of requests or tokens is used up."""


@dataclass(slots=True)
class Budget:
    """How much may be asked for; `None` is no limit.

    Args:
        requests: Requests sent, retries among them.
        tokens: Tokens of questions and answers.
    """

    requests: int | None = None
    tokens: int | None = None
    sent: int = 0
    used: int = 0

    def take(self) -> None:
        """Count one request. Raises BudgetSpent."""
        if self.requests is not None and self.sent >= self.requests:
            raise BudgetSpent(f"the budget of {self.requests} requests is spent", hint="raise --max-requests")
        if self.tokens is not None and self.used >= self.tokens:
            raise BudgetSpent(f"the budget of {self.tokens} tokens is spent", hint="raise --max-tokens")
        self.sent += 1


@dataclass(slots=True)
class Memory:
    """Answers by the hash of their question, one JSON file each.

    Args:
        folder: Where they lie.
        replay: Only answers from here; a question that is not here is an error.
    """

    folder: Path
    replay: bool = False

    def get(self, key: str) -> Answer | None:
        """Raises DataError for a file that is damaged, or a question that was never asked (replay)."""
        try:
            found = json.loads((self.folder / f"{key}.json").read_bytes())
            return Answer(str(found["text"]), str(found["finish"]), int(found["tokens"]), cached=True)
        except FileNotFoundError:
            if self.replay:
                raise DataError(
                    f"no recorded answer {key[:12]} in {self.folder}", hint="record without --replay"
                ) from None
            return None
        except (ValueError, KeyError, TypeError) as e:
            raise DataError(f"the recorded answer {key[:12]} in {self.folder} is damaged", hint="delete it") from e

    def keep(self, key: str, request: Mapping[str, Any], answer: Answer) -> None:
        """Write an answer beside its question."""
        from formats.atomic import write_bytes

        self.folder.mkdir(parents=True, exist_ok=True)
        record = {"request": request, "text": answer.text, "finish": answer.finish, "tokens": answer.tokens}
        write_bytes(self.folder / f"{key}.json", json.dumps(record, indent=1, sort_keys=True).encode() + b"\n")


@dataclass(slots=True)
class OpenAiServer:
    """A server of the OpenAI-compatible protocol.

    Args:
        base_url: Up to and without `/chat/completions`, http or https.
        name: Model name as the server knows it.
        key: Sent as a bearer token and never kept; None for servers without one.
        timeout_s: For one request.
        retries: After the first, on 408, 429, 5xx and no answer in time; waits double from 0.5 s, or as asked.
        budget: What may be asked for.
        memory: Where answers are kept; None keeps none.
        max_tokens: Of one answer.
        pause: Waits; a test gives its own.
    """

    base_url: str
    name: str
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0
    retries: int = 4
    budget: Budget = field(default_factory=Budget)
    memory: Memory | None = None
    max_tokens: int = 700
    temperature: float = 0.0
    pause: Callable[[float], None] = time.sleep
    _plain: bool = False  # the server refuses a schema: ask without, and check as always

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{self.base_url!r} is not an http or https address", hint="llm:http://127.0.0.1:8080/v1")
        if parts.username or parts.password:
            raise UsageError("a key does not belong into the address", hint="put it into CHOREO_LLM_KEY")

    def ask(self, messages: Sequence[Message], schema: Mapping[str, Any], *, seed: int) -> Answer:
        """The answer to messages, from the memory or from the server."""
        question = {
            "model": self.name, "messages": list(messages), "temperature": self.temperature, "seed": seed,
            "max_tokens": self.max_tokens, "schema": schema,
        }  # fmt: skip
        key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
        if self.memory is not None and (found := self.memory.get(key)) is not None:
            return found
        answer = self._served(messages, schema, seed)
        if self.memory is not None:
            self.memory.keep(key, question, answer)
        return answer

    def _served(self, messages: Sequence[Message], schema: Mapping[str, Any], seed: int) -> Answer:
        reason, hint = "", SILENCE
        for tried in range(self.retries + 1):
            self.budget.take()
            try:
                return self._posted(messages, schema, seed)
            except _Refused as e:
                reason, hint = str(e), e.hint
                if e.schema and not self._plain:
                    self._plain = True
                    continue
                if not e.again:
                    break
                if tried < self.retries:
                    self.pause(min(e.wait_s if e.wait_s is not None else 0.5 * 2.0**tried, LONGEST_WAIT_S))
        if not self.key and not _local(self.base_url) and "CHOREO_LLM_KEY" not in hint:
            hint += "; CHOREO_LLM_KEY is not set"
        raise UnavailableError(f"no answer from {self._place}: {reason}", hint=hint)

    @property
    def _place(self) -> str:
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    def _posted(self, messages: Sequence[Message], schema: Mapping[str, Any], seed: int) -> Answer:
        body: dict[str, Any] = {
            "model": self.name, "messages": list(messages), "temperature": self.temperature, "seed": seed,
            "max_tokens": self.max_tokens,
        }  # fmt: skip
        if not self._plain:
            wrapped = {"name": "trajectory", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": wrapped}
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        url = self.base_url.rstrip("/") + "/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
        try:
            with _opener(url).open(request, timeout=self.timeout_s) as reply:
                data = reply.read(MAX_ANSWER + 1)
        except urllib.error.HTTPError as e:
            raise _refused(e) from e
        except (urllib.error.URLError, OSError, ValueError) as e:
            late = isinstance(e, TimeoutError) or isinstance(getattr(e, "reason", None), TimeoutError)
            raise _Refused(f"no answer in {self.timeout_s:g} s" if late else str(getattr(e, "reason", e)), True) from e
        return self._read(data)

    def _read(self, data: bytes) -> Answer:
        if len(data) > MAX_ANSWER:
            raise _Refused(f"an answer over {MAX_ANSWER} bytes", False)
        try:
            found = json.loads(data)
            choice = found["choices"][0]
            text, finish = choice["message"]["content"], choice.get("finish_reason") or "stop"
            tokens = int((found.get("usage") or {}).get("total_tokens") or 0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as e:
            raise _Refused("what came is no chat completion", True) from e
        if not isinstance(text, str):
            raise _Refused("an answer without text", True)
        self.budget.used += tokens
        return Answer(text, str(finish), tokens)


class _Refused(Exception):
    """One request failed: whether to try again, how long to wait, and whether the schema was the reason."""

    def __init__(
        self, reason: str, again: bool, wait_s: float | None = None, schema: bool = False, hint: str = ""
    ) -> None:
        super().__init__(reason)
        self.again, self.wait_s, self.schema, self.hint = again, wait_s, schema, hint or SILENCE


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key is not carried to wherever a server points."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _local(url: str) -> bool:
    return urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")


def _opener(url: str) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirect, *([urllib.request.ProxyHandler({})] if _local(url) else []))


def _refused(e: urllib.error.HTTPError) -> _Refused:
    try:
        said = e.read(2000).decode("utf-8", "replace")
    except OSError:
        said = ""
    wait = e.headers.get("Retry-After", "") if e.headers else ""
    seconds = float(wait) if wait.replace(".", "", 1).isdigit() else None
    if e.code in (401, 403):
        return _Refused(f"status {e.code}: the key is missing or not accepted", False, hint="export CHOREO_LLM_KEY=...")
    schema = e.code in (400, 422, 501) and any(w in said.lower() for w in ("response_format", "schema", "grammar"))
    again = e.code in RETRIED
    return _Refused(f"status {e.code}", again, seconds, schema, "" if again else "see --model and the address")
