"""Trajectories: curves in space, their videos, the models that see them, and the words for them."""
