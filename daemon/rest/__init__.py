"""The node's own API, ``/dreamer/v1``: HTTP on a Unix socket, and on loopback with a token.

``app`` puts it together, ``guard`` keeps strangers out, ``rooms`` and ``work`` hold the handlers,
``events`` streams long work, ``serve`` listens. ``docs/rest.md`` documents it for users.
"""
