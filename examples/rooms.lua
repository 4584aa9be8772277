--- Chat rooms. What is in `state` survives a reload: change this file while people talk.
---
---     socketley run examples/rooms.lua
---     nc 127.0.0.1 9000        then: /join kitchen, and lines for all who are there

server "rooms" {
  port = 9000,

  state = {
    room_of = {}, -- connection id to room
    members = {}, -- room to connection id to connection
  },

  on_connect = function(conn)
    conn:send "/join ROOM to enter a room"
  end,

  on_message = function(conn, line)
    local state = self.state
    local room = line:match "^/join (%w+)$"
    if room then
      local old = state.room_of[conn.id]
      if old then
        state.members[old][conn.id] = nil
      end
      state.members[room] = state.members[room] or {}
      state.members[room][conn.id] = conn
      state.room_of[conn.id] = room
      conn:send("you are in " .. room)
      return
    end
    room = state.room_of[conn.id]
    if not room then
      conn:send "/join ROOM first"
      return
    end
    for id, member in pairs(state.members[room]) do
      if id ~= conn.id then
        member:send("[" .. room .. "] " .. line)
      end
    end
  end,

  on_disconnect = function(conn)
    local room = self.state.room_of[conn.id]
    if room then
      self.state.room_of[conn.id] = nil
      self.state.members[room][conn.id] = nil
    end
  end,
}
