-- Many reservations, decided one after the other; each takes all it asks for or nothing.
-- KEYS: distinct limits. ARGV[1], JSON: [plans, asked] with plans [[[key, slot, capacity, period_seconds], ...], ...],
-- `key` a place in KEYS (from 1), `slot` 0 for a bucket; and asked [[plan, holder, expires_seconds, [amounts]], ...].
-- Answers each with 0, or with {limit (from 1), available, wait_seconds, never} of the limit that lacks most.
local SLOT_WAIT, GRAIN = 1.0, 0.000001
local levels, taken, written = {}, {}, {}

local function available(limit)
  local place, capacity = limit[1], limit[3]
  if limit[2] == 1 then
    if not taken[place] then
      redis.call('ZREMRANGEBYSCORE', KEYS[place], '-inf', now)
      taken[place] = redis.call('ZCARD', KEYS[place])
    end
    return capacity - taken[place]
  end
  if not levels[place] then
    levels[place] = level_of(redis.call('GET', KEYS[place]), capacity, limit[4])
  end
  return math.min(capacity, levels[place])
end

local function shortest(plan, amounts)
  local worst, worst_left, worst_wait = nil, 0, 0
  local asked = {}
  for i, limit in ipairs(plan) do
    local place, capacity, amount = limit[1], limit[3], amounts[i]
    local left = available(limit) - (asked[place] or 0)
    if left + GRAIN < amount then
      local wait = limit[2] == 1 and SLOT_WAIT or (amount - left) / capacity * limit[4]
      if amount > capacity then
        wait = math.huge
      end
      if wait > worst_wait then
        worst, worst_left, worst_wait = i, left, wait
      end
    end
    asked[place] = (asked[place] or 0) + amount
  end
  return worst, worst_left, worst_wait
end

local function take_slots(key, holder, amount, expires)
  local number = 1
  for _ = 1, amount do
    while redis.call('ZADD', key, 'NX', string.format('%.0f', now + expires * 1000000), member(holder, number)) == 0 do
      number = number + 1
    end
  end
  if amount > 0 and redis.call('PTTL', key) < expires * 1000 then
    redis.call('PEXPIRE', key, string.format('%.0f', expires * 1000 + LINGER))
  end
end

local plans, asked = unpack(cjson.decode(ARGV[1]))
local answers = {}
for i, ask in ipairs(asked) do
  local plan, holder, expires, amounts = plans[ask[1]], ask[2], ask[3], ask[4]
  local worst, left, wait = shortest(plan, amounts)
  if worst then
    local never = wait == math.huge
    answers[i] = { worst, tostring(left), never and '0' or tostring(wait), never and 1 or 0 }
  else
    for j, limit in ipairs(plan) do
      local place = limit[1]
      if limit[2] == 1 then
        take_slots(KEYS[place], holder, amounts[j], expires)
        taken[place] = taken[place] + amounts[j]
      else
        levels[place] = available(limit) - amounts[j]
        written[place] = limit
      end
    end
    answers[i] = 0
  end
end
for place, limit in pairs(written) do
  store_level(KEYS[place], levels[place], limit[3], limit[4])
end
return answers
