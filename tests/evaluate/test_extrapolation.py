"""Plans at states never logged: the rule, what is marked, what is counted, bad input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import selfreg
from selfreg._util.text_index import WordGroups
from selfreg.data import Step, Trajectory
from selfreg.decisions import Decision, start_episode
from selfreg.envs import CollectConfig, collect, household_tasks, make_household
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.evaluate import Extrapolating, NearestScore, NearestText


def logs() -> list[Trajectory]:
    """Help is worth it at the locked door only."""
    won = {("a locked iron door", "help"): 1.0, ("a locked iron door", None): 0.0}
    return [
        Trajectory("t", f"{text} {kind} {i}", won.get((text, kind), 1.0), (Step(text, intervention=kind),))
        for text in ("a locked iron door", "an open green meadow")
        for kind in (None, "help")
        for i in range(5)
    ]


class Length:
    """A PRM that scores by the number of letters."""

    def text(self, steps: Sequence[Step]) -> str:
        return steps[-1].state

    def score(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([len(text) / 100 for text in texts])


def plan(backoff: str, **settings: float) -> Extrapolating:
    model = estimate_mdp(logs(), ExactKey())
    nearest = (
        NearestText(model, logs(), **settings)
        if backoff == "text"
        else NearestScore(model, logs(), Length(), **settings)
    )
    return Extrapolating(model, selfreg.solve(model.mdp, 2), nearest)


def decide(policy: Extrapolating, text: str, left: int, task: str = "t") -> Decision:
    start_episode(policy, task, 0)
    return policy.decide([Step(text)], (left,))


def test_the_most_similar_state_decides_and_is_marked() -> None:
    one = plan("text")
    logged = decide(one, "a locked iron door", 1)
    assert (logged.action, logged.extrapolated) == ("help", False)
    similar = decide(one, "the locked door", 1)
    assert (similar.action, similar.extrapolated) == ("help", True)
    assert 0.3 < float(similar.reason.rsplit(" ", 1)[1]) < 1
    assert decide(one, "an open meadow", 1).action == "nohelp"
    # The same text in another task is not the same exact state.
    assert decide(one, "a locked iron door", 1, task="u").extrapolated
    assert decide(one, "a locked iron door", 0).action == "nohelp"
    assert decide(one, "a locked iron door", 9).action == "help"
    unmatched = decide(one, "fish", 1)
    assert (unmatched.action, unmatched.reason) == ("nohelp", "no logged state is similar")
    assert (one.counts.logged, one.counts.extrapolated, one.counts.unmatched) == (3, 3, 1)
    assert str(one.counts).startswith("7 decisions: 3 at logged states, 3 extrapolated")


def test_the_nearest_score_decides() -> None:
    one = plan("score", least=0.9)
    assert decide(one, "x" * 17, 1).action == "help"
    assert decide(one, "x" * 21, 1).action == "nohelp"
    assert decide(one, "x" * 80, 1).reason == "no logged state is similar"


def test_texts_less_similar_than_least_do_not_count() -> None:
    one = plan("text", least=0.99)
    assert decide(one, "the locked door", 1).reason == "no logged state is similar"
    with pytest.raises(ValueError, match="least is 2"):
        plan("text", least=2.0)


def test_the_nearest_text_of_the_same_task() -> None:
    texts = {"a": "Task: x.\nHere: kitchen. In hand: nothing.", "b": "Task: x.\nHere: study. In hand: mug."}
    won = {("a", "help"): 1.0, ("b", None): 1.0}
    episodes = [
        Trajectory("t", f"{key} {kind} {i}", won.get((key, kind), 0.0), (Step(text, key=key, intervention=kind),))
        for key, text in texts.items()
        for kind in (None, "help")
        for i in range(3)
    ]
    model = estimate_mdp(episodes, ExactKey())
    nearest = NearestText(model, episodes, least=0.0, vectors=WordGroups(), within_task=True)
    one = Extrapolating(model, selfreg.solve(model.mdp, 1), nearest)
    like_a = "Task: x.\nHere: kitchen. In hand: pen."
    assert decide(one, like_a, 1).action == "help"
    assert decide(one, like_a, 0).action == "nohelp"
    assert decide(one, "Task: x.\nHere: hall. In hand: mug.", 1).action == "nohelp"
    assert decide(one, like_a, 1, task="another task").reason == "no logged state is similar"


def test_bad_input_is_named() -> None:
    one = plan("text")
    with pytest.raises(ValueError, match="steps is empty"):
        one.decide([], (1,))
    with pytest.raises(ValueError, match="budget_left is"):
        one.decide([Step("a")], (1, 1))
    model = estimate_mdp(logs(), ExactKey())
    other = selfreg.solve(estimate_mdp(logs()[:5], ExactKey()).mdp, 1)
    with pytest.raises(ValueError, match="solution is of another model"):
        Extrapolating(model, other, one.backoff)
    for wordless in ([], [Trajectory("t", "e", 1.0, (Step(""),))]):
        with pytest.raises(ValueError, match="no step is in a state of the model"):
            NearestText(model, wordless)


def test_in_household_most_new_states_have_a_similar_one() -> None:
    task = household_tasks(3, 0, seed=1)[0][1]
    config = CollectConfig(episodes_per_task=40, workers=1)
    first = list(collect(make_household, [task], config))
    later = list(collect(make_household, [task], CollectConfig(episodes_per_task=16, workers=1, seed=1)))
    model = estimate_mdp(first, ExactKey())
    one = Extrapolating(model, selfreg.solve(model.mdp, 2), NearestText(model, first))
    one.start(task, 0)
    for trajectory in later:
        for t in range(len(trajectory.steps)):
            one.decide(trajectory.steps[: t + 1], (2,))
    logged = [model.state(trajectory, t) is not None for trajectory in later for t in range(len(trajectory.steps))]
    assert 0 < sum(logged) < len(logged)
    assert one.counts.logged == sum(logged)
    assert one.counts.logged + one.counts.extrapolated + one.counts.unmatched == len(logged)
    assert one.counts.extrapolated > one.counts.unmatched
