"""Several tracker processes that share their swarms through Redis.

Nothing here is imported by a tracker that runs alone. ``view`` and ``shares`` decide, without I/O;
``letters`` is what processes write to one another; ``bus`` is the port to what carries it, and
``redis_bus`` the one adapter; ``exchange`` drives them.
"""
