"""Abstract states by bins of the PRM's score."""

from __future__ import annotations

import numpy as np
import pytest

from selfreg import solve
from selfreg.data import Step, Trajectory
from selfreg.estimate import ExactKey, Features, ScoreBins, estimate_mdp
from selfreg.estimate.abstraction import ANY_VALUE
from selfreg.estimate.score_bins import from_description


class Reader:
    """The PRM's interface over texts that hold their score; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def text(self, steps) -> str:
        return steps[-1].state

    def score(self, texts):
        self.calls += 1
        return np.array([float(text) for text in texts])


def episodes(n: int = 400) -> list[Trajectory]:
    """Two steps with scores that come true; help at the second step mostly rescues."""
    rng, logs = np.random.default_rng(0), []
    for i in range(n):
        p, q, helped = rng.random(), rng.random(), i % 2 == 1
        won = rng.random() < (0.9 if helped else q)
        kind = "person" if helped else None
        steps = (Step(f"{p:.6f}", intervention=kind), Step(f"{q:.6f}", intervention=kind))
        logs.append(Trajectory(f"t{i}", f"e{i}", float(won), steps, fields={"domain": "a" if i % 3 else "b"}))
    return logs


def test_bins_hold_about_as_many_states_each() -> None:
    logs, prm = episodes(), Reader()
    states = ScoreBins(Features(["step"]), prm, bins=4)
    states.fit(logs)
    bins = [states.encode(t, i)[1] for t in logs for i in range(2)]
    assert np.bincount(bins).tolist() == pytest.approx([200] * 4, abs=2)
    scores = [float(t.steps[i].state) for t in logs for i in range(2)]
    for k in range(3):
        below, above = ([s for s, b in zip(scores, bins, strict=True) if b == k + d] for d in (0, 1))
        assert max(below) < min(above)
    assert prm.calls == 1
    assert states.names == ["step", "score bin"]


def test_unseen_states_are_scored_an_episode_at_a_time() -> None:
    prm = Reader()
    states = ScoreBins(ExactKey(), prm, edges=[0.25, 0.5])
    new = Trajectory("t", "e", 1.0, (Step("0.1"), Step("0.25"), Step("0.9")))
    assert [states.encode(new, i)[-1] for i in range(3)] == [0, 1, 2]
    assert prm.calls == 1
    states.fit([new])
    assert states.edges is not None
    assert states.edges.tolist() == [0.25, 0.5]


def test_the_bin_is_given_up_first() -> None:
    states = ScoreBins(Features(["step", "domain"]), Reader(), edges=[0.5])
    key = states.encode(episodes()[0], 1)
    first = states.coarser(key)
    assert first == (1, "b", ANY_VALUE)
    assert states.coarser(first) == (1, ANY_VALUE, ANY_VALUE)
    assert states.coarser((1, ANY_VALUE, ANY_VALUE)) is None


def test_value_without_help_is_the_unhelped_success_rate_and_help_goes_where_scores_are_low() -> None:
    logs = episodes()
    model = estimate_mdp(logs, ScoreBins(Features(["step"]), Reader(), bins=4), shrink=False)
    solution = solve(model.mdp, 1)
    rate = np.mean([t.outcome for t in logs if not t.helped])
    # Helped episodes begin in other bins now and then, and all episodes are starts.
    assert model.success(solution)[0] == pytest.approx(rate, abs=5e-3)
    asks = {key[1]: bool(solution.policy[i, 1]) for key, i in model.index.items() if key[0] == 1}
    assert asks[0]
    plain = estimate_mdp(logs, Features(["step"]))
    assert model.success(solution)[1] > plain.success(solve(plain.mdp, 1))[1]


def test_settings_survive_and_need_the_prm() -> None:
    logs = episodes()
    states = ScoreBins(Features(["step"]), Reader(), bins=4)
    states.fit(logs)
    again = from_description(states.describe(), Reader)
    assert again.describe() == states.describe()
    assert [again.encode(t, 1) for t in logs] == [states.encode(t, 1) for t in logs]
    with pytest.raises(ValueError, match="need their PRM"):
        from_description(states.describe())


def test_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="bins is 1"):
        ScoreBins(ExactKey(), Reader(), bins=1)
    with pytest.raises(ValueError, match=r"edges are \[0.5, 0.5\]; expected ascending"):
        ScoreBins(ExactKey(), Reader(), edges=[0.5, 0.5])
    with pytest.raises(ValueError, match="call fit first"):
        ScoreBins(ExactKey(), Reader()).encode(episodes()[0], 0)
    constant = ScoreBins(Features(["step"]), Reader(), bins=4)
    constant.fit([Trajectory("t", "e", 1.0, (Step("0.5"), Step("0.5")))])
    assert constant.edges is not None
    assert constant.edges.tolist() == [0.5]
