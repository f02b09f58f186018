"""LangChain's `ModelRouterMiddleware`: a decision model that sends a whole run to the stronger model where it helps.

``ModelRouterMiddleware(choices=..., instructions=..., classifier=SelfregRouter(recorder=recorder, labels=...))``. Where
single steps need help, use `selfreg.integrations.langchain.SelfregMiddleware`.
"""

from __future__ import annotations

import json
from typing import Any

from selfreg._util.extras import require_extra
from selfreg.integrations._session import Session, history_of, name_step
from selfreg.integrations._versions import check_version

check_version("langchain", "1.5", "2", "langchain")
with require_extra("langchain", "selfreg.integrations.langchain_router"):
    from langchain_core.decisions import BaseDecisionModel, Choice, ChoiceAnswer, ClassifierResponse
    from langchain_core.messages import BaseMessage, message_to_dict
    from langchain_core.runnables import ensure_config


class SelfregRouter(BaseDecisionModel):  # type: ignore[misc]
    """Answers a `Choice` among models by a recorded decision.

    The run is the thread of the checkpointer, else a hash of what is classified. A state that is classified again, as
    in a resumed or replayed run, has the answer of before. A router does not see what the model answers, so that help
    is paid with the decision.

    Attributes
    ----------
    recorder : Recorder
    labels : mapping of str to str
        Label of the question by action: "nohelp" and help types.

    Raises
    ------
    ValueError
        At a question: it is no `Choice`, or has not the label of the action; the action has no label.

    Examples
    --------
    >>> from langchain_core.decisions import Choice
    >>> from selfreg import Ledger
    >>> from selfreg.decisions import Decision
    >>> from selfreg.integrations.langchain_router import SelfregRouter
    >>> from selfreg.runtime import Recorder
    >>> class Always:
    ...     def decide(self, steps, budget_left):
    ...         return Decision("strong")
    >>> recorder = Recorder(Always(), Ledger(1), costs={"strong": 1})
    >>> router = SelfregRouter(recorder=recorder, labels={"nohelp": "fast", "strong": "powerful"})
    >>> question = Choice(instructions="Which model?", criteria={"fast": "easy", "powerful": "hard"})
    >>> def ask(text):
    ...     return router.invoke({"state": text, "questions": {"route": question}}).choices["route"].choice
    >>> ask("2 + 2 = ?"), ask("3 + 3 = ?"), ask("2 + 2 = ?")
    ('powerful', 'fast', 'powerful')
    """

    recorder: Any
    labels: dict[str, str]
    model: str = "selfreg"

    @property
    def _provider(self) -> str:
        return "selfreg"

    def _classify(self, state: Any, questions: dict[str, Any]) -> ClassifierResponse:
        for name, question in questions.items():
            if not isinstance(question, Choice):
                raise ValueError(f"question {name!r} is a {type(question).__name__}; expected a Choice")
            missing = set(self.labels.values()) - set(question.criteria)
            if missing:
                raise ValueError(
                    f"question {name!r} has no label {min(missing)!r}; it has {', '.join(question.criteria)}"
                )
        label = self._decide(state)
        answers = {
            name: ChoiceAnswer(
                type="choice",
                choice=label,
                probabilities={one: float(one == label) for one in question.criteria},
                confidence=1.0,
            )
            for name, question in questions.items()
        }
        return ClassifierResponse(model=self.model, answers=answers)

    def _decide(self, state: Any) -> str:
        steps = history_of(_as_messages(state))
        thread = ensure_config().get("configurable", {}).get("thread_id")
        key = name_step(steps, getattr(state, "id", None))
        run = f"chat {key}" if thread is None else str(thread)
        with Session(self.recorder).decide(run, f"route {key}", steps) as step:
            if step.action not in self.labels:
                raise ValueError(f"no label for action {step.action!r}; labels has {', '.join(self.labels)}")
            return self.labels[step.action]


def _as_messages(state: Any) -> Any:
    """Text and messages as they are, anything else as JSON."""
    if isinstance(state, BaseMessage):
        return [message_to_dict(state)]
    if isinstance(state, list) and all(isinstance(one, BaseMessage) for one in state):
        return [message_to_dict(one) for one in state]
    return state if isinstance(state, str) else json.dumps(state, default=str)
