-- Sends events with wrk, to the streams whose tokens are given behind "--", in turn:
--
--   wrk -t1 -c16 -d10s -s benches/wrk/send.lua http://127.0.0.1:3000 -- TOKEN [TOKEN...]
--
-- Every answer but 200 is counted by its status. Without a token, one that nobody has is used,
-- so every answer is 404: what is measured is everything but the write to a stream.
-- One connection's requests wait for their answers; DEPTH=8 in the environment pipelines eight.

local NOBODY = "00000000-0000-4000-8000-000000000000"
local DEPTH = tonumber(os.getenv("DEPTH") or "1")
local DATA = string.rep("x", 100)

-- wrk gives each thread an interpreter of its own; they are asked at the end.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  requests = {}
  next_request = 0
  refused = {}
  local tokens = #args > 0 and args or { NOBODY }
  local headers = { ["Content-Type"] = "application/json" }
  for i = 1, #tokens do
    local batch = {}
    for j = 0, DEPTH - 1 do
      local token = tokens[(i + j - 1) % #tokens + 1]
      local body = string.format('{"token":"%s","event":{"data":"%s"}}', token, DATA)
      batch[#batch + 1] = wrk.format("POST", "/internal/send", headers, body)
    end
    requests[i] = table.concat(batch)
  end
end

function request()
  next_request = next_request % #requests + 1
  return requests[next_request]
end

function response(status)
  if status ~= 200 then
    refused[status] = (refused[status] or 0) + 1
  end
end

function done()
  for number, thread in ipairs(threads) do
    for status, count in pairs(thread:get("refused")) do
      print(string.format("  thread %d: %d answers were %d", number, count, status))
    end
  end
end
