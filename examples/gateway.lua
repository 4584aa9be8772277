--- An HTTP gateway: Lua says where each request goes, a cache knows who asks.
---
---     socketley run examples/gateway.lua
---     curl http://127.0.0.1:8080/                     the pages
---     curl -i http://127.0.0.1:8080/api/hello         sent to /login: nobody is known
---     curl http://127.0.0.1:8080/login?name=ada       answers with a key
---     curl -H 'X-Key: KEY' http://127.0.0.1:8080/api/hello

cache "sessions" { port = 6379 }

local function backend(name, answer)
  return server(name) {
    port = "127.0.0.1:0", -- any free port: the proxy knows it
    protocol = "http",
    on_http_request = answer,
  }
end

local function hello(name)
  return backend(name, function(req)
    return name .. " greets " .. req:header "x-user"
  end)
end

local red, blue = hello "red", hello "blue"
local pages = backend("pages", function(req)
  return "the page " .. req.path
end)

proxy "gate" {
  port = 8080,
  upstreams = {
    api = { red, blue, strategy = "least-conn" },
    pages = pages,
  },

  -- A name is one of the upstreams; a table changes the request or answers it; nil would leave it to the proxy.
  on_route = function(req)
    if req.path == "/login" then
      local key = ("%08x"):format(math.random(0, 2 ^ 31))
      cache.sessions:set(key, req.query.name or "nobody", "EX", 3600)
      return { body = key }
    end
    if not req.path:starts "/api/" then
      return "pages"
    end
    local user = cache.sessions:get(req:header "x-key" or "")
    if not user then
      return { redirect = "/login" }
    end
    return { upstream = "api", headers = { ["X-User"] = user, ["X-Key"] = false } }
  end,
}
