--- What the console's Tab asks.

return {
  name = "complete",
  hidden = true,
  summary = "Names that could end a console line",
  args = { { name = "line", help = "The line up to the cursor" } },
  flags = { { name = "app", value = "NAME", help = "An app or runtime" } },
  examples = { { 'socketley complete "socketley.li"', "socketley.list" } },
  run = function(a, out)
    if not a.app then
      return out:json(json.array(out.console():complete(a.line)))
    end
    local names, err = control.call("complete", { target = a.app, line = a.line })
    if err then
      return out:error(err)
    end
    out:json(names)
  end,
}
