--- A TCP proxy that Lua routes: a visitor always meets the backend that its address met first.
---
---     socketley run examples/routing.lua
---     nc 127.0.0.1 8080        then: any line; the backend says its name

local function backend(name)
  return server(name) {
    port = "127.0.0.1:0", -- any free port: the proxy knows it
    on_message = function(conn, line)
      conn:send(name .. " got " .. line)
    end,
  }
end

local backends = { backend "red", backend "blue" }
local next_index = 0

proxy "gate" {
  port = 8080,
  protocol = "tcp",
  strategy = "lua",
  backends = backends,
  state = { index_of = {} }, -- address to backend

  -- A number is a backend, counted from 0; nil would leave it to the proxy.
  on_route = function(req)
    local index_of = self.state.index_of
    if not index_of[req.ip] then
      index_of[req.ip] = next_index
      next_index = (next_index + 1) % #backends
    end
    return index_of[req.ip]
  end,
}
