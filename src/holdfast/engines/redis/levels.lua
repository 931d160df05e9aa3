-- What is left of each bucket, or how many slots are free. KEYS beside ARGV[1], JSON: [[slot, capacity, period_seconds], ...].
local answers = {}
for i, limit in ipairs(cjson.decode(ARGV[1])) do
  local left
  if limit[1] == 1 then
    left = limit[2] - redis.call('ZCOUNT', KEYS[i], string.format('(%.0f', now), '+inf')
  else
    left = level_of(redis.call('GET', KEYS[i]), limit[2], limit[3])
  end
  answers[i] = string.format('%.17g', left)
end
return answers
