--- `socketley ping`: does the daemon answer?

return {
  name = "ping",
  where = "local",
  summary = "Ask the daemon for a sign of life",
  description = "Works also when the daemon's Lua doesn't.",
  examples = { { "socketley ping", "pong, or why not" } },
}
