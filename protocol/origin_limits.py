"""Bounds of an origin beyond a single transfer: what is listed, sent encoded, queued, kept."""

from __future__ import annotations

from dreamer.protocol.limits import BLOCK_BYTES, KIB, MIB

# Listing and removing
ORIGIN_LISTED_PER_ANSWER = 1000
ORIGIN_UPLOADS_LOOKED_AT = 20
# Pages of a listing that a server which always says "more" can have us ask for.
ORIGIN_LIST_MAX_PAGES = 100_000

# A page of a listing as XML; S3 gives a thousand entries at most, a few hundred bytes each.
ORIGIN_LIST_ANSWER_MAX_BYTES = 2 * 1024 * KIB
# Of clients that the tracker keeps, one for each region it was asked to sign for.
PRESIGN_REGIONS_MAX = 64

# Files sent as zstd
# Below this, what is saved is less than what finding the other form costs.
ORIGIN_ENCODE_MIN_BYTES = 4 * KIB
ORIGIN_ENCODE_SAMPLE_BYTES = BLOCK_BYTES
# Of a sample and of the whole: encoded to more than this part, a file is sent as it is.
ORIGIN_ENCODE_MAX_RATIO = 0.9
# Two thirds of what level 9 saves on text, at ten times its speed.
ORIGIN_ENCODE_LEVEL = 3
# The worst case of zstd (ZSTD_COMPRESSBOUND) for a block, rounded up: no frame is larger.
ORIGIN_FRAME_MAX_BYTES = BLOCK_BYTES + BLOCK_BYTES // 256 + KIB
# Forms of files that are remembered, each with its seek table.
ORIGIN_FORMS_KEPT = 2000

# Uploads that wait
UPLOADS_AT_ONCE = 2
UPLOAD_RETRY_MIN_S = 5.0
# A push does not wait longer for the first answer of an origin; its upload does.
UPLOAD_SILENCE_S = 15.0
UPLOAD_RETRY_MAX_S = 600.0
# How often one upload begins anew because the store no longer knows it.
UPLOAD_BEGINNINGS_MAX = 3
UPLOAD_ERROR_MAX_CHARS = 500

# Temporary uploads
TEMPORARY_MIN_TTL_S = 1.0
TEMPORARY_MAX_TTL_S = 30 * 24 * 3600.0
TEMPORARY_DEFAULT_TTL_S = 24 * 3600.0
# Stores remove by rules that count whole days; one rule for each of these, made once.
LIFETIMES_DAYS = (1, 3, 7, 30)
# Places of temporary uploads with connections of their own.
TEMPORARY_ORIGINS_KEPT = 8

# Garbage collection
# What nobody names stays this long all the same: for a mistaken withdrawal to be undone, and for
# pushes by nodes too old to leave a lease.
GARBAGE_GRACE_S = 24 * 3600.0
# A push renews its lease this often; one that was not renewed for so long is over. Mirrors of the
# registry have as long to hear of what was pushed.
LEASE_REFRESH_S = 300.0
LEASE_TTL_S = 3600.0
# 20,000 digests in hex, and as much again.
LEASE_MAX_BYTES = 4 * MIB
# How long a collection may remove what it found unnamed before it has to look again,
COLLECTION_ROUND_S = 60.0
# how long a push waits for one that shows no sign of ending (a round, and a request that hangs),
COLLECTION_DEAD_S = 240.0
COLLECTION_POLL_S = 1.0
# and after how long another collection may take the place of one that never ended. More than the
# 15 minutes by which S3 lets a clock be wrong.
COLLECTION_STALE_S = 30 * 60.0
# Between marking and looking whose mark it is, where the store doesn't know preconditions.
COLLECTION_SETTLE_S = 2.0
# For reading the registry in the midst of one.
GARBAGE_REGISTRY_TIMEOUT_S = 60.0
# Keys that are removed between two looks at the clock, and that one collection removes at most.
GARBAGE_BATCH_KEYS = 64
GARBAGE_MAX_KEYS = 200_000
# A temporary upload is removed so long after its end: by how much clocks may be wrong.
TEMPORARY_SLACK_S = 60.0
# What a test of the store left behind.
PROBE_ABANDONED_S = 24 * 3600.0
# Uploads in parts that nobody completed: a push may be resumed as long.
UPLOAD_ABANDONED_S = 7 * 24 * 3600.0
# What a report lists by name: the rest is counted.
GARBAGE_LISTED_MAX = 20

# Retention
# What was pushed only just stays whatever the rules say: its alias may have yet to be set.
RETENTION_GRACE_S = 24 * 3600.0

# Temporary uploads at a node
EXPIRY_LOOK_INTERVAL_S = 60.0
