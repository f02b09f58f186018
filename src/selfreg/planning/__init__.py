"""When to request help: hard and expected budgets, pools, robust plans, and the evaluation of any policy."""
