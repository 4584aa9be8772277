--- `socketley man`: the manual.

return {
  name = "man",
  where = "local",
  summary = "Write the manual pages into a folder",
  args = { { name = "folder", help = "A folder man1 below one of `manpath`" } },
  examples = {
    { "socketley man ~/.local/share/man/man1 && man socketley", "for oneself" },
    { "sudo socketley man /usr/local/share/man/man1", "for everybody" },
  },
}
