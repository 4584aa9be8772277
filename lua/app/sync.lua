--- Tasks that wait for each other: `all`, `race`, `timeout`, `channel`, `semaphore`, `lock`.
---
--- Whoever waits holds a ticket. Nobody is woken from inside another's handler: a job at the end of the batch
--- looks what
--- can go on, so that a ticket whose owner was cancelled meanwhile loses nothing for the others.

local sk = ...

local WAITERS_MAX = 65536

local function alive(ticket)
  return ticket.task.wait == ticket.wait
end

--- Waits with a ticket in `list`; answers what it is woken with, or `nil, err`. The ticket is gone afterwards.
local function wait_in(list, name, duration, ticket)
  local ms = duration ~= nil and sk.milliseconds(name, duration, 3) or nil
  if #list >= WAITERS_MAX then
    error(name .. ": " .. WAITERS_MAX .. " tasks wait already", 3)
  end
  local task = sk.begin_wait(name, 3)
  ticket.task, ticket.wait = task, task.wait
  list[#list + 1] = ticket
  local ran, value, err
  if ms then
    ran, value, err = pcall(sk.suspend_for, task, ms, sk.no("timeout", name .. " took too long"))
  else
    ran, value, err = pcall(sk.suspend)
  end
  if not ticket.served then
    for index = 1, #list do
      if list[index] == ticket then
        table.remove(list, index)
        break
      end
    end
  end
  if not ran then
    error(value, 0)
  end
  return value, err
end

--- The first ticket whose owner still waits, taken out of the list.
local function take_alive(list)
  while list[1] do
    local ticket = table.remove(list, 1)
    ticket.served = true
    if alive(ticket) then
      return ticket
    end
  end
end

--- Has `step` run at the end of the batch, once.
local function soon(object, event, step)
  if not object.due then
    object.due = true
    sk.queue { fn = function() end, event = event, done = function()
      object.due = false
      step(object)
    end }
  end
end

-- Channels ------------------------------------------------------------------------------------------------------------

local Channel = {}
local channel_of = setmetatable({}, { __mode = "k" })
local channel_metatable = { __index = Channel, __metatable = "channel" }

local function channel_from(object, name)
  local channel = channel_of[object]
  if not channel then
    error("channel:" .. name .. ": expected a channel before the colon, got " .. type(object), 3)
  end
  return channel
end

--- Hands values to who waits for them, and lets those go on who waited for room.
local function pump_channel(channel)
  local items, taken = channel.items, channel.taken
  channel.taken = {}
  for index = 1, #taken do
    if alive(taken[index]) then
      sk.wake(taken[index].task, true)
    end
  end
  while items[1] do
    local receiver = take_alive(channel.receivers)
    if not receiver then
      break
    end
    local item = table.remove(items, 1)
    sk.wake(receiver.task, item.value)
    if item.ticket and alive(item.ticket) then
      sk.wake(item.ticket.task, true)
    end
  end
  for index = 1, math.min(#items, channel.capacity) do
    local ticket = items[index].ticket
    items[index].ticket = nil
    if ticket and alive(ticket) then
      sk.wake(ticket.task, true)
    end
  end
  if channel.closed then
    local closed = sk.no("closed", "the channel is closed")
    local receiver = not items[1] and take_alive(channel.receivers)
    while receiver do
      sk.wake(receiver.task, nil, closed)
      receiver = take_alive(channel.receivers)
    end
  end
end

--- A queue between tasks that holds `capacity` values (0: a sender waits until its value is taken).
local function make_channel(capacity)
  capacity = capacity or 0
  if type(capacity) ~= "number" or capacity < 0 or capacity % 1 ~= 0 or capacity > WAITERS_MAX then
    error("channel: expected a capacity from 0 to " .. WAITERS_MAX .. ", got " .. sk.show(capacity), 2)
  end
  local object = setmetatable({}, channel_metatable)
  channel_of[object] = { capacity = capacity, items = {}, taken = {}, receivers = {},
    senders = {} }
  return object
end

--- Sends a value that isn't nil; waits for room. Answers true, or `nil, err` ("closed", "timeout").
function Channel.send(object, value, timeout)
  local channel = channel_from(object, "send")
  if value == nil then
    error("channel:send: a channel can't carry nil", 2)
  elseif channel.closed then
    return nil, sk.no("closed", "the channel is closed")
  end
  local item = { value = value }
  local items = channel.items
  items[#items + 1] = item
  soon(channel, "channel", pump_channel)
  if #items <= channel.capacity then
    return true
  end
  item.ticket = {}
  local ran, ok, err = pcall(wait_in, channel.senders, "channel:send", timeout, item.ticket)
  if not ran or not ok then
    for index = 1, #items do
      if items[index] == item then
        table.remove(items, index)
        break
      end
    end
  end
  if not ran then
    error(ok, 0)
  end
  return ok, err
end

--- The next value; waits for one. Answers `nil, err` ("closed", "timeout").
function Channel.receive(object, timeout)
  local channel = channel_from(object, "receive")
  local items = channel.items
  if items[1] and not channel.receivers[1] then
    local item = table.remove(items, 1)
    if item.ticket then
      channel.taken[#channel.taken + 1] = item.ticket
    end
    if item.ticket or items[channel.capacity] then
      soon(channel, "channel", pump_channel)
    end
    return item.value
  elseif channel.closed then
    return nil, sk.no("closed", "the channel is closed")
  end
  soon(channel, "channel", pump_channel)
  return wait_in(channel.receivers, "channel:receive", timeout, {})
end

--- No more values are taken; those that wait are still received.
function Channel.close(object)
  local channel = channel_from(object, "close")
  channel.closed = true
  soon(channel, "channel", pump_channel)
end

--- The values, until the channel is closed and empty: `for value in channel:values() do`.
function Channel.values(object)
  channel_from(object, "values")
  return function() return (Channel.receive(object)) end
end

-- Semaphores and locks
-- --------------------------------------------------------------------------------------------------

local Semaphore = {}
local semaphore_of = setmetatable({}, { __mode = "k" })
local semaphore_metatable = { __index = Semaphore, __metatable = "semaphore" }

local function pump_semaphore(semaphore)
  while semaphore.free > 0 do
    local ticket = take_alive(semaphore.waiting)
    if not ticket then
      return
    end
    semaphore.free = semaphore.free - 1
    sk.wake(ticket.task, true)
  end
end

local function semaphore_from(object, name)
  local semaphore = semaphore_of[object]
  if not semaphore then
    error("semaphore:" .. name .. ": expected a semaphore before the colon, got " .. type(object), 3)
  end
  return semaphore
end

local function acquire(semaphore, name, timeout)
  if semaphore.free > 0 and not semaphore.waiting[1] then
    semaphore.free = semaphore.free - 1
    return true
  end
  return wait_in(semaphore.waiting, name, timeout, {})
end

local function release(semaphore)
  semaphore.free = semaphore.free + 1
  if semaphore.waiting[1] then
    soon(semaphore, "semaphore", pump_semaphore)
  end
end

--- So many may hold it at a time.
local function make_semaphore(count)
  if type(count) ~= "number" or count < 1 or count % 1 ~= 0 then
    error("semaphore: expected a count from 1, got " .. sk.show(count), 2)
  end
  local object = setmetatable({}, semaphore_metatable)
  semaphore_of[object] = { free = count, count = count, waiting = {} }
  return object
end

--- Waits for a place. Answers true, or `nil, err`.
function Semaphore.acquire(object, timeout)
  return acquire(semaphore_from(object, "acquire"), "semaphore:acquire", timeout)
end

--- Gives a place back.
function Semaphore.release(object)
  local semaphore = semaphore_from(object, "release")
  if semaphore.free >= semaphore.count then
    error("semaphore:release: nobody holds a place of it", 2)
  end
  release(semaphore)
end

local function after_holding(semaphore, ok, ...)
  release(semaphore)
  if not ok then
    error((...), 0)
  end
  return ...
end

--- Runs `fn` with a place, which is given back whatever happens. Answers what `fn` does.
function Semaphore.with(object, fn)
  local semaphore = semaphore_from(object, "with")
  local ok, err = acquire(semaphore, "semaphore:with")
  if not ok then
    return nil, err
  end
  return after_holding(semaphore, pcall(fn))
end

local locks = {} -- by key, while someone holds or wants it

local function after_lock(key, lock, ...)
  lock.users = lock.users - 1
  if lock.users == 0 then
    locks[key] = nil
  end
  return after_holding(lock, ...)
end

--- Runs `fn` while nobody else of this app on this worker runs one under the same key. Answers what `fn` does, or
--- `nil, err` if the lock can't be had in time.
local function with_lock(key, fn, timeout)
  if type(key) ~= "string" and type(key) ~= "number" then
    error("lock: key: expected a string or number, got " .. type(key), 2)
  elseif type(fn) ~= "function" then
    error("lock: expected a function, got " .. type(fn), 2)
  end
  local lock = locks[key] or { free = 1, count = 1, waiting = {}, users = 0 }
  locks[key] = lock
  lock.users = lock.users + 1
  local ran, ok, err = pcall(acquire, lock, "lock", timeout)
  if ran and ok then
    return after_lock(key, lock, pcall(fn))
  end
  lock.users = lock.users - 1
  if lock.users == 0 then
    locks[key] = nil
  end
  if not ran then
    error(ok, 0)
  end
  return nil, err
end

-- Several at once
-- -------------------------------------------------------------------------------------------------------

--- Runs functions beside each other until `is_enough(ok, open)`; whoever is left then, or when the caller is
--- cancelled, is
--- cancelled. Answers the results by index and the first failure, or `nil, err` from the wait itself.
local function run_children(name, list, is_enough, ms)
  local task = sk.begin_wait(name, 3)
  local number = task.wait
  local jobs, results, open, over = {}, {}, #list, false
  local problem, winner
  for index, fn in ipairs(list) do
    local job = { fn = fn, event = name, runtime = sk.current_runtime() or sk.owner }
    function job.done(_, ok, result)
      job.ended = true
      open = open - 1
      if over then
        return
      end
      if ok then
        results[index], winner = result, winner or index
      else
        problem = problem or sk.problem_of(result)
      end
      if is_enough(ok, open) then
        over = true
        if task.wait == number then
          sk.wake(task, true)
        end
      end
    end
    jobs[index] = job
    sk.queue(job)
  end
  local ran, ok, err
  if ms then
    ran, ok, err = pcall(sk.suspend_for, task, ms, sk.no("timeout", name .. ": the time is over"))
  else
    ran, ok, err = pcall(sk.suspend)
  end
  over = true
  for _, job in ipairs(jobs) do
    sk.cancel_job(job)
  end
  if not ran then
    error(ok, 0)
  elseif not ok then
    return nil, err
  end
  return results, problem, winner
end

local function functions_of(name, ...)
  local list = { ... }
  if #list == 1 and type(list[1]) == "table" then
    list = list[1]
  end
  if #list == 0 then
    error(name .. ": expected functions", 3)
  end
  local copy = {}
  for index, fn in ipairs(list) do
    if type(fn) ~= "function" then
      error(name .. ": expected functions, got " .. type(fn), 3)
    end
    copy[index] = fn
  end
  return copy
end

--- Runs functions beside each other and waits for all. Answers the list of their first results, or `nil, err`
--- as soon as
--- one fails; the others are cancelled then.
local function all(...)
  local list = functions_of("all", ...)
  local results, problem = run_children("all", list, function(ok, open) return not ok or open == 0 end)
  if not results or problem then
    return nil, problem
  end
  return results
end

--- Runs functions beside each other and answers the result of the first that succeeds; the others are cancelled.
local function race(...)
  local list = functions_of("race", ...)
  local results, problem, winner = run_children("race", list, function(ok, open) return ok or open == 0 end)
  if not results or not winner then
    return nil, problem
  end
  return results[winner]
end

--- Runs `fn` for at most a duration. Answers its first result, or `nil, err` with `err.code` "timeout".
local function timeout(duration, fn, ...)
  local ms = sk.milliseconds("timeout", duration)
  if type(fn) ~= "function" then
    error("timeout: expected a function, got " .. type(fn), 2)
  end
  local count, arguments = select("#", ...), { ... }
  local body = count == 0 and fn or function() return fn(unpack(arguments, 1, count)) end
  local second
  local function keep(...)
    second = (select(2, ...))
    return (...)
  end
  local function first_end() return true end
  local results, problem = run_children("timeout", { function() return keep(body()) end }, first_end, ms)
  if not results or problem then
    return nil, problem
  end
  return results[1], second
end

sk.sync = { all = all, race = race, timeout = timeout, channel = make_channel, semaphore = make_semaphore,
  lock = with_lock }
