"""One space alone: how its rows are spread."""
