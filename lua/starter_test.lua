--- Tests of the app: `socketley test` runs them, with virtual connections and without opening a port.

local t = require "socketley.test"
t.load "app.lua"

t.describe("chat", function()
  t.it("welcomes, and hands on what others say", function()
    local ann, bob = t.connect "chat", t.connect "chat"
    t.expect(ann:receive()):equals "welcome"
    t.expect(bob:receive()):equals "welcome"
    ann:send "hello"
    t.expect(bob:receive()):matches ": hello$"
    t.expect(ann:receive()):is_nil()
  end)
end)
