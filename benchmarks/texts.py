"""`python -m benchmarks texts [RUN]`: what a policy can attain in Household that sees texts alone, exactly.

The text does not say where a moved thing is, or where somebody will walk. What is known are the houses that show the
same first text, with their chances (`houses_like`). What the agent sees and what the expert does rule some of them out;
the agent itself knows no more than the text. So (what is seen, houses that are left) is a state of a model with exact
probabilities, and its optimum is that of a policy that remembers everything it saw. Beside it: the optimum of a policy
that knows the house. With the run folder of a setting of Household, the helper of that run, or one of `--form`, follows
in the same model, so that its success has no error of sampling but that of the tasks, which are new.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from selfreg._util.bootstrap import bootstrap, interval
from selfreg.envs import household_tasks
from selfreg.envs.household import environment as household
from selfreg.envs.household.house import (
    KINDS,
    LEFT_BEHIND,
    NEUTRAL,
    PACE,
    STAY,
    VAGUE,
    VAGUE_SHARE,
    WALKING_TO,
    House,
    Ways,
)
from selfreg.helper import Helper, HelperConfig, label, train_helper
from selfreg.runs import RunFolder

Floats = npt.NDArray[np.float64]
# At a state with this text, whether to request help at each budget; success of going on alone, and of help, is given.
Choose = Callable[[str, Floats, Floats], npt.NDArray[np.bool_]]

BUDGET = 4
HIDDEN = -2  # place of a thing that the agent does not know
# Steps of a person's route that can matter: 12 of an episode, and 4 of the longest way that the expert looks ahead.
SEEN_STEPS = 16


class Possible(NamedTuple):
    """A house that shows the text of a task, with its chance."""

    chance: float
    house: House


def houses_like(house: House, kinds: Sequence[str]) -> list[Possible]:
    """All houses of these kinds that begin with the text of `house`, as `household.build` draws them."""
    if house.kind == "person":
        return _normalised(_walks(house))
    found = []
    if "place" in kinds and house.utterance in (VAGUE, NEUTRAL):
        share = VAGUE_SHARE if house.utterance == VAGUE else 1 - VAGUE_SHARE
        found.append(Possible(share, house._replace(kind="place", hidden=house.mapped)))
    assert house.goal is not None
    taken = (house.start, house.mapped // 2, house.goal // 2)
    for room in [room for room in house.rooms if room not in taken] if "moved" in kinds else []:
        chance = VAGUE_SHARE if house.utterance == VAGUE else (1 - VAGUE_SHARE) * _said(house, LEFT_BEHIND, room)
        found += [Possible(chance / 4, house._replace(kind="moved", hidden=2 * room + side)) for side in (0, 1)]
    return _normalised(found)


def _said(house: House, sayings: dict[str, tuple[int, ...]], room: int) -> float:
    """Chance that what was said is said of `room`."""
    fitting = [words for words, rooms in sayings.items() if room in rooms]
    return (house.utterance in fitting) / len(fitting)


def _walks(house: House) -> list[Possible]:
    """Houses with all routes of the person from the room where they are first seen."""
    first, ways, chances = house.route[0], Ways(house), dict[tuple[int, ...], float]()

    def walk(route: list[int], aim: int, chance: float) -> None:
        while route[-1] != aim:
            route = [*route, *[ways.next_room(route[-1], aim)] * PACE]
        route = [*route, *[aim] * STAY]
        if len(route) >= SEEN_STEPS:
            seen = tuple(route[:SEEN_STEPS])
            chances[seen] = chances.get(seen, 0.0) + chance
            return
        others = [room for room in house.rooms if room != aim]
        for room in others:
            walk(route, room, chance / len(others))

    for second in [room for room in house.rooms if room != first]:
        for stay in (1, 2, 3):
            walk([first] * stay, second, _said(house, WALKING_TO, second))
    return [Possible(chance, house._replace(route=route)) for route, chance in chances.items()]


def _normalised(found: Sequence[Possible]) -> list[Possible]:
    total = sum(one.chance for one in found)
    return [Possible(one.chance / total, one.house) for one in found if one.chance]


def of_task(task: str, kinds: Sequence[str]) -> TextModel:
    """The model of a task, where tasks are of these kinds, each as often."""
    world = household.HouseholdEnvironment()
    world.reset(task)
    return TextModel(task, houses_like(world.house, kinds))


class TextModel:
    """The states of a task that a policy can distinguish by what it saw, with the value of a policy from each of them.

    Parameters
    ----------
    task : str
    possible : sequence of Possible
        Houses that show the first text of the task.
    """

    def __init__(self, task: str, possible: Sequence[Possible]) -> None:
        self._world = household.HouseholdEnvironment()
        self._world.reset(task)
        config = household.HouseholdConfig()
        self._agent = household.StaleMapAgent(config.trust, config.heed)
        self.possible = possible
        self.texts = list[str]()
        self._index = dict[tuple[household.Moment, tuple[int, ...]], int]()
        # Of each state: its success at once and its next states with their chances, alone and with help.
        self._steps = list[tuple[tuple[float, list[tuple[float, int]]], ...]]()
        self.start = self._state(_shown(self._world.now), tuple(range(len(possible))))

    def _enter(self, i: int, shown: household.Moment) -> None:
        """Let the world be a possible house at what is shown."""
        house = self.possible[i].house
        self._world.house, self._world.outcome = house, None
        self._world.now = shown._replace(thing=house.hidden) if shown.thing == HIDDEN else shown

    def _state(self, shown: household.Moment, left: tuple[int, ...]) -> int:
        """Index of a state; those after it come before it in the lists."""
        key = shown, left
        if key not in self._index:
            self._enter(left[0], shown)
            chances, text = self._agent.distribution(self._world), self._world.text()
            own = np.flatnonzero(chances).tolist()
            moves = [(chances[action], self._act(shown, left, [action] * len(left))) for action in own]
            alone = sum(chance * now for chance, (now, _) in moves)
            following = [(chance * share, state) for chance, (_, after) in moves for share, state in after]
            helped = self._act(shown, left, [self._expert(i, shown) for i in left])
            self._index[key] = len(self.texts)
            self.texts.append(text)
            self._steps.append(((alone, following), helped))
        return self._index[key]

    def _expert(self, i: int, shown: household.Moment) -> int:
        self._enter(i, shown)
        return self._world.expert_action()

    def _act(
        self, shown: household.Moment, left: tuple[int, ...], actions: Sequence[int]
    ) -> tuple[float, list[tuple[float, int]]]:
        """Chance of success at once, and next states, after an action in each house that is left.

        A next state is of the houses in which the same is seen.
        """
        total, success = sum(self.possible[i].chance for i in left), 0.0
        after = dict[household.Moment, list[int]]()
        for i, action in zip(left, actions, strict=True):
            self._enter(i, shown)
            self._world.step(action)
            if self._world.outcome is None:
                after.setdefault(_shown(self._world.now), []).append(i)
            else:
                success += self._world.outcome * self.possible[i].chance / total
        shares = [sum(self.possible[i].chance for i in which) / total for which in after.values()]
        states = [self._state(now, tuple(which)) for now, which in after.items()]
        return success, list(zip(shares, states, strict=True))

    def value(self, choose: Choose) -> Floats:
        """Success from the start at each budget, float64 (BUDGET + 1,), where `choose` says when help is requested."""
        value = np.zeros((len(self.texts), BUDGET + 1))
        for i, (text, steps) in enumerate(zip(self.texts, self._steps, strict=True)):
            alone, helped = (
                now + sum((share * value[j] for share, j in after), np.zeros(BUDGET + 1)) for now, after in steps
            )
            paid = np.array([0.0, *helped[:-1]])
            requested = choose(text, alone, paid) & (np.arange(BUDGET + 1) > 0)
            value[i] = np.where(requested, paid, alone)
        found: Floats = value[self.start]
        return found

    def optimum(self) -> Floats:
        """Success of the best policy, as of `value`."""
        return self.value(lambda _, alone, paid: paid > alone)


def _shown(now: household.Moment) -> household.Moment:
    """What the text tells of a moment: not where a thing is that the agent did not put down."""
    known = now.thing == household.HELD or now.left_at is not None
    return now if known else now._replace(thing=HIDDEN)


def follow(helper: Helper, texts: Sequence[str]) -> Choose:
    """The decisions of a helper in these texts."""
    known = list(dict.fromkeys(texts))
    points = np.arange(BUDGET + 1)[:, None]
    asked = helper.choices(np.repeat(known, len(points)).tolist(), np.tile(points, (len(known), 1))) > 0
    requested = dict(zip(known, asked.reshape(-1, len(points)), strict=True))
    return lambda text, alone, paid: requested[text]


def main(arguments: Sequence[str] = ()) -> None:
    """Print mean success by budget, with 95% intervals over tasks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks texts", description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="run folder of Household: its helper takes part")
    parser.add_argument("--form", help="a helper of this form takes part that is trained on the run's labels")
    parser.add_argument("--kinds", nargs="+", default=["moved"], choices=KINDS, help="kinds of task; default moved")
    parser.add_argument("--tasks", type=int, default=60, help="default 60")
    parser.add_argument("--seed", type=int, default=1_000, help="draws the tasks; default 1000")
    chosen = parser.parse_args(arguments)
    if chosen.form and not chosen.run:
        parser.error("--form needs a RUN to train on")
    helper = _helper(chosen.run, chosen.form) if chosen.run else None
    rows = list[list[Floats]]()
    for task in household_tasks(chosen.tasks, 0, chosen.seed, chosen.kinds)[0]:
        model = of_task(task, chosen.kinds)
        each = [TextModel(task, [one]).optimum() for one in model.possible]
        found = [np.average(each, axis=0, weights=[one.chance for one in model.possible]), model.optimum()]
        rows.append(found if helper is None else [*found, model.value(follow(helper, model.texts))])
    values = np.array(rows)
    samples = values[bootstrap(len(values))].mean(axis=1)
    print(f"Household ({', '.join(chosen.kinds)}), {len(rows)} tasks: success at budgets 0 to {BUDGET}")
    names = ("optimum that knows the house", "optimum that sees texts", helper.classifier.form if helper else "")
    for k, mean in enumerate(values.mean(axis=0)):
        shown = [interval(float(one), samples[:, k, b]) for b, one in enumerate(mean)]
        print(f"{names[k]:28s} | " + " | ".join(f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in shown))


def _helper(folder: Path, form: str | None) -> Helper:
    run = RunFolder.open(folder)
    if form is None:
        return Helper.load(run.path / "helper")
    model = run.model()
    labels = label(run.trajectories(), model, run.solution(model))
    return train_helper(labels, HelperConfig(form=form, history=0, seed=run.settings()["collect"]["seed"]))
