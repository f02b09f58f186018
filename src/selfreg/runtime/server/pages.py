"""Pages for people: the desk, where requests are answered, and figures for the team."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from selfreg._util.extras import require_extra
from selfreg.data import NOHELP
from selfreg.runtime.desk import HelpRequest, RequestClosed
from selfreg.runtime.ledger.store import Key, UnusableLedgerError, as_key
from selfreg.runtime.server.service import ForecastCheck, Service
from selfreg.runtime.server.sessions import COOKIE, DAYS, Session, Sessions

with require_extra("serve", "selfreg.runtime.server"):
    import jinja2
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
    from starlette.routing import Route

ASSETS = {"/desk.css": "text/css", "/desk.js": "text/javascript"}
LONGEST_NAME = 80
SHOWN_CLOSED = 10
Form = dict[str, str]


class Pages:
    """Pages of a service; `run` calls what blocks in a thread, `read_body` reads a request up to a limit."""

    def __init__(
        self,
        service: Service,
        token: str,
        run: Callable[..., Awaitable[Any]],
        read_body: Callable[[Request], Awaitable[bytes]],
    ) -> None:
        self._service, self._sessions, self._run, self._read_body = service, Sessions(token), run, read_body
        loader = jinja2.PackageLoader("selfreg.runtime.server", "templates")
        self._pages = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
        self._assets = {path: (files(__package__) / "templates" / path[1:]).read_bytes() for path in ASSETS}

    def routes(self) -> list[Route]:
        """All paths of pages."""
        return [
            Route("/", self._start),
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            Route("/desk", self._desk),
            Route("/desk/open", self._list_open),
            Route("/desk/close", self._close, methods=["POST"]),
            Route("/team", self._team),
            *(Route(path, self._asset) for path in ASSETS),
        ]

    # ---- who is there

    async def _start(self, _: Request) -> Response:
        return RedirectResponse("/desk", 303)

    async def _asset(self, request: Request) -> Response:
        return Response(self._assets[request.url.path], media_type=ASSETS[request.url.path])

    def _session(self, request: Request) -> Session | None:
        return self._sessions.read(request.cookies.get(COOKIE))

    async def _form(self, request: Request) -> Form:
        """Fields of a form that was sent from a page of this server."""
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            raise HTTPException(403, "the form was sent by another site")
        try:
            fields = parse_qs((await self._read_body(request)).decode(), keep_blank_values=True, max_num_fields=20)
        except ValueError:
            raise HTTPException(400, "not a form in UTF-8") from None
        return {name: values[-1] for name, values in fields.items()}

    async def _session_form(self, request: Request) -> tuple[Session, Form]:
        """As `_form`, by a person who has logged in, with the token of that session."""
        session, form = self._session(request), await self._form(request)
        if session is None:
            raise HTTPException(401, "log in first: open /login")
        if form.get("form_token") != self._sessions.form_token(session):
            raise HTTPException(403, "the form is of another session; load the page again")
        return session, form

    async def _login(self, request: Request) -> Response:
        if request.method == "GET":
            return self._page("login.html", error="", name="")
        form = await self._form(request)
        name = form.get("name", "").strip()[:LONGEST_NAME]
        if not name or not self._sessions.matches(form.get("token", "")):
            error = "This token is not the one that the server was started with." if name else "Who are you?"
            return self._page("login.html", 403, error=error, name=name)
        response = RedirectResponse("/desk", 303)
        secure = request.url.scheme == "https"
        response.set_cookie(
            COOKIE, self._sessions.start(name), DAYS * 86400, httponly=True, samesite="strict", secure=secure
        )
        return response

    async def _logout(self, request: Request) -> Response:
        await self._session_form(request)
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE)
        return response

    # ---- the desk

    async def _desk(self, request: Request) -> Response:
        session = self._session(request)
        if session is None:
            return RedirectResponse("/login", 303)
        return await self._show_desk(session)

    async def _show_desk(self, session: Session, status: int = 200, notice: str = "", draft: str = "") -> Response:
        facts = await self._run(self._desk_facts)
        return self._page("desk.html", status, session=session, notice=notice, draft=draft, **facts)

    def _desk_facts(self) -> dict[str, Any]:
        desk, ledger = self._service.desk, self._service.recorder.ledger
        every = desk.requests()
        waiting = [one for one in every if one.state == "open"]
        closed = sorted((one for one in every if one.state != "open"), key=lambda one: -(one.closed or 0.0))
        return {
            "cards": [self._card(one) for one in waiting],
            "version": open_version(waiting),
            "closed": closed[:SHOWN_CLOSED],
            "budget": list(zip(ledger.units, ledger.left, strict=True)),
        }

    def _card(self, request: HelpRequest) -> dict[str, Any]:
        found = self._service.find_decision(request)
        success = {} if found is None else found.decision.success_probability
        price = () if found is None else found.decision.price
        return {
            "request": request,
            "key": json.dumps([request.run_id, request.step_id]),
            "seconds": max(int(request.closes - time.time()), 0),
            "helped": success.get(request.help),
            "alone": success.get(NOHELP),
            "price": [one for one in price if one is not None],
        }

    async def _list_open(self, request: Request) -> Response:
        """For the script of the desk: which requests are open now."""
        if self._session(request) is None:
            raise HTTPException(401, "log in first: open /login")
        waiting = await self._run(lambda: self._service.desk.requests("open"))
        return JSONResponse({"version": open_version(waiting)})

    async def _close(self, request: Request) -> Response:
        """Answer or decline a request; if somebody else was first, say who, and keep what was written."""
        session, form = await self._session_form(request)
        run_id, step_id = _read_key(form.get("key", ""))
        text, verb = form.get("text", "").strip(), form.get("verb")
        if verb not in ("answer", "decline"):
            raise HTTPException(400, f"verb is {verb!r}; expected 'answer' or 'decline'")
        if verb == "answer" and not text:
            return await self._show_desk(session, 422, "Write an answer, or decline.")
        close = self._service.desk.answer if verb == "answer" else self._service.desk.decline
        try:
            await self._run(lambda: close(run_id, step_id, text, by=session.name))
        except RequestClosed as error:
            return await self._show_desk(session, 409, _closed_notice(error.request), text)
        return RedirectResponse("/desk", 303)

    # ---- the team

    async def _team(self, request: Request) -> Response:
        session = self._session(request)
        if session is None:
            return RedirectResponse("/login", 303)
        return self._page("team.html", session=session, **await self._run(self._team_facts))

    def _team_facts(self) -> dict[str, Any]:
        recorder, desk = self._service.recorder, self._service.desk
        ledger, decisions = recorder.ledger, recorder.decisions()
        try:
            runs, fault = recorder.trajectories(), ""
        except UnusableLedgerError:
            raise
        except ValueError as error:  # ids of agents that cannot be exported together
            runs, fault = [], str(error)
        held = [one.cost for one in ledger.entries() if one.status in ("reserved", "charged")]
        spent = [sum(cost[i] for cost in held) for i in range(len(ledger.units))]
        finished = [one for one in runs if one.outcome is not None]
        forecast = ForecastCheck([f"cannot be compared: {fault}"] if fault else [], False)
        if self._service.forecast is not None and finished:
            forecast = self._service.forecast(finished)
        return {
            "shadow": recorder.shadow,
            "spending": list(zip(ledger.units, spent, ledger.left, strict=True)),
            "budgets": ledger.budgets,
            "raised": ledger.limit_changes(),
            "actions": Counter(one.requested for one in decisions).most_common(),
            "explored": sum(one.explored for one in decisions),
            "states": Counter(one.state for one in desk.requests()).most_common(),
            "runs": len({one.run_id for one in decisions}),
            "finished": len(finished),
            "success": sum(one.outcome or 0.0 for one in finished) / len(finished) if finished else None,
            "cost": sum(one.cost for one in finished) / len(finished) if finished else None,
            "forecast": forecast,
        }

    def _page(self, template: str, status: int = 200, **facts: Any) -> Response:
        session = facts.get("session")
        facts["form_token"] = "" if session is None else self._sessions.form_token(session)
        return HTMLResponse(self._pages.get_template(template).render(facts), status)


def open_version(requests: list[HelpRequest]) -> str:
    """Differs where other requests are open."""
    return json.dumps([[one.run_id, one.step_id] for one in requests])


def _read_key(text: str) -> Key:
    try:
        run_id, step_id = json.loads(text)
        return as_key(run_id, step_id)
    except (ValueError, TypeError, RecursionError):
        raise HTTPException(400, "the form names no request") from None


def _closed_notice(request: HelpRequest) -> str:
    """Who was first."""
    name = f"run {request.run_id}, step {request.step_id}"
    if request.state == "expired":
        return f"Too late: the time limit of {name} is over. The agent goes on with {request.action!r}."
    who = request.by or "Somebody"
    return f"{who} has {request.state} {name} before you" + (f": {request.answer!r}." if request.answer else ".")
