"""Every bound and timeout of the system, named, its unit last: one place to read and change.

Sizes of content come from the format (``../ARCHITECTURE.md``); the others keep a stranger, a slow
peer or a bug from costing more than they are worth.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# Encoding
# The values of one JSON text, counted by its commas and opening brackets.
JSON_MAX_ITEMS = 500_000
BENCODE_MAX_ITEMS = 500_000
BENCODE_MAX_DEPTH = 64

# Content
SHARD_BYTES = 64 * MIB
BLOCK_BYTES = MIB
CHUNK_BYTES = 128 * KIB
MANIFEST_MAX_BYTES = 8 * MIB
OUTBOARD_MAX_BYTES = 32 * MIB
MODEL_MAX_FILES = 20_000
MODEL_MAX_BYTES = 1024 * GIB
PATH_MAX_BYTES = 1024
PATH_MAX_DEPTH = 16
PATH_PART_MAX_BYTES = 255
GROUPS_MAX = 65_536
GROUP_RANGES_MAX = 65_536
GROUP_NAME_MAX_BYTES = 128

# Torrents of public models
# The leaves of a file's tree are fixed by BEP 52; twice the pieces would be metadata of 4 MiB.
TORRENT_LEAF_BYTES = 16 * KIB
TORRENT_MAX_PIECES = 65_536
MAGNET_MAX_CHARS = 8 * KIB
WEB_SEED_PADDING_MAX_BYTES = 256 * MIB
TORRENT_MAX_TRACKERS = 16
TORRENT_CONNECTIONS_MAX = 100
TORRENT_UPLOAD_SLOTS = 8
TORRENT_QUEUED_DISK_MAX_BYTES = 16 * MIB
TORRENT_DISK_THREADS = 4
TORRENT_RECONNECT_S = 2
TORRENT_REPORT_INTERVAL_S = 0.5
# A finished piece may still lie in libtorrent's queue of writes.
TORRENT_WRITTEN_TIMEOUT_S = 5.0
TORRENT_WRITTEN_POLL_S = 0.01
TORRENT_STOP_TIMEOUT_S = 1.0
TORRENT_STOP_SILENCE_S = 0.3
TORRENT_EXIT_TIMEOUT_S = 2.5
TORRENT_RESTART_S = 2.0
TORRENT_REMOVE_TIMEOUT_S = 5.0
TORRENT_SEEDS_LOOK_S = 30.0
# How long a pull with an origin waits for the first peer of a swarm before it asks the origin.
TORRENT_SETTLE_S = 5.0

# Rooms
CHAIN_MAX_CERTIFICATES = 4
TOKEN_MAX_BYTES = 16 * KIB
ROOM_NAME_MAX_CHARS = 64
ROOM_MAX_TRACKERS = 8
URL_MAX_CHARS = 2048
INVITE_MAX_USES = 10_000
INVITE_DEFAULT_TTL_S = 24 * 3600.0
CLOCK_SKEW_S = 120.0
ROOM_MAX_REVOCATIONS = 1000
REVOCATION_LATE_S = 30 * 24 * 3600.0
REVOCATIONS_PASSED_ON_MAX = 50
REVOCATIONS_PASSED_ON_PER_S = 10.0
REVOCATIONS_SETTLE_S = 2.0
REVOCATION_OFFERS_MAX = 3
REVOCATIONS_REFUSED_MAX = 50
ROOM_RESTART_BASE_S = 1.0
ROOM_RESTART_MAX_S = 60.0
REMOVAL_TIMEOUT_S = 10.0
NODE_MIN_PREFIX_DIGITS = 8

# Links
# aiortc refuses to send, or to be sent, messages over 256 KiB.
CONTROL_MESSAGE_MAX_BYTES = 240 * KIB
CONTROL_MAX_FIELDS = 16
LINK_HANDSHAKE_TIMEOUT_S = 5.0
LINK_OPEN_TIMEOUT_S = 15.0
LINK_RETRY_MIN_S = 1.0
LINK_DOUBT_S = 2.0
# A member that a tracker or a broken connection says is gone answers within this, or is.
LINK_VANISHED_S = 1.0
# Of which nothing is awaited: no hurry, as all may be asked at once when a tracker ends.
LINK_VANISHED_IDLE_S = 5.0
LINK_PING_INTERVAL_S = 10.0
LINK_SILENCE_TIMEOUT_S = 30.0
# While blocks are expected of a peer, or after this machine has slept.
LINK_WAITING_PING_S = 3.0
LINK_WAITING_SILENCE_S = 10.0
LINK_WOKEN_SILENCE_S = 4.0
# Ticks come every second; one so late means that nobody listened meanwhile.
LINK_TICK_LATE_S = 5.0
SLEEP_NOTICED_S = 5.0
LINKS_MAX_PER_NODE = 64
# Processes that links are spread over, one for each core.
TRANSPORT_PROCESSES_MAX = 4
TRANSPORT_RESTART_S = 0.5
# Where all cores are busy, inference and REST go before bulk.
TRANSPORT_NICE = 5
FOLLOWS_MAX_PER_LINK = 4096
CONTROL_BUFFER_MAX_BYTES = 16 * MIB
LINK_MESSAGE_MIN_BYTES = 64 * KIB
OBJECT_PIECE_BYTES = 128 * KIB
OBJECT_TIMEOUT_S = 20.0
OBJECT_RETRY_S = 1.0
OBJECT_REQUESTS_MAX_PER_LINK = 4
OBJECT_CACHE_S = 10.0

# Direct connections between daemons
# Whether one can be had; the pull waits for a part of that, since most are there at once.
DIRECT_DECIDE_S = 2.0
DIRECT_HOLD_S = 0.5
DIRECT_ADDRESSES_MAX = 16
DIRECT_ADDRESSES_MAX_CHARS = 1024
DIRECT_TOKEN_TTL_S = 4.0
# Whoever connects is a stranger until the token has come.
DIRECT_HANDSHAKE_TIMEOUT_S = 3.0
DIRECT_HANDSHAKES_MAX = 32
DIRECT_HANDSHAKES_PER_ADDRESS = 8
DIRECT_BACKLOG = 64
# What a member may have us dial.
DIRECT_ATTEMPTS_PER_LINK = 4
DIRECT_ATTEMPTS_PER_S = 1.0
DIRECT_ATTEMPTS_BURST = 10.0
DIRECT_CONNECTIONS_MAX = 4
# How much faster another connection must make it to be kept.
DIRECT_GAIN_MIN = 1.15
DIRECT_TRIAL_S = 3.0
DIRECT_TRIAL_REPEAT_S = 60.0
# Nothing in the middle of a block for so long, or a block that takes so long in all. Twice the
# first is less than REQUEST_TIMEOUT_S, or the planner would think the peer hung before its lane is.
DIRECT_STALL_TIMEOUT_S = 5.0
DIRECT_BLOCK_TIMEOUT_S = 120.0
DIRECT_VOID_REQUESTS_MAX = 256
DIRECT_REPORT_INTERVAL_S = 0.25
DIRECT_BATCH_S = 0.005
DIRECT_WANTED_S = 10.0
DIRECT_IDLE_S = 60.0
DIRECT_RETRY_MIN_S = 1.5
DIRECT_RETRY_MAX_S = 300.0
DIRECT_STEADY_S = 30.0
DIRECT_CLOSE_TIMEOUT_S = 2.0

# Gossip and the mesh
LINKS_MESH_MIN = 3
MESH_INTERVAL_S = 2.0
MESH_VAIN_CALLS = 4
MESH_PAUSE_MAX_S = 60.0
MESH_RETRY_S = 15.0
MESH_RETRY_MAX_S = 600.0
MESH_REMEMBERED_NODES = 1000
GOSSIP_MAX_HOPS = 6
GOSSIP_MAX_NODES = 1000
GOSSIP_NEWS_MAX_BYTES = 32 * KIB
GOSSIP_NEWS_PER_TICK = 4
GOSSIP_NEWS_TO_ALL_PER_TICK = 32
GOSSIP_CHANGES_PER_TICK = 50
GOSSIP_CHANGES_BURST = 2000
GOSSIP_NEWS_PER_S = 8.0
GOSSIP_NEWS_BURST = 64.0
GOSSIP_CAPABILITIES_MAX_BYTES = KIB
GOSSIP_CAPABILITIES_PER_LINK_BYTES = 256 * KIB
GOSSIP_SIGNAL_MAX_BYTES = 32 * KIB
GOSSIP_SIGNALS_PER_S = 5.0
GOSSIP_SIGNALS_BURST = 50.0
# Four times what one neighbour may have passed on: one that floods leaves room for others.
GOSSIP_SIGNALS_TO_PER_S = 20.0
GOSSIP_SIGNALS_TO_BURST = 200.0
GOSSIP_MAX_COMING_UP = 16
GOSSIP_SEEK_HOPS = 4
GOSSIP_SEEKS_PER_S = 10.0
GOSSIP_SEEKS_BURST = 50.0
GOSSIP_SEEKS_PASSED_ON_PER_S = 2.0
GOSSIP_SEEKS_PASSED_ON_BURST = 20.0
GOSSIP_SEEKS_REMEMBERED = 1000
GOSSIP_HELD_PER_LINK = 16
GOSSIP_SEEK_WAIT_S = 1.0
SIGNALS_REMEMBERED = 256

# Connecting by text, with no tracker
# A person carries the offer to another machine, and the answer back.
CONNECT_OFFER_TTL_S = 600.0
CONNECT_OPEN_TIMEOUT_S = 30.0
CONNECT_DESCRIBE_TIMEOUT_S = 15.0
CONNECT_MAX_WAITING = 8
CONNECT_MAX_CANDIDATES = 7
CONNECT_TEXT_MAX_CHARS = 1024
# A check must come through soon after the other side is there; some NATs forget within 30 s.
CONNECT_CHECK_INTERVAL_S = 4.0
CONNECT_KEEPALIVE_S = 15.0

# Relays (TURN)
RELAY_BUDGET_MIB_PER_PEER = 500
RELAY_BUDGET_MIB_PER_DAY = 2048
RELAY_BUDGET_MIB_PER_MONTH = 10_240
RELAY_BUDGET_MAX_MIB = 2**30
# Bulk stops so far before the end of a budget: what both ends have under way still fits, which is
# two chunks that wait, one in aiortc's hands, and SCTP, DTLS and acknowledgements around them.
RELAY_RESERVE_BYTES = 640 * KIB
# What a peer may have had on its way when bulk stopped; whoever sends more is hung up on.
RELAY_LATE_MAX_BYTES = 4 * MIB
# A link that moved a chunk so recently gets a share of what is left for all.
RELAY_ACTIVE_S = 2.0
RELAY_KEPT_DAYS = 62
RELAY_LINKS_REMEMBERED = 256
# A TURN server that is silent gives the next one its turn, long before aioice gives up (5 s).
TURN_HEAD_START_S = 1.5
TURN_GATHER_TIMEOUT_S = 5
# For a lost check to be sent twice more, and for both NATs to be opened.
RELAY_PATIENCE_S = 2.0

# Planner
REQUEST_TARGET_S = 1.0
# A second at 1 GB/s.
REQUEST_MAX_BLOCKS = 1024
# Of the origin one GET brings a request, and what is under way can't be given to somebody else.
REQUEST_ORIGIN_MAX_BLOCKS = 32
# Of all sources together a pull asks for so much ahead; far more than small blocks ever come to.
PULL_AHEAD_S = 3.0
PULL_AHEAD_MIN_BYTES = 768 * MIB
# What takes longer over a block than this does not count: others are asked meanwhile.
PULL_SLOW_BYTES_S = 5 * MIB
PULL_AHEAD_MIN_BLOCKS = 4
# Two as long as each is a second's worth; more of them where single blocks are asked for.
REQUESTS_IN_FLIGHT_MIN = 2
REQUESTS_IN_FLIGHT_MAX = 12
REQUEST_TIMEOUT_S = 12.0
REQUEST_TIMEOUT_BLOCKS = 4
REQUEST_FIRST_BLOCKS = 4
REQUESTS_QUEUED_PER_PEER = 16
# Asked for single blocks, one that was idle is asked for one, until it could have refused that.
REQUEST_PROBE_S = 0.2
ENDGAME_MAX_COPIES = 2
# What a source owes is moved to an idle one if it will take it longer than this.
RELIEVE_OVER_S = 5.0
# Sources with nothing to do are looked at this often, and those that something happened to at once.
SWEEP_INTERVAL_S = 0.1
ENDGAME_STALE_S = 2.0
ENDGAME_STALE_BLOCKS = 3
ENDGAME_UNMEASURED_S = 1.0
SNUB_S = 30.0
ORIGIN_AFTER_NO_PROGRESS_S = 60.0
# A STUN or TURN server that does not answer costs either end of a link 5 s (aioice).
DISCOVERY_MAX_S = 15.0
DISCOVERY_REPEAT_S = 5.0
PULL_STALL_TIMEOUT_S = 180.0
PULL_NO_SOURCE_TIMEOUT_S = 30.0
# A pull that somebody has helped waits for them, or for the disk to be mended: a laptop may be
# shut, a network away, for a night.
PULL_PATIENCE_S = 24 * 3600.0
PULL_PAUSE_MIN_S = 1.0
PULL_PAUSE_MAX_S = 10.0
# The planner is asked what to do ten times a second; who was away for so long was halted.
PULL_HALT_NOTICED_S = 2.0
SOURCE_MAX_STRIKES = 3
SOURCE_MIN_BYTES_S = 2 * KIB
BUSY_RETRY_S = 1.0
# A member that is busy says so when it is not any more; one of an older version doesn't.
BUSY_MEMBER_RETRY_S = 5.0
PICK_ALIGN_BLOCKS = 16
RATE_HALF_LIFE_S = 3.0
# A change in more runs than this is told as a whole bitfield.
GAINED_RUNS_MAX = 32
HAVE_FLUSH_MIN_S = 0.05
HAVE_FLUSH_MAX_S = 0.5
HAVE_FLUSH_S_PER_BLOCK = 0.005
# Rendezvous: so many runs that shares are about equal, so few that they are soon divided.
RENDEZVOUS_RUNS = 1024
# At most 8 KiB for each node, and 2 KiB for each node of a division.
RENDEZVOUS_KEPT_NODES = 1024
RENDEZVOUS_KEPT_DIVISIONS = 64
# A node that fetches nothing of its share for so long has its share taken over.
CROWD_PATIENCE_S = 15.0
CROWD_PATIENCE_BLOCKS = 4
CROWD_PATIENCE_MAX_S = 60.0
CROWD_LOOK_S = 1.0
# Of a large crowd, one that is not linked.
CROWD_UNSEEN_S = 45.0
CROWD_PATIENCE_MIN_S = 2.0
# Who is through with its own share helps one that needs longer than this for what it has left.
CROWD_HELP_OVER_S = 10.0
CROWD_HELP_MIN_BLOCKS = 8
# Of however large blocks: so many may be on their way to the one that is helped.
CROWD_HELP_LEAST_BLOCKS = 4
# A member's bytes cost no money, so it is asked for them sooner.
SEED_HELP_OVER_S = 3.0
CROWD_HELP_INTERVAL_S = 0.5
CROWD_QUIET_S = 5.0
# Of a larger crowd so many, the same for all, fetch what only the origin or few members have.
CROWD_COMMITTEE = 32
# With more whole members than one for so many, each finds some of those among the names it hears.
CROWD_FETCHING_PER_WHOLE = 4
# Links of a pull in a crowd where not everybody can be linked to all; the second to whole members.
PULL_LINKS_WANTED = 16
PULL_WHOLE_LINKS_WANTED = 8
# The origin waits so long for others that begin the same pull at about the same time.
CROWD_GATHER_S = 2.0
CROWD_GATHER_STEP_S = 0.4
BAN_S = 600.0

# Limits of the rate. A block a peer waits longer for than its patience would look like a hang.
RATE_LIMIT_MIN_MBIT = 1.0
RATE_LIMIT_MAX_MBIT = 1_000_000.0
RATE_BURST_BYTES = MIB
RATE_BURST_S = 0.2
RATE_SCHEDULE_INTERVAL_S = 5.0
# What one peer is sent before it is another's turn, and how much of it waits at the wire.
UPLOAD_SLICE_BLOCKS = 8
UPLOAD_SLICES_UNDER_WAY = 2
# Of all peers together so many slices share the line, so that each is whole soon and can be passed
# on; one slower than this does not count: it must be its taker's line that is full.
UPLOAD_SLICES_AT_ONCE = 4
UPLOAD_SLOW_BYTES_S = 32 * MIB
UPLOAD_SLOTS = 16
UPLOAD_SLOTS_MAX = 1024
# Where a block stands for many (a simulation): a few slots more than a pull asks for ahead. With as
# many, a crowd turns away one request for each block it moves; with more, all wait too long.
UPLOAD_COARSE_MAX_BYTES = 896 * MIB
UPLOAD_COARSE_SLOTS_MIN = 5
UPLOAD_TURN_S = 20.0
# Who found no slot comes back by itself in good time before it is forgotten, and once it is called.
UPLOAD_TURNED_AWAY_S = 8.0
UPLOAD_CALLED_S = 1.0
# The queue of uploads may have read the clock a little after the one who called.
UPLOAD_CALLED_SLACK_S = 0.01
UPLOAD_WAIT_MAX_S = 8.0

# Origin
ORIGIN_PARALLEL_REQUESTS = 4
ORIGIN_PARALLEL_MAX_REQUESTS = 12
ORIGIN_PIECE_MIN_BLOCKS = 4
ORIGIN_TELL_INTERVAL_S = 0.25
ORIGIN_CONNECT_TIMEOUT_S = 10.0
ORIGIN_READ_TIMEOUT_S = 30.0
# A body that hangs is asked for on another connection before the planner gives the origin up.
ORIGIN_BODY_TIMEOUT_S = 8.0
ORIGIN_ATTEMPTS = 4
ORIGIN_RETRY_BASE_S = 0.25
ORIGIN_RETRY_MAX_S = 5.0
ORIGIN_RETRY_AFTER_MAX_S = 120.0
ORIGIN_MULTIPART_OVER_BYTES = 16 * MIB
ORIGIN_PART_BYTES = 8 * MIB
ORIGIN_MAX_PARTS = 10_000
ORIGIN_READ_MIN_BYTES = 16 * KIB
ORIGIN_READ_MAX_BYTES = MIB
ORIGIN_READ_QUICK_S = 0.05
ORIGIN_READ_SLOW_S = 0.5
# Trying for the best number of requests side by side.
WIDTH_WINDOW_S = 1.0
WIDTH_REST_WINDOWS = 8
WIDTH_GAIN = 1.08
WIDTH_LOSS = 0.97
ORIGIN_ANSWER_MAX_BYTES = 64 * KIB

# Local API
REST_BODY_MAX_BYTES = MIB
REST_BACKLOG_CONNECTIONS = 128
"""Clients that wait to be accepted; as aiohttp has it for the port."""
REST_PING_INTERVAL_S = 15.0
REST_STALLED_CLIENT_TIMEOUT_S = 120.0
CLIENT_REQUEST_TIMEOUT_S = 120.0
CLIENT_SILENCE_TIMEOUT_S = 60.0
CLIENT_LINE_MAX_BYTES = 4 * MIB
UNIX_PATH_MAX_BYTES = 103
PROGRESS_LINE_INTERVAL_S = 3.0
SHUTDOWN_DRAIN_S = 4.0
SHUTDOWN_MAX_S = 9.0
# How late the daemon's loop runs is sampled so often, and told for the last minute.
LOOP_BEAT_S = 0.05
LOOP_LAG_WINDOW_BEATS = 1200

# What a node tells the simulator of its room
TOPOLOGY_MAX_MEMBERS = 20_000
TOPOLOGY_MAX_MODELS = 20_000
# So long that what a buffer swallows at once is no rate, so short that small models show one.
PEAK_RATE_WINDOW_S = 3.0
PEAK_RATE_SAMPLE_S = 1.0

# Store
STATE_BUSY_TIMEOUT_S = 5.0
STORE_RESERVE_BYTES = 16 * MIB
STORE_READ_BYTES = MIB
# How many blocks of a file that is coming in are hashed at a time: a thread is woken for each lot.
TRAIL_BLOCKS = 8
STORE_OBJECT_MAX_BYTES = OUTBOARD_MAX_BYTES
MODEL_DIRECTORY_NAME_MAX_CHARS = 100
