"""Small houses for the household tasks: rooms, places, people, and what they say. All words and rules are our own."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

KINDS = ("place", "moved", "person")

ROOMS = ("kitchen", "living room", "bedroom", "bathroom", "study", "hall")
# A place is 2 * room + side; left is side 0.
PLACES = (
    *("kitchen cupboard", "kitchen table"),
    *("living room shelf", "living room sofa"),
    *("bedroom drawer", "bedroom bed"),
    *("bathroom cabinet", "bathroom basket"),
    *("study desk", "study bookcase"),
    *("hall chest", "hall rack"),
)
THINGS = ("mug", "scarf", "letter", "torch", "comb", "novel", "bowl", "camera")
PEOPLE = ("Ana", "Boris", "Chidi", "Dana")

# What somebody says, and the rooms (as indices of ROOMS) that it fits: more than one each, so that hints are ambiguous.
LEFT_BEHIND = {
    "I was washing up when I had it last.": (0, 3),
    "I had it while I was reading.": (1, 2, 4),
    "I was getting dressed and must have put it down.": (2, 3, 5),
    "I was eating when I used it.": (0, 1),
    "I had it in my hand when I came home.": (5, 0, 4),
    "I was writing and had it next to me.": (4, 1),
}
WALKING_TO = {
    "I am going to wash my hands.": (0, 3),
    "I want to read for a while.": (1, 2, 4),
    "I have to get dressed.": (2, 3, 5),
    "I am hungry.": (0, 1),
    "I am expecting a visitor.": (5, 1),
    "I have letters to write.": (4, 1),
}
VAGUE = "I may have used it since."
VAGUE_SHARE = 0.3  # of what is said where nobody walks
NEUTRAL = "Thank you for your help."

N_ROOMS = 5  # of ROOMS, in a house
# Steps that a person takes for one room, and stays where they were going; after so many steps they walk no further.
PACE, STAY, TIRED = 2, 3, 20


class House(NamedTuple):
    """A task: all that stays the same in an episode. Rooms and places are indices of `ROOMS` and `PLACES`.

    Attributes
    ----------
    kind : str
        "place": nothing has changed since the map was made; "moved": somebody moved the thing; "person": the thing is
        where the map says, and is handed to somebody who walks on.
    rooms : tuple of int
    doors : tuple of (int, int)
        A tree over the rooms.
    thing, person : str
    start : int
        Room where the agent begins.
    mapped, hidden : int
        Place of the thing on the map and in truth.
    goal : int or None
        Place where the thing belongs; None where it is for the person.
    route : tuple of int
        Room of the person at each step, the last one for ever; empty where nobody is to be met.
    utterance : str
    hinted : tuple of int
        Rooms of the house that the utterance fits; empty where it says nothing.
    """

    kind: str
    rooms: tuple[int, ...]
    doors: tuple[tuple[int, int], ...]
    thing: str
    person: str
    start: int
    mapped: int
    hidden: int
    goal: int | None
    route: tuple[int, ...]
    utterance: str
    hinted: tuple[int, ...]

    def person_at(self, time: int) -> int | None:
        """Room of the person after `time` steps."""
        return self.route[min(time, len(self.route) - 1)] if self.route else None

    def places(self) -> list[int]:
        """Places in the house."""
        return [2 * room + side for room in self.rooms for side in (0, 1)]


class Ways:
    """Distances and next rooms in a house."""

    def __init__(self, house: House) -> None:
        self.neighbours = {room: [a + b - room for a, b in house.doors if room in (a, b)] for room in house.rooms}

    @cached_property
    def distance(self) -> dict[tuple[int, int], int]:
        """Steps between any two rooms."""
        found: dict[tuple[int, int], int] = {}
        edge, steps = {(room, room) for room in self.neighbours}, 0
        while edge:
            found |= dict.fromkeys(edge, steps)
            edge = {(a, after) for a, b in edge for after in self.neighbours[b]} - found.keys()
            steps += 1
        return found

    def next_room(self, here: int, there: int) -> int:
        """Neighbour of `here` on the way to another room."""
        return min(self.neighbours[here], key=lambda room: self.distance[room, there])


def build(kind: str, number: int) -> House:
    """House number `number` of a kind of task; the same numbers give the same house."""
    draw = np.random.default_rng([KINDS.index(kind), number])
    rooms = tuple(int(room) for room in draw.permutation(len(ROOMS))[:N_ROOMS])
    doors = tuple((rooms[int(draw.integers(i))], rooms[i]) for i in range(1, len(rooms)))
    thing, person = str(draw.choice(THINGS)), str(draw.choice(PEOPLE))
    start, mapped_room, true_room, goal_room = (int(room) for room in draw.permutation(rooms)[:4])
    sides = draw.integers(2, size=3).tolist()
    mapped, moved, goal = (2 * r + s for r, s in zip((mapped_room, true_room, goal_room), sides, strict=True))
    house = House(kind, rooms, doors, thing, person, start, mapped, mapped, goal, (), NEUTRAL, ())
    if kind == "person":
        return _with_person(house, draw)
    if kind == "moved":
        house = house._replace(hidden=moved)
    # Small talk is no proof that nothing changed, and a vague word none that something did.
    if draw.random() < VAGUE_SHARE:
        return house._replace(utterance=VAGUE)
    return house if kind == "place" else _hinted(house, LEFT_BEHIND, true_room, draw)


def _with_person(house: House, draw: np.random.Generator) -> House:
    """Somebody leaves the room on the map, goes where they say, and from there to one room after another."""
    first, second = (int(room) for room in draw.permutation(house.rooms)[:2])
    ways, aim = Ways(house), second
    route = [first] * int(draw.integers(1, 4))
    while len(route) < TIRED:
        while route[-1] != aim:
            route += [ways.next_room(route[-1], aim)] * PACE
        route += [aim] * STAY
        aim = int(draw.choice([room for room in house.rooms if room != aim]))
    return _hinted(house._replace(goal=None, route=tuple(route)), WALKING_TO, second, draw)


def _hinted(house: House, sayings: dict[str, tuple[int, ...]], room: int, draw: np.random.Generator) -> House:
    said = str(draw.choice([words for words, rooms in sayings.items() if room in rooms]))
    return house._replace(utterance=said, hinted=tuple(r for r in house.rooms if r in sayings[said]))
