--- `socketley backend`: says something of one of a proxy's backends.

local socketley = require "socketley"

return {
  name = "backend",
  summary = "Drain a proxy's backend, take it out, bring it back, weigh it",
  description = [[
Takes effect at once and drops no connection: drain leaves a backend what it has and the clients that
stick to it, maintenance sends it nothing more, up brings it back. It lasts until the daemon ends.
Backends are added and removed with `edit --backend`, or in the file that defines the proxy.]],
  args = {
    { name = "name", help = "The proxy", complete = "runtime" },
    { name = "backend", help = "The backend: its address, or a name for all that share it" },
    {
      name = "state",
      optional = true,
      values = { "up", "drain", "maintenance" },
      help = "Its state from now on",
    },
  },
  flags = {
    { name = "weight", type = "integer", value = "N", help = "Its weight from now on; 0 as in the proxy's fields" },
  },
  examples = {
    { "socketley backend gw 127.0.0.1:9001 drain", "nobody new comes" },
    { "socketley backend gw 127.0.0.1:9001 up --weight 3", "it is back, for three" },
  },
  run = function(a, out)
    if a.state == nil and a.weight == nil then
      return out:error {
        message = "nothing to change",
        hint = "say up, drain or maintenance, or --weight N",
        exit_code = 2,
      }
    end
    local rows, err = socketley.backend(a.name, a.backend, { state = a.state, weight = a.weight })
    if not rows then
      return out:error(err)
    end
    for _, row in ipairs(rows) do
      out:print(row.name == row.address and row.name or row.name .. "=" .. row.address)
    end
  end,
}
