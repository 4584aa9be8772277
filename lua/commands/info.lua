--- `socketley info`: the daemon.

local socketley = require "socketley"

return {
  name = "info",
  summary = "Describe the daemon: version, workers, kernel features, paths",
  format = true,
  examples = { { "socketley info", "what runs here, and how" } },
  run = function(a, out)
    local info, err = socketley.info()
    if not info then
      return out:error(err)
    elseif a.format ~= "table" then
      return out:json(info)
    end
    out:print(human(info, ""))
  end,
}
