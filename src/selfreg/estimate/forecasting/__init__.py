"""Forecasts of what policies will attain on new tasks, and what in a log identifies the effect of help."""
