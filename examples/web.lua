--- A guest book over HTTP: a page, a JSON API, live updates, and the entries in a cache.
---
---   socketley run examples/web.lua
---   curl http://127.0.0.1:9000/api/entries
---   curl -d '{"name":"ada","text":"hello"}' http://127.0.0.1:9000/api/entries
---   curl -N http://127.0.0.1:9000/live            # each new entry, as it comes

local http = require "socketley.http"

cache "db" { port = 6379 }

local watchers = {} -- the event streams that are open

local PAGE = [[<!doctype html><title>Guest book</title>
<h1>Guest book</h1><ul id="entries"></ul>
<script>
const show = (entry) => {
  const item = document.createElement("li");
  item.textContent = entry.name + ": " + entry.text;
  document.getElementById("entries").append(item);
};
fetch("/api/entries").then((answer) => answer.json()).then((list) => list.forEach(show));
new EventSource("/live").onmessage = (event) => show(JSON.parse(event.data));
</script>]]

local app = http.router()

-- Round every handler: what it answers is counted.
app:use(function(req, res, next)
  res:header("X-Request-Number", cache.db:incr("requests"))
  return next()
end)

app:get("/", function(_, res) return res:html(PAGE) end)

app:get("/live", function(_, res)
  watchers[res:events()] = true
end)

local api = app:group("/api")

api:get("/entries", function(_, res)
  local list = {}
  for index, text in ipairs(cache.db:lrange("entries", 0, -1)) do
    list[index] = json.decode(text)
  end
  return res:json(list)
end)

api:post("/entries", function(req, res)
  local entry, problem = req:json()
  if type(entry) ~= "table" or type(entry.name) ~= "string" or type(entry.text) ~= "string" then
    return res:status(400):json { error = problem or "expected name and text" }
  end
  cache.db:rpush("entries", json.encode { name = entry.name, text = entry.text })
  for events in pairs(watchers) do
    if not events:send { data = entry } then
      watchers[events] = nil
    end
  end
  return res:status(201):json(entry)
end)

server "web" { port = 9000, routes = app:routes() }
