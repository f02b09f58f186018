"""The report of a small run: what its first screen says, text of logs in it, and the page in a browser."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from selfreg.cli.main import main
from selfreg.data import Step, Trajectory, write_trajectories
from selfreg.report import write_report
from selfreg.runs import RunFolder

ROOT = Path(__file__).parents[2]
TICKETS = [
    str(ROOT / "examples" / "tickets.jsonl"), "--format", "jsonl", "--map", "task=id", "--map", "outcome=won",
    "--map", "intervention=helper", "--map", "steps=turns", "--map", "observation=text", "--state", "step,class",
    "--classes", str(ROOT / "examples" / "ticket_classes.toml"),
]  # fmt: skip
HOSTILE = "</blockquote><script>document.title='owned'</script> **bold** [link](javascript:alert(1)) `code` \u202e"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
VIEWS = {"wide": ({"width": 1200, "height": 800}, "light"), "phone": ({"width": 375, "height": 740}, "light"),
         "dark": ({"width": 1200, "height": 800}, "dark")}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    out = tmp_path_factory.mktemp("report") / "run"
    assert main(["fit", *TICKETS, "--budget", "3", "--samples", "20", "--out", str(out)]) == 0
    return RunFolder.open(out)


def page(run: RunFolder) -> str:
    return (run.path / "report.html").read_text(encoding="utf-8")


def test_the_first_screen_says_what_to_buy_at_what_cost_and_how_sure(run) -> None:
    summary, text = run.summary(), page(run)
    first = text[: text.index("<h2>")]
    chosen = summary["recommendation"]
    assert chosen["words"] in first
    success, requests = chosen["success"], chosen["requests"]["mean"]
    assert f"{100 * success['mean']:.0f}% ({100 * success['low']:.0f} to {100 * success['high']:.0f})" in first
    assert f"<dd>{requests:.1f}</dd>" in first
    assert first.count("<figure") == 1
    alt = re.search(r'<svg[^>]*aria-label="([^"]*)"', first).group(1)
    assert "never, budget 0: 44%" in alt


def test_every_request_has_its_worth(run) -> None:
    found = json.loads(write_report(run, "json").read_text(encoding="utf-8"))
    added = next(one for one in run.summary()["forecast"] if one["rule"] == "last-k" and one["budget"] == 1)["added"]
    assert found["worth_lines"][0].startswith(f"The first request adds {100 * added['success']['mean']:.0f} points")
    assert [row["budget"] for row in found["worth"]] == ["1", "2", "3"]
    assert all(row["success per request"].endswith("points") for row in found["worth"])


def test_units_are_not_called_requests_where_a_request_takes_two(tmp_path) -> None:
    logs = [
        Trajectory(f"t{i}", f"{i}{help}", float(i % 10 < (9 if help else 4)), (Step("start", intervention=help),))
        for i in range(100)
        for help in (None, "person")
    ]
    write_trajectories(tmp_path / "log.jsonl", logs)
    arguments = ["--cost", "person=2", "--budget", "3", "--samples", "0", "--out", str(tmp_path / "run")]
    assert main(["fit", str(tmp_path / "log.jsonl"), *arguments]) == 0
    found = json.loads(write_report(RunFolder.open(tmp_path / "run"), "json").read_text(encoding="utf-8"))
    assert [line[: line.index(" adds")] for line in found["worth_lines"]] == [
        "Budget 2 instead of 1",
        "Budget 3 instead of 2",
    ]
    assert [row["budget"] for row in found["worth"]] == ["2", "3"]
    assert found["where_to_stop"].startswith("Budget 2 may be enough: 90% (83 to 96) success with 1.0 requests a task.")


def test_situations_are_in_the_words_of_the_log(run) -> None:
    found = json.loads(write_report(run, "json").read_text(encoding="utf-8"))
    assert 1 <= len(found["situations"]) <= 10
    assert {one["text"] for one in found["situations"]} <= {s.state for t in run.trajectories() for s in t.steps}
    assert all(one["helped"] > one["alone"] for one in found["situations"])
    assert found["summary"]["rules"]["rules"]
    assert all(rule in page(run) for rule in found["summary"]["rules"]["rules"])


def test_one_file_without_network(run) -> None:
    text = page(run)
    assert len(text.encode()) < 1_000_000
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', text)
    assert "@import" not in text
    identifiers = re.findall(r'\bid="([^"]*)"', text)
    assert len(identifiers) == len(set(identifiers))


def test_markdown_and_unknown_formats(run, capsys) -> None:
    assert main(["report", str(run.path), "--format", "md"]) == 0
    text = (run.path / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# When to request help: tickets.jsonl\n\n**")
    assert "\n\n\n\n" not in text
    assert main(["report", str(run.path), "--format", "pdf"]) == 2
    assert "format is 'pdf'; expected one of html, md, json" in capsys.readouterr().err


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> RunFolder:
    """A run whose log has markup in all its texts."""
    folder = tmp_path_factory.mktemp("hostile")
    logs = [
        Trajectory(f"{HOSTILE}{i}", f"{i}{help}", float(bool(help)), (Step(HOSTILE, intervention=help),))
        for i in range(30)
        for help in (None, "<b>person</b>")
    ]
    write_trajectories(folder / "log.jsonl", logs)
    assert (
        main(["fit", str(folder / "log.jsonl"), "--budget", "1", "--samples", "0", "--out", str(folder / "run")]) == 0
    )
    return RunFolder.open(folder / "run")


def test_text_of_logs_is_escaped(hostile) -> None:
    assert "<script>document" not in page(hostile)
    assert "<b>person" not in page(hostile)
    text = write_report(hostile, "md").read_text(encoding="utf-8")
    assert "<b>person" not in text.replace("\\<", "")
    quoted = [line for line in text.splitlines() if "owned" in line]
    assert quoted
    assert all(line.startswith("       ") for line in quoted)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing")
    if CHROMIUM is None:
        pytest.skip("there is no chromium (apt package chromium)")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("which", ["run", "hostile"])
def test_in_a_browser(request, browser, view: str, which: str) -> None:
    """No fault by axe, no request, no error of the script, no scrolling to the side; also with all parts open."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing")
    folder = request.getfixturevalue(which)
    size, scheme = VIEWS[view]
    faults: list[str] = []
    context = browser.new_context(viewport=size, color_scheme=scheme)
    shown = context.new_page()
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.on("request", lambda one: faults.append(one.url) if not one.url.startswith("file:") else None)
    shown.goto((folder.path / "report.html").as_uri())
    assert shown.title() != "owned"
    assert shown.evaluate("document.documentElement.scrollWidth") <= size["width"]
    for _ in range(2):
        found = axe.Axe().run(shown)
        assert found.violations_count == 0, found.generate_report()
        shown.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert shown.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert faults == []
    context.close()


def test_tables_sort(run, browser) -> None:
    shown = browser.new_page()
    shown.goto((run.path / "report.html").as_uri())
    shown.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    table = shown.locator("table", has_text="requests a task").first
    table.get_by_role("button", name="success", exact=True).click()
    column = [float(text.partition("%")[0]) for text in table.locator("tbody tr td:nth-child(3)").all_inner_texts()]
    assert column == sorted(column)
    table.get_by_role("button", name="success", exact=True).click()
    column = [float(text.partition("%")[0]) for text in table.locator("tbody tr td:nth-child(3)").all_inner_texts()]
    assert column == sorted(column, reverse=True)
    assert table.locator("th[aria-sort=descending]").count() == 1
    shown.close()
