# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # From a Gymnasium environment
#
# FrozenLake has a table of transitions. A novice walks at random; an expert, who knows the best policy, can take single
# steps. How much does an episode gain from each step of the expert?

# %%
import gymnasium
import numpy as np

import selfreg

lake = gymnasium.make("FrozenLake-v1", is_slippery=True)
mdp = selfreg.InterventionMDP.from_gymnasium(lake, {"nohelp": "uniform", "expert": "optimal"})
mdp

# %%
solution = selfreg.solve(mdp, budget=40)
axes = solution.plot([0, 14])
axes.set_title("from the start, and from the last field before the goal")

# %% [markdown]
# Where is one step of the expert worth most? The gain of the first request, on the map:

# %%
gain = (solution.value[:, 1] - solution.value[:, 0]).reshape(4, 4)
print(gain.round(3))

# %% [markdown]
# An agent of your own is a policy: an array of probabilities, or a function. Here one that walks to the right, and down
# at the edge.

# %%
RIGHT, DOWN = 2, 1
own = selfreg.InterventionMDP.from_gymnasium(
    lake, {"nohelp": lambda state: DOWN if state % 4 == 3 else RIGHT, "expert": "optimal"}
)
for budget in (0, 5, 20, 40):
    print(budget, selfreg.solve(own, 40).value[0, budget].round(3), solution.value[0, budget].round(3))

# %% [markdown]
# The environment itself agrees: 2,000 episodes of the expert alone.

# %%
expert = [
    selfreg.evaluate_policy(mdp, ["expert"] * 16, state).success for state in range(15) if not mdp.terminal[state]
]
print(f"the expert succeeds with probability {expert[0]:.3f}")
generator = np.random.default_rng(0)
runs = selfreg.simulate(mdp, ["expert"] * 16, 0, 2000, seed=generator)
print(runs.summary())
