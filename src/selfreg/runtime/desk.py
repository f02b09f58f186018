"""People who help: requests that are open until they are answered, declined, or past their time limit."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from selfreg.data import NOHELP
from selfreg.runtime.ledger.accounts import Accounts
from selfreg.runtime.ledger.budgets import Budget, Keys, one_text, one_unit, some_seconds
from selfreg.runtime.ledger.ledger import Cost, Ledger
from selfreg.runtime.ledger.store import CHARGED, COUNTED, RESERVED, Key, Transaction, as_key, encode, parses

RequestState: TypeAlias = Literal["open", "answered", "declined", "expired", "refused"]
STATES = ("open", "answered", "declined", "expired", "refused")
REQUEST = "request"  # kind of record
AGENT = "the agent"  # who withdraws a request, which says nothing of people either
NO_BUDGET = "the budget has too little left"  # why a request is refused that says nothing of people


class RequestClosed(ValueError):
    """A request that is not open any more was answered or declined; `request` says who closed it, and how."""

    def __init__(self, request: HelpRequest) -> None:
        who = f" by {request.by}" if request.by else ""
        super().__init__(f"the request of step {(request.run_id, request.step_id)} was {request.state}{who} before")
        self.request = request

    def __reduce__(self) -> tuple[type[RequestClosed], tuple[HelpRequest]]:
        return type(self), (self.request,)


@dataclass(frozen=True)
class HelpRequest:
    """A request to a person.

    Attributes
    ----------
    run_id, step_id : str or int
    text : str
        What the person reads.
    reason : str
        Why help is requested.
    help : str
        Help type.
    fallback : str
        Action that is taken where nobody answers: "nohelp", or another help type.
    opened, closes : float
        When it was opened, and its time limit, in seconds since 1970.
    state : {"open", "answered", "declined", "expired", "refused"}
        "refused" where the budget, or the attention of the people, did not suffice.
    closed : float or None
        When it was closed.
    by : str
        Who closed it.
    answer : str
        What was answered, or why it was declined or refused.
    """

    run_id: str | int
    step_id: str | int
    text: str
    reason: str
    help: str
    fallback: str
    opened: float
    closes: float
    state: RequestState = "open"
    closed: float | None = None
    by: str = ""
    answer: str = ""

    @property
    def action(self) -> str | None:
        """What to do: the help type where it was answered, the fallback where it was closed; None while it is open."""
        if self.state == "open":
            return None
        return self.help if self.state == "answered" else self.fallback


class Desk:
    """Requests to people, stored with a ledger, so that they survive a restart.

    A request holds the reservation of its step. An answer charges it; a refusal, or the end of the time limit, refunds
    it. People's attention is a budget too: how many requests are open at a time, and how many are opened a day.

    Parameters
    ----------
    ledger : Ledger
    time_limit : float
        Seconds until a request expires.
    fallback : str
        Action where nobody answers: "nohelp", or another help type, which is reserved under a step of its own.
    max_open, max_per_day : int, optional
        Limits of attention; none by default.
    timezone : str
        Whose midnight ends a day.
    poll : float
        Seconds between two looks of `wait` at the store.

    Raises
    ------
    TypeError, ValueError
        A limit is not a whole number; a time is not positive; the time zone is unknown.

    Examples
    --------
    >>> from selfreg import Ledger
    >>> from selfreg.runtime import Desk
    >>> ledger = Ledger(5)
    >>> desk = Desk(ledger, time_limit=3600, max_open=1)
    >>> desk.open("run 1", 0, "May I delete the table?", cost=1).state
    'open'
    >>> desk.open("run 2", 0, "Which invoice?", cost=1).state  # one at a time
    'refused'
    >>> desk.answer("run 1", 0, "No.", by="Ada").action
    'person'
    >>> ledger.left
    (4,)
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        time_limit: float = 600.0,
        fallback: str = "nohelp",
        max_open: int | None = None,
        max_per_day: int | None = None,
        timezone: str = "UTC",
        poll: float = 0.5,
    ) -> None:
        self._time_limit, self._poll = some_seconds(time_limit, "time_limit"), some_seconds(poll, "poll")
        self._ledger, self._fallback = ledger, one_text(fallback, "fallback", 1)
        self._max_open = None if max_open is None else one_unit(max_open, "max_open")
        self._max_per_day = None if max_per_day is None else one_unit(max_per_day, "max_per_day")
        self._day = Budget(0, period="day", timezone=timezone)

    @property
    def ledger(self) -> Ledger:
        """The ledger that pays."""
        return self._ledger

    def open(
        self,
        run_id: str | int,
        step_id: str | int,
        text: str,
        *,
        cost: Cost | None = None,
        help: str = "person",
        reason: str = "",
        keys: Keys | None = None,
    ) -> HelpRequest:
        """Open a request, once; a repeated call gets the request as it is by now.

        Parameters
        ----------
        run_id, step_id : str or int
        text : str
            What the person reads.
        cost : cost, optional
            As of `Ledger.reserve`; may be left out where the step is reserved, as by `Recorder.decide_once`.
        help, reason : str
            Help type, and why it is requested.
        keys : mapping of str to str or int, optional
            As of `Ledger.reserve`.

        Raises
        ------
        TypeError, ValueError
            As of `Ledger.reserve`; the step was never reserved and `cost` is missing.
        """
        key, units = as_key(run_id, step_id), None if cost is None else self._ledger.parse_cost(cost)
        text, reason, help = one_text(text, "text"), one_text(reason, "reason"), one_text(help, "help", 1)
        if help == NOHELP:
            raise ValueError(f"help is {help!r}; expected a help type")

        def work(accounts: Accounts) -> HelpRequest:
            found = _find(accounts.transaction, key)
            if found is not None:
                return found
            now = accounts.now
            request = HelpRequest(*key, text, reason, help, self._fallback, now, now + self._time_limit)
            entry = accounts.transaction.find_entry(key)
            if entry is None and units is None:
                raise ValueError(f"step {key} was never reserved; give the cost of the request")
            if entry is not None and units is None:
                paid = entry.status in COUNTED
            else:
                paid = accounts.take(key, units, RESERVED, keys)
            why = self._attention(accounts) if paid else NO_BUDGET
            if why:
                accounts.refund(key)
                request = replace(request, state="refused", closed=now, answer=why)
            else:
                accounts.transaction.add_used(self._day_name(accounts), 1, 2**62)
            return _write(accounts.transaction, request)

        return self._ledger.write(lambda accounts: work(self._expire(accounts)))

    def _attention(self, accounts: Accounts) -> str:
        """Why no request can be opened now; empty where one can."""
        if self._max_open is not None and len(accounts.transaction.records(REQUEST, "open")) >= self._max_open:
            return f"{self._max_open} requests are open"
        (today,) = accounts.transaction.read_used([self._day_name(accounts)])
        if self._max_per_day is not None and today >= self._max_per_day:
            return f"{self._max_per_day} requests were opened today"
        return ""

    def _day_name(self, accounts: Accounts) -> str:
        return encode(["desk", self._day.period_start(accounts.now)])

    def answer(
        self, run_id: str | int, step_id: str | int, answer: str, *, by: str = "", cost: Cost | None = None
    ) -> HelpRequest:
        """Answer an open request, which charges it: what was reserved, or the real cost.

        Raises
        ------
        RequestClosed
            It was answered, declined or expired before. The same answer by the same person may come twice.
        ValueError
            There is no such request.
        """
        units = None if cost is None else self._ledger.parse_cost(cost)
        return self._close(as_key(run_id, step_id), "answered", answer, by, lambda a, key: a.take(key, units, CHARGED))

    def decline(self, run_id: str | int, step_id: str | int, reason: str = "", *, by: str = "") -> HelpRequest:
        """Decline an open request, which refunds it; raises as `answer`."""
        return self._close(as_key(run_id, step_id), "declined", reason, by, lambda a, key: a.refund(key))

    def _close(
        self, key: Key, state: RequestState, answer: str, by: str, pay: Callable[[Accounts, Key], bool]
    ) -> HelpRequest:
        answer, by = one_text(answer, "answer" if state == "answered" else "reason"), one_text(by, "by")

        def work(accounts: Accounts) -> HelpRequest:
            request = _require(_find(accounts.transaction, key), key)
            if request.state != "open":
                return request
            pay(accounts, key)
            return _write(
                accounts.transaction, replace(request, state=state, closed=accounts.now, by=by, answer=answer)
            )

        found = self._ledger.write(lambda accounts: work(self._expire(accounts)))
        # Raised after the transaction, so that what expired in it stays so.
        if (found.state, found.by, found.answer) != (state, by, answer):
            raise RequestClosed(found)
        return found

    def _expire(self, accounts: Accounts) -> Accounts:
        """Close requests whose time is over, and refund them."""
        for key, content in accounts.transaction.records(REQUEST, "open"):
            request = _decode(content)
            if request.closes <= accounts.now:
                accounts.refund(key)
                _write(accounts.transaction, replace(request, state="expired", closed=accounts.now))
        return accounts

    def find(self, run_id: str | int, step_id: str | int) -> HelpRequest:
        """A request as it is now.

        Raises
        ------
        ValueError
            There is no such request.
        """
        key = as_key(run_id, step_id)

        def read(transaction: Transaction) -> tuple[HelpRequest | None, float]:
            return _find(transaction, key), transaction.now()

        request, now = self._ledger.read(read)
        request = _require(request, key)
        if request.state == "open" and request.closes <= now:
            request = self._ledger.write(lambda accounts: _find(self._expire(accounts).transaction, key))
        return _require(request, key)

    def requests(self, state: RequestState | None = None) -> list[HelpRequest]:
        """All requests, or those in one state, in the order in which they were opened."""
        if state is not None and state not in STATES:
            raise ValueError(f"state is {state!r}; expected one of {', '.join(STATES)}")

        def read(accounts: Accounts) -> list[HelpRequest]:
            records = self._expire(accounts).transaction.records(REQUEST, state)
            return [_decode(content) for _, content in records]

        return self._ledger.write(read)

    # ---- wait

    def wait(self, run_id: str | int, step_id: str | int, timeout: float | None = None) -> HelpRequest:
        """Wait until a request is closed, at the latest by its time limit.

        Parameters
        ----------
        run_id, step_id : str or int
        timeout : float, optional
            Seconds after which the request is returned as it is, maybe still open.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            request = self.find(run_id, step_id)
            pause = self._pause(end)
            if request.state != "open" or pause <= 0:
                return request
            time.sleep(pause)

    async def wait_async(self, run_id: str | int, step_id: str | int, timeout: float | None = None) -> HelpRequest:
        """As `wait`, in an event loop; the store is read in a thread."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            request = await asyncio.to_thread(self.find, run_id, step_id)
            pause = self._pause(end)
            if request.state != "open" or pause <= 0:
                return request
            await asyncio.sleep(pause)

    def _pause(self, end: float | None) -> float:
        return self._poll if end is None else min(self._poll, end - time.monotonic())

    def on_close(self, run_id: str | int, step_id: str | int, callback: Callable[[HelpRequest], Any]) -> None:
        """Call `callback` with the request when it is closed, from a thread of its own.

        Callbacks end with the process: after a restart, register them again.
        """
        self.find(run_id, step_id)
        threading.Thread(target=lambda: callback(self.wait(run_id, step_id)), daemon=True).start()


def _find(transaction: Transaction, key: Key) -> HelpRequest | None:
    content = transaction.find_record(REQUEST, key)
    return None if content is None else _decode(content)


def _require(request: HelpRequest | None, key: Key) -> HelpRequest:
    if request is None:
        raise ValueError(f"step {key} has no request")
    return request


def _write(transaction: Transaction, request: HelpRequest) -> HelpRequest:
    transaction.write_record(REQUEST, (request.run_id, request.step_id), request.state, json.dumps(asdict(request)))
    return request


@parses
def _decode(content: str) -> HelpRequest:
    request = HelpRequest(**json.loads(content))
    if request.state not in STATES or not isinstance(request.closes, float | int):
        raise ValueError(f"a request has the state {request.state!r} and closes at {request.closes!r}")
    return request
