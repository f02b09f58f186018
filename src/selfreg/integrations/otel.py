"""OpenTelemetry: each decision as a span, for the `trace=` of the adapters; nothing is traced without it.

The span is a child of the span that is open, such as ``invoke_agent``. Without a provider of the SDK, OpenTelemetry
drops it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from selfreg._util.extras import require_extra
from selfreg._version import __version__
from selfreg.integrations._session import Event, HelpStep
from selfreg.integrations._versions import check_version

check_version("opentelemetry-api", "1.30", "2", "otel")
with require_extra("otel", "selfreg.integrations.otel"):
    from opentelemetry import trace

MOST_LINKED = 10_000  # decisions that settlements can still point to


class SpanTrace:
    """Writes decisions and settlements as spans.

    A decision is a span "selfreg.decision" with ``openinference.span.kind`` DECISION, ``gen_ai.conversation.id`` and
    the attributes ``selfreg.action``, ``.request_probability``, ``.budget.left``, ``.price``, ``.run_id``,
    ``.step_id``, ``.ledger.status``, ``.extrapolated`` and ``.reason``, as far as they are known. A decision that is
    looked up again, as after a crash, is a span again. A settlement is a span "selfreg.charged" or "selfreg.refunded"
    with a link to the decision. No span holds the text of a state.

    Parameters
    ----------
    provider : TracerProvider, optional
        The global one by default.
    models : mapping of str to str, optional
        Model that answers, by action ("nohelp" and help types): ``gen_ai.request.model``.

    Examples
    --------
    >>> from opentelemetry.sdk.trace import TracerProvider
    >>> from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    >>> from selfreg import Ledger
    >>> from selfreg.data import Step
    >>> from selfreg.decisions import Decision
    >>> from selfreg.integrations._session import Session
    >>> from selfreg.integrations.otel import SpanTrace
    >>> from selfreg.runtime import Recorder
    >>> class Always:
    ...     def decide(self, steps, budget_left):
    ...         return Decision("strong")
    >>> provider, spans = TracerProvider(), InMemorySpanExporter()
    >>> provider.add_span_processor(SimpleSpanProcessor(spans))
    >>> recorder = Recorder(Always(), Ledger(1), costs={"strong": 1})
    >>> with Session(recorder, trace=SpanTrace(provider)).decide("run 1", 0, [Step("2 + 2 = ?")]):
    ...     pass  # the stronger model answers
    >>> for span in spans.get_finished_spans():
    ...     print(span.name, span.attributes["selfreg.action"], span.attributes["selfreg.ledger.status"])
    selfreg.decision strong reserved
    selfreg.charged strong charged
    """

    def __init__(self, provider: Any = None, *, models: Mapping[str, str] | None = None) -> None:
        self._tracer = trace.get_tracer("selfreg", __version__, provider)
        self._models = dict(models or {})
        self._lock = threading.Lock()
        self._decided: dict[tuple[str | int, str | int], Any] = {}

    def __call__(self, step: HelpStep, event: Event) -> None:
        """A span for an event of a step."""
        attributes = {
            "openinference.span.kind": "DECISION",
            "gen_ai.conversation.id": str(step.run_id),
            **({"gen_ai.request.model": self._models[step.action]} if step.action in self._models else {}),
            **step.attributes(),
        }
        key = step.run_id, step.step_id
        if event == "decided":
            with self._tracer.start_as_current_span("selfreg.decision", attributes=attributes) as span:
                self._remember(key, span.get_span_context())
            return
        with self._lock:
            decision = self._decided.get(key)
        links = [] if decision is None else [trace.Link(decision)]
        self._tracer.start_span(f"selfreg.{event}", attributes=attributes, links=links).end()

    def _remember(self, key: tuple[str | int, str | int], context: Any) -> None:
        with self._lock:
            self._decided.pop(key, None)
            if len(self._decided) >= MOST_LINKED:
                del self._decided[next(iter(self._decided))]
            self._decided[key] = context
