"""What all adapters share: one recorded decision a step, paid when the answer has come, refunded when it failed.

A step is executed again after a crash, a retry, a resume or a replay. Its decision is then looked up by its key. A key
whose help was refunded is used up: the next execution of the step is another attempt, with a decision of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, TypeAlias, TypeVar

from selfreg.data import Step
from selfreg.data.message_layouts import read_messages
from selfreg.data.turns import Message, Turns
from selfreg.decisions import Decision
from selfreg.runtime.drafts import StepToDecide
from selfreg.runtime.ledger.budgets import Keys
from selfreg.runtime.ledger.ledger import Cost
from selfreg.runtime.ledger.store import COUNTED, Key, Status, Transaction, as_key
from selfreg.runtime.recorder import Recorder

Event: TypeAlias = Literal["decided", "charged", "refunded"]
Piece = TypeVar("Piece")
Result = TypeVar("Result")
_log = logging.getLogger(__name__)


@dataclass
class HelpStep:
    """A decided step: whether to help it, and afterwards whether help is paid.

    As a context manager it settles when the block ends, and refunds when the block fails, also when it is cancelled.
    Without help nothing is paid. Everything may be repeated.

    Attributes
    ----------
    session : Session
    run_id, step_id : str or int
        Key of the decision; that of a further attempt ends in "#2", "#3" and so on.
    decision : Decision
    """

    session: Session
    run_id: str | int
    step_id: str | int
    decision: Decision
    _started: bool = field(default=False, init=False, compare=False, repr=False)
    _failed: bool = field(default=False, init=False, compare=False, repr=False)

    @property
    def action(self) -> str:
        """Help type, or "nohelp"."""
        return self.decision.action

    @property
    def helped(self) -> bool:
        """Whether help was requested and the budget holds its cost."""
        return self.decision.requests_help

    @property
    def status(self) -> Status | None:
        """How the step stands in the ledger; None without help."""
        return self.session.find_status(self.run_id, self.step_id)

    def settle(self, cost: Cost | None = None) -> bool:
        """Charge what was reserved, or the real cost; False where there is nothing to pay."""
        paid = self.helped and self.session.recorder.settle(self.run_id, self.step_id, cost)
        if paid:
            self.session.notify(self, "charged")
        return paid

    def refund(self) -> bool:
        """Give back what was reserved; False where nothing was."""
        given = self.helped and self.session.recorder.refund(self.run_id, self.step_id)
        if given:
            self.session.notify(self, "refunded")
        return given

    def attributes(self) -> dict[str, str | int | float | bool | list[int] | list[float]]:
        """The decision as attributes of a span: ``selfreg.action``, ``selfreg.budget.left`` and so on."""
        decision = self.decision
        found: dict[str, Any] = {
            "selfreg.action": decision.action,
            "selfreg.request_probability": decision.request_probability,
            "selfreg.budget.left": None if decision.budget_left is None else list(decision.budget_left),
            "selfreg.price": [one for one in decision.price if one is not None] or None,
            "selfreg.run_id": str(self.run_id),
            "selfreg.step_id": str(self.step_id),
            "selfreg.ledger.status": self.status,
            "selfreg.extrapolated": decision.extrapolated,
            "selfreg.reason": decision.reason or None,
        }
        return {name: value for name, value in found.items() if value is not None}

    # ---- one answer

    def see(self, failed: bool = False) -> None:
        """A piece of the answer has come; `failed` where it says that the answer failed."""
        self._started = True
        self._failed = self._failed or failed

    def end(self, error: BaseException | None = None) -> None:
        """Pay at the end of an answer, or refund where it failed.

        An error refunds, but for a pause of the framework. A reader who leaves (a cancelled task, a closed generator)
        pays for what it has got: the step is charged if a piece had come before, else refunded.
        """
        if isinstance(error, self.session.pauses):
            return
        left = error is not None and not isinstance(error, Exception)
        if not self._failed and (error is None or (left and self._started)):
            self.settle()
        else:
            self.refund()

    async def end_async(self, error: BaseException | None = None) -> None:
        """As `end`, in an event loop; a caller that is cancelled meanwhile finds the step paid all the same."""
        if error is not None:  # maybe cancelled: nothing to wait for
            self.end(error)
            return
        await run_once_in_thread(self.end)

    def __enter__(self) -> HelpStep:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)

    async def __aenter__(self) -> HelpStep:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end_async(error)

    def stream(self, pieces: Iterator[Piece], failed: Callable[[Piece], bool] | None = None) -> Iterator[Piece]:
        """The pieces of an answer, paid at their end as `end` says; `failed` says of a piece whether it is an error."""
        try:
            for piece in pieces:
                self.see(failed is not None and failed(piece))
                yield piece
        except BaseException as error:
            self.end(error)
            raise
        self.end()

    async def stream_async(
        self, pieces: AsyncIterator[Piece], failed: Callable[[Piece], bool] | None = None
    ) -> AsyncGenerator[Piece, None]:
        """As `stream`, in an event loop."""
        try:
            async for piece in pieces:
                self.see(failed is not None and failed(piece))
                yield piece
        except BaseException as error:
            self.end(error)
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()
            raise
        await self.end_async()


class Session:
    """Decides the steps of an adapter.

    Parameters
    ----------
    recorder : Recorder
    trace : callable, optional
        Called as ``trace(step, event)`` with a `HelpStep` and "decided", "charged" or "refunded". An error in it is
        logged and changes nothing.
    pauses : tuple of exception types
        Errors by which a framework stops a step to go on later; a reservation stays held.

    Examples
    --------
    >>> from selfreg import Ledger
    >>> from selfreg.data import Step
    >>> from selfreg.decisions import Decision
    >>> from selfreg.integrations._session import Session
    >>> from selfreg.runtime import Recorder
    >>> class Always:
    ...     def decide(self, steps, budget_left):
    ...         return Decision("strong")
    >>> session = Session(Recorder(Always(), Ledger(1), costs={"strong": 1}))
    >>> with session.decide("run 1", 0, [Step("2 + 2 = ?")]) as step:
    ...     answer = "4" if step.helped else "5"
    >>> answer, step.status
    ('4', 'charged')
    >>> session.decide("run 1", 1, [Step("3 + 3 = ?")]).helped
    False
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        trace: Callable[[HelpStep, Event], Any] | None = None,
        pauses: tuple[type[BaseException], ...] = (),
    ) -> None:
        if not isinstance(recorder, Recorder):
            raise TypeError(f"recorder is a {type(recorder).__name__}; expected a selfreg.runtime.Recorder")
        self.recorder, self.pauses, self._trace = recorder, pauses, trace

    def decide(
        self, run_id: str | int, step_id: str | int, steps: Sequence[Step], *, keys: Keys | None = None
    ) -> HelpStep:
        """Decide a step, once for each of its attempts; parameters and errors as of `Recorder.decide_once`."""
        attempt, key = 1, step_id
        while True:
            step = StepToDecide(run_id, key, steps, keys)
            ((decision, status),) = self.recorder.decide_and_read([step], _find_status)
            if not decision.requests_help or status in COUNTED:
                break
            attempt += 1
            key = f"{step_id}#{attempt}"
        found = HelpStep(self, run_id, key, decision)
        self.notify(found, "decided")
        return found

    async def decide_async(
        self, run_id: str | int, step_id: str | int, steps: Sequence[Step], *, keys: Keys | None = None
    ) -> HelpStep:
        """As `decide`, in a thread, as a policy may be slow; a cancelled call leaves no reservation."""
        lock, made = threading.Lock(), list[HelpStep]()
        gone = threading.Event()

        def work() -> HelpStep:
            step = self.decide(run_id, step_id, steps, keys=keys)
            with lock:
                made.append(step)
                if gone.is_set():
                    step.refund()
            return step

        try:
            return await _in_thread(work)
        except BaseException:
            with lock:
                gone.set()
                for step in made:
                    step.refund()
            raise

    def decide_question(
        self, run_id: str | int, step_id: str | int, steps: Sequence[Step], *, keys: Keys | None = None
    ) -> HelpStep:
        """Decide whether a person is needed: the stored decision whenever there is one, whatever became of it.

        A framework puts the question again when it resumes; with another answer than before, the person's would be
        lost, even where the reservation has expired meanwhile. Parameters as of `decide`.
        """
        found = self.recorder.find(run_id, step_id)
        if found is None:
            return self.decide(run_id, step_id, steps, keys=keys)
        return HelpStep(self, run_id, step_id, found.decision)

    def find_step(self, run_id: str | int, step_id: str | int) -> HelpStep | None:
        """The last attempt at a step that was decided before, for a settlement that comes later; None without one."""
        attempt, key, last = 1, step_id, None
        while (found := self.recorder.find(run_id, key)) is not None:
            last = HelpStep(self, run_id, key, found.decision)
            attempt += 1
            key = f"{step_id}#{attempt}"
        return last

    def find_status(self, run_id: str | int, step_id: str | int) -> Status | None:
        """How a step stands in the ledger; None where it was never reserved."""
        key = as_key(run_id, step_id)
        return self.recorder.ledger.read(lambda transaction: _status(transaction, key))

    def notify(self, step: HelpStep, event: Event) -> None:
        """Tell the hook for traces."""
        if self._trace is None:
            return
        try:
            self._trace(step, event)
        except Exception:
            _log.exception("the trace of step %r failed", (step.run_id, step.step_id))


def _find_status(transaction: Transaction, step: StepToDecide, decision: Decision) -> Status | None:
    return _status(transaction, step.key) if decision.requests_help else None


def _status(transaction: Transaction, key: Key) -> Status | None:
    row = transaction.find_entry(key)
    return None if row is None else row.status


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Do `work` beside the event loop; it is done even if the caller is cancelled, or the loop ends, meanwhile."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # another library's loop
        return work()
    # Not a task: the end of `asyncio.run` would cancel it, and what waits for a thread would never be done.
    return await asyncio.shield(loop.run_in_executor(None, copy_context().run, work))


async def run_once_in_thread(work: Callable[[], object]) -> None:
    """As `_in_thread` for a short `work`: a caller that is cancelled does it itself where no thread has begun it."""
    lock, done = threading.Lock(), list[bool]()

    def once() -> None:
        with lock:
            if not done:
                done.append(True)
                work()

    try:
        await _in_thread(once)
    except asyncio.CancelledError:
        once()
        raise


def select_model(strong: Any, help: str) -> Any:
    """The model for a help type: `strong` itself, or one of a mapping by help type.

    Raises
    ------
    ValueError
        The mapping has no model for `help`.
    """
    if not isinstance(strong, Mapping):
        return strong
    if help not in strong:
        raise ValueError(f"no model for help type {help!r}; strong has {', '.join(strong)}")
    return strong[help]


def history_of(messages: Any, proposal: str | None = None) -> list[Step]:
    """The episode so far from the messages of a framework, by the code that reads logs of messages.

    Parameters
    ----------
    messages : list of Message, or any layout of `selfreg.data.message_layouts.read_messages`
        What came in after the last message of the agent is the current state; it may be empty.
    proposal : str, optional
        A call of a tool that the agent proposes, to be approved. The state is then that in which it was proposed,
        and the call.
    """
    plain = isinstance(messages, list) and all(isinstance(one, Message) for one in messages)
    turns = Turns()
    turns.add_messages(messages if plain else read_messages(messages))
    return history_of_turns(turns, proposal)


def history_of_turns(turns: Turns, proposal: str | None = None) -> list[Step]:
    """The episode so far, with what the agent has not answered yet as the current state; as of `history_of`."""
    steps = [Step(step.state, step.action) for step in turns.steps]
    if proposal is None:
        return [*steps, Step(turns.unanswered)]
    seen = turns.unanswered
    if not seen and steps:
        seen = steps.pop().state
    return [*steps, Step("\n".join(part for part in (seen, proposal) if part))]


def name_step(steps: Sequence[Step], *parts: Any) -> str:
    """A key made of the content of a history: the same whenever the step is executed again.

    It has the number of steps, a hash of their states and actions and of `parts`. Equal histories have equal keys: use
    it below a run id that says which conversation it is.
    """
    content = json.dumps([[[step.state, step.action] for step in steps], *map(str, parts)])
    return f"{len(steps)}-{hashlib.blake2b(content.encode(), digest_size=8).hexdigest()}"
