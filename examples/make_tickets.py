"""Writes tickets.jsonl: an invented support agent that works tickets alone or with a person's advice at some steps.

Alone it recovers from an error one time in four, with advice four times in five. Elsewhere advice adds little.

    python examples/make_tickets.py > examples/tickets.jsonl
"""

import json

import numpy as np

RECOVERS = {None: 0.25, "person": 0.8}
GOES_WRONG = {None: 0.35, "person": 0.25}


def episode(generator: np.random.Generator, ticket: int, run: int) -> dict[str, object]:
    """One run: up to four steps; the ticket is solved if the last one went well."""
    rate = (0.0, 0.3, 1.0)[run % 3]
    observation, turns = f"Ticket {ticket}: the customer cannot log in.", []
    for _ in range(4):
        advice = "person" if generator.random() < rate else None
        turns.append({"text": observation, "helper": advice})
        wrong = observation.startswith("Error")
        well = generator.random() < (RECOVERS[advice] if wrong else 1 - GOES_WRONG[advice])
        observation = "Step done." if well else "Error: the account tool refused the request."
    return {"id": ticket, "run": run, "tier": "gold" if ticket % 3 == 0 else "basic", "won": int(well), "turns": turns}


if __name__ == "__main__":
    luck = np.random.default_rng(0)
    for ticket in range(40):
        for run in range(3):
            print(json.dumps(episode(luck, ticket, run)))
