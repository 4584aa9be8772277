--- `socketley ps`: running runtimes.

return {
  name = "ps",
  summary = "List running runtimes",
  args = {
    {
      name = "name",
      many = true,
      optional = true,
      help = "Names or patterns (default: all)",
      complete = "runtime",
    },
  },
  flags = {
    { name = "all", short = "a", type = "boolean", help = "Those that don't run too, as ls" },
    { name = "quiet", short = "q", type = "boolean", help = "Only the names" },
  },
  format = true,
  examples = {
    { "socketley ps", "as ls, with the time they have been up" },
    { "socketley ps -q | xargs -n1 socketley stats", "names for other commands" },
  },
  run = function(a, out)
    list(a, out, function(row)
      return a.all or row.status ~= "stopped" and row.status ~= "created"
    end, { key = "uptime_ms", title = "UPTIME", kind = "duration" })
  end,
}
