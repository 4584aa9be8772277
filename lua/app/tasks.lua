--- Time and tasks: `sleep`, `after`, `every`, `spawn`, the original's timers, ticks, and questions to the daemon.
---
--- While a file loads nothing starts: timers and questions are kept and start at the commit.

local sk = ...
local host, leaf = sk.host, sk.leaf
local next_id, current_runtime = sk.next_id, sk.current_runtime

local TICK_MS, TICK_MS_MIN = 100, 10 -- the original's
local DELAY_MS_MAX = 2 ^ 40

local TIMERS_MAX, TASKS_MAX = 65536, 65536 -- of one VM: a script that makes more has lost count

local timers = {} -- by id
local timer_count, task_count = 0, 0
local deferred = {} -- what the load asked for, as functions
local committed, retired = false, false

local UNITS = { ms = 1, s = 1000, m = 60000, h = 3600000, d = 86400000 }

--- Milliseconds of a duration: a number of seconds, or text such as "500ms", "30s", "5m", "1h", "1d".
local function milliseconds(name, value, level)
  local ms
  if type(value) == "number" then
    ms = value * 1000
  elseif type(value) == "string" then
    local amount, unit = string.match(value, "^%s*([%d%.]+)%s*(%a+)%s*$")
    ms = amount and UNITS[unit] and tonumber(amount) and tonumber(amount) * UNITS[unit]
  end
  if not ms or ms ~= ms or ms < 0 or ms > DELAY_MS_MAX then
    local got = type(value) == "table" and "table" or sk.show(value)
    error(name .. ': expected seconds or a duration such as "500ms" or "30s", got ' .. got, (level or 2) + 1)
  end
  return math.ceil(ms)
end

sk.milliseconds = milliseconds

local function expect_function(name, value, level)
  if type(value) ~= "function" then
    error(name .. ": expected a function, got " .. type(value), (level or 2) + 1)
  end
end

local function when_committed(fn)
  if committed then
    fn()
  else
    deferred[#deferred + 1] = fn
  end
end
sk.when_committed = when_committed

-- Timers ------------------------------------------------------------------------------------------------------------

local Timer = {}
local timer_metatable = { __index = Timer, __metatable = "timer" }
local timer_of = setmetatable({}, { __mode = "k" })

--- Ends the timer; a run that has begun goes on.
function Timer.cancel(object)
  local id = timer_of[object]
  if not id then
    error("timer:cancel: expected a timer before the colon, got " .. type(object), 2)
  end
  if timers[id] then
    timers[id] = nil
    timer_count = timer_count - 1
    leaf.cancel_timer(host, id)
  end
end

local function arm(timer)
  if timers[timer.id] ~= timer then
    return -- cancelled before the commit
  end
  timer.due = sk.now_ms + timer.delay_ms
  leaf.timer(host, timer.id, timer.delay_ms)
end

local function start_timer(name, delay_ms, interval_ms, fn, argument)
  if timer_count >= TIMERS_MAX then
    error(string.format("%s: the app has %d timers already; cancel some", name, TIMERS_MAX), 3)
  end
  local timer = {
    id = next_id(), delay_ms = delay_ms, interval_ms = interval_ms,
    fn = fn, argument = argument, event = name, runtime = current_runtime() or sk.owner,
  }
  if not retired then
    timers[timer.id] = timer
    timer_count = timer_count + 1
    when_committed(function() arm(timer) end)
  end
  return timer.id
end

local function timer_object(id)
  local object = setmetatable({}, timer_metatable)
  timer_of[object] = id
  return object
end

--- A timer's time has come; in a body of loop 0. An interval keeps its rhythm, and skips a turn whose last one still
--- runs.
function sk.timer_fired(id)
  local timer = timers[id]
  if not timer then
    return
  end
  if timer.interval_ms then
    timer.due = math.max(timer.due + timer.interval_ms, sk.now_ms)
    leaf.timer(host, id, timer.due - sk.now_ms)
  else
    timers[id] = nil
    timer_count = timer_count - 1
  end
  if not timer.running then
    timer.running = true
    sk.call(nil, timer.event, timer.runtime, nil, timer.fn, timer.argument)
    timer.running = false
  end
end

--- A duration in milliseconds; nil for what is none.
function sk.duration_ms(duration)
  local ok, ms = pcall(milliseconds, "duration", duration)
  return ok and ms or nil
end

--- Calls `fn` once, after a duration. Answers a timer with `:cancel()`.
function sk.after(duration, fn)
  local ms = milliseconds("after", duration)
  expect_function("after", fn)
  return timer_object(start_timer("after", ms, nil, fn))
end

--- Calls `fn` again and again. Answers a timer with `:cancel()`.
function sk.every(duration, fn)
  local ms = math.max(milliseconds("every", duration), 1)
  expect_function("every", fn)
  return timer_object(start_timer("every", ms, ms, fn))
end

local function original_timer(name, repeats)
  return function(ms, fn)
    if type(ms) == "function" then
      ms, fn = fn, ms
    end
    if type(ms) ~= "number" or ms ~= ms or ms < 0 or ms > DELAY_MS_MAX then
      error(name .. ": expected milliseconds, got " .. sk.show(ms), 2)
    end
    expect_function(name, fn)
    ms = math.ceil(repeats and math.max(ms, 1) or ms)
    return start_timer(name, ms, repeats and ms or nil, fn)
  end
end

--- The original's timers: milliseconds, and numbers to clear them by.
sk.set_timeout = original_timer("set_timeout", false)
sk.set_interval = original_timer("set_interval", true)

function sk.clear_timer(id)
  if type(id) == "number" and timers[id] then
    timers[id] = nil
    leaf.cancel_timer(host, id)
    return true
  end
  return false
end

--- `on_tick` runs from a runtime's start to its stop.
function sk.start_tick(runtime)
  local handler = runtime.handlers.on_tick
  if not handler or runtime.tick then
    return
  end
  local ms = runtime.tick_ms()
  ms = math.max(type(ms) == "number" and math.floor(ms) or TICK_MS, TICK_MS_MIN)
  local last = sk.now_ms
  local id = start_timer("on_tick", ms, ms, function()
    local now = sk.now_ms
    local passed = now - last
    last = now
    return handler(runtime.object, passed)
  end)
  if timers[id] then
    timers[id].runtime = runtime
    runtime.tick = id
  end
end

function sk.stop_tick(runtime)
  if runtime.tick then
    sk.clear_timer(runtime.tick)
    runtime.tick = nil
  end
end

-- Waiting -----------------------------------------------------------------------------------------------------------

--- Waits. Answers true, or `nil, err` if the handler's connection is closed meanwhile.
function sk.sleep(duration)
  local ms = milliseconds("sleep", duration)
  local task = sk.begin_wait("sleep")
  leaf.timer(host, task.wait, ms)
  return sk.suspend()
end

--- Asks the control thread and waits for its answer: the value, or `nil, err`. While the file loads the question is
--- only
--- kept, and the answer is true.
function sk.ask(verb, arguments, level)
  level = (level or 2) + 1
  local prepared, problem = sk.native.prepare(arguments)
  if not prepared then
    error("socketley." .. verb .. ": " .. problem, level)
  end
  if not committed then
    when_committed(function()
      sk.native.prepare(arguments)
      sk.native.daemon(next_id(), verb)
    end)
    return true
  end
  local task = sk.begin_wait("socketley." .. verb, level)
  sk.native.daemon(task.wait, verb)
  return sk.suspend()
end

-- Tasks -------------------------------------------------------------------------------------------------------------

local Task = {}
local task_metatable = { __index = Task, __metatable = "task" }
local job_of = setmetatable({}, { __mode = "k" })

local function wake_joiners(job)
  local joiners = job.joiners
  job.joiners = nil
  for _, joiner in ipairs(joiners or {}) do
    if joiner.wait then
      sk.queue { fn = function() end, event = "join", done = function()
        if joiner.wait and joiner.joins == job then
          joiner.joins = nil
          sk.wake(joiner, job.result, job.problem)
        end
      end }
    end
  end
end

--- What a failed job's waiter gets beside nil.
local function problem_of(result)
  return result == sk.CANCELLED and sk.no("cancelled", "the task was cancelled")
    or sk.no("failed", (string.gsub(tostring(result), "%z.*", "")))
end
sk.problem_of = problem_of

local function job_done(job, ok, result)
  job.ended = true
  task_count = task_count - 1
  if ok then
    job.result = result
  else
    job.problem = problem_of(result)
  end
  wake_joiners(job)
end

local function job_from(object, name)
  local job = job_of[object]
  if not job then
    error("task:" .. name .. ": expected a task before the colon, got " .. type(object), 3)
  end
  return job
end

--- Ends a job: one that waits gets an error that nobody reports, one that hasn't begun never runs.
function sk.cancel_job(job)
  if job.ended then
    return
  elseif not job.started then
    job.cancelled, job.ended = true, true
  elseif job.task then
    sk.queue { fn = function() end, event = "cancel", done = function()
      if job.task then
        sk.cancel_wait(job.task)
      end
    end }
  end
end

--- Runs `fn` beside the others, from the end of this batch on. Answers a task with `:join()` and `:cancel()`.
function sk.spawn(fn, ...)
  expect_function("spawn", fn)
  if task_count >= TASKS_MAX then
    error(string.format("spawn: %d tasks of the app run or wait already", TASKS_MAX), 2)
  end
  task_count = task_count + 1
  local count, arguments = select("#", ...), { ... }
  local body = count == 0 and fn or function() return fn(unpack(arguments, 1, count)) end
  local job = { fn = body, event = "spawn", runtime = current_runtime() or sk.owner, done = job_done }
  sk.queue(job)
  local object = setmetatable({}, task_metatable)
  job_of[object] = job
  return object
end

--- Waits for the task's end; answers its first result, or `nil, err` if it failed or was cancelled.
function Task.join(object)
  local job = job_from(object, "join")
  if not job.ended then
    local waiter = sk.begin_wait("task:join")
    waiter.joins = job
    job.joiners = job.joiners or {}
    table.insert(job.joiners, waiter)
    return sk.suspend()
  end
  return job.result, job.problem
end

--- Ends the task: one that waits gets an error that nobody reports, one that hasn't begun never runs.
function Task.cancel(object)
  local job = job_from(object, "cancel")
  if job.ended then
    return
  end
  local was_started = job.started
  sk.cancel_job(job)
  if not was_started then
    job_done(job, false, sk.CANCELLED)
  end
end

-- The life of the generation ----------------------------------------------------------------------------------------

--- The generation is the running one: what the load asked for starts.
function sk.start_deferred()
  committed = true
  local list = deferred
  deferred = {}
  for index = 1, #list do
    list[index]()
  end
end

--- Another generation has taken over.
function sk.retire()
  retired = true
  for id in pairs(timers) do
    leaf.cancel_timer(host, id)
  end
  timers, timer_count = {}, 0
  sk.drop_ready()
end
