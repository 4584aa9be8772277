--- `socketley version`.

return {
  name = "version",
  where = "local",
  summary = "Print the version",
  examples = { { "socketley version", "of this program" } },
}
