-- Draws requests at random by their weights from a file, and prints what came of them as JSON.
-- A line has a weight, method and path, and header fields, with tabs between them.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local requests, limits, total, longest = {}, {}, 0, 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    local weight, method, path, fields = line:match("^(%S+)\t(%S+) (%S+)(.*)$")
    local headers = {}
    for name, value in fields:gmatch("\t([^:]+): ([^\t]+)") do
      headers[name] = value
    end
    total = total + tonumber(weight)
    requests[#requests + 1] = wrk.format(method, path, headers)
    limits[#limits + 1] = total
  end
  math.randomseed(tonumber(arguments[2]) + number)
  longest = 2 * tonumber(arguments[3])
end

-- For how many milliseconds somebody looks at what has come.
function delay()
  return math.random(0, longest)
end

function request()
  local drawn, low, high = math.random() * total, 1, #limits
  while low < high do
    local middle = math.floor((low + high) / 2)
    if limits[middle] > drawn then high = middle else low = middle + 1 end
  end
  return requests[low]
end

function done(summary, latency)
  local errors = summary.errors
  local form = '{"requests": %d, "bytes": %d, "seconds": %.6f, "p50": %.6f, "p99": %.6f, "longest": %.6f, '
    .. '"errors": {"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}}\n'
  io.write(string.format(form, summary.requests, summary.bytes, summary.duration / 1e6,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6, latency.max / 1e6,
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
