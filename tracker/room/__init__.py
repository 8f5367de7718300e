"""Rooms for members: login, presence, signals, the registry, and what a tracker lends them."""
