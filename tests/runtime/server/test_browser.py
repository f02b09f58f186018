"""The desk in a real browser: Debian's Chromium, driven by playwright."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator

import pytest
from server_cases import DESK_TOKEN

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (apt package chromium)")

WIDE, PHONE = {"width": 1200, "height": 800}, {"width": 320, "height": 568}

FITS = "document.documentElement.scrollWidth <= window.innerWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def enter(browser) -> Iterator[Callable[..., object]]:
    """Opens the desk for a person, in a session of its own; fails on errors of scripts and requests to elsewhere."""
    contexts, faults = [], []

    def start(url: str, name: str, viewport=WIDE):
        contexts.append(browser.new_context(viewport=viewport))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url) if not _own(request.url, url) else None)
        page.goto(url)
        page.get_by_label("Your name").fill(name)
        page.get_by_label("Token of the desk").fill(DESK_TOKEN)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/desk")
        return page

    yield start
    for context in contexts:
        context.close()
    assert faults == []


def _own(url: str, server: str) -> bool:
    return url.startswith((server, "data:"))


def state(server, run: str = "run", step: int = 0) -> dict:
    return server.post("/v1/wait", {"run_id": run, "step_id": step}).json()


@pytest.mark.parametrize("viewport", [WIDE, PHONE])
def test_a_request_is_answered_and_another_declined(serve, enter, viewport) -> None:
    server = serve(limit=5)
    page = enter(server.url, "Ada", viewport)
    assert page.get_by_text("Nobody waits for help.").is_visible()
    server.decide("run", 0, "person needed: " + "a_long_word_" * 30)
    page.get_by_role("heading", name="1 open request").wait_for(timeout=10_000)  # by itself
    assert page.evaluate(FITS), "nothing is cut off at the side"
    page.get_by_label("Answer, or why you decline").fill("Archive it.")
    page.get_by_role("button", name="Answer").click()
    page.get_by_text("answered by Ada: Archive it.").wait_for()
    assert (state(server)["state"], state(server)["answer"]) == ("answered", "Archive it.")
    server.decide("run", 1, "person again")
    page.reload()
    page.get_by_role("button", name="Decline").click()
    page.get_by_text("declined by Ada").wait_for()
    assert state(server, step=1)["action"] == "nohelp"
    page.get_by_role("link", name="Team").click()
    assert page.get_by_role("row", name="requests 1 4").is_visible()
    assert page.evaluate(FITS)


def test_the_keyboard_is_enough(serve, enter) -> None:
    server = serve(limit=5)
    for step in range(3):
        server.decide("run", step, f"person for {step}")
    page = enter(server.url, "Ada")
    for key in ("j", "j", "a"):
        page.keyboard.press(key)
    page.keyboard.type("by keys")
    page.keyboard.press("Control+Enter")
    page.get_by_role("heading", name="2 open requests").wait_for()
    assert state(server, step=1)["answer"] == "by keys"
    for key in ("j", "j", "k", "d", "Enter"):
        page.keyboard.press(key)
    page.get_by_role("heading", name="1 open request").wait_for()
    assert [state(server, step=step)["state"] for step in range(3)] == ["declined", "answered", "open"]


def test_two_people_at_once(serve, enter) -> None:
    """One wins; the other is told who, and what was written is not lost."""
    server = serve(limit=5)
    server.decide("run", 0, "person needed")
    ada, bob = enter(server.url, "Ada"), enter(server.url, "Bob")
    ada.get_by_label("Answer, or why you decline").fill("Yes.")
    bob.get_by_label("Answer, or why you decline").fill("No, because of the law.")
    ada.get_by_role("button", name="Answer").click()
    ada.get_by_text("answered by Ada: Yes.").wait_for()
    bob.get_by_text("The list has changed.").wait_for(timeout=10_000)  # not loaded again while Bob writes
    bob.get_by_role("button", name="Answer").click()
    bob.get_by_text("Ada has answered run run, step 0 before you: 'Yes.'.").wait_for()
    assert bob.get_by_text("No, because of the law.").is_visible()
    assert (state(server)["by"], state(server)["answer"]) == ("Ada", "Yes.")


def test_a_request_expires_under_the_eyes_of_a_person(serve, enter) -> None:
    server = serve(limit=5, time_limit=4.0)
    server.decide("run", 0, "person needed")
    page = enter(server.url, "Ada")
    assert page.get_by_text("0 min").is_visible()
    page.get_by_label("Answer, or why you decline").fill("wait for me")
    time.sleep(4)
    page.get_by_role("button", name="Answer").click()
    page.get_by_text("Too late: the time limit of run run, step 0 is over.").wait_for()
    assert state(server)["state"] == "expired"
    assert server.decide("run", 1, "model")["budget_left"] == [5]


def test_a_wrong_token_lets_nobody_in(serve, browser) -> None:
    server = serve()
    page = browser.new_page()
    page.goto(server.url)
    page.get_by_label("Your name").fill("Eve")
    page.get_by_label("Token of the desk").fill("let me in, please")
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("This token is not the one").wait_for()
    page.close()
