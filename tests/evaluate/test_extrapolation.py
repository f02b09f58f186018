"""Plans at states never logged: the rule, what is marked, what is counted, bad input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import selfreg
from selfreg.data import Step, Trajectory
from selfreg.envs import CollectConfig, collect, household_tasks, make_household
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.evaluate import Extrapolating, Like, NearestScore, NearestText, unseen_share


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
    found = (
        NearestText(model, logs(), **settings)
        if backoff == "text"
        else NearestScore(model, logs(), Length(), **settings)
    )
    return Extrapolating(model, selfreg.solve(model.mdp, 2), found)


def test_the_most_alike_state_decides_and_is_marked() -> None:
    one = plan("text")
    assert one.decide([Step("a locked iron door")], 1, task="t") == ("help", Like(0, 1.0, False))
    action, like = one.decide([Step("the locked door")], 1, task="t")
    assert (action, like.state, like.extrapolated) == ("help", 0, True)
    assert 0.3 < like.likeness < 1
    assert one.decide([Step("an open meadow")], 1, task="t")[0] == "nohelp"
    # The same text in another task is not the same exact state.
    assert one.decide([Step("a locked iron door")], 1, task="u")[1].extrapolated
    assert one.decide([Step("a locked iron door")], 0, task="t")[0] == "nohelp"
    assert one.decide([Step("a locked iron door")], 9, task="t")[0] == "help"
    assert one.decide([Step("fish")], 1, task="t") == ("nohelp", None)
    assert (one.counts.known, one.counts.extrapolated, one.counts.lost) == (3, 3, 1)
    assert str(one.counts).startswith("7 decisions: 3 at logged states, 3 extrapolated")


def test_the_nearest_score_decides() -> None:
    one = plan("score", least=0.9)
    assert one.decide([Step("x" * 17)], 1, task="t")[0] == "help"
    assert one.decide([Step("x" * 21)], 1, task="t")[0] == "nohelp"
    assert one.decide([Step("x" * 80)], 1, task="t") == ("nohelp", None)


def test_least_is_what_tells_neighbours_from_strangers() -> None:
    assert plan("text", least=0.99).decide([Step("the locked door")], 1, task="t")[1] is None
    with pytest.raises(ValueError, match="least is 2"):
        plan("text", least=2.0)


def test_bad_input_is_named() -> None:
    one = plan("text")
    with pytest.raises(ValueError, match="steps is empty"):
        one.decide([], 1)
    with pytest.raises(ValueError, match="budget_left is"):
        one.decide([Step("a")], (1, 1))
    other = selfreg.solve(estimate_mdp(logs()[:5], ExactKey()).mdp, 1)
    with pytest.raises(ValueError, match="solution is of another model"):
        Extrapolating(one.model, other, one.backoff)
    with pytest.raises(ValueError, match="there are no steps"):
        unseen_share(one.model, [])


def test_in_household_most_new_states_find_a_neighbour() -> None:
    task = household_tasks(3, 0, seed=1)[0][1]
    config = CollectConfig(episodes_per_task=40, workers=1)
    first = list(collect(make_household, [task], config))
    later = list(collect(make_household, [task], CollectConfig(episodes_per_task=16, workers=1, seed=1)))
    model = estimate_mdp(first, ExactKey())
    one = Extrapolating(model, selfreg.solve(model.mdp, 2), NearestText(model, first))
    for trajectory in later:
        for t in range(len(trajectory.steps)):
            one.decide(trajectory.steps[: t + 1], 2, task=task)
    share = unseen_share(model, later)
    total = one.counts.known + one.counts.extrapolated + one.counts.lost
    assert 0 < share < 1
    assert one.counts.known == pytest.approx((1 - share) * total)
    assert one.counts.extrapolated > one.counts.lost
