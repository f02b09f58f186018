"""The OpenAPI description, and requests made from it: no status that it does not have, nothing spent unseen."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is missing (Python 3.11 or later)")
pytest.importorskip("starlette", reason="starlette is missing (extra 'serve')")

from hypothesis import HealthCheck, Phase, settings  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from word_server import DESK_TOKEN, TOKEN, ByWord, make_service  # noqa: E402

from selfreg.runtime import Desk, Ledger, Recorder  # noqa: E402
from selfreg.runtime.server import Service, create_app  # noqa: E402

ledger = Ledger(10**6)
service = Service(Recorder(ByWord(), ledger), Desk(ledger))
app = create_app(service, token=TOKEN, desk_token=DESK_TOKEN, hosts=["testserver"])
schema = schemathesis.openapi.from_asgi("/openapi.json", app)
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
EXAMPLES = int(os.environ.get("SELFREG_FUZZ", "60"))


def fuzz(examples: int):
    return settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )


def check(case) -> None:
    if case.path == "/v1/wait" and isinstance(case.body, dict) and isinstance(case.body.get("seconds"), float | int):
        case.body["seconds"] = min(case.body["seconds"], 0)
    reply = case.call(headers=HEADERS)
    # The ledger may refuse what the schema allows: another outcome, a step that was never reserved.
    case.validate_response(reply, headers=HEADERS, excluded_checks=[positive_data_acceptance])
    assert reply.status_code < 500


@schema.parametrize()
@fuzz(EXAMPLES)
def test_generated_requests_get_stated_replies(case) -> None:
    check(case)


@pytest.mark.long
@schema.parametrize()
@fuzz(20_000)
def test_100_000_generated_requests_get_stated_replies(case) -> None:
    check(case)


FOLDER = tempfile.TemporaryDirectory()


def replaced_app() -> Starlette:
    """A server whose ledger was replaced by another one while it runs."""
    path = Path(FOLDER.name) / "ledger"
    service = make_service(str(path), 9, 600)
    path.unlink()
    make_service(str(path), 9, 600)
    return create_app(service, token=TOKEN, desk_token=DESK_TOKEN, hosts=["testserver"])


@schemathesis.openapi.from_asgi("/openapi.json", replaced_app()).parametrize()
@fuzz(EXAMPLES // 3)
def test_a_ledger_that_was_replaced_is_no_fault_of_the_caller(case) -> None:
    reply = case.call(headers=HEADERS)
    case.validate_response(reply, headers=HEADERS, excluded_checks=[positive_data_acceptance, not_a_server_error])
    # Steps and units are checked before the ledger is read; ids and keys are never blamed.
    assert reply.status_code in (400, 401, 405, 503) or (reply.status_code == 422 and "step (" not in reply.text)


def test_nothing_was_spent_without_an_answer() -> None:
    """Runs last: every unit that is held belongs to a stored decision that requests help."""
    recorder = Recorder(ByWord(), ledger)
    helped = {(one.run_id, one.step_id) for one in recorder.decisions() if one.decision.requests_help}
    assert {(one.run_id, one.step_id) for one in ledger.entries() if one.status in ("reserved", "charged")} <= helped


def test_the_description_names_all_operations() -> None:
    raw = schema.raw_schema
    assert set(raw["paths"]) == {"/v1/decide", "/v1/wait", "/v1/settle", "/v1/refund", "/v1/outcome"}
    for path in raw["paths"].values():
        assert set(path["post"]["responses"]) >= {"200", "400", "401", "422", "500", "503"}
    assert raw["components"]["schemas"]["Decide"]["additionalProperties"] is False
