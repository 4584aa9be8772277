--- `socketley console`: Lua lines, evaluated in the daemon.

return {
  name = "console",
  aliases = { "repl" },
  where = "local",
  summary = "Evaluate Lua in the daemon, line by line",
  description = [[
Without a target the lines run beside the commands (socketley.list(), socketley.stop "chat"); with
an app's or runtime's name they run in that app's VM, beside its handlers and within its time
budget. Expressions print, locals persist, Tab completes, Ctrl-C cancels what runs, .help shows
more. Lines may also come from a pipe.]],
  args = { { name = "target", optional = true, help = "An app or runtime", complete = "runtime" } },
  examples = {
    { "socketley console", "the daemon's own console" },
    { "socketley console chat", "in the VM of chat" },
    { "socketley console chat < lines.lua", "from a file" },
  },
}
