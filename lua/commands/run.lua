--- `socketley run`: one file in the foreground.

return {
  name = "run",
  where = "local",
  summary = "Run an app's file in the foreground",
  description = [[
Starts a daemon in this process that serves the runtimes of one file and nothing else. It prints
what listens where and then log lines; saving the file reloads it; Ctrl-C drains and ends. Nothing
is kept.]],
  args = { { name = "file", type = "path", help = "The app's Lua file" } },
  flags = {
    {
      name = "workers",
      type = "integer",
      value = "N",
      help = "Worker threads (default: one per core)",
    },
    {
      name = "sqpoll",
      type = "boolean",
      help = "Let a kernel thread poll the rings: less latency, much more CPU",
    },
    {
      name = "log-level",
      value = "LEVEL",
      values = { "debug", "info", "warn", "error" },
      default = "info",
      help = "The least important lines to log",
    },
  },
  examples = { { "socketley run examples/quickstart.lua", "a chat server, a cache and a proxy" } },
}
