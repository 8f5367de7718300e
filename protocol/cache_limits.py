"""Every bound of what a node keeps, of kinds of worker, and of the account of what was moved."""

from __future__ import annotations

from dreamer.protocol.limits import SHUTDOWN_MAX_S

# Kinds of worker
WORKER_GRACE_S = 30.0
WORKER_GRACE_MAX_S = 86_400.0
# What stays of the grace period for the rest of the stop: links say goodbye, processes end.
WORKER_STOP_MARGIN_S = SHUTDOWN_MAX_S + 1.0
WORKER_LEFT_LOOK_S = 5.0
WORKER_PUSH_LOOK_S = 0.1

# Preload
PRELOAD_MAX_MODELS = 64
PRELOAD_RETRY_BASE_S = 1.0
PRELOAD_RETRY_MAX_S = 60.0
# Registries say when they change; this is for those whose tracker is away.
PRELOAD_LOOK_S = 60.0
# With --preload-only somebody starts the whole again, and shows what it said.
PRELOAD_ONLY_TRIES = 5
READY_POLL_S = 0.5

# The ledger of what was moved
# 13 months: a whole year can be laid beside the one before its last month.
LEDGER_KEPT_DAYS = 400
# What a killed daemon may forget.
LEDGER_WRITE_INTERVAL_S = 5.0
# Of more models a day the rest is one: a year of rows stays below 100 MB whatever happens.
LEDGER_MODELS_MAX_PER_DAY = 256
# Keys of an origin whose model is remembered while they are moved.
LEDGER_KEYS_MAX = 200_000

# Costs
COST_ALERTS_MAX = 16
COST_ALERTS_LOOK_S = 60.0
COST_PRICE_MAX = 1e6
COST_CURRENCY_MAX_CHARS = 8
COST_MODELS_SHOWN = 100

# What a node reports of itself to its rooms
REPORT_MIN_INTERVAL_S = 300.0
REPORT_DEBOUNCE_S = 10.0
REPORT_SPREAD_S = 20.0
# Nodes that have all just pulled the same model write one after the other, about so far apart.
REPORT_SPREAD_S_PER_MEMBER = 1.0
# Each write has every member read the document anew: what all of them together read so in a second.
REPORT_READ_BYTES_PER_S = 256 * 1024
# News of what is held may come so much sooner than news of what was moved.
REPORT_CACHED_SOONER = 10
REPORT_RETRY_MAX_S = 3600.0
REPORT_LAST_TIMEOUT_S = 2.0
REPORT_LOOK_S = 30.0

# The store as a cache
STORE_QUOTA_MAX_GIB = 1_048_576.0
# Younger than this nothing is evicted: what was just fetched is about to be used.
STORE_GRACE_S = 600.0
# A model counts as in use so long after the last block of it was given to a peer.
STORE_USE_HOLD_S = 60.0
STORE_LOOK_INTERVAL_S = 5.0
# What the file system takes beside a file's bytes: its last page, and lists of its extents.
STORE_PAGE_BYTES = 4096
STORE_EXTENTS_BYTES = 16 * 1024**2
# Locks of a store that several processes share
STORE_LOCK_POLL_S = 0.01
STORE_WAIT_POLL_S = 0.5
STORE_CHANGE_TIMEOUT_S = 60.0
STORE_LOCK_TRIES = 16
STORE_NOTE_MAX_BYTES = 128
# Of a process on a shared volume that writes without a lock that we see: the first may be old news.
STORE_WRITES_SEEN_UNLOCKED = 2
# What another host left on a shared volume is left alone unless nothing was written for so long.
STORE_STAGING_SILENCE_S = 600.0
STORE_PIN_MAX_BYTES = 4096
# Leftovers are kept so long: who comes back within a week goes on from them.
STORE_LEFTOVER_KEPT_S = 7 * 86_400.0
STORE_NAMED_IN_REFUSAL = 5
