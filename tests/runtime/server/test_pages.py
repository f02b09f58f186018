"""The pages without a browser: who may see them, forms of other sites, and what happens to a request that is closed."""

from __future__ import annotations

import httpx
import pytest
from server_cases import DESK_TOKEN, TOKEN


def test_nobody_sees_the_desk_without_its_token(serve) -> None:
    server = serve()
    for path in ("/desk", "/team"):
        reply = httpx.get(server.url + path)
        assert (reply.status_code, reply.headers["location"]) == (303, "/login")
    assert httpx.get(server.url + "/desk/open").status_code == 401
    for token in ("", "wrong", TOKEN):
        reply = httpx.post(server.url + "/login", data={"name": "Eve", "token": token})
        assert reply.status_code == 403
        assert "set-cookie" not in reply.headers
    assert httpx.post(server.url + "/login", data={"name": " ", "token": DESK_TOKEN}).status_code == 403


@pytest.mark.parametrize("cookie", ["", "x", "eyJ4IjoxfQ==.00", "..", "ü"])
def test_a_cookie_that_was_not_signed_here_is_none(serve, cookie) -> None:
    server = serve()
    reply = httpx.get(server.url + "/desk", headers={"Cookie": f"selfreg_session={cookie}".encode()})
    assert reply.status_code == 303


def test_cookies_and_headers_protect_the_session(serve, person) -> None:
    server = serve()
    reply = httpx.post(server.url + "/login", data={"name": "Ada", "token": DESK_TOKEN})
    cookie = reply.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    page = person(server.url, "<b>Ada</b>").client.get("/desk")
    assert "&lt;b&gt;Ada&lt;/b&gt;" in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    assert "http" not in page.text.replace("<!doctype html>", "").replace("http-equiv", ""), "nothing from elsewhere"


def test_sessions_survive_a_restart(serve, person) -> None:
    first = serve()
    ada = person(first.url, "Ada")
    first.stop()
    second = serve()
    cookies = {one.name: one.value for one in ada.client.cookies.jar}
    assert "Ada" in httpx.get(second.url + "/desk", cookies=cookies).text


def test_forms_of_other_sites_and_sessions_do_nothing(serve, person) -> None:
    server = serve()
    server.decide("run", 0, "person")
    ada, bob = person(server.url, "Ada"), person(server.url, "Bob")
    for wrong in ("", "0" * 64, bob.field("form_token")):
        assert ada.close("answer", "Yes", form_token=wrong).status_code == 403
    form = {"form_token": ada.field("form_token"), "key": ada.field("key"), "text": "Yes", "verb": "answer"}
    for origin in ("https://example.org", "null", server.url.replace("127.0.0.1", "localhost")):
        assert ada.client.post("/desk/close", data=form, headers={"Origin": origin}).status_code == 403
    assert httpx.post(server.url + "/desk/close", data=form).status_code == 401
    assert server.post("/v1/wait", {"run_id": "run", "step_id": 0}).json()["state"] == "open"
    assert ada.client.post("/desk/close", data=form, headers={"Origin": server.url}).status_code == 200
    assert server.post("/v1/wait", {"run_id": "run", "step_id": 0}).json()["by"] == "Ada"


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"verb": "sell"}, 400),
        ({"key": "[1"}, 400),
        ({"key": "[1, 2, 3]"}, 400),
        ({"key": "[[1], 2]"}, 400),
        ({"key": "7"}, 400),
        ({"key": '["no such run", 0]'}, 422),
        ({"key": "[true, 0]"}, 400),
        ({"text": " "}, 422),
        ({"text": "x" * 2**20}, 413),
    ],
)
def test_broken_forms_are_refused(serve, person, changed, status) -> None:
    server = serve()
    server.decide("run", 0, "person")
    reply = person(server.url, "Ada").close("answer", "Yes", **changed)
    assert reply.status_code == status
    assert server.post("/v1/wait", {"run_id": "run", "step_id": 0}).json()["state"] == "open"


def test_texts_of_agents_are_shown_as_text(serve, person) -> None:
    server = serve()
    server.decide("<script>alert(1)</script>", 0, 'person "><img src=x onerror=alert(1)>')
    ada = person(server.url, "Ada")
    assert "<script>alert" not in ada.page
    assert "<img" not in ada.page
    assert ada.close("decline", "</pre><script>").status_code == 200


def test_a_request_that_expired_says_so(serve, person) -> None:
    server = serve(time_limit=1.0)
    server.decide("run", 0, "person")
    ada = person(server.url, "Ada")
    assert server.post("/v1/wait", {"run_id": "run", "step_id": 0, "seconds": 5}).json()["action"] == "nohelp"
    late = ada.close("answer", "my long answer")
    assert late.status_code == 409
    assert "the time limit of run run, step 0 is over" in late.text
    assert "my long answer" in late.text


def test_the_team_sees_what_was_spent(serve, person) -> None:
    server = serve(limit=9)
    server.decide("a", 0, "person")
    server.decide("b", 0, "model")
    server.decide("b", 1, "go on")
    server.post("/v1/outcome", {"run_id": "b", "success": True})
    page = person(server.url, "Ada").client.get("/team").text
    assert '<tr><td>requests</td><td class="n">3</td><td class="n">6</td></tr>' in page
    assert "2 runs, 1 finished: success <b>1.000</b>, 2.00 units each" in page
    assert "1 runs compared" in page
    assert "Alarm:" in page
    for action in ("person", "model", "nohelp"):
        assert f'<tr><td>{action}</td><td class="n">1</td></tr>' in page


def test_logging_out_ends_the_session(serve, person) -> None:
    server = serve()
    ada = person(server.url, "Ada")
    assert ada.client.post("/logout", data={"form_token": ada.field("form_token")}).url.path == "/login"
    assert ada.client.get("/desk").url.path == "/login"
