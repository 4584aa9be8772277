--- `socketley daemon`: runs the daemon in this process, or stops the one that runs.

return {
  name = "daemon",
  where = "local",
  summary = "Run the daemon in this process, or stop the one that runs",
  description = [[
The daemon restores the runtimes and apps it had, serves them, and listens for commands on its
unix socket. It ends after a drain on SIGTERM or Ctrl-C (a second one ends it now) and reloads
changed scripts on SIGHUP.

Socket, state and logs are in $SOCKETLEY_HOME if that is set; else in $XDG_RUNTIME_DIR and
$XDG_STATE_HOME, or /run and /var/lib for root.]],
  args = {
    {
      name = "action",
      optional = true,
      values = { "stop" },
      help = "stop: drain and end the daemon that runs",
    },
  },
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
      name = "supervise",
      type = "boolean",
      help = "Restart the daemon from its state when it crashes",
    },
    {
      name = "log-level",
      value = "LEVEL",
      values = { "debug", "info", "warn", "error" },
      default = "info",
      help = "The least important lines to log",
    },
    {
      name = "drain",
      type = "duration",
      value = "TIME",
      help = "With stop: how long connections may take to end",
    },
  },
  examples = {
    { "socketley daemon &", "start it in the background" },
    { "socketley daemon --supervise --workers 4", "four workers, restarted after a crash" },
    { "socketley daemon stop", "drain and end it" },
  },
}
