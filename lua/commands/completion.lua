--- `socketley completion`: for shells.

return {
  name = "completion",
  where = "local",
  summary = "Print a shell's completion script",
  args = { { name = "shell", values = { "bash", "zsh", "fish" }, help = "Which shell" } },
  examples = {
    { "source <(socketley completion bash)", "in ~/.bashrc" },
    { "socketley completion fish | source", "in config.fish" },
  },
}
