"""The bounds and timeouts of a tracker, and of nodes that use one: a part of ``limits.py``."""

from __future__ import annotations

from dreamer.protocol.limits import GIB, KIB, MIB

# Tracker: connections. Whoever connects costs memory before anything is known of it.
TRACKER_SOCKETS_PER_ADDRESS = 1000
TRACKER_BACKLOG = 1024
# A request head that doesn't end, or doesn't come ("slowloris").
TRACKER_REQUEST_HEAD_MAX_BYTES = 8 * KIB
TRACKER_REQUEST_HEAD_TIMEOUT_S = 10.0
# Idle sockets are cut at 100 s by common proxies: pinged before, and given up if nothing comes.
TRACKER_HEARTBEAT_S = 20.0
TRACKER_DEAD_AFTER_S = 40.0
# How often sockets are looked at, and what has aged out is dropped.
TRACKER_TICK_S = 1.0
TRACKER_SWEEP_INTERVAL_S = 5.0
# At the end, whoever doesn't answer the goodbye is waited for no longer.
TRACKER_STOP_TIMEOUT_S = 2.0

# Tracker: what one socket says. It is read more slowly than it floods, and TCP makes it wait.
TRACKER_MESSAGE_MAX_BYTES = 64 * KIB
TRACKER_MESSAGES_PER_S = 200.0
TRACKER_MESSAGES_BURST = 2000.0
# What arrived in one piece is taken in turns with the others, and a flood in fewer wake-ups.
TRACKER_MESSAGES_PER_TURN = 32
TRACKER_PUBLIC_MESSAGES_PER_TURN = 4
TRACKER_REST_S = 0.1
# Who keeps talking nonsense is hung up on.
TRACKER_BAD_MESSAGES_PER_SOCKET = 100

# Tracker: what waits for one socket. A client that never reads is cut off, and costs no more.
# The kernel would give each up to some 4 MiB of its own to send from, and 6 MiB to read into.
TRACKER_KERNEL_BUFFER_BYTES = 128 * KIB
TRACKER_OUTBOX_MAX_BYTES = 512 * KIB
TRACKER_ROOM_OUTBOX_MAX_BYTES = 16 * MIB
# Of that, what one sender has it hand on: beyond this the sender's own messages are dropped.
TRACKER_FORWARDED_MAX_BYTES = 256 * KIB

# Tracker: public swarms. Anyone may make them, and name anything.
TRACKER_ANNOUNCE_INTERVAL_S = 120
TRACKER_PEER_AGE_S = 180.0
# Only offers that were passed on may be answered, once, and while they are young.
TRACKER_MAX_OFFERS = 10
TRACKER_OFFER_AGE_S = 120.0
TRACKER_PENDING_OFFERS_PER_PEER = 100
TRACKER_OFFER_ID_MAX_CHARS = 64
# What one client, or the past, can have us remember and tell.
TRACKER_MAX_SWARMS_PER_SOCKET = 1000
TRACKER_MAX_IDLE_SWARMS = 10_000
TRACKER_SCRAPE_MAX_SWARMS = 1000

# Tracker: announces over HTTP, of clients that dial TCP. Each is a connection of its own, so they
# come seldom. libtorrent waits five minutes whatever it is told; who misses two is taken for gone.
TRACKER_HTTP_INTERVAL_S = 300
TRACKER_HTTP_MIN_INTERVAL_S = 60
TRACKER_HTTP_PEER_AGE_S = 750.0
TRACKER_HTTP_NUMWANT = 50
TRACKER_HTTP_MAX_NUMWANT = 200
TRACKER_HTTP_KEY_MAX_BYTES = 64
# By address, the /64 for IPv6: announces and scrapes, and peers in all swarms.
TRACKER_HTTP_REQUESTS_PER_S = 20.0
TRACKER_HTTP_REQUESTS_BURST = 1000.0
TRACKER_HTTP_PEERS_PER_ADDRESS = 2000
TRACKER_HTTP_MAX_PEERS = 100_000

# Tracker: logins. Strangers may knock; each try costs signatures to check.
TRACKER_AUTH_TIMEOUT_S = 10.0
TRACKER_KNOCKS_MAX = 1000
TRACKER_KNOCKS_PER_ADDRESS = 100
# By address, the /64 for IPv6, whoever it is.
TRACKER_LOGINS_PER_S = 10.0
TRACKER_LOGINS_BURST = 200.0
# By member, who has proven who it is: its coming and going is news for all the others.
TRACKER_ENTRIES_PER_S = 0.5
TRACKER_ENTRIES_BURST = 20.0
# How many addresses or members have a bucket that isn't full.
TRACKER_PACES_KEPT = 20_000

# Tracker: rooms. A key costs nothing, and whoever makes one has a room.
TRACKER_MAX_ROOMS = 10_000
TRACKER_NEW_ROOMS_PER_ADDRESS = 20
TRACKER_NEW_ROOMS_WINDOW_S = 3600.0
# Who is let in, and who is put out; the room's own key keeps some of the last for itself.
TRACKER_ROOM_MAX_MEMBERS = 1000
TRACKER_ROOM_MAX_ADMISSIONS = 10_000
TRACKER_ROOM_MAX_REVOCATIONS = 500
TRACKER_ROOM_KEY_REVOCATIONS = 100
TRACKER_CACHED_REVOCATIONS_ROOMS = 64
# What a member tells: it goes to everybody in the room.
TRACKER_CAPABILITIES_MAX_BYTES = 4 * KIB
TRACKER_PRESENCE_INTERVAL_S = 1.0
# Where a member can be found.
TRACKER_HASHES_PER_MESSAGE = 500
TRACKER_MAX_SWARMS_PER_MEMBER = 20_000
TRACKER_SEEK_MAX_NODES = 50
# What a member may ask over HTTP, for how long after its socket has closed.
TRACKER_SESSION_GRACE_S = 60.0
TRACKER_REGISTRY_REQUESTS_PER_S = 10.0
TRACKER_REGISTRY_REQUESTS_BURST = 100.0
TRACKER_REGISTRY_MAX_BYTES = 8 * MIB
# Reports of members that don't write the registry themselves, by member: each has the whole of it
# read and written here. Nodes that keep to REPORT_MIN_INTERVAL_S send one in 30 s.
TRACKER_REPORTS_PER_S = 0.1
TRACKER_REPORTS_BURST = 10.0
# By room, as anybody may have one whose registry is of the largest kind. More than a few that wait
# for their turn are better off trying later than holding a connection each.
TRACKER_ROOM_REPORTS_PER_S = 1.0
TRACKER_ROOM_REPORTS_BURST = 30.0
TRACKER_ROOM_REPORTS_WAITING = 16
# In all rooms: each is up to half a second of a processor, and of Python's lock; a bucket that
# hangs takes none of these places.
TRACKER_REPORTS_AT_ONCE = 2
TRACKER_REPORTS_BUSY_PAUSE_S = 10
# Others may write the registry at the same time.
TRACKER_REPORT_ATTEMPTS = 8
TRACKER_REGISTRIES_MAX_BYTES = GIB

# Tracker, as nodes see it: it may be slow, gone, or a liar.
TRACKER_CONNECT_TIMEOUT_S = 10.0
TRACKER_REQUEST_TIMEOUT_S = 60.0
TRACKER_SEEK_TIMEOUT_S = 10.0
TRACKER_SEEK_OTHERS_S = 1.0
# Jittered. The longest is shorter than an announce interval: swarms refill within one.
TRACKER_BACKOFF_BASE_S = 0.5
TRACKER_BACKOFF_MAX_S = 60.0
TRACKER_RETURN_S = 2.0
# A refusal that won't pass by itself is not hammered at.
TRACKER_REFUSED_RETRY_S = 600.0
TRACKER_ROOM_MESSAGE_MAX_BYTES = 8 * MIB
TRACKER_ETAG_MAX_CHARS = 128
# The one that runs beside a node.
TRACKER_START_TIMEOUT_S = 15.0

# Tracker, more than one process
# A process is noticed to be gone after the silence and one beat at most: 13 s.
CLUSTER_BEAT_S = 3.0
CLUSTER_SILENCE_S = 10.0
CLUSTER_FORGET_S = 3600.0
CLUSTER_SWARM_TTL_S = 3600.0
CLUSTER_REFRESH_S = 1200.0
CLUSTER_FLUSH_S = 0.25
CLUSTER_CACHE_S = 2.0
# With so many peers near, few offers go far: enough to hold a swarm together, and no more.
CLUSTER_PLENTY_HERE = 20
CLUSTER_FAR_SHARE = 0.2
CLUSTER_CACHE_MAX_SWARMS = 100_000
CLUSTER_CHANGES_MAX_SWARMS = 100_000
CLUSTER_TIMEOUT_S = 1.0
CLUSTER_RETRY_BASE_S = 0.5
CLUSTER_RETRY_MAX_S = 5.0
CLUSTER_MAX_WAITING = 1024
CLUSTER_BATCH_SWARMS = 500
CLUSTER_BATCH_LETTERS = 200
CLUSTER_LINGER_S = 0.003
CLUSTER_BATCH_BYTES = MIB
CLUSTER_ENVELOPE_MAX_BYTES = 2 * MIB
CLUSTER_MAX_PROCESSES = 256
CLUSTER_LETTER_MAX_BYTES = 128 * KIB
CLUSTER_OUTGOING_MAX_BYTES = 16 * MIB
CLUSTER_COUNT_MAX = 10**9
WORKERS_MAX = 64
WORKER_HANDOVER_MAX_BYTES = 64 * KIB
WORKER_NOTE_MAX_BYTES = 64 * KIB
WORKER_REPORT_INTERVAL_S = 1.0
WORKER_SILENCE_S = 15.0
WORKER_ENDED_PER_NOTE = 5000
WORKER_RESTART_BASE_S = 0.5
WORKER_RESTART_MAX_S = 30.0

# Tracker, TURN credentials and presigned URLs
TURN_TTL_S = 600
TURN_TTL_MIN_S = 60
TURN_TTL_MAX_S = 24 * 3600
TURN_MAX_URIS = 8
TURN_CREDENTIAL_MAX_CHARS = 256
TURN_SECRET_MAX_BYTES = 4 * KIB
# What part of their life passes before credentials are asked for anew, and a URL is used no more.
TURN_RENEW_AFTER = 0.75
PRESIGNED_URL_REUSE = 0.75
PRESIGNED_URL_TTL_S = 900
PRESIGNED_WRITE_TTL_S = 60
PRESIGNED_URL_MAX_CHARS = 8 * KIB
PRESIGN_MAX_PER_REQUEST = 100
PRESIGN_BODY_MAX_BYTES = 256 * KIB
PRESIGN_UPLOAD_ID_MAX_CHARS = 1024
PRESIGN_URLS_PER_S = 100.0
PRESIGN_URLS_BURST = 2000.0
PRESIGN_TIMEOUT_S = 15.0
PRESIGN_BUSY_PAUSE_S = 0.5
PRESIGN_PARTS_AHEAD = 16
PRESIGN_URLS_KEPT = 1000
TRACKER_SERVICE_ANSWER_MAX_BYTES = MIB

# Tracker: looking after the origins that it signs for.
SWEEP_INTERVAL_S = 3600.0
SWEEP_INTERVAL_MAX_S = 30 * 24 * 3600
SWEEP_CONNECT_TIMEOUT_S = 10.0
SWEEP_READ_TIMEOUT_S = 60.0
