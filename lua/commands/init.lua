--- `socketley init`: a first app.

return {
  name = "init",
  where = "local",
  summary = "Write a small app and its test to start from",
  description = "An existing file is never overwritten. The test stands beside the app, as NAME_test.lua.",
  args = {
    {
      name = "file",
      optional = true,
      type = "path",
      help = "The file to write (default: app.lua)",
    },
  },
  examples = { { "socketley init chat.lua", "then: socketley test, socketley run chat.lua" } },
}
