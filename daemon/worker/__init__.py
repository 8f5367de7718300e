"""Kinds of worker: which one this node is, where it lives, what it has before it is ready."""
