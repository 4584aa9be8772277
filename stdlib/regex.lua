--- Regular expressions whose time is linear in the text, whatever the pattern: safe for patterns and texts of
--- strangers.
--- The syntax is that of the crate regex (Perl's, without look-around and back references).
---
--- ```lua
--- local regex = require "socketley.regex"
--- local date = regex.new [[(?P<year>\d{4})-(\d\d)]]
--- local m = date:match "on 2024-05-17"
--- print(m[0], m[1], m.year)                             --> 2024-05  2024  2024
--- print((date:gsub("2024-05", "$2/$year")))             --> 05/2024
--- print(regex.new("\\s*,\\s*"):split("a, b ,c")[2])     --> b
--- ```

---@class regex.Match
---@field [integer] string|false 0: all of it; 1, 2, ...: the groups; false for one that took no part
---@field first integer where it begins
---@field last integer where it ends
---@field [string] string|false groups by name

local engine = require "socketley.regex.engine"

local M = {}

local Regex = {}
Regex.__index = Regex

local KEPT_MAX = 256
local kept, kept_count = {}, 0 -- compiled patterns by flags and pattern

--- Compiles a pattern; `flags`: any of `i` (case), `m` (`^` and `$` at lines), `s` (`.` matches newlines), `x`
--- (blanks and
--- comments don't count). A wrong pattern is an error; `try_new` answers `nil, err`.
---@param pattern string
---@param flags? string
---@return table
function M.new(pattern, flags)
  local made, err = M.try_new(pattern, flags)
  if not made then
    error(tostring(err), 2)
  end
  return made
end

--- As `new`, for patterns of strangers.
---@param pattern string
---@param flags? string
---@return table?
---@return table? err
function M.try_new(pattern, flags)
  if type(pattern) ~= "string" then
    error("regex.new: pattern: expected a string, got " .. type(pattern), 2)
  end
  local key = (flags or "") .. "/" .. pattern
  if kept[key] then
    return kept[key]
  end
  local compiled, err = engine.compile(pattern, flags)
  if not compiled then
    return nil, err
  end
  if kept_count >= KEPT_MAX then
    kept, kept_count = {}, 0
  end
  kept[key] = setmetatable({ compiled = compiled, names = compiled:names() }, Regex)
  kept_count = kept_count + 1
  return kept[key]
end

local function matched(self, text, first, last, ...)
  if not first then
    return nil
  end
  local match = { [0] = text:sub(first, last), first = first, last = last }
  local places = { ... }
  for group, name in ipairs(self.names) do
    local from, to = places[2 * group - 1], places[2 * group]
    match[group] = from and text:sub(from, to)
    if name ~= "" then
      match[name] = match[group]
    end
  end
  return match
end

--- Whether the pattern occurs in the text.
function Regex:test(text)
  return self.compiled:test(text)
end

--- Where it occurs first, from `init` on: its first and last byte; nil if it doesn't.
---@param text string
---@param init? integer (default: 1)
function Regex:find(text, init)
  local first, last = self.compiled:find(text, init)
  return first, last
end

--- The first match from `init` on.
---@param text string
---@param init? integer (default: 1)
---@return regex.Match?
function Regex:match(text, init)
  return matched(self, text, self.compiled:find(text, init))
end

--- All matches in order: `for match in pattern:gmatch(text) do`. One of nothing doesn't follow another at its end: of
--- `a*`, "baac" has the matches "", "aa" and "".
---@param text string
---@return fun(): regex.Match?
function Regex:gmatch(text)
  local at, ended = 1, nil
  return function()
    local match = at <= #text + 1 and self:match(text, at) or nil
    if match and match.last < match.first and match.first == ended then
      at = at + 1
      match = at <= #text + 1 and self:match(text, at) or nil
    end
    if not match then
      at = #text + 2
      return nil
    end
    ended = match.last + 1
    at = math.max(ended, match.first + (match.last < match.first and 1 or 0))
    return match
  end
end

local function filled(template, match)
  return (template:gsub("%$(%$?)({?)([%w_]*)(}?)", function(escaped, open, name, close)
    if escaped == "$" then
      return "$" .. open .. name .. close
    elseif name == "" then
      return "$" .. open .. close
    end
    local value = match[tonumber(name) or name]
    return (value or "") .. (open == "" and close or "")
  end))
end

--- Replaces matches: by a text in which `$1`, `${1}`, `$name` stand for groups and `$$` for a dollar, or by what a
--- function answers (nil or false: it stays), which may wait. Answers the text and how many were replaced.
---@param text string
---@param with string|fun(match: regex.Match): string|false|nil
---@param most? integer (default: all)
---@return string
---@return integer
function Regex:gsub(text, with, most)
  if type(with) ~= "string" and type(with) ~= "function" then
    error("regex:gsub: expected a string or a function, got " .. type(with), 2)
  end
  local parts, at, count = {}, 1, 0
  for match in self:gmatch(text) do
    if most and count >= most then
      break
    end
    count = count + 1
    local new
    if type(with) == "string" then
      new = filled(with, match)
    else
      new = with(match) or match[0]
    end
    parts[#parts + 1] = text:sub(at, match.first - 1)
    parts[#parts + 1] = tostring(new)
    at = match.last + 1
  end
  parts[#parts + 1] = text:sub(at)
  return table.concat(parts), count
end

--- The pieces between the matches.
---@param text string
---@return string[]
function Regex:split(text)
  local parts, at = {}, 1
  for match in self:gmatch(text) do
    if match.last >= match.first then
      parts[#parts + 1] = text:sub(at, match.first - 1)
      at = match.last + 1
    end
  end
  parts[#parts + 1] = text:sub(at)
  return parts
end

--- A text as a pattern that matches it alone.
---@param text string
---@return string
function M.escape(text)
  return (text:gsub("[%.%+%*%?%(%)|%[%]{}%^%$#&%-~\\/]", "\\%0"))
end

return M
