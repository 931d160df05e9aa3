-- Give back what was reserved and not used, charge what was used beyond it, free slots.
-- KEYS: the mark of this batch, then distinct limits; a batch that is sent again does nothing. ARGV[1], JSON:
-- [plans, settled] with plans as in reserve.lua and settled [[plan, holder, [reserved], [actual]], ...].
if not redis.call('SET', KEYS[1], '1', 'NX', 'PX', '120000') then
  return 0
end
local levels, written = {}, {}

local function free_slots(key, holder, amount)
  local number = 1
  while redis.call('ZREM', key, member(holder, number)) == 1 or number < amount do
    number = number + 1
  end
end

local plans, all = unpack(cjson.decode(ARGV[1]))
for _, settled in ipairs(all) do
  local plan, holder, reserved, actual = plans[settled[1]], settled[2], settled[3], settled[4]
  for i, limit in ipairs(plan) do
    local place, capacity = limit[1], limit[3]
    if limit[2] == 1 then
      free_slots(KEYS[place], holder, reserved[i])
    elseif reserved[i] ~= actual[i] then
      local level = levels[place] or level_of(redis.call('GET', KEYS[place]), capacity, limit[4])
      levels[place] = math.min(capacity, level + reserved[i] - actual[i])
      written[place] = limit
    end
  end
end
for place, limit in pairs(written) do
  store_level(KEYS[place], levels[place], limit[3], limit[4])
end
return 1
