"""The OpenAPI description, from the classes of `bodies`."""

from __future__ import annotations

from typing import Any, NamedTuple

from selfreg._util.extras import require_extra
from selfreg._version import __version__
from selfreg.runtime.server import bodies

with require_extra("logs", "selfreg.runtime.server"):
    from msgspec.json import schema_components

REFERENCE = "#/components/schemas/{name}"


class Operation(NamedTuple):
    """A path of the API."""

    path: str
    body: type[Any]
    reply: type[Any]
    summary: str


OPERATIONS = (
    Operation("/v1/decide", bodies.Decide, bodies.DecideReply, "Decide for a step, once"),
    Operation("/v1/wait", bodies.Wait, bodies.RequestReply, "Wait for the answer of a person"),
    Operation("/v1/settle", bodies.Settle, bodies.SettleReply, "Charge a step, at real cost"),
    Operation("/v1/refund", bodies.Refund, bodies.RefundReply, "Give back what a step holds"),
    Operation("/v1/outcome", bodies.Outcome, bodies.OutcomeReply, "Store how a run ended"),
)
ERRORS = {
    "400": "Not JSON, or not of this schema",
    "401": "The token is missing or wrong",
    "413": "The body is too long",
    "422": "The ledger cannot do this for these ids, steps, keys or units; the error says why",
    "500": "The policy failed; nothing was spent",
    "503": "The ledger cannot be used; where there is Retry-After, try again: nothing is done twice",
}


def describe_api() -> dict[str, Any]:
    """The description of all operations, as OpenAPI 3.1."""
    kinds = [one for operation in OPERATIONS for one in operation[1:3]]
    schemas, components = schema_components([*kinds, bodies.ErrorReply], ref_template=REFERENCE)
    error = _content(schemas[-1])
    errors = {status: {"description": words, "content": error} for status, words in ERRORS.items()}
    paths = {}
    for operation, body, reply in zip(OPERATIONS, schemas[0::2], schemas[1::2], strict=False):
        paths[operation.path] = {
            "post": {
                "operationId": operation.path.rsplit("/", 1)[1],
                "summary": operation.summary,
                "requestBody": {"required": True, "content": _content(body)},
                "responses": {"200": {"description": "Done, now or before", "content": _content(reply)}, **errors},
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "selfreg", "version": __version__},
        "paths": paths,
        "security": [{"token": []}],
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
