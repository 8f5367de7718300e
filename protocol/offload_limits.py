"""Every bound of running models for others: requests, answers, adverts, waiting."""

from __future__ import annotations

from dreamer.protocol.limits import GIB, KIB, MIB

# Asking and answering
OFFLOAD_REQUEST_MAX_BYTES = 1 * MIB
OFFLOAD_PIECE_BYTES = 128 * KIB
"""A request that is larger goes over the control channel in several messages."""
OFFLOAD_REQUESTS_MAX_PER_LINK = 8
"""How many requests of one member a node works at; the member keeps further ones in line."""
OFFLOAD_LINE_MAX = 200
"""How many may wait at the asking node for one peer."""
OFFLOAD_TURNS_MAX = 4096
OFFLOAD_STOPS_MAX = 64
OFFLOAD_TEXT_MAX_BYTES = 64 * KIB
OFFLOAD_TOKEN_MAX_CHARS = 256
"""What the text of an answer may come to for each of its tokens, beside ``OFFLOAD_TEXT_MAX_BYTES``:
twice the longest runs of blanks that vocabularies hold, were it made of nothing else.
"""
OFFLOAD_LOGPROB_MAX_BYTES = 256
"""As much, for each token that the likelihood is told of: its id, its text, a number."""
OFFLOAD_ERROR_MAX_CHARS = 500
OFFLOAD_ANSWERS_WAITING_MAX_BYTES = 64 * MIB
"""What came of one answer and nobody has taken yet: 128 Ki tokens one by one come to 50 MiB."""
OFFLOAD_ANSWER_OVERHEAD_BYTES = 384
"""What a message takes beside its text: three objects and their places in queues."""
OFFLOAD_FIRST_ANSWER_MAX_TOKENS = 4096
"""The longest answer that a peer of the first version gives."""

# Tensors
OFFLOAD_INLINE_MAX_BYTES = 512 * KIB
"""Tensors that travel inside a request or an answer; larger ones go over the lanes."""
OFFLOAD_ANSWER_MAX_BYTES = 2 * OFFLOAD_REQUEST_MAX_BYTES
OFFLOAD_PAYLOAD_MAX_BYTES = 1 * GIB
OFFLOAD_PAYLOADS_MAX_BYTES = 4 * GIB
"""All that is on its way at once, in files."""
OFFLOAD_PAYLOAD_STALL_TIMEOUT_S = 10.0
OFFLOAD_PAYLOAD_BLOCKS_UNDER_WAY = 2
"""Blocks that a lane is in the middle of when another takes over: one is sent, one is read."""
OFFLOAD_PAYLOAD_LATE_S = 0.5
"""How long these may still take once all others are here; then they are asked for anew."""
OFFLOAD_PAYLOAD_SETTLE_S = 0.05
"""How long verdicts that are on their way are waited for before a new lane is asked."""
OFFLOAD_PAYLOAD_REQUESTS_MAX = 2
"""Requests for one payload that are served at once: over the new lane, and what the old ends."""
OFFLOAD_PROGRESS_INTERVAL_S = 0.5
"""How often is looked whether a payload moves."""
OFFLOAD_PAYLOAD_KEPT_S = 120.0
"""How long an answer may be fetched."""
OFFLOAD_LATE_FACTOR = 4.0
"""How many times what was estimated a peer may take, beyond the timeout of a first token."""
OFFLOAD_SPREAD_LEAST_ITEMS = 4
"""Texts, or rows of a tensor, below which a share isn't worth the way."""

# Waiting
OFFLOAD_FIRST_TOKEN_TIMEOUT_S = 10.0
OFFLOAD_FIRST_TOKEN_TIMEOUT_MAX_S = 3600.0
OFFLOAD_WORKING_INTERVAL_S = 1.0
OFFLOAD_SILENCE_TIMEOUT_S = 5.0
OFFLOAD_LAST_TIMEOUT_S = 900.0
"""How long the last peer that can be asked may take for a token: it may have to load the model."""
OFFLOAD_HANDOVERS_MAX = 8
"""Runners that one answer may have, one after the other."""
OFFLOAD_RETURNS_MAX = 2
"""How often a member is asked again for one answer, as its link was lost and came back."""

# Adverts
OFFLOAD_ADVERT_MAX_BYTES = 16 * KIB
OFFLOAD_ADVERT_MAX_MODELS = 64
OFFLOAD_ADVERT_INTERVAL_S = 1.0
OFFLOAD_ADVERTS_MAX_PER_MINUTE = 240
OFFLOAD_DEVICE_MAX_CHARS = 64
OFFLOAD_RTT_INTERVAL_S = 10.0
OFFLOAD_MEET_INTERVAL_S = 30.0
"""How often a model's holders are looked for while some are linked that run it."""

# Names of models
OFFLOAD_REGISTRY_REFRESH_S = 2.0
OFFLOAD_REGISTRY_MAX_AGE_S = 60.0
OFFLOAD_MEANINGS_KEPT = 256
OFFLOAD_USE_NOTED_INTERVAL_S = 60.0
"""How often the store hears that a model that stays loaded is still used."""

# Estimates
OFFLOAD_ASSUMED_RTT_S = 0.1
OFFLOAD_ASSUMED_CPU_BYTES_S = 10e9
OFFLOAD_ASSUMED_GPU_BYTES_S = 400e9
OFFLOAD_ASSUMED_DECODE_MAX_TOKENS_S = 500.0
OFFLOAD_ASSUMED_PREFILL_FACTOR = 10.0
OFFLOAD_ASSUMED_LOAD_S = 0.5
OFFLOAD_ASSUMED_LOAD_BYTES_S = 500e6
OFFLOAD_ASSUMED_ANSWER_TOKENS = 128
OFFLOAD_ASSUMED_BYTES_PER_TOKEN = 4
OFFLOAD_GAIN_RATIO = 1.25
OFFLOAD_GAIN_S = 0.05
