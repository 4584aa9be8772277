--- `socketley help`.

return {
  name = "help",
  where = "local",
  summary = "Describe a command, or all of them",
  args = { { name = "command", optional = true, help = "A command" } },
  examples = { { "socketley help create", "the same as socketley create --help" } },
}
