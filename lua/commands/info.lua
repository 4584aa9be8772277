--- `socketley info`: the daemon.

local socketley = require "socketley"

local function text(value)
  if type(value) ~= "table" then
    return type(value) == "number" and ("%.14g"):format(value) or tostring(value)
  end
  local parts = {}
  for _, item in ipairs(value) do
    parts[#parts + 1] = text(item)
  end
  if #parts == 0 then
    for key, item in pairs(value) do
      parts[#parts + 1] = key .. "=" .. text(item)
    end
    table.sort(parts)
  end
  return #parts > 0 and table.concat(parts, ", ") or "-"
end

return {
  name = "info",
  summary = "Describe the daemon: version, workers, kernel features, paths",
  format = true,
  examples = { { "socketley info", "what runs here, and how" } },
  run = function(a, out)
    local info, err = socketley.info()
    if not info then
      return out:error(err)
    elseif a.format ~= "table" then
      return out:json(info)
    end
    local keys, width = {}, 0
    for key in pairs(info) do
      keys[#keys + 1] = key
      width = math.max(width, #key)
    end
    table.sort(keys)
    local lines = {}
    for index, key in ipairs(keys) do
      lines[index] = key .. (" "):rep(width - #key) .. "  " .. text(info[key])
    end
    out:print(table.concat(lines, "\n"))
  end,
}
