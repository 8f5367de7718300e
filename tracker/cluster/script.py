"""The one transaction of a cluster, run inside Redis: one round trip, whatever it moves.

Everything lies below one prefix, and everything expires::

    dreamer:processes      sorted set: process -> when it last said something, by Redis' own clock
    dreamer:swarm:<hex>    hash: process -> "complete,incomplete,downloaded"; "gone" -> downloads
                           that processes counted which have been forgotten since
    dreamer:to:<process>   the channel that a process listens on; nothing is stored there

A hash that something else has spoilt is passed over: it mustn't cost the other swarms anything.
"""

_PREFIX = "dreamer:"
PROCESSES = _PREFIX + "processes"
SWARM = _PREFIX + "swarm:"
CHANNEL = _PREFIX + "to:"
GONE = "gone"
"""Stands in a swarm's hash where a process would."""

UNCHANGED, REMOVED = "", "-"
"""What may stand in the place of a process' own field: leave what is there; take it away."""

# KEYS: the list of processes. ARGV: this process; the silence after which one is forgotten, in
# ms; how many processes are told at most; how long a swarm is kept, in s; how many of the swarms
# are asked for, which come first; then a swarm in hex and this process' field of it, repeatedly.
TRADE = (
    f"local SWARM, CHANNEL, GONE = '{SWARM}', '{CHANNEL}', '{GONE}'\n"
    + """
local me, forget_ms, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local keep_s, asked = ARGV[4], tonumber(ARGV[5])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

redis.call('ZADD', KEYS[1], now, me)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - forget_ms)
redis.call('PEXPIRE', KEYS[1], forget_ms)
local seen, known = {}, {[GONE] = true}
local list = redis.call('ZREVRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #list, 2 do
  known[list[i]] = true
  if #seen < most and #list[i] == 16 and string.match(list[i], '^%x+$') then
    local listeners = redis.call('PUBSUB', 'NUMSUB', CHANNEL .. list[i])[2]
    seen[#seen + 1] = {list[i], now - tonumber(list[i + 1]), listeners > 0}
  end
end

local function tell(key, field)
  if field == '-' then
    redis.pcall('HDEL', key, me)
  elseif field ~= '' then
    redis.pcall('HSET', key, me, field)
    redis.pcall('EXPIRE', key, keep_s)
  end
end

-- What a forgotten process had downloaded goes over to GONE, or the hash would only ever grow.
local function bury(key, process, field)
  redis.call('HDEL', key, process)
  local downloaded = string.match(field, '^%d+,%d+,(%d+)$')
  if downloaded and downloaded ~= '0' then
    redis.pcall('HINCRBY', key, GONE, downloaded)
  end
end

local function ask(key)
  -- What isn't a hash comes back as an error, which has no fields.
  local told, kept = redis.pcall('HGETALL', key), {}
  for i = 1, #told, 2 do
    local process, field = told[i], told[i + 1]
    if not known[process] then
      bury(key, process, field)
    elseif #kept <= most and #field <= 32 and string.match(field, '^[%d,]+$') then
      kept[#kept + 1] = {process, field}
    end
  end
  return kept
end

local swarms = {}
for i = 6, #ARGV, 2 do
  local key = SWARM .. ARGV[i]
  tell(key, ARGV[i + 1])
  if #swarms < asked then
    swarms[#swarms + 1] = ask(key)
  end
end
return cmsgpack.pack({seen, swarms})
"""
)
