--- `socketley rollback`: an app's previous generation.

local socketley = require "socketley"

return {
  name = "rollback",
  summary = "Go back to an app's previous generation",
  description = [[
Connections stay. The file on disk isn't changed: saving or applying it makes it the newest
generation again.]],
  args = { { name = "app", help = "The app's name", complete = "app" } },
  examples = { { "socketley rollback chat", "the generation before this one" } },
  run = function(a, out)
    local done, err = socketley.rollback(a.app)
    if not done then
      return out:error(err)
    end
    local generation = type(done) == "table" and done.generation
    out:print(generation and ("%s: generation %d"):format(a.app, generation) or a.app)
  end,
}
