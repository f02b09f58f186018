"""What decisions say, what they are based on, and thresholds that spend as much as the plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import selfreg
from helper_cases import QUICK, lights
from selfreg._util.text_index import Tfidf
from selfreg.data import Step, Trajectory
from selfreg.estimate import Features, estimate_mdp
from selfreg.helper import Helper, HelperConfig, HelperExamples, Labels, calibrate, label, spending, train_helper
from selfreg.helper.memory import Memory
from selfreg.helper.train import train_bare
from selfreg.runtime.ledger import Ledger


@pytest.fixture(scope="module")
def helper(light_labels: Labels) -> Helper:
    return train_helper(light_labels, QUICK)


def test_decisions_rest_on_logged_states(helper: Helper, light_labels: Labels) -> None:
    color = light_labels.model.counts.keys.index((1, "red"))
    q = light_labels.solution.q("nohelp")[color], light_labels.solution.q("help")[color]
    decision = helper.decide(["second red key lamp"], (1,))
    assert decision.action == "help"
    assert decision.success_probability["nohelp"] == pytest.approx(q[0][1], abs=0.25)
    assert decision.success_probability["help"] > decision.success_probability["nohelp"] + 0.1
    assert len(decision.neighbours) == 5
    assert sum("red" in one.text for one in decision.neighbours) >= 3
    assert [one.similarity for one in decision.neighbours] == sorted(
        (one.similarity for one in decision.neighbours), reverse=True
    )
    assert decision.price[0] > 0.1, "the last unit buys help in a red state"
    alone, helped = (f"{decision.success_probability[name]:.2f}" for name in ("nohelp", "help"))
    assert f"{alone} alone, {helped} with help" in decision.reason
    assert f"The last unit of budget is worth {decision.price[0]:.2f}" in decision.reason
    assert f"Nearest (similarity {decision.neighbours[0].similarity:.2f})" in decision.reason
    counts = [sum(one.visits[name] for one in decision.neighbours) for name in ("nohelp", "help")]
    assert f"({counts[0]} visits alone, {counts[1]} visits with help)" in decision.reason


@pytest.mark.parametrize("form", ["tfidf", "fitted-q", "last-k"])
def test_a_forecast_trains_the_same_helper_without_memory_and_figures(light_labels: Labels, form: str) -> None:
    config = HelperConfig(form=form, history=0, seed=3)
    whole, bare = train_helper(light_labels, config), train_bare(light_labels, config)
    for episode in light_labels.trajectories[:10]:
        for n in range(1, len(episode.steps) + 1):
            chances = [one.decide(episode.steps[:n], (2,)).request_probability for one in (whole, bare)]
            assert chances[0] == chances[1]
    assert whole.memory is not None
    assert bare.memory is None
    assert "agreement" in whole.figures.keys() - bare.figures.keys()


def test_a_state_that_was_logged_gets_its_own_values(light_labels: Labels) -> None:
    """With one neighbour the estimate is the label's own value, at every budget."""
    tasks = sorted(set(light_labels.tasks))
    memory = Memory.from_labels(light_labels, tasks, 0, 10_000)
    assert memory is not None
    texts = light_labels.texts()
    for i in range(0, len(texts), 40):
        same = [k for k, text in enumerate(texts) if sorted(text.split()) == sorted(texts[i].split())]
        if len({int(light_labels.state[k]) for k in same}) == 1:
            index, similarity = memory.nearest([texts[i]], k=1)
            assert similarity[0, 0] == pytest.approx(1, abs=1e-5)
            np.testing.assert_allclose(memory.estimate(index, similarity)[0], light_labels.q[i], atol=1e-6)


def test_no_budget_no_price_and_no_help_in_the_values(helper: Helper) -> None:
    decision = helper.decide(["second red key lamp"], (0,))
    assert (decision.action, decision.price) == ("nohelp", (None,))
    assert set(decision.success_probability) == {"nohelp"}
    assert decision.reason.startswith("nohelp: budget 0 cannot pay for help (cost 1). P(success) by the 5 nearest")


def test_more_budget_is_never_worth_less(helper: Helper) -> None:
    for text in ("second red key lamp", "amber door", "green far"):
        for budget in (1, 2, 3):
            assert helper.decide([text], (budget,)).price[0] >= -1e-9


def test_nothing_is_claimed_of_a_state_like_none(helper: Helper) -> None:
    for text in ("", "☃", "quite other words"):
        decision = helper.decide([text], (2,))
        assert (decision.success_probability, decision.price, decision.neighbours) == ({}, (), ())
        assert "nearest" not in decision.reason


def test_memory_is_saved_without_pickle(helper: Helper, tmp_path: Path) -> None:
    helper.save(tmp_path / "helper")
    names = {p.name for p in (tmp_path / "helper").iterdir()}
    assert {"memory.npz", "memory.json", "model.safetensors"} <= names
    again = Helper.load(tmp_path / "helper")
    for text in ("second red key lamp", "green far near", "amber"):
        assert again.decide([text], (2,)).neighbours == helper.decide([text], (2,)).neighbours
        assert again.decide([text], (2,)).reason == helper.decide([text], (2,)).reason
    (tmp_path / "helper" / "memory.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ValueError, match="is damaged"):
        Helper.load(tmp_path / "helper")


def test_a_helper_without_memory(light_labels: Labels, tmp_path: Path) -> None:
    helper = replace(train_helper(light_labels, replace(QUICK, epochs=1)), memory=None)
    assert helper.memory is None
    helper.save(tmp_path / "helper")
    assert Helper.load(tmp_path / "helper").decide(["red"], (1,)).success_probability == {}


def test_memory_keeps_the_most_visited(light_labels: Labels) -> None:
    tasks = sorted(set(light_labels.tasks))
    few, every = (Memory.from_labels(light_labels, tasks, 0, most) for most in (10, 10_000))
    assert few is not None
    assert every is not None
    assert len(few.texts) == 10
    assert few.visits.sum(axis=1).min() >= np.sort(every.visits.sum(axis=1))[-10]


def test_figures_say_how_good_values_are(helper: Helper) -> None:
    assert helper.figures["value_error"] < helper.figures["value_error_constant"]
    assert 0 <= helper.figures["monotonicity_violations"] <= 1
    assert helper.figures["recall_help"] > 0.8
    assert helper.figures["share_help"] + helper.figures["share_nohelp"] == pytest.approx(1)


def test_falls_are_counted() -> None:
    """A plan that requests help with one unit and waits with two: the helper learns it, and figures count both."""
    texts = [f"{word} {i}" for i in range(40) for word in ("red", "blue")]
    rows = [(text, b, int((b == 1) == text.startswith("red") and b > 0)) for text in texts for b in (0, 1, 2)]
    names, budgets, decisions = map(list, zip(*rows, strict=True))
    examples = HelperExamples(
        names, np.array(budgets)[:, None], np.array(decisions), np.ones(len(rows)),
        [f"task {i // 12}" for i in range(len(rows))], ("nohelp", "help"),
    )  # fmt: skip
    figures = train_helper(examples, replace(QUICK, epochs=24)).figures
    assert figures["agreement"] > 0.95
    assert figures["monotonicity_violations_plan"] == pytest.approx(1 / 4)
    assert figures["monotonicity_violations"] == pytest.approx(1 / 4, abs=0.05)


def test_labels_of_few_visits_weigh_less() -> None:
    """The lamp's decisions are based on one visit and are wrong; those of the door on ten."""
    examples = HelperExamples(
        ["lamp", "lamp", "door"], np.ones((3, 1), dtype=np.int64), np.array([1, 0, 1]), np.array([3.0, 1.0, 2.0]),
        ["a", "b", "c"], ("nohelp", "help"), np.array([1.0, 10.0, 10.0]),
    )  # fmt: skip
    assert examples.reweight(1).weights.tolist() == [3, 1, 2]
    assert examples.reweight(4).weights.tolist() == [0.75, 1, 2]
    assert examples.reweight(4).votes((1,)).weights[:, 1].tolist() == [[1, 0.75], [0, 2]]
    with pytest.raises(ValueError, match="no training label is based on a visit"):
        train_helper(replace(examples, support=np.zeros(3)), QUICK)


def test_few_is_reported(light_labels: Labels) -> None:
    quick = replace(QUICK, epochs=1)
    least = light_labels.support[light_labels.support > 0].min()
    assert train_helper(light_labels, replace(quick, min_count=int(least))).figures["low_support_share"] == 0
    assert train_helper(light_labels, replace(quick, min_count=10_000)).figures["low_support_share"] == 1


# ---- calibration


def test_calibrated_spending_is_the_plans(helper: Helper, light_labels: Labels) -> None:
    """A helper that asks too early and one that hardly asks are both brought to the plan's spending."""
    for bias in (9.0, -4.0):
        biased = replace(helper, classifier=_Biased(helper.classifier, bias))
        before = spending(biased, light_labels, "validation")
        found = calibrate(biased, light_labels)
        after = spending(found, light_labels, "validation")
        gap = abs(before.helper - before.plan).max()
        assert gap > 0.01
        # thresholds fall between the few states of this model: one state more or less is asked in
        assert abs(after.helper - after.plan).max() < (0.3 * gap if bias < 0 else gap + 1e-9)
        assert found.figures["spent"] == pytest.approx(after.helper[-1].sum())
        assert found.figures["spent_plan"] == pytest.approx(after.plan[-1].sum())


class _Biased:
    """A model that leans towards asking."""

    form = "features"

    def __init__(self, model, bias: float) -> None:
        self.model, self.bias = model, bias

    def read(self, steps, history):
        return self.model.read(steps, history)

    def decision_logits(self, texts, budgets):
        return self.model.decision_logits(texts, budgets) + np.array([0.0, self.bias])


def test_spending_is_what_a_simulation_spends(helper: Helper, light_labels: Labels) -> None:
    """Against episodes played in the estimated model, deciding by text at every step."""
    model, rng = light_labels.model, np.random.default_rng(0)
    expected = spending(helper, light_labels).helper[2, 0]
    tests = [t for t in lights() if t.task in set(helper.split["test"])]
    alone = [t for t in tests if not t.helped] or tests
    texts: dict[int, list[str]] = {}
    order = np.argsort(~np.isin(light_labels.tasks, helper.split["test"]), kind="stable")
    every = light_labels.texts()
    for i in order:
        known = texts.setdefault(int(light_labels.state[i]), [])
        if len(known) < 3 and every[i] not in known:
            known.append(every[i])
    chosen = {
        (state, left): int(helper.request_probabilities(t, [[left]] * len(t)).mean(axis=0).argmax())
        for state, t in texts.items()
        for left in (0, 1, 2)
    }
    rows = [model.mdp.transitions[name].toarray() for name in model.mdp.actions]
    spent = []
    for _ in range(4000):
        state, left = model.state(alone[rng.integers(len(alone))], 0), 2
        while state in texts:
            action = chosen[state, left]
            left -= action
            state = int(rng.choice(model.mdp.n_states, p=rows[action][state]))
        spent.append(2 - left)
    assert np.mean(spent) == pytest.approx(expected, abs=0.05)


def test_thresholds_decide_and_are_kept(helper: Helper, tmp_path: Path) -> None:
    never = replace(helper, thresholds=(1.0, 1.0, 1.0))
    always = replace(helper, thresholds=(0.0, 0.0, 0.0))
    for text in ("red key", "green far"):
        assert never.decide([text], (2,)).action == "nohelp"
        assert always.decide([text], (2,)).action == "help"
        assert always.decide([text], (0,)).action == "nohelp"
        assert always.choices([text], [[5]]).tolist() == [1]
    assert "against a threshold of 0.00" in always.decide(["green far"], (2,)).reason
    always.save(tmp_path / "helper")
    assert Helper.load(tmp_path / "helper").thresholds == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="there are 2 thresholds; expected one for each of 3 budgets"):
        replace(helper, thresholds=(0.5, 0.5))


def test_calibration_up_to_a_budget(helper: Helper, light_labels: Labels) -> None:
    found = calibrate(helper, light_labels, 1)
    assert found.thresholds is not None
    assert found.thresholds[2] == found.thresholds[1]
    with pytest.raises(ValueError, match="budget is 9; expected at most"):
        calibrate(helper, light_labels, 9)


def test_calibration_needs_labels_of_the_same_kind(helper: Helper, light_labels: Labels) -> None:
    with pytest.raises(ValueError, match="have no validation task"):
        calibrate(replace(helper, split={}), light_labels)
    with pytest.raises(ValueError, match="the helper has"):
        calibrate(replace(helper, costs={"help": (2,)}), light_labels)
    small = label(light_labels.trajectories, light_labels.model, selfreg.solve(light_labels.model.mdp, 1))
    with pytest.raises(ValueError, match=r"budgets up to \(1,\); the helper needs \(2,\)"):
        calibrate(helper, small)


def test_two_budgets_end_to_end(tmp_path: Path) -> None:
    """Labels of two help types with budgets of their own: train, calibrate, save, decide, pay."""
    rng, logs = np.random.default_rng(0), []
    chance = {"red": {None: 0.1, "model": 0.9, "person": 0.2}, "blue": {None: 0.1, "model": 0.2, "person": 0.9}}
    for i in range(400):
        color, who = str(rng.choice(["red", "blue"])), [None, "model", "person"][rng.integers(3)]
        won = float(rng.random() < chance[color][who])
        logs.append(Trajectory(f"task {i % 20}", str(i), won, (Step(f"{color} light {i % 7}", intervention=who),)))
    costs = {"model": (1, 0), "person": (0, 1)}
    model = estimate_mdp(logs, Features(["class"], {"red": "red", "blue": "blue"}), costs=costs)
    labels = label(logs, model, selfreg.solve(model.mdp, (1, 1)))
    helper = calibrate(train_helper(labels, QUICK), labels)
    assert helper.costs == costs
    helper.save(tmp_path / "helper")
    helper, ledger = Helper.load(tmp_path / "helper"), Ledger((1, 1))
    for step, (text, action) in enumerate(
        [("red light 3", "model"), ("blue light 3", "person"), ("red light", "nohelp")]
    ):
        decision = helper.decide([text], ledger.left)
        assert decision.action == action
        if action != "nohelp":
            assert len(decision.price) == 2
            assert ledger.charge("run", step, helper.costs[action])
    assert ledger.left == (0, 0)


# ---- bad input


def test_labels_that_teach_nothing() -> None:
    alone = [Trajectory("t", str(i), 1.0, (Step("x"),)) for i in range(5)]
    model = estimate_mdp(alone, Features(["step"]))
    with pytest.raises(ValueError, match="have no help type"):
        train_helper(label(alone, model, selfreg.solve(model.mdp, 1)))
    apart = [*alone, Trajectory("u", "h", 1.0, (Step("y", intervention="help"),))]
    model = estimate_mdp(apart, Features(["class"], {"x": "x", "y": "y"}))
    with pytest.raises(ValueError, match="going on alone and help were tried in none of the labelled states"):
        train_helper(label(apart, model, selfreg.solve(model.mdp, 1)))


def test_bad_histories_and_budgets(helper: Helper) -> None:
    with pytest.raises(TypeError, match=r"steps\[1\] is 3; expected a Step or a str"):
        helper.decide(["a", 3], (1,))  # type: ignore[list-item]
    with pytest.raises(ValueError, match="budgets contain -1"):
        helper.request_probabilities(["a"], [[-1]])
    with pytest.raises(TypeError, match=r"texts\[0\] is None"):
        HelperExamples([None], np.ones((1, 1), int), np.zeros(1, int), np.ones(1), ["t"], ("nohelp", "help"))  # type: ignore[list-item]


def test_a_loss_that_is_not_finite_stops_training(light_labels: Labels) -> None:
    with pytest.raises(ValueError, match=r"epoch 1, batch \d+ .*lower learning_rate"):
        train_helper(light_labels, replace(QUICK, learning_rate=1e30))


def test_no_room_on_disk_leaves_the_earlier_helper(helper: Helper, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "helper"
    helper.save(folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Memory, "save", full)
    with pytest.raises(OSError, match="No space left"):
        helper.save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["helper"]


def test_neighbours_count_their_own_visits(light_labels: Labels) -> None:
    """All texts of an abstract state share its values, and none of them its visits."""
    memory = Memory.from_labels(light_labels, sorted(set(light_labels.tasks)), 0, 10_000)
    assert memory is not None
    assert memory.visits.sum() == len(light_labels.step)
    helped = sum(step.intervention is not None for t in light_labels.trajectories for step in t.steps)
    assert memory.visits[:, 1].sum() == helped


def test_vectors_are_scikit_learns(light_labels: Labels) -> None:
    memory = Memory.from_labels(light_labels, sorted(set(light_labels.tasks)), 0, 10_000)
    assert memory is not None
    for text in [*light_labels.texts()[:20], "", "red red RED door!", "other words", "first ☃ key key"]:
        vectors = memory.index.vectors
        assert isinstance(vectors, Tfidf)
        np.testing.assert_allclose(vectors.vector(text), vectors.vectorizer.transform([text]).toarray()[0], atol=1e-6)


@pytest.mark.parametrize("left", [3, 2**31, 2**63 - 1, 2**63, 2**64, 10**30])
def test_budgets_above_those_of_training_decide_as_the_largest(helper: Helper, left: int) -> None:
    text, most = "second red key lamp", helper.limits
    decision = helper.decide([text], (left,))
    assert replace(decision, budget_left=most, reason="") == replace(helper.decide([text], most), reason="")
    assert (decision.budget_left, f"budget {left}" in decision.reason) == ((left,), True)
    every = helper.request_probabilities([text, text], [(left,), (0,)])
    np.testing.assert_array_equal(every, helper.request_probabilities([text, text], [most, (0,)]))
    if left < 2**64:
        array = np.array([[left]], dtype=np.uint64)
        np.testing.assert_array_equal(helper.request_probabilities([text], array), every[:1])


@pytest.mark.parametrize("left", [1.9, 2.0, float("nan"), True, "1", None])
def test_budgets_are_whole_numbers(helper: Helper, left: object) -> None:
    for budgets in ([(left,)], np.array([[left]])):
        with pytest.raises(TypeError, match="expected whole numbers"):
            helper.request_probabilities(["red"], budgets)
        with pytest.raises(TypeError, match="expected whole numbers"):
            helper.choices(["red"], budgets)
    with pytest.raises(TypeError, match="expected whole numbers"):
        helper.decide(["red"], (left,))


def test_a_huge_debt_is_negative(helper: Helper) -> None:
    with pytest.raises(ValueError, match="budgets contain -1000000000000000000000000000000; expected no negative"):
        helper.decide(["red"], (-(10**30),))


@pytest.fixture(scope="module")
def quick_helper(light_labels: Labels) -> Helper:
    return train_helper(light_labels, replace(QUICK, form="tfidf"))


@pytest.mark.parametrize("form", ["tfidf", "words"])
def test_many_decisions_at_once_are_those_of_one_at_a_time(form: str, light_labels: Labels) -> None:
    helper = train_helper(light_labels, replace(QUICK, form=form, rounds=0))
    states = [*light_labels.texts()[:90], "", "nothing like it"]
    budgets = [(k % 3,) for k in range(len(states))]
    assert helper.decide_batch([[text] for text in states], budgets) == [
        helper.decide([text], left) for text, left in zip(states, budgets, strict=True)
    ]


def test_a_state_unlike_anything_logged_is_flagged(quick_helper: Helper, tmp_path: Path) -> None:
    """No value of a logged state is given for it, and the reason says why."""
    for text in ("Der Kunde kann sich nicht anmelden, weil sein Konto gesperrt ist.", "", "key? Quarterly invoice 7!"):
        decision = quick_helper.decide([text], (1,))
        assert decision.extrapolated
        assert not decision.success_probability
        assert not any(decision.price)
        assert "unlike all logged ones" in decision.reason
    quick_helper.save(tmp_path / "helper")
    for one in (quick_helper, Helper.load(tmp_path / "helper")):
        assert one.decide(["ein ganz anderer Satz"], (1,)).extrapolated
        assert not one.decide(["second red key lamp table open door"], (1,)).extrapolated


def test_few_states_of_new_tasks_are_flagged(quick_helper: Helper, light_labels: Labels) -> None:
    new = set(quick_helper.split["test"])
    texts = {text for text, task in zip(light_labels.texts(), light_labels.tasks, strict=True) if task in new}
    flagged = [one.extrapolated for one in quick_helper.decide_batch([[t] for t in sorted(texts)], [(1,)] * len(texts))]
    assert np.mean(flagged) <= 0.05


def test_memory_without_texts_to_calibrate_flags_only_what_has_no_known_word(light_labels: Labels) -> None:
    memory = Memory.from_labels(light_labels, sorted(set(light_labels.tasks)), 0, 10_000)
    assert memory is not None
    assert memory.calibrate([]) is memory
    assert memory.is_strange(memory.look_up(["red", "nichts"])[2]).tolist() == [False, True]
    strict = memory.calibrate(light_labels.texts()[:20])
    assert strict.is_strange(strict.look_up(["red", light_labels.texts()[0]])[2]).tolist() == [True, False]


def test_odd_states_in_the_logs_do_not_hide_what_is_unlike_them(light_labels: Labels) -> None:
    memory = Memory.from_labels(light_labels, sorted(set(light_labels.tasks)), 0, 10_000)
    assert memory is not None
    texts = light_labels.texts()[:97]
    odd = [f"dump of red {i}abc{i} {i}xyz{i} ffff{i}" for i in range(3)]
    assert memory.calibrate([*texts, *odd]).least == pytest.approx(memory.calibrate(texts).least)
    many = [f"dump of red {i}abc{i} {i}xyz{i} ffff{i}" for i in range(40)]  # then they are ordinary
    assert memory.calibrate([*texts, *many]).least < 0.5 * memory.calibrate(texts).least


def test_the_order_of_keys_in_observations_does_not_matter(quick_helper: Helper) -> None:
    one, other = '{"light": "red", "key": "near"}', '{\n  "key": "near",\n  "light": "red"\n}'
    assert quick_helper.decide([one], (1,)) == quick_helper.decide([other], (1,))
