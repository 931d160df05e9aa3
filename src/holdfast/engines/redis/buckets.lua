-- holdfast rates, version 1: what all scripts share; it is put before each of them.
-- A bucket is a string "level microseconds": what was left at that moment. A missing one is full: it expires when it is.
-- Slots are a sorted set of holders, scored by the microsecond in which they come back.
-- Now is the server's, the one clock all nodes share; ARGV[2] may say another, in microseconds.
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local LINGER = 60000 -- milliseconds a key outlives its meaning

local function level_of(stored, capacity, period)
  if not stored then
    return capacity
  end
  local level, at = string.match(stored, '^(%S+) (%S+)$')
  return math.min(capacity, tonumber(level) + math.max(0, now - tonumber(at)) * capacity / (period * 1000000))
end

local function store_level(key, level, capacity, period)
  local full_in = math.ceil((capacity - level) / capacity * period * 1000) + LINGER
  redis.call('SET', key, string.format('%.6f %.0f', level, now), 'PX', string.format('%.0f', full_in))
end

local function member(holder, number)
  return number == 1 and holder or holder .. '#' .. number
end
