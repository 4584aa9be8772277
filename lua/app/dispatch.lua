--- The dispatcher: runs the handlers of a batch of events, and lets any of them wait.
---
--- Every loop (one per runtime, and loop 0 for what belongs to the app) has an *owner*: the coroutine that runs the
--- loop. A handler that waits takes the owner with it, and the loop goes on in a pooled coroutine. So a handler that
--- doesn't wait costs no coroutine. States of such a coroutine:
---
---   POOLED ── drive ──> OWNER ── a handler waits ──> WAITING ── wake ──> FINISHING (rest of the handler, mailbox)
--- ──> POOLED
---
--- A connection whose handler waits is *parked*: the host sends no more of its messages, and those of this batch go
--- into
--- its mailbox. Trusted code calls a script's code only inside an `xpcall` section with `control.in_user` set, which is
--- the watchdog's clock and what allows the kill switch to raise.

local sk = ...
local control, events, kind = sk.control, sk.events, sk.kind
local create, resume, yield = coroutine.create, coroutine.resume, coroutine.yield
local running, isyieldable = coroutine.running, coroutine.isyieldable
local floor, traceback, xpcall = math.floor, debug.traceback, xpcall
local host, park, cancel_timer = sk.host, sk.leaf.park, sk.leaf.cancel_timer

local POOL_MAX = 64 -- idle coroutines that a loop keeps
local KINDS = sk.KINDS

local WAIT = {} -- what a waiting coroutine yields up to its dispatcher; private, so that no script can forge it
local CANCELLED = setmetatable({}, { __tostring = function() return "cancelled" end, __metatable = "cancelled" })
local CANCEL = {} -- what a wake carries to raise CANCELLED in the waiter

local loops = {} -- by index
local current -- the coroutine whose handler runs
local active -- the loop that `drive` has entered
local tasks = {} -- by coroutine: the record of one that waits, or has waited in its present handler
local waits = {} -- by number: the task that waits for it
local waiting = 0
local last_id = 0
local sequence = 0x40000000 -- `in_user` of what isn't at an event's own position
local ready, ready_first, ready_last = {}, 1, 0
local dispatchers = setmetatable({}, { __mode = "k" }) -- coroutines that no script may resume or yield from
local blocked = setmetatable({}, { __mode = "k" }) -- scripts' coroutines below a C function: a wait can't pass it

sk.WAIT, sk.CANCELLED, sk.loops = WAIT, CANCELLED, loops
sk.dispatchers, sk.blocked, sk.waits = dispatchers, blocked, waits
sk.now_ms, sk.unix_ms = 0, 0

function sk.next_id()
  last_id = last_id + 1
  return last_id
end

--- The text of an error and, behind a zero byte, its traceback. Runs inside the script's section.
local function handler_error(err)
  if err == CANCELLED then
    return err
  end
  if type(err) ~= "string" then
    local ok, text = pcall(tostring, err)
    if not ok or type(text) ~= "string" then
      text = "(an error value of type " .. type(err) .. ")"
    end
    err = text
  end
  local trace = traceback("", 2)
  return err .. "\0" .. trace
end
sk.handler_error = handler_error

local function describe(runtime, record, event)
  local text = event
  if runtime then
    text = text .. " of " .. runtime.kind .. ' "' .. runtime.name .. '"'
  end
  if record then
    text = text .. string.format(" (connection %.0f, %s)", record.id, record.ip or "?")
  end
  return text
end

--- Reports a failed handler. LuaJIT has no emergency collection, so after "not enough memory" collect before anything.
local function failed(runtime, record, event, err)
  if err == CANCELLED then
    return
  end
  if err == "not enough memory" then
    collectgarbage()
    collectgarbage()
    err = "not enough memory: the app's VM may have " .. sk.memory_mb .. " MB"
  end
  sk.native.report(runtime and runtime.id or -1, describe(runtime, record, event), err)
end
sk.failed = failed

--- Calls a script's function in a section of its own.
local function section(fn, ...)
  sequence = sequence + 1
  control.in_user = sequence
  return xpcall(fn, handler_error, ...)
end

--- Who runs now: the connection's record, the event's name, the runtime and the job.
local function present()
  local task = tasks[current]
  if task then
    return task.record, task.event, task.runtime, task.job
  end
  if active then
    return active.present()
  end
end

function sk.current_runtime()
  local _, _, runtime = present()
  return runtime
end

function sk.current_job()
  local _, _, _, job = present()
  return job
end

--- Calls a handler from a loop's body; `record` and `runtime` may be nil. Answers as `xpcall`, errors are reported.
local function call(record, event, runtime, job, fn, ...)
  local task = tasks[running()]
  if task then
    task.record, task.event, task.runtime, task.job, task.closed = record, event, runtime, job, false
  else
    active.set(record, event, runtime, job)
  end
  kind[0] = 0
  local ok, result = section(fn, ...)
  control.in_user = 0
  if not ok then
    failed(runtime, record, event, result)
  end
  return ok, result
end
sk.call = call

--- Calls `on_message` for what came while the connection's handler waited.
local function call_message(record, text, binary)
  local runtime = record.runtime
  local function handle(object)
    kind[0] = binary
    return runtime.on_message(object, text, binary == 1)
  end
  call(record, "on_message", runtime, nil, handle, record.object)
end

-- Waiting -------------------------------------------------------------------------------------------------------------

--- Prepares the running handler to wait; answers its task, whose `wait` number says what wakes it. All checks are here:
--- nothing may fail between this and `suspend`.
function sk.begin_wait(name, level)
  level = (level or 2) + 1
  local co = current
  if not co then
    error(name .. " can't wait while the file loads: use on_start, or spawn(function() ... end)", level)
  end
  local here = running()
  if not isyieldable() or blocked[here] then
    error(name .. " can't wait inside a callback of string.gsub, table.sort or another C function: "
      .. "collect the values first, then wait", level)
  end
  local task = tasks[co]
  if not task then
    local record, event, runtime, job = active.present()
    task = { co = co, loop = active, record = record, event = event, runtime = runtime, job = job }
    if active.detach then
      active.detach()
    end
    tasks[co] = task
    active.owner = nil
    if job then
      job.task = task
    end
  end
  if task.closed then
    error(CANCELLED, 0)
  end
  local record = task.record
  if record and not record.parked and not record.closed then
    record.parked = true
    record.task = task
    park(host, record.id, true)
  end
  last_id = last_id + 1
  waits[last_id] = task
  task.wait = last_id
  task.kind, task.quiet = kind[0], kind[1]
  waiting = waiting + 1
  return task
end

--- Whether the running code may wait.
function sk.can_wait()
  return current ~= nil and isyieldable() and not blocked[running()]
end

local function woken(first, ...)
  if first == CANCEL then
    error(CANCELLED, 0)
  end
  return first, ...
end

--- Waits until the task is woken; answers what the wake brings.
function sk.suspend()
  control.in_user = 0
  kind[1] = 0
  return woken(yield(WAIT))
end

--- Ends a wait that has a deadline: a wake of its timer brings `nil, problem`.
local function settle(number, problem, first, second, ...)
  if second ~= problem then
    cancel_timer(host, number)
  end
  return first, second, ...
end

--- The same, for at most `ms`; then it answers `nil, problem`.
function sk.suspend_for(task, ms, problem)
  local number = task.wait
  task.expired = problem
  sk.leaf.timer(host, number, ms)
  return settle(number, problem, sk.suspend())
end

--- A coroutine of ours died in trusted code (in practice: no memory). Whatever it held is let go.
local function died(co, err)
  local task = tasks[co]
  tasks[co] = nil
  if task then
    local record = task.record
    if record then
      record.box, record.task = nil, nil
      if record.parked then
        record.parked = false
        if not record.closed then
          park(host, record.id, false)
        end
      end
    end
    if task.wait then
      waits[task.wait] = nil
      task.wait = nil
      waiting = waiting - 1
    end
  end
  sk.lane_died(co)
  failed(task and task.runtime, nil, "the dispatcher", err)
end

--- Resumes a waiting task inside the coroutine of whoever calls (an owner at an event).
local function wake(task, ...)
  waits[task.wait] = nil
  task.wait, task.expired = nil, nil
  waiting = waiting - 1
  local previous = current
  current = task.co
  sequence = sequence + 1
  control.in_user = sequence
  local present_kind, present_quiet = kind[0], kind[1]
  kind[0], kind[1] = task.kind, task.quiet
  local ok, err = resume(task.co, ...)
  kind[0], kind[1] = present_kind, present_quiet
  current = previous
  control.in_user = 0
  if not ok then
    died(task.co, err)
  end
end
sk.wake = wake

--- Ends a wait with an error that no one reports.
function sk.cancel_wait(task)
  if task.wait then
    cancel_timer(host, task.wait)
    wake(task, CANCEL)
  end
end

--- The connection of a waiting handler has gone: the wait ends with `nil, closed`, the next one in that handler is
--- cancelled.
function sk.close_wait(task, err)
  if task.wait and not task.closed then
    task.closed = true
    cancel_timer(host, task.wait)
    wake(task, nil, err)
  end
end

--- A handler that has waited is over: serves its connection's mailbox in order, then becomes an idle coroutine.
function sk.finish(me)
  local task = tasks[me]
  local record = task.record
  local box = record and record.box
  while box do
    record.box = nil
    for index = 1, #box do
      local item = box[index]
      if item == true then
        sk.disconnected(record)
      elseif type(item) == "string" then
        call_message(record, item, 0)
      elseif item.is_binary then
        call_message(record, item.text, 1)
      elseif item.is_master then
        sk.master_asked(record, item.text)
      elseif item.is_upgrade then
        sk.upgraded(record, item.text)
      else
        sk.serve_later(record, item)
      end
    end
    box = record.box
  end
  if record then
    record.task = nil
    if record.parked then
      record.parked = false
      if not record.closed then
        park(host, record.id, false)
      end
    end
  end
  tasks[me] = nil
  local pool = task.loop.pool
  if #pool >= POOL_MAX then
    return false
  end
  pool[#pool + 1] = me
  yield()
  return true
end

-- Jobs: what runs without an event of its own -----------------------------------------------------------------------

--- Queues a job (`fn`, `event`, `runtime`, `done(job, ok, result)`, ...) for the end of this batch or the next one.
function sk.queue(job)
  ready_last = ready_last + 1
  ready[ready_last] = job
end

--- Runs a job in a loop's body.
function sk.run_job(job)
  if job.cancelled then
    return
  end
  job.started = true
  local ok, result = call(nil, job.event, job.runtime, job, job.fn, job.argument)
  job.task = nil
  if job.done then
    job.done(job, ok, result)
  end
end

-- The entry ---------------------------------------------------------------------------------------------------------

local at, count = 0, 0

local function enter(loop)
  loop.enter(at, count)
  local pool = loop.pool
  local co = loop.owner
  if not co then
    co = pool[#pool]
    if co then
      pool[#pool] = nil
    else
      co = create(loop.body)
      dispatchers[co] = true
    end
    loop.owner = co
  end
  current, active = co, loop
  local ok, err = resume(co)
  current, active = nil, nil
  control.in_user = 0
  at = loop.position()
  if not ok then
    if loop.owner == co then
      loop.owner = nil
    end
    loop.job = nil
    died(co, err)
  end
end

--- One batch: `total` events (or -1: go on where a failure cut the batch), the time. Answers how many tasks wait and
--- how many are ready to go on in the next batch.
function sk.drive(total, now_ms, unix_ms)
  if total >= 0 then
    at, count = 0, total
    sequence = 0x40000000
    sk.now_ms, sk.unix_ms = now_ms, unix_ms
  end
  while at < count do
    enter(loops[floor(events[at].code / KINDS)])
  end
  local last = ready_last -- what these start waits for the next batch
  while ready_first <= last do
    local job = ready[ready_first]
    ready[ready_first] = nil
    ready_first = ready_first + 1
    local loop = loops[0]
    loop.job = job
    enter(loop)
  end
  if ready_first > ready_last then
    ready_first, ready_last = 1, 0
  end
  return waiting, ready_last - ready_first + 1
end

--- After a batch that failed outside every handler: the event is skipped.
function sk.skip()
  current, active = nil, nil
  control.in_user = 0
  at = math.min(at + 1, count)
end

--- Counts for the host outside a batch.
function sk.load_figures()
  return waiting, ready_last - ready_first + 1
end

--- Forgets jobs that haven't started.
function sk.drop_ready()
  ready, ready_first, ready_last = {}, 1, 0
end
