"""Authenticated links to the other members of a room, and who gets the messages that come."""
