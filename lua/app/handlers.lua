--- What each event does, but for messages, whose path is in `loop.lua`.

local sk = ...
local call, call_event = sk.call, {}
local host, leaf = sk.host, sk.leaf
sk.on_event = call_event
local records, str = sk.records, ffi.string

local DEFAULT, INDEX, NAME, REFUSED, CHANGES = 0, 1, 2, 3, 4

--- Runs `on_disconnect` of a connection that is gone; from a loop's body.
local function disconnected(record)
  local runtime = record.runtime
  local handler = runtime and not record.is_http and runtime.handlers.on_disconnect
  if handler then
    call(record, "on_disconnect", runtime, nil, handler, record.object, record.close_code, record.close_reason)
  end
  sk.forget(record)
end
sk.disconnected = disconnected

--- Runs `on_websocket`; from a loop's body. A handler that answers false turns the client away.
local function upgraded(record, request)
  record.request = request
  local runtime = record.runtime
  local handler = runtime.handlers.on_websocket
  if handler then
    local parsed = sk.request_of(record)
    local ok, answer = call(record, "on_websocket", runtime, nil, handler, record.object, parsed.headers, parsed)
    if (not ok or answer == false) and not record.closed then
      local reason = "refused"
      leaf.close(host, record.id, 1008, reason, #reason)
    end
  end
end
sk.upgraded = upgraded

call_event[sk.WEBSOCKET] = function(_, event)
  local record = records[event.slot]
  if not record or record.id ~= event.id then
    return
  end
  local request = str(event.bytes, event.len)
  if record.parked then
    local box = record.box or {}
    record.box = box
    box[#box + 1] = { is_upgrade = true, text = request }
  else
    upgraded(record, request)
  end
end

--- Runs `on_master_auth`; from a loop's body. Only true makes the client the master.
local function master_asked(record, password)
  local runtime = record.runtime
  local handler = runtime.handlers.on_master_auth
  local ok, answer = true, false
  if handler then
    ok, answer = call(record, "on_master_auth", runtime, nil, handler, record.object, password)
  end
  if not record.closed then
    leaf.master(host, record.id, ok and answer == true)
  end
end
sk.master_asked = master_asked

call_event[sk.MASTER] = function(_, event)
  local record = records[event.slot]
  if not record or record.id ~= event.id then
    return
  end
  local password = str(event.bytes, event.len)
  if record.parked then
    local box = record.box or {}
    record.box = box
    box[#box + 1] = { is_master = true, text = password }
  else
    master_asked(record, password)
  end
end

call_event[sk.OPEN] = function(loop, event)
  local runtime = loop.runtime
  local record = sk.join(runtime, event)
  local handler = runtime.handlers.on_connect
  if handler then
    call(record, "on_connect", runtime, nil, handler, record.object)
  end
end

call_event[sk.ADOPT] = function(loop, event)
  sk.join(loop.runtime, event)
end

call_event[sk.CLOSE] = function(_, event)
  local record = records[event.slot]
  if not record or record.id ~= event.id then
    return
  end
  if event.arg ~= 0 then
    record.close_code, record.close_reason = event.arg, str(event.bytes, event.len)
  end
  sk.leave(record)
  if record.parked then
    local box = record.box
    if not box then
      box = {}
      record.box = box
    end
    box[#box + 1] = true
    if record.task then
      sk.close_wait(record.task, sk.closed)
    end
  else
    disconnected(record)
  end
end

--- What `on_route` answered, as the host wants it: kind, index, name. Nothing for what isn't an answer.
local function route_of(answer)
  local kind = type(answer)
  if answer == nil then
    return DEFAULT, 0, ""
  elseif kind == "number" and answer >= 0 and answer < 2 ^ 31 and answer % 1 == 0 then
    return INDEX, answer, ""
  elseif kind == "string" then
    return NAME, 0, answer
  elseif kind == "table" then
    local upstream = rawget(answer, "upstream")
    if upstream ~= nil and type(upstream) ~= "table" then
      return route_of(upstream)
    end
    local runtime = sk.runtime_of[answer] or (upstream and sk.runtime_of[upstream])
    if runtime then
      return NAME, 0, runtime.name
    end
  end
end

call_event[sk.ROUTE] = function(loop, event)
  local runtime = loop.runtime
  local ip, local_ip, local_port = string.match(str(event.bytes, event.len), "^(%S+) (%S+) (%S+)$")
  local record = sk.join(runtime, event, ip)
  local request = {
    id = record.id, ip = ip, port = record.port, local_ip = local_ip, local_port = tonumber(local_port),
  }
  local handler = runtime.handlers.on_route
  local ok, answer = true, nil
  if handler then
    ok, answer = call(record, "on_route", runtime, nil, handler, request)
  end
  local kind, index, name = REFUSED, 0, ""
  if ok then
    kind, index, name = route_of(answer)
    if not kind then
      kind, index, name = REFUSED, 0, ""
      sk.failed(runtime, record, "on_route",
        "on_route: expected a backend's index, a name or nil, got " .. type(answer) .. " " .. sk.show(answer))
    end
  end
  if not record.closed then
    leaf.route(host, record.id, kind, index, name, #name)
  end
end

--- What `on_route` answered about a request, carried out; or what is wrong with it.
local function route_request(record, req, answer)
  local kind = type(answer)
  if kind == "table" and not sk.runtime_of[answer] then
    local upstream = rawget(answer, "upstream")
    local is_answer = rawget(answer, "status") or rawget(answer, "body") or rawget(answer, "redirect")
      or rawget(answer, "json") or rawget(answer, "html")
    if is_answer and upstream == nil then
      return sk.answer_proxied(req, answer)
    end
    local changes, problem = sk.route_changes(answer)
    if not changes then
      return problem
    end
    if type(upstream) == "table" and not sk.runtime_of[upstream] then
      return "upstream: expected a backend's index, a name or address, got a table"
    end
    leaf.route(host, record.id, CHANGES, 0, changes, #changes)
    answer = upstream
  end
  local route, index, name = route_of(answer)
  if not route then
    return "expected a backend's index, a name, a table or nil, got " .. kind .. " " .. sk.show(answer)
  end
  leaf.route(host, record.id, route, index, name, #name)
end

call_event[sk.ROUTE_REQUEST] = function(loop, event)
  local runtime = loop.runtime
  local record = records[event.slot]
  if not record or record.id ~= event.id then
    return
  end
  local req = sk.proxied_request(record, event)
  local handler = runtime.handlers.on_route
  local ok, answer = true, nil
  if handler then
    ok, answer = call(record, "on_route", runtime, nil, handler, req)
  end
  if record.closed then
    return
  end
  local problem = ok and route_request(record, req, answer)
  if problem then
    sk.failed(runtime, record, "on_route", "on_route: " .. problem)
  end
  if problem or not ok then
    leaf.route(host, record.id, REFUSED, 0, "", 0)
  end
end

call_event[sk.START] = function(loop)
  local runtime = loop.runtime
  runtime.state = "running"
  sk.start_tick(runtime)
  local handler = runtime.handlers.on_start
  if handler then
    call(nil, "on_start", runtime, nil, handler, runtime.object)
  end
end

call_event[sk.STOP] = function(loop)
  local runtime = loop.runtime
  sk.stop_tick(runtime)
  local handler = runtime.handlers.on_stop
  if handler then
    call(nil, "on_stop", runtime, nil, handler, runtime.object)
  end
  runtime.state = "stopped"
  leaf.stop_ended(host, runtime.id)
end

call_event[sk.TIMER] = function(_, event)
  local id = event.id
  local task = sk.waits[id]
  if task and task.expired then
    sk.wake(task, nil, task.expired)
  elseif task then
    sk.wake(task, true)
  else
    sk.timer_fired(id)
  end
end

call_event[sk.ANSWER] = function(_, event)
  local id = event.id
  local ok, value = sk.native.take_answer(id)
  local task = sk.waits[id]
  if not task then
    return
  elseif ok then
    sk.wake(task, value)
  else
    sk.wake(task, nil, value)
  end
end

--- A connection that speaks HTTP: its requests are events, itself is none.
call_event[sk.VISIT] = function(loop, event)
  local ip = str(event.bytes, event.len)
  records[event.slot] = { id = event.id, slot = event.slot, runtime = loop.runtime, is_http = true, ip = ip,
    port = event.arg }
end

--- A piece of a body for the handler that waits for it.
call_event[sk.BODY] = function(_, event)
  local task, arg = sk.waits[event.id], event.arg
  if not task then
    return
  elseif arg == 0 then
    sk.wake(task, str(event.bytes, event.len))
  elseif arg == 1 then
    sk.wake(task, nil)
  else
    sk.wake(task, nil, sk.no("broken", "the body can't be read on"))
  end
end

--- News of a socket or an errand, for the task that waits for it: it goes on, it failed, or there is an outcome.
call_event[sk.SOCKET] = function(_, event)
  local task, arg = sk.waits[event.id], event.arg
  if arg == 2 then
    local value, code, text = sk.native.take_outcome(event.id)
    if task then
      sk.wake(task, value, code and sk.no(code, text))
    end
  elseif task and arg == 0 then
    sk.wake(task, true)
  elseif task then
    local code, text = string.match(str(event.bytes, event.len), "^(%Z*)%z(.*)$")
    sk.wake(task, nil, sk.no(code, text))
  end
end

call_event[sk.EVALUATE] = function(_, event)
  sk.evaluate(event.id, str(event.bytes, event.len))
end

call_event[sk.COMPLETE] = function(_, event)
  sk.complete(event.id, str(event.bytes, event.len))
end

call_event[sk.CANCEL] = function(_, event)
  sk.cancel_request(event.id)
end

call_event[sk.COMMAND] = function(_, event)
  sk.run_command(event.id, str(event.bytes, event.len), sk.native.take_arguments(event.id))
end

--- Any event but a message; from a loop's body.
function sk.other(loop, kind, event)
  call_event[kind](loop, event)
end
