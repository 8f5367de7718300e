"""This node in its rooms: memberships, sessions, who is there, and the registry."""
