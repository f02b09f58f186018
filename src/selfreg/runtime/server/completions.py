"""`/v1/chat/completions`: each request goes to the weak model, or to a strong one where a decision requests help.

A unit of the budget buys one answer of a strong model. It is reserved before anything is sent, charged when the answer
is complete, and refunded where the upstream failed. The answer is stored in the transaction that charges it, so that a
client that repeats the request, because its connection or its process broke, gets this answer and pays nothing. Answers
of the weak model are neither paid for nor stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakValueDictionary

from selfreg._util.extras import require_extra
from selfreg.data import NOHELP, parse_history
from selfreg.data.turns import CONTEXT_ROLES
from selfreg.decisions import Decision
from selfreg.runtime.drafts import StepToDecide
from selfreg.runtime.ledger.accounts import Accounts
from selfreg.runtime.ledger.budgets import Units
from selfreg.runtime.ledger.store import CHARGED, EXPIRED, REFUNDED, Key, Transaction, as_key, parses
from selfreg.runtime.server.service import Service
from selfreg.runtime.server.upstream import PASSED, Answer, Connections, Upstream, error_body

with require_extra("serve", "selfreg.runtime.server"):
    import msgspec
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse

LOG = logging.getLogger("selfreg.serve")
PATH = "/v1/chat/completions"
LONGEST_BODY = 2**25  # bytes; images are sent within messages
ANSWER = "answer"  # kind of record
RUN, STEP, TASK = "x-selfreg-run", "x-selfreg-step", "x-selfreg-task"
LONGEST_ID = 500
# Fields that may change when a step is executed again.
VOLATILE = ("metadata", "store", "stream_options", "service_tier", "prompt_cache_key", "safety_identifier")


Run: TypeAlias = Callable[..., Awaitable[Any]]


class Call(NamedTuple):
    """A request of a client.

    Attributes
    ----------
    key : tuple
        Run and step: of the headers, or hashes of the beginning of the conversation and of the request.
    digest : str
        Hash of the request, which tells a repeated one from another one of the same step.
    fields : dict
        The request as it was sent, field by field.
    """

    key: Key
    digest: str
    fields: dict[str, msgspec.Raw]
    messages: list[dict[str, Any]]
    keys: dict[str, str | int]
    headers: dict[str, str]

    def body(self, model: str) -> bytes:
        """The request for a model; all other fields as they came."""
        return msgspec.json.encode({**self.fields, "model": model})


class Turn(NamedTuple):
    """A call that was decided: the step of the ledger that pays for it, and an answer from before."""

    step: Key
    action: str
    left: list[int]
    answer: Answer | None


class _Open(NamedTuple):
    """An answer that comes in."""

    turn: Turn
    answer: Answer
    digest: str


class Completions:
    """The proxy of a service.

    Parameters
    ----------
    service : Service
    weak : Upstream
        Answers where the decision is "nohelp".
    strong : mapping of str to Upstream
        Answers, by help type.
    timeout : float
        Seconds that an upstream may take until its answer begins, and between two parts of it.

    Raises
    ------
    ValueError
        People give a help type, which no model can; `timeout` is not positive.
    """

    def __init__(
        self, service: Service, weak: Upstream, strong: Mapping[str, Upstream], *, timeout: float = 600.0
    ) -> None:
        asked = [name for name in strong if name in service.people]
        if asked:
            raise ValueError(f"help type {asked[0]!r} is given by people; a model cannot give it too")
        self._service, self._models = service, {NOHELP: weak, **strong}
        self._connections = Connections(timeout)
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._open: dict[Key, _Open] = {}
        self._tasks: dict[Answer, asyncio.Task[None]] = {}

    async def complete(self, raw: bytes, request: Request, run: Run, note: Callable[[str], None]) -> Response:
        """Answer one request; `run` calls what blocks in a thread, `note` counts the action."""
        try:
            call = read_call(raw, request.headers.items())
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        lock = self._locks.setdefault(call.key, asyncio.Lock())
        async with lock:  # equal requests at once: the first one decides and sends
            found = self._open.get(call.key)
            if found is None:
                turn: Turn = await run(self._decide, call)
                found = _Open(turn, turn.answer or self._send(call, turn), call.digest)
        if found.digest != call.digest:
            raise HTTPException(409, _another(call.key))
        action, (run_id, step_id) = found.turn.action, found.turn.step
        note(action)
        request.scope["selfreg.ids"] = {"run_id": run_id, "step_id": step_id, "action": action}
        return await self._reply(found.turn, found.answer)

    def _decide(self, call: Call) -> Turn:
        """Decide, once; after an attempt that failed, and was refunded, for the next attempt."""
        recorder, steps = self._service.recorder, parse_history({"messages": call.messages})
        run_id, step_id = call.key
        for attempt in count(1):
            step = StepToDecide(run_id, step_id if attempt == 1 else f"{step_id}#{attempt}", steps, call.keys)
            ((decision, (status, stored, left)),) = recorder.decide_and_read([step], _read_beside)
            action = decision.action
            if action not in self._models:
                recorder.refund(*step.key)
                raise RuntimeError(f"the policy requests {action!r}; the proxy has {', '.join(self._models)}")
            if status not in (REFUNDED, EXPIRED):
                break
        if stored is None:
            return Turn(step.key, action, list(left), None)
        digest, answer = stored
        if digest != call.digest:
            raise HTTPException(409, _another(call.key))
        return Turn(step.key, action, list(left), answer)

    # ---- answers

    def _send(self, call: Call, turn: Turn) -> Answer:
        answer = Answer()
        if turn.action != NOHELP:
            self._open[call.key] = _Open(turn, answer, call.digest)
        task = asyncio.get_running_loop().create_task(self._receive(call, turn, answer))
        self._tasks[answer] = task
        task.add_done_callback(lambda _: self._tasks.pop(answer))
        return answer

    async def _receive(self, call: Call, turn: Turn, answer: Answer) -> None:
        """Take in an answer and settle it, whether or not a client still waits for it."""
        upstream = self._models[turn.action]
        try:
            await answer.receive(self._connections, upstream, call.body(upstream.model), call.headers)
            if turn.action != NOHELP:
                await asyncio.to_thread(self._settle, turn.step, answer, call.digest)
            if not answer.complete:
                ids = {"run_id": turn.step[0], "step_id": turn.step[1]}
                fields = {**ids, "model": upstream.model, "status": answer.status}
                LOG.warning("no whole answer of a model", extra={"fields": fields})
        except (ValueError, OSError):
            # The answer is there; its reservation stays held until the step comes again.
            LOG.exception("cannot settle", extra={"fields": {"run_id": turn.step[0], "step_id": turn.step[1]}})
        finally:
            answer.close()
        if turn.action != NOHELP:
            async with self._locks.setdefault(call.key, asyncio.Lock()):
                del self._open[call.key]

    def _settle(self, step: Key, answer: Answer, digest: str) -> None:
        ledger = self._service.recorder.ledger
        if not answer.complete:
            ledger.refund(*step)
            return
        body = answer.body.decode("utf-8", "surrogateescape")
        content = json.dumps({"status": answer.status, "headers": answer.headers, "body": body, "digest": digest})

        def charge(accounts: Accounts) -> None:
            accounts.take(step, None, CHARGED)
            accounts.transaction.write_record(ANSWER, step, "", content)

        ledger.write(charge)

    async def _reply(self, turn: Turn, answer: Answer) -> Response:
        await answer.begun()
        headers = {
            **answer.headers,
            "x-selfreg-action": _encoded(turn.action),
            "x-selfreg-budget-left": ",".join(map(str, turn.left)),
            "x-selfreg-model": _encoded(self._models[turn.action].model),
            RUN: _encoded(str(turn.step[0])),
            STEP: _encoded(str(turn.step[1])),
        }
        if answer.streams and answer.status < 300:
            return StreamingResponse(self._follow(turn, answer), answer.status, headers)
        return Response(await answer.whole(), answer.status, headers)

    async def _follow(self, turn: Turn, answer: Answer) -> AsyncIterator[bytes]:
        """A stream; that of the weak model ends with its client."""
        try:
            async for part in answer.parts():
                yield part
        finally:
            if turn.action == NOHELP and answer in self._tasks:
                self._tasks[answer].cancel()


def _read_beside(
    transaction: Transaction, step: StepToDecide, decision: Decision
) -> tuple[str | None, tuple[str, Answer] | None, Units]:
    """Status of a helped step in the ledger, its stored answer, and what is left."""
    left = Accounts(transaction).left(step.run_id, step.keys)
    if not decision.requests_help:
        return None, None, left
    entry, stored = transaction.find_entry(step.key), transaction.find_record(ANSWER, step.key)
    return None if entry is None else entry.status, None if stored is None else _read_answer(stored), left


@parses
def _read_answer(content: str) -> tuple[str, Answer]:
    """Hash of the request of a stored answer, and the answer; what is none is damage."""
    stored = json.loads(content)
    body, status = stored["body"].encode("utf-8", "surrogateescape"), stored["status"]
    if not isinstance(status, int) or not 200 <= status < 300:
        raise ValueError(f"an answer has the status {status!r}")
    return str(stored["digest"]), Answer.of(status, stored["headers"], body)


def read_call(raw: bytes, headers: Sequence[tuple[str, str]]) -> Call:
    """A request of a client.

    Raises
    ------
    ValueError
        Naming what is wrong.
    """
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        whole = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"expected a JSON object: {error}") from None
    messages = whole.get("messages")
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages) or not messages:
        raise ValueError("field 'messages': expected a list of messages")
    given = {name: _decoded(value) for name, value in headers if name in (RUN, STEP, TASK)}
    for name, value in given.items():
        if not 0 < len(value) <= LONGEST_ID:
            raise ValueError(f"header {name} has {len(value)} characters; expected 1 to {LONGEST_ID}")
    digest = _hash({name: value for name, value in whole.items() if name not in VOLATILE})
    run_id = given.get(RUN) or f"chat {_hash([_beginning(messages), whole.get('user')])}"
    keys: dict[str, str | int] = {"task": given[TASK]} if TASK in given else {}
    passed = {name: value for name, value in headers if name in PASSED and value.isascii()}
    return Call(as_key(run_id, given.get(STEP) or digest), digest, fields, messages, keys, passed)


def _decoded(header: str) -> str:
    """A header that was sent in UTF-8; servers read it as Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeDecodeError:
        return header


def _encoded(text: str) -> str:
    """A header that is sent in UTF-8, as servers take it: as Latin-1."""
    return text.encode().decode("latin-1")


def _beginning(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Up to the first message that is not of the system: what all requests of a conversation have in common."""
    first = next((i for i, one in enumerate(messages) if one.get("role") not in CONTEXT_ROLES), len(messages))
    return messages[: first + 1]


def _hash(value: Any) -> str:
    return hashlib.blake2b(msgspec.json.encode(value, order="sorted"), digest_size=12).hexdigest()


def _another(key: Key) -> str:
    return f"step {key} had another request before, and one request is paid for; use another {STEP}"


def describe_error(error: HTTPException) -> Response:
    """An error in the form of OpenAI's API."""
    kind = "server_error" if error.status_code >= 500 else "invalid_request_error"
    return JSONResponse(error_body(str(error.detail), kind), error.status_code, error.headers)
