"""What is where in a game of TextWorld: its facts, read once a step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from selfreg.envs.textworld.games import COOKERS, DIRECTIONS

FIXTURES = {"c", "s", "oven", "stove", "toaster"}  # TextWorld's types of containers, supporters and cookers
TOOLS = {"knife"}
SHUT = ("closed", "locked")
COOKING = ("raw", "fried", "roasted", "grilled", "burned")
CUTTING = ("uncut", "chopped", "sliced", "diced")


class Scene:
    """Rooms, exits and things as they are now.

    Parameters
    ----------
    facts : iterable of Proposition
        TextWorld's facts with the names that players see.
    aim : str
        The task; things that it names are numbered first.
    recipe : mapping of str to (str, str)
        How each ingredient is to be cooked and cut.
    """

    def __init__(self, facts: Iterable[Any], aim: str, recipe: Mapping[str, tuple[str, str]]) -> None:
        self.aim, self.recipe = aim, recipe
        self.ways: dict[str, dict[str, str]] = defaultdict(dict)
        self.doors: dict[tuple[str, str], str] = {}
        self.places: dict[str, list[tuple[str, str]]] = defaultdict(list)  # where: (thing, "", "in" or "on")
        self.marks: dict[str, set[str]] = defaultdict(set)
        self.kinds: dict[str, str] = {}
        self.room = ""
        for fact in facts:
            self._read(fact.name, [one.name for one in fact.arguments], [one.type for one in fact.arguments])
        self.numbers = {name: i for i, name in enumerate(sorted(self._within_reach(), key=self._order), 1)}

    def _read(self, name: str, things: list[str], kinds: list[str]) -> None:
        self.kinds.update(zip(things, kinds, strict=True))
        if name == "at" and kinds[0] == "P":
            self.room = things[1]
        elif name in ("at", "in", "on"):
            self.places[things[1]].append((things[0], "" if name == "at" else name))
        elif name.endswith("_of") and name.removesuffix("_of") in DIRECTIONS:
            self.ways[things[1]][name.removesuffix("_of")] = things[0]
        elif name == "link":
            self.doors[things[0], things[2]] = things[1]
        elif len(things) == 1:
            self.marks[things[0]].add(name)

    def exits(self, room: str) -> Iterator[tuple[str, str, str | None]]:
        """Ways out of a room: direction, where to, and the door where it is shut."""
        for way in DIRECTIONS:
            other = self.ways[room].get(way)
            if other is not None:
                door = self.doors.get((room, other))
                yield way, other, door if door is not None and self._is_shut(door) else None

    def held(self) -> list[str]:
        """Things in hand."""
        return sorted(name for name, _ in self.places["I"])

    def things(self, room: str) -> list[str]:
        """What can be seen lying in a room, with its place and state."""
        return sorted(self._describe(name, place) for name, place in self._lying(room))

    def fixtures(self, room: str) -> list[str]:
        """Containers, supporters and cookers in a room, with their state."""
        return sorted(self._named(name) for name, _ in self.places[room] if self.kinds[name] in FIXTURES)

    def here(self) -> list[str]:
        """What can be handled in this room, with its number: things that lie here, shut containers and doors."""
        shown = [(name, self._describe(name, place)) for name, place in self._lying(self.room)]
        shown += [(name, self._named(name)) for name in self._shut_things()]
        return self._numbered(shown)

    def in_hand(self) -> list[str]:
        """What is in hand, with its number."""
        return self._numbered((name, self._describe(name, "")) for name in self.held())

    def action(self, command: str) -> str:
        """Name of the action that a command of TextWorld is: "take red apple from counter" may be "take 2"."""
        verb, _, rest = command.partition(" ")
        thing, _, tool = rest.partition(" with ")
        if verb == "cook":
            verb = COOKERS.get(tool, verb)
        number = self.numbers.get(thing.split(" from ")[0])
        return command if number is None else f"{verb} {number}"

    def _is_shut(self, name: str) -> bool:
        return not self.marks[name].isdisjoint(SHUT)

    def _lying(self, room: str) -> Iterator[tuple[str, str]]:
        for name, _ in self.places[room]:
            if self.kinds[name] not in FIXTURES:
                yield name, ""
            elif not self._is_shut(name):
                yield from ((inner, f" {how} {name}") for inner, how in self.places[name])

    def _shut_things(self) -> Iterator[str]:
        yield from (name for name, _ in self.places[self.room] if self.kinds[name] in FIXTURES and self._is_shut(name))
        yield from (door for _, _, door in self.exits(self.room) if door is not None)

    def _within_reach(self) -> set[str]:
        return {*(name for name, _ in self._lying(self.room)), *self._shut_things(), *self.held()}

    def _order(self, name: str) -> tuple[bool, bool, bool, str]:
        useful = name in TOOLS or self.kinds[name] == "k"
        return name not in self.aim, not useful, not self._is_shut(name), name

    def _numbered(self, shown: Iterable[tuple[str, str]]) -> list[str]:
        return [f"{number} {text}" for number, text in sorted((self.numbers[name], text) for name, text in shown)]

    def _named(self, name: str) -> str:
        state = next((mark for mark in (*SHUT, "open") if mark in self.marks[name]), "")
        return f"{state} {name}".strip()

    def _describe(self, name: str, place: str) -> str:
        state = [mark for mark in (*COOKING, *CUTTING) if mark in self.marks[name]]
        text = f"{name}{place} {' '.join(state)}".strip()
        return f"{text} wanted {' '.join(self.recipe[name])}" if name in self.recipe else text
