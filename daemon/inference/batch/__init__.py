"""Continuous batching: requests join and leave a running batch of fixed slots.

``engine`` is the loop. ``schedule`` decides what a step does and ``places`` where rows lie, both
pure; ``cache`` holds keys and values in the two ways that decoder graphs allow, ``prefixes`` keeps
those that another request may share. ``step`` runs one for all rows, ``telling`` makes text of it
and sends that meanwhile.

Every answer is token for token what its request gives alone. That rests on facts that
``tests/daemon/inference`` checks to the bit, for ONNX Runtime's CPU kernels: a row of a batched
step doesn't depend on the other rows, and a chunk of two tokens or more gives each what any other
such chunk does. A step of one token differs (attention multiplies a single row in another order,
which 8-bit activations magnify), so what was decoded is never read as part of a chunk: a replay
decodes it again.
"""
