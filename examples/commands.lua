--- A cache with commands of its own: atomic, called like any other from every Redis client and from Lua.
---
---     socketley run examples/commands.lua
---     redis-cli VISIT ann                      1
---     redis-cli TAKE limit:ann 2 10            1, twice within 10 seconds, then 0
---     redis-cli COMMAND DOCS VISIT

local function key_of(user)
  return "visits:" .. user
end

cache "db" {
  port = 6379,
  commands = {
    VISIT = {
      keys = 1,
      summary = "counts a visit of a user, for a day",
      run = function(db, user)
        local count = db:incr(key_of(user))
        db:expire(key_of(user), 86400)
        return count
      end,
    },
    VISITS = {
      keys = 1,
      flags = "readonly",
      summary = "how often a user came today",
      run = function(db, user) return tonumber(db:get(key_of(user)) or 0) end,
    },
    TAKE = {
      keys = 1,
      arity = 4,
      summary = "takes one of N uses in SECONDS: 1, or 0 when they are used up",
      run = function(db, key, uses, seconds)
        local used = db:incr(key)
        if used == 1 then
          db:expire(key, seconds)
        end
        return used <= tonumber(uses) and 1 or 0
      end,
    },
  },
}
