--- `socketley cert`: certificates for development.

return {
  name = "cert",
  where = "local",
  summary = "Make a TLS certificate for development",
  description = [[
Writes NAME.pem and NAME.key for the names and addresses given, and ca.pem and ca.key, the
authority they come from, unless the folder has one already. Whoever trusts ca.pem trusts what
it certifies; the certificate also serves as a client's. Existing files are never overwritten.]],
  args = {
    {
      name = "name",
      many = true,
      optional = true,
      help = "Host names and addresses (default: localhost 127.0.0.1 ::1)",
    },
  },
  flags = {
    { name = "folder", type = "path", help = "Where to write (default: here)" },
    { name = "days", type = "integer", default = 365, help = "How long it is good" },
  },
  examples = {
    { "socketley cert", "localhost.pem and localhost.key" },
    { "socketley cert --folder certs example.test '*.example.test'", "for other names" },
  },
}
