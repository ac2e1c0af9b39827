-- Sends the requests that a file lists, one after the other and round again, and prints what came of them as JSON.

local requests, position = {}, 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    local method, path, fields = line:match("^(%S+) (%S+)(.*)$")
    local headers = {}
    for name, value in fields:gmatch("\t([^:]+): ([^\t]+)") do
      headers[name] = value
    end
    requests[#requests + 1] = wrk.format(method, path, headers)
  end
end

function request()
  position = position % #requests + 1
  return requests[position]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local form = '{"requests": %d, "bytes": %d, "seconds": %.6f, "failed": %d, "p50": %.6f, "p99": %.6f}\n'
  io.write(string.format(form, summary.requests, summary.bytes, summary.duration / 1e6, failed,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
