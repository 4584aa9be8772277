--- The body of one loop. Loaded once per runtime, each time as a new prototype: a handler that the JIT can't compile
--- spoils the traces of its own loop only.
---
--- The hot path is a message: few FFI reads, no global, no closure. Everything else goes through `other`.

local sk, loop = ...
local events, control, records, kind = sk.events, sk.control, sk.records, sk.kind
local on_message, runtime = loop.on_message, loop.runtime
local handler_error, failed, finish, other = sk.handler_error, sk.failed, sk.finish, sk.other
local placeholder, run_job, new_request, answer = sk.placeholder, sk.run_job, sk.new_request, sk.answer
local running, yield, xpcall, str = coroutine.running, coroutine.yield, xpcall, ffi.string
local KINDS = sk.KINDS
local REQUEST = sk.REQUEST
local base = loop.index * KINDS -- the code of a message here, as `sk.MESSAGE` is 0

local at, count = 0, 0
local current_record, current_event, current_runtime, current_job = nil, nil, runtime, nil

function loop.enter(first, total)
  at, count = first, total
end

function loop.position()
  return at
end

function loop.present()
  return current_record, current_event or "on_message", current_runtime, current_job
end

function loop.set(record, event, of, job)
  current_record, current_event, current_runtime, current_job = record, event, of, job
end

local function message(me, event)
  local record = records[event.slot] or placeholder(loop, event)
  if record.parked then
    local box = record.box
    if not box then
      box = {}
      record.box = box
    end
    local text = str(event.bytes, event.len)
    box[#box + 1] = event.arg == 1 and { is_binary = true, text = text } or text
    return
  end
  current_record = record
  control.in_user = at
  local binary = event.arg
  kind[0] = binary
  local ok, err = xpcall(on_message, handler_error, record.object, str(event.bytes, event.len), binary == 1)
  control.in_user = 0
  if not ok then
    failed(runtime, record, "on_message", err)
  end
  -- Another coroutine owns the loop if the handler has waited; `event` is no longer ours to read then.
  return loop.owner ~= me
end

local function request(me, event)
  local req, record = new_request(runtime, event)
  if record.parked then
    local box = record.box
    if not box then
      box = {}
      record.box = box
    end
    box[#box + 1] = req
    return
  end
  current_record, current_event = record, "on_http_request"
  control.in_user = at
  local ok, value = xpcall(req[5], handler_error, req, req[6])
  control.in_user = 0
  answer(req, ok, value)
  if loop.owner ~= me then
    return true
  end
  current_record, current_event = nil, nil
end

function loop.body()
  local me = running()
  while true do
    while at < count do
      local event = events[at]
      local code = event.code
      local waited
      if code == base then
        at = at + 1
        waited = message(me, event)
      elseif code == base + REQUEST then
        at = at + 1
        waited = request(me, event)
      elseif code > base and code < base + KINDS then
        at = at + 1
        other(loop, code - base, event)
        waited = loop.owner ~= me
        if not waited then
          current_record, current_event, current_runtime, current_job = nil, nil, runtime, nil
        end
      else
        break -- another loop's
      end
      if waited and not finish(me) then
        return
      end
    end
    local job = loop.job
    if job then
      loop.job = nil
      run_job(job)
      if loop.owner ~= me then
        if not finish(me) then
          return
        end
      else
        current_record, current_event, current_runtime, current_job = nil, nil, runtime, nil
        yield()
      end
    else
      yield()
    end
  end
end
