"""What the server does, without HTTP: decide, settle, refund, wait, and store outcomes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from selfreg._util.extras import require_extra
from selfreg.data import Step, Trajectory, parse_history, state_text
from selfreg.decisions import Decision
from selfreg.runtime.desk import AGENT, Desk, HelpRequest
from selfreg.runtime.drafts import StepToDecide, is_of_policy
from selfreg.runtime.ledger.store import UnusableLedgerError
from selfreg.runtime.recorder import Recorder
from selfreg.runtime.records import RecordedDecision
from selfreg.runtime.server import bodies

with require_extra("logs", "selfreg.runtime.server"):
    from msgspec import UNSET

PEOPLE = ("person", "human")
Given = TypeVar("Given")
Result = TypeVar("Result")
SHOWN_STEPS = 4  # earlier ones, in the text that a person reads


class ForecastCheck(NamedTuple):
    """What was predicted, against what happened: lines for people, and whether they call for an alarm."""

    lines: list[str]
    alarm: bool


Forecaster: TypeAlias = Callable[[Sequence[Trajectory]], ForecastCheck]


class Service:
    """A recorder and the people who help.

    Parameters
    ----------
    recorder : Recorder
    desk : Desk
        Over the ledger of the recorder.
    people : sequence of str
        Help types that people give: a request for one is opened at the desk.
    forecast : callable, optional
        Compares finished runs with what was predicted, for the page of the team.

    Raises
    ------
    ValueError
        The desk has another ledger.

    Examples
    --------
    >>> from selfreg import Ledger
    >>> from selfreg.decisions import Decision
    >>> from selfreg.runtime import Desk, Recorder
    >>> from selfreg.runtime.server import Service
    >>> from selfreg.runtime.server.bodies import Decide, Refund
    >>> class AfterAnError:
    ...     costs = {"person": 1}
    ...     def decide(self, steps, budget_left):
    ...         return Decision("person" if "error" in steps[-1].state else "nohelp")
    >>> ledger = Ledger(5)
    >>> service = Service(Recorder(AfterAnError(), ledger), Desk(ledger))
    >>> reply = service.decide(Decide(run_id="run 1", step_id=0, steps=["error: no such file"]))
    >>> reply.action, reply.request.state, ledger.left
    ('person', 'open', (4,))
    >>> service.refund(Refund(run_id="run 1", step_id=0)).refunded, ledger.left
    (True, (5,))
    """

    def __init__(
        self, recorder: Recorder, desk: Desk, people: Sequence[str] = PEOPLE, forecast: Forecaster | None = None
    ) -> None:
        if desk.ledger is not recorder.ledger:
            raise ValueError("the desk has another ledger than the recorder; expected the same one")
        self.recorder, self.desk, self.people, self.forecast = recorder, desk, tuple(people), forecast
        self.stopping = threading.Event()  # set when the server stops: nobody waits for an answer any more

    def decide(self, body: bodies.Decide) -> bodies.DecideReply:
        """The decision of a step; a request for people is opened at the desk."""
        step = _step(body)
        return self.open_request(body, self.recorder.decide_once(*step[:3], keys=step.keys))

    def decide_many(self, waiting: Sequence[bodies.Decide]) -> list[Decision | Exception]:
        """Decisions of steps, or what is wrong with a step; requests for people are not opened yet."""
        steps = [_or_error(_step, body) for body in waiting]
        good = [step for step in steps if isinstance(step, StepToDecide)]
        try:
            decided: Sequence[Decision | Exception] = self.recorder.decide_many(good)
        except Exception as error:
            # Where the ledger cannot be reached, nobody waits for it again.
            unreachable = isinstance(error, OSError) and not is_of_policy(error)
            decided = [error if unreachable else _or_error(self._decide_alone, step) for step in good]
        decisions = iter(decided)
        return [next(decisions) if isinstance(step, StepToDecide) else step for step in steps]

    def _decide_alone(self, step: StepToDecide) -> Decision:
        return self.recorder.decide_many([step])[0]

    def open_request(self, body: bodies.Decide, decision: Decision) -> bodies.DecideReply:
        """The reply to a step that is decided; a request for people is opened at the desk."""
        request = None
        if decision.action in self.people:
            text = body.question or state_text(read_history(body), SHOWN_STEPS)
            request = self.desk.open(
                body.run_id, body.step_id, text, help=decision.action, reason=decision.reason, keys=body.keys
            )
        return _decide_reply(decision, request)

    def settle(self, body: bodies.Settle) -> bodies.SettleReply:
        """Charge a step."""
        return bodies.SettleReply(charged=self.recorder.settle(body.run_id, body.step_id, body.cost))

    def refund(self, body: bodies.Refund) -> bodies.RefundReply:
        """Refund a step; an open request of it is withdrawn, so that nobody answers it in vain."""
        try:
            self.desk.decline(body.run_id, body.step_id, "withdrawn", by=AGENT)
        except UnusableLedgerError:
            raise
        except ValueError:  # it is closed, or people were not asked
            pass
        return bodies.RefundReply(refunded=self.recorder.refund(body.run_id, body.step_id))

    def outcome(self, body: bodies.Outcome) -> bodies.OutcomeReply:
        """Store how a run ended."""
        self.recorder.outcome(body.run_id, body.success)
        return bodies.OutcomeReply(stored=True)

    async def wait(self, body: bodies.Wait) -> bodies.RequestReply:
        """The request of a step, once it is closed or after some seconds."""
        left = float(body.seconds)
        while True:
            part = min(left, 1.0)
            request = await self.desk.wait_async(body.run_id, body.step_id, timeout=part)
            left -= part
            if request.state != "open" or left <= 0 or self.stopping.is_set():
                return request_reply(request)

    def find_decision(self, request: HelpRequest) -> RecordedDecision | None:
        """The decision that opened a request."""
        return self.recorder.find(request.run_id, request.step_id)


def read_history(body: bodies.Decide) -> list[Step]:
    """The episode so far; ValueError says what is wrong with it."""
    given = {"steps": body.steps, "messages": body.messages}
    return parse_history({name: value for name, value in given.items() if value is not UNSET})


def _step(body: bodies.Decide) -> StepToDecide:
    return StepToDecide(body.run_id, body.step_id, read_history(body), body.keys).checked()


def _or_error(work: Callable[[Given], Result], given: Given) -> Result | Exception:
    try:
        return work(given)
    except Exception as error:
        return error


def request_reply(request: HelpRequest) -> bodies.RequestReply:
    """A request to a person, as it is sent."""
    names = ("run_id", "step_id", "state", "action", "help", "fallback", "answer", "by", "opened", "closes", "closed")
    return bodies.RequestReply(**{name: getattr(request, name) for name in names})


def _decide_reply(decision: Decision, request: HelpRequest | None) -> bodies.DecideReply:
    return bodies.DecideReply(
        action=decision.action,
        reason=decision.reason,
        request_probability=decision.request_probability,
        success_probability=dict(decision.success_probability),
        budget_left=list(decision.budget_left or ()),
        price=list(decision.price or ()),
        extrapolated=decision.extrapolated,
        request=None if request is None else request_reply(request),
    )
