"""MCP: a tool `ask_for_help` whose budget is held by a ledger; a person answers at the client, or at the desk.

``make_server(recorder, desk, run_id="ticket 7").run()``; or ``selfreg mcp RUN`` with the helper of a run.
"""

# Annotations are read at run time, and one of them holds a method: no `from __future__ import annotations` here.
import asyncio
import hashlib
import json
import uuid
from typing import Annotated, Any, Literal

from selfreg._util.extras import require_extra
from selfreg.data import Step, parse_history
from selfreg.integrations._versions import check_version
from selfreg.runtime.desk import Desk, HelpRequest, RequestClosed
from selfreg.runtime.recorder import Recorder

check_version("mcp", "2.3", "3", "mcp")
with require_extra("mcp", "selfreg.integrations.mcp"):
    from mcp.server import MCPServer
    from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
    from mcp.server.mcpserver import Context
    from mcp.server.mcpserver.resolve import Elicit, Resolve
    from pydantic import BaseModel, Field

# In the metadata of a call, which clients write and models do not.
RUN, STEP, TASK = "selfreg/run", "selfreg/step", "selfreg/task"
CLIENT = "the person at the client"
INSTRUCTIONS = (
    "Call ask_for_help before a step that you may fail. Help is limited, and is given where it is worth most; "
    "without it, go on alone."
)


class PersonAnswer(BaseModel):  # type: ignore[misc]
    """What the person at the client fills in."""

    answer: str = Field(description="Your answer to the agent")


class HelpReply(BaseModel):  # type: ignore[misc]
    """What came of a request for help.

    Attributes
    ----------
    status : {"answered", "declined", "expired", "refused", "open"}
        "refused" where the helper finds that the step is not worth it, or the budget cannot pay. "open" where nobody
        has answered yet: the same call again waits on.
    answer : str
    note : str
        Why.
    budget_left : list of int
    """

    status: Literal["answered", "declined", "expired", "refused", "open"]
    answer: str
    note: str
    budget_left: list[int]


class _Requests:
    """Requests for help of one server."""

    def __init__(self, recorder: Recorder, desk: Desk, run_id: str, wait: float) -> None:
        self._recorder, self._desk, self._run_id, self._wait = recorder, desk, run_id, wait

    def _ids(self, situation: str, question: str, ctx: Any) -> tuple[str, str, dict[str, str]]:
        """Of the metadata; else the run of the server, and a hash: ids of MCP requests start anew with a connection."""
        meta = dict(ctx.request_context.meta or {})
        words = hashlib.blake2b(json.dumps([situation, question]).encode(), digest_size=12).hexdigest()
        keys = {"task": str(meta[TASK])} if TASK in meta else {}
        return str(meta.get(RUN, self._run_id)), str(meta.get(STEP, words)), keys

    def open(self, situation: str, question: str, ctx: Any) -> tuple[HelpRequest | None, str, list[int]]:
        """The request of a step as it is now, or None without help; why; what is left. A step is decided once."""
        run, step, keys = self._ids(situation, question, ctx)
        steps = parse_history(situation) if situation.strip() else [Step("")]  # a model may leave it out
        decision = self._recorder.decide_once(run, step, steps, keys=keys)
        request = None
        if decision.requests_help:
            text = f"{situation}\n\n{question}"
            request = self._desk.open(run, step, text, help=decision.action, reason=decision.reason)
        return request, decision.reason, list(self._recorder.ledger.budget_left(run, keys))

    def ask_client(self, situation: str, question: str, ctx: Context) -> PersonAnswer | Elicit[PersonAnswer]:
        """A question to the person at the client, where the request is open and the client can ask."""
        request, *_ = self.open(situation, question, ctx)
        if request is None or request.state != "open" or not _can_elicit(ctx):
            return PersonAnswer(answer="")
        return Elicit(f"{question}\n\n{situation}", PersonAnswer)

    async def reply(self, situation: str, question: str, ctx: Any, asked: Any) -> HelpReply:
        """What came of a request; `asked` is what the person at the client did."""
        request, why, left = await asyncio.to_thread(self.open, situation, question, ctx)
        if request is None:
            return HelpReply(status="refused", answer="", note=f"Go on alone. {why}".strip(), budget_left=left)
        if request.state == "open" and _can_elicit(ctx):
            request = await asyncio.to_thread(self._close, request, asked)
        elif request.state == "open":
            request = await self._desk.wait_async(request.run_id, request.step_id, timeout=self._wait)
        *_, keys = self._ids(situation, question, ctx)
        left = list(await asyncio.to_thread(self._recorder.ledger.budget_left, request.run_id, keys))
        return HelpReply(
            status=request.state,
            answer=request.answer if request.state == "answered" else "",
            note=_NOTES[request.state].format(request.by or "nobody", request.answer).strip(),
            budget_left=left,
        )

    def _close(self, request: HelpRequest, asked: Any) -> HelpRequest:
        """Close a request as the person at the client did, unless somebody at the desk was faster."""
        step = request.run_id, request.step_id
        try:
            if isinstance(asked, AcceptedElicitation):
                return self._desk.answer(*step, asked.data.answer, by=CLIENT)
            return self._desk.decline(*step, by=CLIENT)
        except RequestClosed as closed:
            return closed.request


_NOTES = {
    "answered": "Answered by {0}.",
    "declined": "Go on alone: declined by {0}. {1}",
    "expired": "Go on alone: nobody answered in time.",
    "refused": "Go on alone: {1}",
    "open": "Nobody has answered yet. Call again with the same words to wait on.",
}


def make_server(recorder: Recorder, desk: Desk, *, run_id: str | None = None, wait: float = 50.0) -> MCPServer:
    """An MCP server with the tool `ask_for_help`.

    Parameters
    ----------
    recorder : Recorder
        Its policy decides whether a request is worth the budget; its ledger pays.
    desk : Desk
        Over the same ledger. A client that can ask its person does; else people answer at the desk.
    run_id : str, optional
        Run of the calls, the same when the agent is resumed; by default a new one. Clients may send "selfreg/run",
        "selfreg/step" and "selfreg/task" in the metadata of a call. Without a step, the same words are the same step.
    wait : float
        Seconds that a call waits for the desk; below the client's own time limit.

    Raises
    ------
    ValueError
        The desk has another ledger than the recorder; `wait` is negative.

    Examples
    --------
    >>> import asyncio
    >>> from mcp import Client
    >>> from selfreg import Ledger
    >>> from selfreg.decisions import Decision
    >>> from selfreg.integrations.mcp import make_server
    >>> from selfreg.runtime import Desk, Recorder
    >>> class Never:
    ...     costs = {"person": 1}
    ...     def decide(self, steps, budget_left):
    ...         return Decision(reason="This step is easy.")
    >>> ledger = Ledger(1)
    >>> async def call():
    ...     async with Client(make_server(Recorder(Never(), ledger), Desk(ledger))) as client:
    ...         words = {"situation": "2 + 2 = ?", "question": "Is it 4?"}
    ...         return (await client.call_tool("ask_for_help", words)).structured_content
    >>> asyncio.run(call())
    {'status': 'refused', 'answer': '', 'note': 'Go on alone. This step is easy.', 'budget_left': [1]}
    """
    if desk.ledger is not recorder.ledger:
        raise ValueError("the desk has another ledger than the recorder; expected the same one")
    if not 0 <= wait < float("inf"):
        raise ValueError(f"wait is {wait!r}; expected seconds >= 0")
    requests = _Requests(recorder, desk, run_id or uuid.uuid4().hex, wait)
    server = MCPServer("selfreg", instructions=INSTRUCTIONS)

    @server.tool(structured_output=True)  # type: ignore[untyped-decorator]
    async def ask_for_help(
        situation: Annotated[str, Field(description="The last thing that you saw, word for word")],
        question: Annotated[str, Field(description="What you want to know")],
        asked: Annotated[ElicitationResult[PersonAnswer], Resolve(requests.ask_client)],
        ctx: Context,
    ) -> HelpReply:
        """Ask a person for help with the step at hand. Help is limited; the same words are asked and paid once."""
        return await requests.reply(situation, question, ctx, asked)

    return server


def _can_elicit(ctx: Any) -> bool:
    """Whether the client can ask its person; a bare declaration counts, one for URLs only does not."""
    capabilities = ctx.client_capabilities
    elicitation = None if capabilities is None else capabilities.elicitation
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)
