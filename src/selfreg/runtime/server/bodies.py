"""What requests and replies hold; the OpenAPI description is made from these classes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from selfreg._util.extras import require_extra
from selfreg.data import Step

with require_extra("logs", "selfreg.runtime.server"):
    from msgspec import UNSET, Meta, Struct, UnsetType

WAIT = 60  # seconds, at most, that one request waits for an answer
LARGEST = 2**63 - 1

Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=500)] | Annotated[int, Meta(ge=-LARGEST, le=LARGEST)]
Units: TypeAlias = Annotated[int, Meta(ge=0, le=LARGEST)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=WAIT)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Cost: TypeAlias = Units | list[Units] | dict[str, Units]


class StepId(Struct, forbid_unknown_fields=True, kw_only=True):
    """Identity of a step: the same whenever it is executed again."""

    run_id: Id
    step_id: Id


class Decide(StepId, kw_only=True):
    """The episode so far, as `steps` or as `messages`; the last one is the state to decide in.

    `question` is what a person reads where one is asked; by default the text of the state. `keys` name the scopes that
    the ledger's budgets need, such as the task.
    """

    steps: list[str | Step] | UnsetType = UNSET
    messages: list[dict[str, Any]] | UnsetType = UNSET
    question: str = ""
    keys: dict[str, Id] = {}


class Settle(StepId, kw_only=True):
    """What help really cost; by default what was reserved."""

    cost: Cost | None = None


class Refund(StepId, kw_only=True):
    """Gives back what a step holds, because help failed; an open request to a person is withdrawn."""


class Wait(StepId, kw_only=True):
    """Waits for a person, at most `seconds`."""

    seconds: Seconds = 0


class Outcome(Struct, forbid_unknown_fields=True, kw_only=True):
    """How a run ended."""

    run_id: Id
    success: bool | Share


class RequestReply(Struct, kw_only=True):
    """A request to a person; `action` is what to do, null while it is open."""

    run_id: str | int
    step_id: str | int
    state: Literal["open", "answered", "declined", "expired", "refused"]
    action: str | None
    help: str
    fallback: str
    answer: str
    by: str
    opened: float
    closes: float
    closed: float | None


class DecideReply(Struct, kw_only=True):
    """The decision of a step, the same whenever it is executed again.

    Where `request` is not null, a person is asked: what to do is the `action` of the request, once it is closed.
    """

    action: str
    reason: str
    request_probability: float | None
    success_probability: dict[str, float]
    budget_left: list[int]
    price: list[float | None]
    extrapolated: bool
    request: RequestReply | None


class SettleReply(Struct, kw_only=True):
    """Whether the step is charged, now or before."""

    charged: bool


class RefundReply(Struct, kw_only=True):
    """Whether the step is refunded, now or before."""

    refunded: bool


class OutcomeReply(Struct, kw_only=True):
    """The outcome is stored, now or before."""

    stored: bool


class ErrorReply(Struct, kw_only=True):
    """What was wrong."""

    error: str
