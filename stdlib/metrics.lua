--- Counters, gauges and histograms, shown as Prometheus reads them.
---
--- ```lua
--- local metrics = require "socketley.metrics"
--- local requests = metrics.counter("app_requests_total", "Requests by path", { "path" })
--- local seconds = metrics.histogram("app_seconds", "How long they took")
--- requests:inc({ path = "/" })
--- seconds:observe(0.012)
--- server "web" { port = 8000, routes = { ["GET /metrics"] = metrics.handler } }
--- ```
--- They belong to this VM: an app on several workers counts on each.

local M = {}

local SERIES_MAX = 10000 -- of one metric: labels with values of strangers would fill the memory
local BUCKETS = { 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10 }

local registry, order = {}, {}

local Metric = {}
Metric.__index = Metric

local function escape(text)
  return (tostring(text):gsub("\\", "\\\\"):gsub('"', '\\"'):gsub("\n", "\\n"))
end

local function register(kind, name, help, labels)
  if type(name) ~= "string" or not name:match("^[%a_:][%w_:]*$") then
    error("metrics." .. kind .. ": " .. tostring(name) .. " can't be a metric's name", 3)
  elseif registry[name] then
    error("metrics." .. kind .. ": " .. name .. " is there already", 3)
  end
  local metric = setmetatable({ kind = kind, name = name, help = help or name, labels = labels or {}, series = {},
    count = 0 }, Metric)
  registry[name] = metric
  order[#order + 1] = metric
  return metric
end

--- A number that only grows.
---@param name string
---@param help? string
---@param labels? string[]
function M.counter(name, help, labels)
  return register("counter", name, help, labels)
end

--- A number that goes up and down.
---@param name string
---@param help? string
---@param labels? string[]
function M.gauge(name, help, labels)
  return register("gauge", name, help, labels)
end

--- How often which sizes were seen.
---@param name string
---@param help? string
---@param labels? string[]
---@param buckets? number[] upper bounds, ascending
function M.histogram(name, help, labels, buckets)
  local metric = register("histogram", name, help, labels)
  metric.buckets = buckets or BUCKETS
  return metric
end

local function series_of(metric, values)
  values = values or {}
  local parts = {}
  for index, label in ipairs(metric.labels) do
    if values[label] == nil then
      error(metric.name .. ": the label " .. label .. " is missing", 4)
    end
    parts[index] = label .. '="' .. escape(values[label]) .. '"'
  end
  local key = table.concat(parts, ",")
  local series = metric.series[key]
  if not series then
    if metric.count >= SERIES_MAX then
      error(metric.name .. ": more than " .. SERIES_MAX .. " combinations of labels", 4)
    end
    series = { value = 0, sum = 0, counts = {} }
    metric.series[key] = series
    metric.count = metric.count + 1
  end
  return series
end

local function amount_of(labels, amount)
  if type(labels) == "number" then
    return nil, labels
  end
  return labels, amount or 1
end

local function expect_kind(metric, kinds, name)
  if not kinds[metric.kind] then
    error(metric.name .. ":" .. name .. ": it is a " .. metric.kind, 3)
  end
end

--- Adds: `inc()`, `inc(5)`, `inc({ path = "/" })`, `inc({ path = "/" }, 5)`.
function Metric:inc(labels, amount)
  expect_kind(self, { counter = true, gauge = true }, "inc")
  labels, amount = amount_of(labels, amount)
  if self.kind == "counter" and amount < 0 then
    error(self.name .. ":inc: a counter only grows", 2)
  end
  local series = series_of(self, labels)
  series.value = series.value + amount
end

--- Takes away from a gauge.
function Metric:dec(labels, amount)
  expect_kind(self, { gauge = true }, "dec")
  labels, amount = amount_of(labels, amount)
  local series = series_of(self, labels)
  series.value = series.value - amount
end

--- Sets a gauge: `set(5)`, `set({ room = "a" }, 5)`.
function Metric:set(labels, value)
  expect_kind(self, { gauge = true }, "set")
  labels, value = amount_of(labels, value)
  series_of(self, labels).value = value
end

--- Counts a size in a histogram: `observe(0.2)`, `observe({ path = "/" }, 0.2)`.
function Metric:observe(labels, value)
  expect_kind(self, { histogram = true }, "observe")
  labels, value = amount_of(labels, value)
  local series = series_of(self, labels)
  series.value, series.sum = series.value + 1, series.sum + value
  for index, bound in ipairs(self.buckets) do
    if value <= bound then
      series.counts[index] = (series.counts[index] or 0) + 1
    end
  end
end

local function number(value)
  return value % 1 == 0 and ("%d"):format(value) or ("%.17g"):format(value)
end

local function line(out, name, key, extra, value)
  local labels = key .. (key ~= "" and extra ~= "" and "," or "") .. extra
  out[#out + 1] = name .. (labels ~= "" and "{" .. labels .. "}" or "") .. " " .. number(value)
end

local function histogram_lines(out, metric, key, series)
  for index, bound in ipairs(metric.buckets) do
    line(out, metric.name .. "_bucket", key, 'le="' .. ("%.14g"):format(bound) .. '"', series.counts[index] or 0)
  end
  line(out, metric.name .. "_bucket", key, 'le="+Inf"', series.value)
  line(out, metric.name .. "_sum", key, "", series.sum)
  line(out, metric.name .. "_count", key, "", series.value)
end

--- All metrics as text.
---@return string
function M.text()
  local out = {}
  for _, metric in ipairs(order) do
    out[#out + 1] = "# HELP " .. metric.name .. " " .. metric.help:gsub("\\", "\\\\"):gsub("\n", "\\n")
    out[#out + 1] = "# TYPE " .. metric.name .. " " .. metric.kind
    local keys = {}
    for key in pairs(metric.series) do
      keys[#keys + 1] = key
    end
    table.sort(keys)
    for _, key in ipairs(keys) do
      if metric.kind == "histogram" then
        histogram_lines(out, metric, key, metric.series[key])
      else
        line(out, metric.name, key, "", metric.series[key].value)
      end
    end
  end
  return table.concat(out, "\n") .. "\n"
end

--- A handler for a route.
function M.handler()
  return { headers = { ["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8" }, body = M.text() }
end

return M
