"""Games that TextWorld generates: what each level is, and the folder that they are kept in.

The same seed gives the same game. A game takes a second to make, so it is kept as a file; files are written to a
temporary name first. While TextWorld makes a game, its compiler works in the system's temporary folder and cleans up.
"""

from __future__ import annotations

import contextlib
import os
import random
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from selfreg._util.extras import require_extra
from selfreg._util.files import atomic_write

DIRECTIONS = ("north", "east", "south", "west")
IDLE = "look"
# Seeds that are tried where a map has no quest: about one treasure hunt in 300 has none.
ATTEMPTS, LARGEST_SEED = 50, 2**31


class Level(NamedTuple):
    """A family of games.

    Attributes
    ----------
    challenge : str
        TextWorld's name for the generator.
    settings : mapping
        Arguments of the generator.
    verbs : tuple of str
        What can be done to one of the numbered things.
    things : int
        How many things are numbered.
    others : tuple of str
        Further actions.
    step_limit : int
        Tight: the expert keeps to it in nearly all games, and a player who wastes steps does not.
    """

    challenge: str
    settings: Mapping[str, Any]
    verbs: tuple[str, ...]
    things: int
    others: tuple[str, ...]
    step_limit: int

    def action_names(self) -> tuple[str, ...]:
        """All actions: ways to go, a verb for each number, the others, and one that does nothing."""
        handling = (f"{verb} {number}" for verb in self.verbs for number in range(1, self.things + 1))
        return (*(f"go {way}" for way in DIRECTIONS), *handling, *self.others, IDLE)


COOKERS = {"stove": "fry", "oven": "roast", "BBQ": "grill"}
TEXTWORLD_LEVELS: Mapping[str, Level] = MappingProxyType(
    {
        # A chain of 8 rooms, each with one that leads nowhere; the coin lies in the last.
        "coin": Level("tw-coin_collector", {"level": 108}, ("take",), 1, (), 13),
        # Ten rooms with doors, containers and supporters; 8 commands to the treasure; taking the wrong thing loses.
        "treasure": Level("tw-treasure_hunter", {"level": 18}, ("take", "open", "unlock"), 8, (), 10),
        # Six rooms; two ingredients to find, cook and cut; a wrong way to prepare one of them loses.
        "cooking": Level(
            "tw-cooking",
            {"recipe": 2, "take": 2, "go": 6, "open": True, "cook": True, "cut": True, "drop": False, "split": None},
            ("take", "open", "eat", *COOKERS.values(), "chop", "slice", "dice"),
            10,
            ("prepare meal",),
            17,
        ),
    }
)


def default_cache() -> Path:
    """Folder that games are kept in where the user names none: ``selfreg/textworld`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selfreg" / "textworld"


def game_file(level: str, seed: int, cache: str | os.PathLike[str] | None = None) -> Path:
    """Path of a game, made first where it is not there yet.

    Parameters
    ----------
    level : str
        Key of `TEXTWORLD_LEVELS`.
    seed : int
        0 or more.
    cache : path, optional
        Folder of games; `default_cache` by default. Games of different versions of TextWorld are kept apart.

    Raises
    ------
    ImportError
        If the extra "textworld" is not installed.
    """
    textworld = load_textworld()
    folder = Path(cache) if cache else default_cache()
    path = folder / str(textworld.__version__) / level / f"{seed}.json"
    if not path.exists():
        game = _generate(textworld, TEXTWORLD_LEVELS[level], seed)
        with atomic_write(path) as temporary:
            game.save(str(temporary))
    return path


def load_textworld() -> Any:
    """The package textworld; ImportError names the extra."""
    with require_extra("textworld", "selfreg.envs.textworld.environment"):
        import textworld
    return textworld


def _generate(textworld: Any, level: Level, seed: int) -> Any:
    """The game of a seed; where TextWorld finds no quest in the map of a seed, that of a seed drawn from it."""
    from textworld import challenges
    from textworld.generator.chaining import QuestGenerationError

    # The recipe's own seed stays 0, with which TextWorld draws the recipe from the game's seed.
    settings = dict(level.settings, recipe_seed=0)
    for attempt in (seed, *random.Random(seed).sample(range(LARGEST_SEED), ATTEMPTS)):
        options = textworld.GameOptions()
        options.seeds = attempt
        with warnings.catch_warnings(), contextlib.suppress(QuestGenerationError):
            warnings.simplefilter("ignore")  # its emulator remarks on every new game
            return challenges.CHALLENGES[level.challenge][1](settings, options)
    raise ValueError(f"TextWorld finds no quest for seed {seed} and {ATTEMPTS} others")


def goal(game: Any, level: str, last_command: str) -> tuple[str, dict[str, tuple[str, str]]]:
    """Goal of a game in a sentence, and how each ingredient is to be cooked and cut (else an empty dict).

    TextWorld's own words for it would tell the way, command by command.
    """
    if level == "coin":
        return "find the coin and take it", {}
    if level == "treasure":
        return f"find the {last_command.removeprefix('take ').split(' from ')[0]} and take it, nothing else", {}
    recipe = {name: (cooking, cutting) for name, cooking, cutting in game.metadata["ingredients"]}
    listed = " and ".join(f"{name} {' '.join(ways)}" for name, ways in recipe.items())
    return f"{listed}, then prepare the meal in the kitchen and eat it", recipe
