--- `socketley init`: a first app.

return {
  name = "init",
  where = "local",
  summary = "Write a small app to start from",
  description = "An existing file is never overwritten.",
  args = {
    {
      name = "file",
      optional = true,
      type = "path",
      help = "The file to write (default: app.lua)",
    },
  },
  examples = { { "socketley init chat.lua", "then: socketley run chat.lua" } },
}
