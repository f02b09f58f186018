"""What runs beside the agent: ledgers that cannot overspend."""
