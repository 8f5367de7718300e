"""The node's HTTP APIs, on a Unix socket, and on loopback with a token.

``app`` puts them together, ``guard`` keeps strangers out, ``dialects`` tells each API's clients of
errors in their own form, ``serve`` listens. Our own, ``/dreamer/v1``: ``rooms`` and ``work`` hold
the handlers, ``events`` streams long work; ``docs/rest.md`` documents it for users. Those that
programs already speak have a package each (``openai``, ``ollama``, ``oip``), and in common
``inference_headers``, ``generation`` and ``outgoing``.
"""
