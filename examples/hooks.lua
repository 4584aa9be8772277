--- A cache in front of something slow: keys that are missing are read through, changes are written behind in batches,
--- and the app hears what goes by itself. The slow thing here is a table; make it your database.
---
---     socketley run examples/hooks.lua
---     redis-cli -p 6379 GET user:7          is asked for once, however many want it
---     redis-cli -p 6379 SET user:8 grace    reaches the table within half a second
---     socketley table                       shows what the table holds
---     socketley stats db                    shows what the hooks had to do

local rows = { ["user:7"] = "ada" }

cache "db" {
  port = 6379,
  maxmemory = "64mb",
  eviction = "allkeys-lru",

  -- May wait: only who wants this key waits, at most five seconds. A value, a table of fields (a hash), or nil; and how
  -- long it stays, in seconds or as "30s".
  on_miss = function(key)
    sleep "20ms"
    return rows[key], "10m"
  end,

  -- One batch at a time. An error, or nil and a reason, and the same changes come again after a pause.
  write_behind = {
    every = "500ms",
    max = 500,
    run = function(batch)
      for _, row in ipairs(batch) do
        rows[row.key] = not row.deleted and row.value or nil
      end
    end,
  },

  on_expire = function(key, value)
    log.info("%s has expired, it was %s", key, value)
  end,
  on_evict = function(key)
    log.info("%s had to make room", key)
  end,
  on_delete = function(key)
    log.info("%s was deleted", key)
  end,
}

-- The app's own view of the table, for the command line: `socketley table`.
command "table" {
  summary = "show what the slow table holds",
  run = function(_, out)
    local list = {}
    for key, value in pairs(rows) do
      list[#list + 1] = { key = key, value = value }
    end
    table.sort(list, function(a, b) return a.key < b.key end)
    out:table(list)
  end,
}
