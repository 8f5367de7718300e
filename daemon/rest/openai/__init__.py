"""OpenAI's API, ``/v1``: models, chat, completions, embeddings. ``docs/openai.md`` says what of it.

``requests`` holds the bodies, ``prompts`` and ``options`` turn them into what the node is asked,
``chunks`` and ``answers`` are the forms of what comes back, ``logprobs`` a part of both.
"""
