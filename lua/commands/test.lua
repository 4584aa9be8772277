--- `socketley test`: the tests of scripts, without a daemon and without ports.

return {
  name = "test",
  where = "local",
  summary = "Run the tests of apps, with virtual connections and a virtual clock",
  description = [[
Runs every file called NAME_test.lua in the folders named (default: this one), each in a VM of its
own on a simulated network: no port is opened, and an hour passes in a moment. The exit code is 0 if
all cases pass, 1 if one fails. `socketley init` writes a test to start from; what a test can do is
in `require "socketley.test"`.]],
  args = { { name = "path", type = "path", many = true, optional = true, help = "Files or folders" } },
  flags = { { name = "filter", value = "TEXT", help = "Only cases whose name contains this" } },
  examples = {
    { "socketley test", "all tests below this folder" },
    { "socketley test chat_test.lua --filter greets", "some cases of a file" },
  },
}
