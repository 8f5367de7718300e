"""How a node finds the others of a room: one session at each of the room's trackers."""
