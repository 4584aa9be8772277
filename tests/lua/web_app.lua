--- What the tests of `http`, `redis`, `session` and `middleware` talk to.

local compress = require "socketley.compress"
local middleware = require "socketley.middleware"
local session = require "socketley.session"

server "web" {
  port = 8080,
  routes = {
    ["GET /plain"] = "hello",
    ["/echo"] = function(req)
      return { json = { method = req.method, path = req.path, query = req.query, body = req.body,
        type = req:header "content-type", token = req:header "authorization", length = req:header "content-length" } }
    end,
    ["GET /redirect"] = function() return { redirect = "/plain" } end,
    ["POST /redirect"] = function() return { redirect = "/echo" } end,
    ["POST /again"] = function() return { status = 307, headers = { Location = "/echo" } } end,
    ["GET /away"] = function() return { redirect = "http://127.0.0.1:8081/echo" } end,
    ["GET /loop"] = function() return { redirect = "/loop" } end,
    ["GET /pieces"] = function(_, res)
      for number = 1, 3 do
        res:write("piece " .. number .. "\n")
        sleep "1s"
      end
      res:finish()
    end,
    ["GET /gzip"] = function()
      return { headers = { ["Content-Encoding"] = "gzip" }, body = compress.gzip(("text "):rep(50000)) }
    end,
    ["GET /slow"] = function() sleep "60s" return "late" end,
    ["GET /large"] = function() return ("x"):rep(400000) end,
  },
}

server "other" {
  port = 8081,
  routes = { ["/echo"] = function(req) return { json = { token = req:header "authorization" } } end },
}

-- Speaks HTTP as its script says, byte by byte: what a client must understand or refuse.
server "guarded" {
  port = 8083,
  middleware = {
    middleware.request_id(),
    middleware.secure_headers(),
    middleware.cors { origins = { "https://good.example" }, credentials = true },
    middleware.basic_auth { users = { ada = "secret" } },
    session.middleware { cache = "db", ttl = "1h" },
  },
  routes = {
    ["GET /"] = function(req)
      req.session.visits = (req.session.visits or 0) + 1
      return req.user .. " " .. req.session.visits
    end,
    ["GET /renew"] = function(req) session.renew(req) return "renewed" end,
    ["GET /end"] = function(req) session.destroy(req) return "ended" end,
  },
}

cache "db" { port = 6379 }
