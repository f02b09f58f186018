"""TextWorld's games: the same for the same seed, an expert from any state, exact keys, and what is refused."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from selfreg.envs import (
    CollectConfig,
    ErringHelper,
    Expert,
    HouseholdEnvironment,
    ImitationConfig,
    Intervention,
    TextWorldConfig,
    TextWorldEnvironment,
    collect,
    demonstrate,
    make_textworld,
    textworld_tasks,
    train_imitation,
)
from selfreg.envs.textworld import games
from selfreg.envs.textworld.environment import CarelessPlayer
from selfreg.envs.textworld.games import TEXTWORLD_LEVELS
from selfreg.estimate import ExactKey, estimate_mdp
from selfreg.integrations.gymnasium import HelpWrapper

pytest.importorskip("textworld", reason="textworld is not installed (extra 'textworld')")
SEEDS = {"coin": (3, 4), "treasure": (3, 4), "cooking": (3, 5)}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("games"))


def world(cache: str, level: str, seed: int | None = None, limit: int = 0, clock: int = 1) -> TextWorldEnvironment:
    environment = TextWorldEnvironment(level, limit, clock, cache)
    environment.reset(f"textworld-{level}/{SEEDS[level][0] if seed is None else seed}")
    return environment


def take(environment: TextWorldEnvironment, *names: str) -> None:
    for name in names:
        environment.step(environment.action_names.index(name))


def advice(environment: TextWorldEnvironment) -> str:
    return environment.action_names[environment.expert_action()]


def follow_expert(environment: TextWorldEnvironment) -> float | None:
    while not environment.done:
        environment.step(environment.expert_action())
    return environment.outcome


@pytest.mark.parametrize("level", TEXTWORLD_LEVELS)
def test_expert_keeps_to_the_limit(cache: str, level: str) -> None:
    assert [follow_expert(world(cache, level, seed)) for seed in SEEDS[level]] == [1.0, 1.0]


@pytest.mark.parametrize("level", TEXTWORLD_LEVELS)
def test_expert_finds_its_way_after_a_strangers_moves(cache: str, level: str) -> None:
    for luck in range(3):
        environment = world(cache, level, limit=60)
        generator, harmless = np.random.default_rng(luck), ("go", "open")
        for _ in range(10):
            possible = environment.possible_actions()
            names = [a for a in possible if environment.action_names[a].split()[0] in harmless]
            environment.step(int(generator.choice(names)))
        assert follow_expert(environment) == 1.0


@pytest.mark.parametrize("level", TEXTWORLD_LEVELS)
def test_equal_keys_have_equal_futures(cache: str, level: str) -> None:
    """Where the clock never strikes, a key decides text and advice, and with the action the next key."""
    environment, agent = world(cache, level, limit=200, clock=200), CarelessPlayer(0.5, 0.2)
    now: dict[str, tuple[str, int]] = {}
    following: dict[tuple[str, int], str] = {}
    again = 0
    for luck in range(8):
        environment.reset(f"textworld-{level}/{SEEDS[level][0]}")
        generator = np.random.default_rng(luck)
        while not environment.done:
            key, seen = environment.key(), (environment.text(), environment.expert_action())
            again += key in now
            assert now.setdefault(key, seen) == seen
            action = agent.act(environment, generator)
            environment.step(action)
            after = f"outcome {environment.outcome}" if environment.done else environment.key()
            assert following.setdefault((key, action), after) == after
    assert again > 15


def test_saved_moments_come_back_in_another_environment(cache: str) -> None:
    one, other = world(cache, "cooking"), world(cache, "cooking", seed=5)
    for _ in range(4):
        one.step(one.expert_action())
    saved = pickle.loads(pickle.dumps(one.save()))
    keys = []
    for environment in (one, other, other):
        environment.restore(saved)
        keys.append([environment.key(), environment.text()])
        for _ in range(3):
            environment.step(environment.expert_action())
            keys[-1].append(environment.key())
    assert keys[0] == keys[1] == keys[2]


PLAY = """
import sys
from selfreg.envs import TextWorldEnvironment
world = TextWorldEnvironment("cooking", cache=sys.argv[1])
world.reset("textworld-cooking/3")
while not world.done:
    print(world.key())
    world.step(world.possible_actions()[-1] if world.key()[0] in "01" else world.expert_action())
"""


def test_the_seed_decides_the_game_in_every_process(cache: str, tmp_path: Path) -> None:
    """TextWorld keeps much in sets, whose order changes from process to process."""
    played = []
    for i, folder in enumerate((cache, tmp_path)):
        variables = {**os.environ, "PYTHONHASHSEED": str(i)}
        done = subprocess.run([sys.executable, "-c", PLAY, folder], env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        played.append(done.stdout.split())
    assert played[0] == played[1]
    assert len(played[0]) > 3
    assert world(cache, "cooking", seed=5).key() != played[0][0]


def test_a_map_without_a_quest_gives_another_game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = 187372  # TextWorld finds no way of 8 commands in its map
    first, second = (world(str(tmp_path / name), "treasure", seed=seed).key() for name in "ab")
    assert first == second
    monkeypatch.setattr(games, "ATTEMPTS", 0)
    with pytest.raises(ValueError, match="finds no quest for seed 187372"):
        world(str(tmp_path / "c"), "treasure", seed=seed)


def test_games_are_made_once_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = world(str(tmp_path), "coin")._game._gamefile
    before = os.stat(path).st_mtime_ns
    world(str(tmp_path), "coin")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert [str(file) for file in files] == [path]
    assert os.stat(path).st_mtime_ns == before
    assert files[0].parent.name == "coin"
    files[0].write_text("{}")
    with pytest.raises(ValueError, match=r"3\.json is not a TextWorld game"):
        world(str(tmp_path), "coin")


def test_text_tells_what_was_seen_and_no_more(cache: str) -> None:
    environment = world(cache, "coin")
    assert environment.text().splitlines() == [
        "Task: find the coin and take it.",
        "Steps left: 13.",
        "Room: washroom.",
        "Exits: north unexplored; south unexplored.",
        "Things: none.",
        "In hand: nothing.",
        "Fixtures: none.",
    ]
    texts = []
    while not environment.done:
        texts.append(environment.text())
        environment.step(environment.expert_action())
    assert all("1 coin" not in text for text in texts[:-1])
    assert "Things: 1 coin." in texts[-1]
    assert "Seen washroom: " in texts[-1]


def test_cooking_tells_the_recipe_and_how_things_are(cache: str) -> None:
    environment = world(cache, "cooking")
    verbs = []
    while not environment.done:
        verb, _, number = advice(environment).partition(" ")
        verbs.append(verb)
        line = next((line for line in environment.text().splitlines() if f" {number} " in line), "")
        if verb in ("chop", "slice", "dice"):
            cut = {"chop": "chopped", "slice": "sliced", "dice": "diced"}[verb]
            (item,) = [item for item in line.split(";") if f" {number} " in f" {item.split(':')[-1].strip()} "]
            assert cut in item.split(" wanted ")[1]
            assert "uncut" in item.split(" wanted ")[0]
        environment.step(environment.expert_action())
    assert {"take", "prepare", "eat"} < set(verbs)


def test_documented_text(cache: str) -> None:
    page = Path(__file__).parents[3] / "docs" / "textworld.md"
    assisted = make_textworld(TextWorldConfig("cooking", cache=cache))
    assisted.reset("textworld-cooking/3", seed=0)
    for _ in range(3):
        assisted.step("help")
    assert f"```\n{assisted.state().state}\n```" in page.read_text()


def test_an_impossible_action_takes_a_step_and_does_nothing(cache: str) -> None:
    exact, coarse = world(cache, "treasure"), world(cache, "treasure", clock=100)
    for environment, same in ((exact, False), (coarse, True)):
        before = environment.key()
        take(environment, "take 8", "look")
        assert (environment.key() == before) is same
    assert "Steps left: 8." in exact.text()
    take(exact, *["look"] * 8)
    assert exact.outcome == 0.0


def test_a_wrong_way_to_cook_loses_at_once(cache: str) -> None:
    environment = world(cache, "cooking")
    ways = {"fry": "roast", "roast": "fry", "grill": "fry"}
    while advice(environment).split()[0] not in ways:
        environment.step(environment.expert_action())
    verb, number = advice(environment).split()
    take(environment, f"{ways[verb]} {number}")
    assert environment.outcome == 0.0


def test_careless_player_errs_as_described(cache: str) -> None:
    environment, agent = world(cache, "cooking"), CarelessPlayer(0.4, 0.3)
    while not environment.done:
        chances, wanted = agent.distribution(environment), environment.expert_action()
        ways = [a for a in environment.possible_actions() if a < 4]
        assert chances.sum() == pytest.approx(1.0)
        if wanted < 4:
            assert chances[ways].sum() == pytest.approx(1.0)
            assert chances[wanted] == pytest.approx(0.6 + 0.4 / len(ways))
        else:
            assert not chances[ways].any()
            assert chances[wanted] in (pytest.approx(0.7), 1.0)
        environment.step(wanted)
    with pytest.raises(TypeError, match="HouseholdEnvironment"):
        agent.distribution(HouseholdEnvironment())


def test_help_is_worth_more_than_going_alone(cache: str) -> None:
    assisted = make_textworld(TextWorldConfig("coin", cache=cache))
    success = {}
    for name in (None, "help"):
        outcomes = []
        for luck in range(40):
            assisted.reset("textworld-coin/3", luck)
            while not assisted.done:
                assisted.step(name)
            outcomes.append(assisted.outcome)
        success[name] = np.mean(np.array(outcomes, dtype=float))
    assert success["help"] == 1.0
    assert success[None] < 0.8


def test_phase_one_and_all_forms_of_help(cache: str) -> None:
    helps = [Intervention("owner", None, 3, Expert()), Intervention("child", 1, 1, ErringHelper(0.5))]
    config = TextWorldConfig("treasure", cache=cache)
    task = "textworld-treasure/3"
    episodes = list(collect(partial(make_textworld, config, helps), [task], CollectConfig(24, workers=1)))
    assert {step.intervention for one in episodes for step in one.steps} == {None, "owner", "child"}
    model = estimate_mdp(episodes, ExactKey())
    assert model.mdp.n_states < sum(len(one.steps) for one in episodes) / 1.5  # states come back
    again = collect(partial(make_textworld, config, helps), [task], CollectConfig(24, workers=1))
    assert list(again) == episodes


def test_imitation_learns_from_its_texts(cache: str) -> None:
    environment = world(cache, "coin")
    tasks = [f"textworld-coin/{seed}" for seed in SEEDS["coin"]]
    shown = demonstrate(environment, tasks)
    policy = train_imitation(shown, environment.action_names, ImitationConfig(epochs=200))
    learned = [int(np.argmax(policy.probabilities(text))) for text in shown.texts]
    assert np.mean(np.equal(learned, shown.actions)) > 0.9
    assisted = make_textworld(TextWorldConfig("coin", cache=cache), policy=policy)
    assisted.reset(tasks[0], 0)
    while not assisted.done:
        assisted.step()


@pytest.mark.parametrize("features", [0, 256])
def test_gymnasium_and_the_help_wrapper(cache: str, features: int) -> None:
    tasks = [f"textworld-treasure/{seed}" for seed in SEEDS["treasure"]]
    env = gymnasium.make(
        "selfreg.integrations.gymnasium:selfreg/TextWorld-v0",
        tasks=tasks,
        features=features,
        level="treasure",
        cache=cache,
    )
    check_env(env.unwrapped, skip_render_check=True)
    env = HelpWrapper(env, budget=3, base_policy=True)
    env.reset(seed=0)
    done, spent = False, 0
    while not done:
        _, reward, done, _, info = env.step(int(spent < 3))
        spent += info["charge"]
    assert spent == 3
    assert reward in (0.0, 1.0)


def test_tasks_are_disjoint_and_follow_the_seed() -> None:
    train, test = textworld_tasks(30, 30, seed=1, level="coin")
    assert len({*train, *test}) == 60
    assert (train, test) == textworld_tasks(30, 30, seed=1, level="coin")
    assert train != textworld_tasks(30, 30, seed=2, level="coin")[0]


def test_wrong_input_is_refused(cache: str) -> None:
    for task in ("textworld-coin/x", "textworld-coin/-1", "textworld-treasure/3", "3"):
        with pytest.raises(ValueError, match=task):
            TextWorldEnvironment("coin", cache=cache).reset(task)
    for name, value in (
        ("level", "chess"),
        ("step_limit", -1),
        ("help_steps", 0),
        ("clock", 0),
        ("stray", 2),
        ("careless", -1),
    ):
        with pytest.raises(ValueError, match=rf"TextWorldConfig\.{name}"):
            TextWorldConfig(**{name: value})  # type: ignore[arg-type]
