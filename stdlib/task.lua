--- Tasks and what they wait for each other with. All of it is also global.
---
--- ```lua
--- local task = require "socketley.task"
--- local pages, err = task.all(
---   function() return http.get("http://127.0.0.1:8081/a").body end,
---   function() return http.get("http://127.0.0.1:8081/b").body end)
--- local answer = task.timeout("2s", function() return slow() end)
--- local jobs = task.channel(100)
--- for _ = 1, 4 do
---   task.spawn(function() for job in jobs:values() do work(job) end end)
--- end
--- task.lock("user:7", function() cache.db:incr "n" end)
--- ```
--- A task that is cancelled ends at its next wait; who waited for it gets `nil, err`.

---@class task.Task
---@field join fun(self: task.Task): any waits for its end; its first result, or `nil, err`
---@field cancel fun(self: task.Task)

---@class task.Channel
---@field send fun(self: task.Channel, value: any, timeout?: number|string): true?, table?
---@field receive fun(self: task.Channel, timeout?: number|string): any, table?
---@field close fun(self: task.Channel)
---@field values fun(self: task.Channel): fun(): any

---@class task.Semaphore
---@field acquire fun(self: task.Semaphore, timeout?: number|string): true?, table?
---@field release fun(self: task.Semaphore)
---@field with fun(self: task.Semaphore, fn: fun(): any): any, table?

local M = {}

--- Runs `fn` beside the others.
---@type fun(fn: function, ...): task.Task
M.spawn = spawn
--- Waits.
---@type fun(duration: number|string): true?, table?
M.sleep = sleep
--- Runs functions beside each other and waits for all: the list of their results, or `nil, err`.
---@type fun(...: fun(): any): any[]?, table?
M.all = all
--- The result of the first that succeeds; the others are cancelled.
---@type fun(...: fun(): any): any, table?
M.race = race
--- Runs `fn` for at most a duration: its result, or `nil, err`.
---@type fun(duration: number|string, fn: function, ...): any, table?
M.timeout = timeout
--- A queue between tasks.
---@type fun(capacity?: integer): task.Channel
M.channel = channel
--- So many at a time.
---@type fun(count: integer): task.Semaphore
M.semaphore = semaphore
--- One at a time by key: what `fn` answers, or `nil, err`.
---@type fun(key: string|number, fn: function, timeout?: number|string): any, table?
M.lock = lock

return M
