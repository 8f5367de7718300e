"""Models between this node and its links: what it offers, what it serves, what it pulls."""
