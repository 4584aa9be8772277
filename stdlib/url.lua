--- URLs: taken apart, put together, resolved, and the encoding of their parts (RFC 3986).
---
--- ```lua
--- local url = require "socketley.url"
--- local parts = url.parse("http://example.org:8080/a?b=c#d")
--- print(parts.host, parts.port, parts.path, parts.query)   --> example.org  8080  /a  b=c
--- print(url.join("http://example.org/a/b", "../c"))        --> http://example.org/c
--- print(url.query { name = "Ann & Bob", page = 2 })        --> name=Ann%20%26%20Bob&page=2
--- ```

---@class url.Parts
---@field scheme string in lower case
---@field user? string
---@field password? string
---@field host string in lower case, IPv6 without brackets
---@field port? integer as written (default: none)
---@field path string "" if there is none
---@field query? string without the question mark
---@field fragment? string without the hash

local M = {}

local DEFAULT_PORTS = { http = 80, https = 443, ws = 80, wss = 443, redis = 6379, rediss = 6379 }

local function check(name, value, wanted)
  if type(value) ~= wanted then
    error(name .. ": expected a " .. wanted .. ", got " .. type(value), 3)
  end
end

local function no(message)
  return nil, setmetatable({ code = "invalid", message = message }, { __tostring = function(e) return e.message end })
end

--- Text as a part of a URL: everything but letters, digits and `-._~` as `%XX`.
---@param text string
---@return string
function M.encode(text)
  check("url.encode", text, "string")
  return (text:gsub("[^%w%-%._~]", function(char) return ("%%%02X"):format(char:byte()) end))
end

--- The reverse of `encode`. `plus`: a `+` is a blank, as in forms and queries.
---@param text string
---@param plus? boolean (default: false)
---@return string
function M.decode(text, plus)
  check("url.decode", text, "string")
  if plus then
    text = text:gsub("+", " ")
  end
  return (text:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

--- A table as a query string, its names in order. A list as a value makes its name come more than once.
---@param values table<string, string|number|boolean|table>
---@return string
function M.query(values)
  check("url.query", values, "table")
  local names, parts = {}, {}
  for name in pairs(values) do
    names[#names + 1] = tostring(name)
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = values[name]
    for _, item in ipairs(type(value) == "table" and value or { value }) do
      parts[#parts + 1] = M.encode(name) .. "=" .. M.encode(tostring(item))
    end
  end
  return table.concat(parts, "&")
end

--- A query string as a table; of a name that comes twice the last value counts.
---@param text string
---@return table<string, string>
function M.parse_query(text)
  check("url.parse_query", text, "string")
  local values = {}
  for pair in text:gmatch("[^&]+") do
    local name, value = pair:match("^([^=]*)=?(.*)$")
    values[M.decode(name, true)] = M.decode(value, true)
  end
  return values
end

local function parse_authority(parts, authority)
  local user, rest = authority:match("^(.*)@(.*)$")
  if user then
    parts.user, parts.password = user:match("^([^:]*):?(.*)$")
    parts.user = M.decode(parts.user)
    parts.password = parts.password ~= "" and M.decode(parts.password) or nil
  end
  rest = rest or authority
  local host, port = rest:match("^%[([%x:%.]+)%]:?(%d*)$")
  if not host then
    host, port = rest:match("^([%w%-%._~%%!$&'()*+,;=]*):?(%d*)$")
  end
  if not host or host == "" then
    return nil
  end
  parts.host = host:lower()
  parts.port = port ~= "" and tonumber(port) or nil
  return not parts.port or parts.port >= 1 and parts.port <= 65535
end

--- Takes an absolute URL apart. Answers `nil, err` for what is none.
---@param text string
---@return url.Parts?
---@return table? err
function M.parse(text)
  check("url.parse", text, "string")
  if text:find("[%c ]") then
    return no(("%q is no URL: it has blanks or control characters"):format(text))
  end
  local scheme, rest = text:match("^(%a[%w+%-.]*)://(.*)$")
  if not scheme then
    return no(("%q is no URL: expected one such as http://example.org/path"):format(text))
  end
  local parts = { scheme = scheme:lower() }
  local before, fragment = rest:match("^([^#]*)#(.*)$")
  rest, parts.fragment = before or rest, fragment
  before, parts.query = rest:match("^([^?]*)%?(.*)$")
  rest = before or rest
  local authority, path = rest:match("^([^/]*)(.*)$")
  parts.path = path
  if not parse_authority(parts, authority) then
    return no(("%q is no URL: it has no host, or a port that can't be one"):format(text))
  end
  return parts
end

--- The port that a URL's parts mean: its own, or its scheme's.
---@param parts url.Parts
---@return integer?
function M.port(parts)
  check("url.port", parts, "table")
  return parts.port or DEFAULT_PORTS[parts.scheme]
end

--- Puts parts together.
---@param parts url.Parts
---@return string
function M.format(parts)
  check("url.format", parts, "table")
  local host = parts.host:find(":", 1, true) and "[" .. parts.host .. "]" or parts.host
  local user = ""
  if parts.user then
    user = M.encode(parts.user) .. (parts.password and ":" .. M.encode(parts.password) or "") .. "@"
  end
  return parts.scheme .. "://" .. user .. host .. (parts.port and ":" .. parts.port or "") .. (parts.path or "")
    .. (parts.query and "?" .. parts.query or "") .. (parts.fragment and "#" .. parts.fragment or "")
end

--- A path without its `.` and `..` (RFC 3986, 5.2.4).
local function without_dots(path)
  local kept = {}
  for part in (path .. "/"):gmatch("([^/]*)/") do
    if part == ".." then
      if #kept > 1 then
        kept[#kept] = nil
      end
    elseif part ~= "." then
      kept[#kept + 1] = part
    end
  end
  if path:find("/%.%.?$") then
    kept[#kept + 1] = ""
  end
  local text = table.concat(kept, "/")
  return text:sub(1, 1) == "/" and text or "/" .. text
end

--- A reference as a page at `base` means it. Answers `nil, err` if one of them is no URL.
---@param base string
---@param reference string
---@return string?
---@return table? err
function M.join(base, reference)
  check("url.join: reference", reference, "string")
  if reference:find("^%a[%w+%-.]*://") then
    return reference
  end
  local parts, err = M.parse(base)
  if not parts then
    return nil, err
  elseif reference:sub(1, 2) == "//" then
    return parts.scheme .. ":" .. reference
  end
  local before, fragment = reference:match("^([^#]*)#(.*)$")
  parts.fragment = fragment
  reference = before or reference
  local path, query = reference:match("^([^?]*)%?(.*)$")
  path = path or reference
  if path ~= "" or query then
    parts.query = query
  end
  if path:sub(1, 1) == "/" then
    parts.path = without_dots(path)
  elseif path ~= "" then
    parts.path = without_dots((parts.path:match("^(.*/)") or "/") .. path)
  end
  return M.format(parts)
end

return M
