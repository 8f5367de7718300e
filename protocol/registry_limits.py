"""Every bound and timeout of a room's registry, apart from those of rooms (``limits``)."""

from __future__ import annotations

from dreamer.protocol.limits import KIB, MIB

# The document
# 2,000 nodes that report 50 models and three months of 17 counters, and 300 models: 6.6 MB.
REGISTRY_MAX_BYTES = 8 * MIB
REGISTRY_MAX_CHAINS_PER_MEMBER = 4
# More changes than a room will ever see, yet so few that no document can use the numbers up.
REGISTRY_MAX_SERIAL_GAP = 10**9

# Reading and changing it
REGISTRY_CAS_ATTEMPTS = 60
REGISTRY_RETRY_BASE_S = 0.05
REGISTRY_RETRY_MAX_S = 1.5
# Doublings of the pause that come to its maximum; and what part of it who has succeeded waits.
REGISTRY_CROWD_MAX = 6
REGISTRY_YIELD = 0.3
# Where the tracker slows down a member that makes many changes (TRACKER_REGISTRY_REQUESTS_PER_S).
REGISTRY_BUSY_PAUSE_S = 0.5
REGISTRY_BUSY_ATTEMPTS = 10
# All who find something dropped from the document would put it back: one does, after up to this.
REGISTRY_MEND_SPREAD_S = 4.0
# Who could not put it back tries again, twice as long after each time.
REGISTRY_MEND_RETRY_S = 5.0
REGISTRY_MEND_RETRY_MAX_S = 600.0
REGISTRY_LEARN_INTERVAL_S = 2.0
REGISTRY_LEARN_INTERVAL_MAX_S = 64.0
REGISTRY_FIRST_WAIT_S = 10.0
# What a node reads of a document that others change again and again, unless it is asked.
REGISTRY_FOLLOW_BYTES_PER_S = 64 * KIB
REGISTRY_FOLLOW_MAX_S = 30.0
REGISTRY_MIRROR_DELAY_S = 5.0
REGISTRY_MIRROR_ATTEMPTS = 3

# Where it is kept in the room's bucket, nobody is told of changes; every node looks this often.
REGISTRY_BUCKET_LOOK_S = 60.0
REGISTRY_BUCKET_FIRST_WAIT_S = 30.0
# Of records whose signatures were checked; a full document has no more.
REGISTRY_CHECKED_MAX_RECORDS = 20_000

# Models
MODEL_NAME_MAX_CHARS = 128
TAG_MAX_CHARS = 64
TAGS_MAX_PER_MODEL = 64
NOTES_MAX_CHARS = 2000
REASON_MAX_CHARS = 200
# Of a temporary upload.
LIFETIME_MAX_DAYS = 365
# A model of ten thousand files is as long in the registry as one of sixteen.
STORAGE_LISTED_MAX_FILES = 16
AUTHOR_MAX_CHARS = 128
PARENTS_MAX_PER_MODEL = 16
METRICS_MAX_PER_MODEL = 64
CONFIG_MAX_ENTRIES = 64
CONFIG_VALUE_MAX_CHARS = 256
# Of a model's configuration and metrics together: the rest belongs into a file of the model.
PROVENANCE_MAX_BYTES = 8 * KIB
FIELD_NAME_MAX_CHARS = 64
ORIGIN_URL_MAX_CHARS = 1024
# Withdrawn models are remembered so long that no copy of the registry brings them back by itself.
WITHDRAWN_MAX_MODELS = 2000

# Aliases
ALIAS_MAX_CHARS = 64
ALIAS_HISTORY_MAX = 50
PROTECTIONS_MAX_PER_ALIAS = 16

# What nodes report of themselves
REPORT_MAX_MODELS = 512
REPORT_MAX_MONTHS = 13
REPORT_MAX_COUNTERS = 32
# A year of twelve counters, or five months of 32.
REPORT_MAX_CELLS = 160
REPORT_NAME_MAX_CHARS = 64
# A report with its chain, from a member that may not write the document: twice what both can have.
HANDED_IN_MAX_BYTES = 32 * KIB
# 96 bits of an id, 16 characters: short of 2**48 models no two of a room begin alike.
CACHED_ID_BYTES = 12

# References and queries
REF_MIN_PREFIX_DIGITS = 4
REF_SHOWN_MATCHES = 8
QUERY_MAX_CHARS = 1000
LINEAGE_MAX_MODELS = 1000
WATCH_MIN_INTERVAL_S = 0.5
"""A query that is watched is asked again no sooner than this after its last answer."""
