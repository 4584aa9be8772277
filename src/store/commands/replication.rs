//! REPLICAOF, ROLE and FAILOVER.

use std::net::IpAddr;

use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::CommandError;

const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::STALE);
const ANY_TIME: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    row("failover", -1, ADMIN, "Hands over to a replica", "6.2.0", failover),
    row("replicaof", 3, ADMIN, "Makes the server a replica of another", "5.0.0", replicaof),
    row("role", 1, ANY_TIME, "Returns the replication role", "2.8.12", role),
    row("slaveof", 3, ADMIN, "As REPLICAOF", "1.0.0", replicaof),
];

const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    summary: &'static str,
    since: &'static str,
    run: fn(&mut Call<'_>) -> CommandResult,
) -> Command {
    let keys = Keys::NONE;
    Command { name, arity, flags, keys, group: "server", summary, since, run, subcommands: &[] }
}

fn failover(_: &mut Call<'_>) -> CommandResult {
    Err(CommandError::Text("ERR FAILOVER requires connected replicas."))
}

/// `REPLICAOF host port`, `REPLICAOF NO ONE`
fn replicaof(call: &mut Call<'_>) -> CommandResult {
    let is = |index: usize, word: &str| call.args.at(index).eq_ignore_ascii_case(word.as_bytes());
    let primary = match is(1, "no") && is(2, "one") {
        true => None,
        false => Some(address(call.args.at(1), call.args.at(2))?),
    };
    let is_promotion = primary.is_none();
    let changed = call.instance.follow(call.keyspace, primary, call.now_ms);
    match changed || is_promotion {
        true => call.reply.ok(),
        false => call.reply.simple("OK Already connected to specified master"),
    }
    Ok(())
}

fn address(host: &[u8], port: &[u8]) -> Result<(String, u16), CommandError> {
    const PORT: &str = "ERR Invalid master port";
    const HOST: &str = "ERR the primary has to be named by its IP address, or as localhost";
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let port = text(port).and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    let port: u16 = port.ok_or(CommandError::Text(PORT))?;
    let host = text(host).filter(|host| *host == "localhost" || host.parse::<IpAddr>().is_ok());
    Ok((host.ok_or(CommandError::Text(HOST))?.to_owned(), port))
}

/// A primary without replicas, or a replica.
fn role(call: &mut Call<'_>) -> CommandResult {
    let replication = &call.instance.replication;
    let offset = replication.offset as i64;
    let Some(upstream) = replication.upstream() else {
        call.reply.array(3);
        call.reply.bulk(b"master");
        call.reply.integer(offset);
        call.reply.array(0);
        return Ok(());
    };
    call.reply.array(5);
    call.reply.bulk(b"slave");
    call.reply.bulk(upstream.host.as_bytes());
    call.reply.integer(i64::from(upstream.port));
    call.reply.bulk(upstream.link.name().as_bytes());
    call.reply.integer(offset);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::store::commands::testing::check;

    #[test]
    fn a_replica_is_read_only_and_says_whose_it_is() {
        check(&[
            ("SET k v", "+OK"),
            ("REPLICAOF NO ONE", "+OK"),
            ("ROLE", "*3 $6 master :0 *0"),
            ("REPLICAOF 127.0.0.1 0", "-ERR Invalid master port"),
            (
                "REPLICAOF db.example 6379",
                "-ERR the primary has to be named by its IP address, or as localhost",
            ),
            ("REPLICAOF 127.0.0.1 6379", "+OK"),
            ("REPLICAOF 127.0.0.1 6379", "+OK Already connected to specified master"),
            ("ROLE", "*5 $5 slave $9 127.0.0.1 :6379 $7 connect :0"),
            ("SET k w", "-READONLY You can't write against a read only replica."),
            ("GET k", "$1 v"),
            ("MULTI", "+OK"),
            ("DEL k", "-READONLY You can't write against a read only replica."),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
            ("SLAVEOF NO ONE", "+OK"),
            ("SET k w", "+OK"),
            ("FAILOVER", "-ERR FAILOVER requires connected replicas."),
        ]);
    }
}
