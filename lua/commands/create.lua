--- `socketley create`: a runtime from flags.

local socketley = require "socketley"

return {
  name = "create",
  summary = "Create a runtime: a server, client, proxy or cache",
  description = [[
The runtime is kept in the daemon's state until `remove`. Flags that belong to another type are
refused. Everything listens on 127.0.0.1 unless the port says otherwise: -p 0.0.0.0:9000.]],
  args = {
    { name = "type", values = { "server", "client", "proxy", "cache" }, help = "What it is" },
    { name = "name", help = "Its name: letters, digits, . _ -" },
  },
  flags = {
    { name = "test", type = "boolean", help = "Check everything, make nothing" },
  },
  fields = "create",
  examples = {
    { "socketley create server chat -p 9000 -s", "relay lines between clients" },
    { "socketley create server echo -p 9000 --lua example.lua -s", "a scripted server" },
    { "socketley create cache db -p 6379 --resp -s", "a Redis-compatible cache" },
    {
      "socketley create proxy gw -p 8080 --protocol tcp --backend 127.0.0.1:9000 -s",
      "a TCP proxy",
    },
    { "socketley create client up -t 127.0.0.1:9000 -s", "a client that reconnects" },
  },
  run = function(a, out)
    local made, err = socketley.create {
      type = a.type,
      name = a.name,
      test = a.test,
      fields = a.fields,
    }
    if not made then
      return out:error(err)
    end
    out:print(a.name)
  end,
}
