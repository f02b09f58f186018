"""TextWorld: generated coin, treasure and cooking games."""
