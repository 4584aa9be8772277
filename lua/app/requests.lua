--- What the control thread asks an app's VM to do: console lines, completions, and the app's own CLI commands. Each
--- is a
--- job: it may wait, it has the time budget, and it can be cancelled.

local sk, globals = ...
local native = sk.native

local jobs = {} -- by request

local function trusted_load(code, name, env)
  return load(code, name, "t", env)
end

--- A bundled file of the daemon's own, called with the arguments. It is trusted code for the kill switch: an
--- interrupted
--- line's error passes through it.
local function load_bundled(path, env, ...)
  return sk.compile((native.bundled_file(path)), "=[sk console]", env)(...)
end

--- A traceback that ends where the dispatcher begins.
local function script_traceback(message, level)
  local kept = {}
  for line in string.gmatch(debug.traceback(message, level + 1), "[^\n]+") do
    if string.find(line, "\t[sk ", 1, true) then
      break
    end
    kept[#kept + 1] = line
  end
  return table.concat(kept, "\n")
end

-- Completion looks into objects that scripts can't open, running nothing of theirs.
local console_env = setmetatable({ getmetatable = debug.getmetatable }, { __index = sk.env })
local console
local function the_console()
  if not console then
    local make = load_bundled("lua/console.lua", console_env, {
      getlocal = debug.getlocal,
      load = trusted_load,
      traceback = script_traceback,
      inspect = function(value, options) return sk.inspect(value, options) end,
      globals = globals,
    })
    console = make()
  end
  return console
end

local function start(request, event, fn, done)
  local job = { fn = fn, event = event, request = request }
  function job.done(_, ok, result)
    jobs[request] = nil
    if job.cancelled then
      native.evaluated(request, false, "cancelled")
    elseif ok then
      done(result)
    else
      local text = string.gsub(tostring(result), "%z.*", "")
      native.evaluated(request, false, text)
    end
  end
  jobs[request] = job
  sk.queue(job)
end

--- Evaluates a console's line.
function sk.evaluate(request, code)
  start(request, "the console", function()
    local reply, problem = the_console():evaluate(code)
    return { reply = reply, problem = problem }
  end, function(result)
    if result.reply then
      native.evaluated(request, true, result.reply)
    else
      native.evaluated(request, false, tostring(result.problem))
    end
  end)
end

--- The words that could stand at a line's end.
function sk.complete(request, line)
  start(request, "completion", function() return the_console():complete(line) end, function(words)
    native.words(request, words)
  end)
end

--- Runs a CLI command of the app.
function sk.run_command(request, name, arguments)
  local command = sk.commands[name]
  if not command then
    native.evaluated(request, false, 'this app has no command "' .. name .. '"')
    return
  end
  start(request, 'command "' .. name .. '"', function()
    local make = load_bundled("lua/out.lua", sk.env, function(frame) native.output(request, frame) end, native.null)
    local out = make()
    command.run(arguments, out)
    return out.code
  end, function(code)
    native.evaluated(request, true, { code = code })
  end)
end

--- Ends a job: one that waits is woken with an error that nobody reports.
function sk.cancel_request(request)
  local job = jobs[request]
  if not job then
    return
  end
  job.cancelled = true
  if not job.started then
    jobs[request] = nil
    native.evaluated(request, false, "cancelled")
  elseif job.task then
    sk.cancel_wait(job.task)
  end
end
