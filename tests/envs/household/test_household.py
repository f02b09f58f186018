"""Household: its rules, its expert and weak agent, and that the exact model is the world's."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import binomtest

import selfreg
from selfreg.envs import (
    BabyAIConfig,
    Environment,
    ErringHelper,
    Expert,
    FixedAction,
    HouseholdConfig,
    HouseholdEnvironment,
    Intervention,
    RandomHelp,
    Situational,
    enumerate_model,
    household_tasks,
    make_babyai,
    make_household,
    run_episode,
)
from selfreg.envs.household import environment as household
from selfreg.envs.household.environment import StaleMapAgent
from selfreg.envs.household.house import KINDS, ROOMS

TASKS = household_tasks(60, 0, seed=1)[0]


def begun(task: str, step_limit: int = 12) -> HouseholdEnvironment:
    world = HouseholdEnvironment(step_limit)
    world.reset(task)
    return world


def do(world: HouseholdEnvironment, *names: str) -> None:
    for name in names:
        world.step(household.ACTION_NAMES.index(name))


def solved_by_expert(world: HouseholdEnvironment) -> int:
    steps = 0
    while not world.done:
        world.step(world.expert_action())
        steps += 1
    assert world.outcome == 1.0
    return steps


def shortest(world: HouseholdEnvironment) -> int:
    """Breadth-first search over all actions."""
    front, steps = [world.save()], 0
    while True:
        steps, reached = steps + 1, {}
        for saved in front:
            for action in range(len(world.action_names)):
                world.restore(saved)
                world.step(action)
                if world.outcome == 1.0:
                    return steps
                reached[world.key()] = world.save()
        front = list(reached.values())


def test_a_moved_thing_is_found_brought_and_put_down() -> None:
    world = begun("household-moved/0")
    assert "Map: the" in world.text()
    names = []
    while not world.done:
        names.append(world.action_names[world.expert_action()])
        world.step(world.expert_action())
    assert world.outcome == 1.0
    assert [name.split()[0] for name in names if not name.startswith("go")] == ["search", "put"]


def test_expert_solves_every_task_and_most_directly() -> None:
    for task in household_tasks(300, 0, seed=0)[0]:
        assert solved_by_expert(begun(task)) <= 12
    for task in TASKS[:9]:
        world = begun(task)
        wanted = shortest(begun(task))
        assert solved_by_expert(world) == wanted


def test_kinds_differ_in_what_has_changed() -> None:
    for task in TASKS:
        house = begun(task).house
        assert (house.hidden != house.mapped) == (house.kind == "moved")
        assert (house.goal is None) == (house.kind == "person") == bool(house.route)
        if house.hinted:
            fits = house.route if house.kind == "person" else [house.hidden // 2]
            assert set(house.hinted) & set(fits)
    routes = [begun(task).house.route for task in TASKS if "person" in task]
    assert all(len(set(route)) > 1 for route in routes)


def test_hints_are_ambiguous() -> None:
    """What is said neither gives the room away nor says whether the thing was moved."""
    houses = [begun(task).house for task in household_tasks(600, 0, seed=3)[0]]
    said = Counter((house.utterance, house.kind) for house in houses)
    assert said["I may have used it since.", "place"] > 20
    assert said["I may have used it since.", "moved"] > 20
    hints = [len(house.hinted) for house in houses if house.hinted]
    assert np.mean(np.array(hints) > 1) > 0.8


def test_actions_that_cannot_work_only_take_a_step() -> None:
    world = begun("household-place/1")
    before = world.now
    far = next(room for room in range(len(ROOMS)) if room not in world.ways.neighbours[world.now.room])
    do(world, f"go to the {ROOMS[far]}", "put left", "put right", "give", "wait")
    assert world.now == before._replace(time=5)


def test_a_thing_in_the_wrong_place_is_known_and_can_be_taken_again() -> None:
    world = begun("household-place/1", step_limit=40)
    while world.now.thing != household.HELD:
        world.step(world.expert_action())
    do(world, "put left")
    assert not world.done
    assert f"You put the {world.house.thing} in the" in world.text()
    do(world, "search right", "search left")
    assert world.now.thing == household.HELD
    assert "Searched in vain: none." in world.text()
    solved_by_expert(world)


def test_people_are_met_only_where_they_are() -> None:
    world = begun(next(task for task in TASKS if "person" in task))
    while world.now.thing != household.HELD:
        world.step(world.expert_action())
    while world.action_names[world.expert_action()] != "give":
        assert world.house.person_at(world.now.time) != world.now.room
        saved = world.save()
        do(world, "give")
        assert not world.done
        world.restore(saved)
        world.step(world.expert_action())
    assert f"{world.house.person} was last seen in: {ROOMS[world.now.room]}." in world.text()
    do(world, "give")
    assert world.outcome == 1.0


def test_out_of_steps_is_failure() -> None:
    world = begun(TASKS[0])
    do(world, *["wait"] * 12)
    assert (world.done, world.outcome) == (True, 0.0)


def test_text_and_key_tell_the_same_states_apart() -> None:
    for task in TASKS[:12]:
        texts: dict[str, str] = {}
        world = begun(task)
        for seed in range(15):
            generator = np.random.default_rng(seed)
            world.reset(task)
            while not world.done:
                assert texts.setdefault(world.key(), world.text()) == world.text()
                action = int(generator.integers(12)) if generator.random() < 0.6 else world.expert_action()
                world.step(action)
        assert len(set(texts.values())) == len(texts) > 40


@pytest.mark.parametrize("kind", ["household", "babyai"])
def test_a_saved_moment_has_the_same_future(kind: str) -> None:
    world, task = make_household(), TASKS[1]
    if kind == "babyai":
        world, task = make_babyai(BabyAIConfig(clock=1)), "BabyAI-UnlockPickup-v0/4"
    world.reset(task, seed=3)
    for _ in range(4):
        world.step()
    saved = world.environment.save()
    futures = []
    for seed in (5, 5, 6):
        world.resume(saved, seed)
        futures.append([])
        while not world.done:
            futures[-1].append(world.step("help" if len(futures[-1]) == 2 else None))
    assert futures[0] == futures[1] != futures[2]
    assert futures[0][0].key == futures[2][0].key
    elsewhere = make_household() if kind == "household" else make_babyai(BabyAIConfig(clock=1))
    elsewhere.resume(saved, 5)
    assert elsewhere.state() == world_at(world.environment, saved)


def world_at(environment: Environment, saved: object) -> selfreg.data.Step:
    environment.restore(saved)
    return selfreg.data.Step(state=environment.text(), key=environment.key())


def test_the_agent_knows_only_what_the_text_tells() -> None:
    agent = StaleMapAgent(0.6, 0.5)
    world = begun("household-moved/0")
    do(world, "wait", "search left")
    chances = agent.distribution(world)
    for hidden in world.house.places():
        world.house = world.house._replace(hidden=hidden)
        world.now = world.now._replace(thing=hidden)
        assert np.array_equal(agent.distribution(world), chances)


def test_the_agent_acts_by_its_distribution() -> None:
    agent, generator = StaleMapAgent(0.6, 0.5), np.random.default_rng(0)
    world = begun("household-moved/3")
    chances = agent.distribution(world)
    assert chances.sum() == pytest.approx(1.0)
    drawn = np.bincount([agent.act(world, generator) for _ in range(4000)], minlength=12) / 4000
    assert np.count_nonzero(chances) > 1
    np.testing.assert_allclose(drawn, chances, atol=0.04)  # five standard errors
    with pytest.raises(TypeError, match="BabyAIEnvironment"):
        agent.distribution(make_babyai(BabyAIConfig()).environment)


HELPS = [
    Intervention("owner", steps=3, cost=2),
    Intervention("child", steps=2, cost=1, helper=ErringHelper(0.3)),
    Intervention("misled", steps=1, helper=Situational("In hand: (?!nothing)", FixedAction("put left"), Expert())),
    Intervention("latch", steps=None, cost=4, helper=ErringHelper(0.1)),
]


@pytest.mark.parametrize("task", ["household-moved/2", "household-person/4"])
def test_simulated_frequencies_agree_with_the_exact_model(task: str) -> None:
    config = HouseholdConfig(step_limit=7)
    exact = household.exact_model(task, config, HELPS)
    assert exact.mdp.costs == {"owner": (2,), "child": (1,), "misled": (1,), "latch": (4,)}
    world, generator = make_household(config, HELPS), np.random.default_rng(0)
    index = {key: i for i, key in enumerate(exact.keys)}
    seen: dict[tuple[int, str], Counter[int]] = {}
    for seed in range(2500):
        world.reset(task, seed)
        state = index[world.state().key or ""]
        while not world.done:
            name = exact.mdp.actions[max(0, int(generator.integers(-3, 5)))]
            world.step(None if name == "nohelp" else name)
            after = index[world.state().key or ""] if not world.done else len(index) + (world.outcome == 0.0)
            seen.setdefault((state, name), Counter())[int(after)] += 1
            state = after
    checked = 0
    for (state, name), after in seen.items():
        n, row = after.total(), exact.mdp.transitions[name][[state]].toarray()[0]
        assert all(row[j] > 0 for j in after)
        if n < 100:
            continue
        for j in np.flatnonzero(row):
            assert binomtest(after[int(j)], n, min(row[j], 1.0)).pvalue > 1e-5, (exact.keys[state], name)
            checked += row[j] < 1
    assert checked > 30


def best(world: HouseholdEnvironment, agent: StaleMapAgent, helps: list[Intervention], budget: int) -> float:
    """Success by expectation over agent and helpers and choice of help, straight on the environment."""
    if world.done:
        return float(world.outcome or 0.0)
    saved = world.save()

    def after(policy: object, steps: int, left: int) -> float:
        if steps == 0 or world.done:
            return best(world, agent, helps, left)
        here, total = world.save(), 0.0
        chances = policy.distribution(world)  # type: ignore[attr-defined]
        for action in np.flatnonzero(chances):
            world.restore(here)
            world.step(int(action))
            total += float(chances[action]) * after(policy, steps - 1, left)
        return total

    values = [after(agent, 1, budget)]
    for one in helps:
        if one.cost <= budget:
            world.restore(saved)
            values.append(after(one.helper, one.steps or 99, budget - one.cost))
    return max(values)


@pytest.mark.parametrize("task", ["household-moved/2", "household-person/4", "household-place/3"])
def test_solution_of_the_exact_model_is_the_brute_force_optimum(task: str) -> None:
    config, helps = HouseholdConfig(step_limit=4, trust=0.5), [HELPS[1], Intervention("owner", steps=2, cost=2)]
    exact = household.exact_model(task, config, helps)
    value = selfreg.solve(exact.mdp, 3).value[exact.start]
    for budget in range(4):
        brute = best(begun(task, 4), StaleMapAgent(0.5, 0.5), helps, budget)
        assert value[budget] == pytest.approx(brute, abs=1e-12)


def test_help_is_worth_much_where_something_moved_and_nothing_where_not() -> None:
    values = {kind: np.mean([optimum(f"household-{kind}/{i}") for i in range(6)], axis=0) for kind in KINDS}
    assert values["place"][0] > 0.9
    assert values["moved"][0] < 0.4
    assert values["moved"][4] > 0.95
    assert np.all(np.diff(values["moved"]) > 0)


def optimum(task: str) -> np.ndarray:
    exact = household.exact_model(task)
    return selfreg.solve(exact.mdp, 4).value[exact.start]


def test_babyai_has_an_exact_model_too() -> None:
    """Its value without help is the success rate of the agent alone."""
    config = BabyAIConfig(level="BabyAI-GoToLocalS5N2-v0", step_limit=6, slip=0.3, clock=1)
    world, task = make_babyai(config), "BabyAI-GoToLocalS5N2-v0/3"
    exact = enumerate_model(world, task)
    alone = []
    for seed in range(300):
        world.reset(task, seed)
        while not world.done:
            world.step()
        alone.append(world.outcome)
    value = selfreg.solve(exact.mdp, 1).value[exact.start]
    assert value[0] < value[1]
    assert np.mean(np.array(alone, dtype=float)) == pytest.approx(value[0], abs=4.5 * np.sqrt(0.25 / 300))


def test_models_that_cannot_be_enumerated_are_refused() -> None:
    class Silent:
        def act(self, environment: Environment, generator: np.random.Generator) -> int:
            return 0

    with pytest.raises(TypeError, match=r"helper of 'mute' \(Silent\)"):
        enumerate_model(make_household(interventions=[Intervention("mute", helper=Silent())]), TASKS[0])
    with pytest.raises(ValueError, match="more than 10 states"):
        enumerate_model(make_household(), TASKS[1], limit=10)


FOREIGN = ["household/3", "household-lost/3", "household-moved/x", "household-moved/-1", "moved/3", "", "a-moved/0/0"]


@pytest.mark.parametrize("task", FOREIGN)
def test_foreign_tasks_are_refused(task: str) -> None:
    with pytest.raises(ValueError, match="household-KIND/NUMBER"):
        HouseholdEnvironment().reset(task)


@pytest.mark.parametrize(("name", "value"), [("step_limit", 0), ("help_steps", 0), ("trust", 1.5), ("heed", -0.1)])
def test_config_names_the_field_at_fault(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"HouseholdConfig\.{name} is {value}"):
        HouseholdConfig(**{name: value})  # type: ignore[arg-type]


def test_tasks_are_disjoint_and_follow_the_seed() -> None:
    train, test = household_tasks(30, 20, seed=1)
    assert (len(train), len(test), len({*train, *test})) == (30, 20, 50)
    assert (train, test) == household_tasks(30, 20, seed=1)
    assert train != household_tasks(30, 20, seed=2)[0]
    assert Counter(task.split("/")[0] for task in train) == Counter({f"household-{kind}": 10 for kind in KINDS})
    with pytest.raises(ValueError, match="kinds is"):
        household_tasks(3, 0, 0, kinds=["lost"])


def test_the_exact_model_knows_of_reading() -> None:
    """Requests at random in the world succeed as often as the chain of the exact model says; early help is better."""
    helps = [Intervention("owner", steps=2, reading=3), Intervention("child", steps=1)]
    world, task = make_household(interventions=helps), "household-moved/0"
    exact = enumerate_model(world, task)
    rate = 0.4
    chain = (1 - rate) * exact.mdp.transitions["nohelp"] + rate / 2 * sum(
        exact.mdp.transitions[one.name] for one in helps
    )
    chances = np.zeros(exact.mdp.n_states)
    chances[exact.start] = 1.0
    for _ in range(14):
        ended = chances[-2:].copy()
        chances = chances @ chain
        chances[-2:] += ended
    assert chances[-2:].sum() == pytest.approx(1.0)
    policy = RandomHelp(rate, ["owner", "child"])
    wins = sum(run_episode(world, task, seed, policy).outcome == 1.0 for seed in range(600))
    assert binomtest(wins, 600, float(chances[-2])).pvalue > 0.001
    patient = enumerate_model(make_household(interventions=[Intervention("owner", steps=None, reading=8)]), task)
    now = selfreg.solve(patient.mdp, 1).q("owner")[:, 1]
    assert now[patient.start] == 1.0
    late = next(i for i, key in enumerate(patient.keys) if key.startswith("4 ") and key.endswith("after the agent"))
    assert now[late] < 1.0
