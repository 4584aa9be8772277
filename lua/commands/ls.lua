--- `socketley ls`: all runtimes.

return {
  name = "ls",
  aliases = { "list" },
  summary = "List all runtimes",
  description = [[
A runtime that doesn't do its job is shown as degraded, and the reason stands below the table.]],
  args = {
    {
      name = "name",
      many = true,
      optional = true,
      help = "Names or patterns (default: all)",
      complete = "runtime",
    },
  },
  flags = { { name = "quiet", short = "q", type = "boolean", help = "Only the names" } },
  format = true,
  examples = {
    { "socketley ls", "id, name, type, status, address, connections, app, age" },
    { "socketley ls -q", "names, one per line" },
    { "socketley ls --format json", "for programs" },
  },
  run = function(a, out)
    list(a, out, function()
      return true
    end, { key = "created_ms", title = "CREATED", kind = "ago" })
  end,
}
