"""mini-swe-agent: a model that is two models, ``HelpModel(weak, strong, recorder, run="issue 7")``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.integrations._session import Event, HelpStep, Session, history_of, name_step
from selfreg.integrations._versions import check_version
from selfreg.runtime.ledger.budgets import Keys
from selfreg.runtime.recorder import Recorder

check_version("mini-swe-agent", "2.4", "3", "mini-swe-agent")
with require_extra("mini-swe-agent", "selfreg.integrations.mini_swe_agent"):
    from minisweagent.exceptions import FormatError


class HelpModel:
    """Answers with the stronger model where the recorder requests help; all else is that of the weak one.

    Both must be of one kind, since the weak one words the observations. A step is known by its messages: an agent that
    is started again after a crash finds the decisions of the steps that it repeats.

    Parameters
    ----------
    weak, strong : Model
        Of mini-swe-agent.
    recorder : Recorder
    run : str
        Name of the run.
    keys : mapping, optional
        Scopes of the ledger's budgets, such as ``{"task": ...}``.
    trace : callable, optional
        Called as ``trace(step, event)``; see `selfreg.integrations._session.Session`. The decision is in the
        trajectory anyway, under "selfreg" in the "extra" of a message.
    """

    def __init__(
        self,
        weak: Any,
        strong: Any,
        recorder: Recorder,
        *,
        run: str,
        keys: Keys | None = None,
        trace: Callable[[HelpStep, Event], Any] | None = None,
    ) -> None:
        self._weak, self._strong, self._run, self._keys = weak, strong, run, keys
        self._session = Session(recorder, trace=trace)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # not before there is a weak model
            raise AttributeError(name)
        return getattr(self._weak, name)

    def query(self, messages: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        """One answer; one in a wrong format was an answer too, and is paid."""
        steps = history_of(messages)
        step = self._session.decide(self._run, name_step(steps, len(messages)), steps, keys=self._keys)
        try:
            message: dict[str, Any] = (self._strong if step.helped else self._weak).query(messages, **options)
        except FormatError:
            step.settle()
            raise
        except BaseException as error:
            step.end(error)
            raise
        step.end()
        return {**message, "extra": {**message.get("extra", {}), "selfreg": step.attributes()}}
