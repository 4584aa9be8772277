--- `socketley show`: a runtime's configuration.

local socketley = require "socketley"

return {
  name = "show",
  aliases = { "inspect" },
  summary = "Print runtimes' configuration as JSON",
  args = { { name = "name", many = true, help = "Names or patterns", complete = "runtime" } },
  examples = { { "socketley show chat", "all its fields" } },
  run = function(a, out)
    each(a.name, out, function(name)
      local config, err = socketley.show(name)
      if not config then
        return nil, err
      end
      out:json(config)
      return config
    end, true)
  end,
}
