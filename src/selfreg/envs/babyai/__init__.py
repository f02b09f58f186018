"""BabyAI levels with an expert that takes over."""
