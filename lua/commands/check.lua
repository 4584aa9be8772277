--- `socketley check`: is a file right? No daemon needed.

return {
  name = "check",
  where = "local",
  summary = "Find what is wrong in an app's file, without a daemon",
  description = [[
Loads the file in a VM of its own and validates what it defines: syntax, unknown fields and
callbacks, wrong types. Nothing is bound, started or sent. The exit code is 0 if the file is
right, 1 if it isn't, 2 if it can't be read.]],
  args = { { name = "file", type = "path", many = true, help = "Lua files" } },
  format = true,
  examples = {
    { "socketley check chat.lua", "problems with file and line" },
    { "socketley check --format json apps/*.lua", "for programs" },
  },
}
