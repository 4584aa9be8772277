--- Evaluates an app's file, and what the host needs to know of it afterwards.

local sk, globals = ...
local control = sk.control

--- Runs the main file in a section of its own. Answers nothing, or the error with its traceback.
function sk.load_main(text, chunk_name)
  sk.main_chunk = chunk_name
  local chunk, problem = load(text, chunk_name, "t", globals)
  if not chunk then
    return problem
  end
  control.in_user = 1
  local ok, err = xpcall(chunk, sk.handler_error)
  control.in_user = 0
  if not ok then
    return err
  end
  local stray = sk.collect_globals(globals)
  for _, name in ipairs(stray) do
    sk.native.log(2, -1, name .. " is a global function here, which is for scripts that a runtime names (--lua): "
      .. "put it into a definition, as " .. name .. " = function(...) end")
  end
end

--- The definitions as rows: kind, name, chunk, line, fields, the handlers' names.
function sk.definition_rows()
  local rows = {}
  for index, runtime in ipairs(sk.definitions) do
    local names = {}
    for name in pairs(runtime.handlers) do
      names[#names + 1] = name
    end
    table.sort(names)
    local fields = {}
    for key, value in next, runtime.fields do
      if type(value) ~= "function" and key ~= "state" then
        fields[key] = value
      end
    end
    rows[index] = { kind = runtime.kind, name = runtime.name, source = runtime.source, line = runtime.line,
      fields = fields, handlers = names }
  end
  return rows
end

--- The commands' specs.
function sk.command_specs()
  local rows = {}
  for index, command in ipairs(sk.commands) do
    rows[index] = command.spec
  end
  return rows
end

--- A new copy of the loop's body for a runtime.
function sk.load_loop(loop)
  load(sk.loop_text, "=[sk loop]", "t", sk.env)(sk, loop)
end
sk.load_loop(sk.loops[0])
