--- The commands that apps define: what the command line asks about a word it doesn't know.

return {
  name = "commands",
  hidden = true,
  summary = "Commands that apps define, as JSON",
  examples = { { "socketley commands", "their specs" } },
  run = function(_, out)
    local specs, err = control.call("commands", {})
    if err then
      return out:error(err)
    end
    out:json(specs)
  end,
}
