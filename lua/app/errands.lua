--- `dns` and `fs`: what would block the worker is done by a helper thread, and the handler waits for it.

local sk = ...
local native = sk.native

local dns, fs = {}, {}

--- Waits for an errand; answers what it brings, or `nil, err`.
local function run(name, kind, words, level)
  local task = sk.begin_wait(name, (level or 2) + 1)
  native.errand(task.wait, kind, words)
  return sk.suspend()
end

local function check(name, value, level)
  if type(value) ~= "string" or value == "" then
    error(name .. ": expected some text, got " .. sk.show(value), (level or 2) + 1)
  end
  return value
end

--- The addresses of a host's name, in the system's order of preference. Answers a list of strings, or `nil, err`.
function dns.resolve(name)
  check("dns.resolve", name)
  return run("dns.resolve", "resolve", { name })
end

local function on_path(name, kind)
  return function(path)
    if sk.restricted then
      error("fs." .. name .. ": the restricted profile opens no files", 2)
    end
    check("fs." .. name, path)
    return run("fs." .. name, kind, { path })
  end
end

--- A file's bytes.
fs.read = on_path("read", "read")
--- The names in a folder, sorted.
fs.list = on_path("list", "list")
--- What a path is: `type` ("file", "folder" or "other"), `size`, `modified_ms`.
fs.stat = on_path("stat", "stat")
--- Removes a file or an empty folder.
fs.remove = on_path("remove", "remove")
--- Makes a folder and those above it.
fs.mkdir = on_path("mkdir", "mkdir")

local function with_text(name, kind)
  return function(path, second)
    if sk.restricted then
      error("fs." .. name .. ": the restricted profile opens no files", 2)
    end
    check("fs." .. name, path)
    if type(second) ~= "string" then
      error("fs." .. name .. ": expected a path and a string, got " .. type(second), 2)
    end
    return run("fs." .. name, kind, { path, second })
  end
end

--- Makes a file of these bytes; another program sees the old file or the whole new one.
fs.write = with_text("write", "write")
--- Adds bytes to a file, which is made if it isn't there.
fs.append = with_text("append", "append")
--- Gives a file or folder another name.
fs.rename = with_text("rename", "rename")

--- Whether there is something at a path.
function fs.exists(path)
  local found, err = fs.stat(path)
  if not found and err.code ~= "not_found" then
    return nil, err
  end
  return found ~= nil
end

sk.dns, sk.fs = dns, fs
