//! REPLICAOF, ROLE, FAILOVER, and what replicas say: REPLCONF and PSYNC.

use std::net::IpAddr;

use super::{Call, Command, CommandResult, Flags, Keys};
use crate::store::CommandError;
use crate::store::session::State;

const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::STALE);
const ANY_TIME: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    row("failover", -1, ADMIN, "Hands over to a replica", "6.2.0", failover),
    row("psync", -3, ADMIN.and(Flags::NO_MULTI), "Makes the client a replica", "2.8.0", psync),
    row("replconf", -1, ADMIN.and(Flags::LOADING), "What a replica says of itself", "3.0.0", replconf),
    row("replicaof", 3, ADMIN, "Makes the server a replica of another", "5.0.0", replicaof),
    row("role", 1, ANY_TIME, "Returns the replication role", "2.8.12", role),
    row("slaveof", 3, ADMIN, "As REPLICAOF", "1.0.0", replicaof),
    row("sync", 1, ADMIN.and(Flags::NO_MULTI), "As PSYNC, of replicas before 2.8", "1.0.0", sync),
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
        call.reply.integer(call.instance.feed.offset() as i64);
        let replicas: Vec<_> = call.instance.replicas.online().cloned().collect();
        call.reply.array(replicas.len());
        for replica in replicas {
            call.reply.array(3);
            call.reply.bulk(replica.address.as_bytes());
            call.reply.bulk(replica.port.to_string().as_bytes());
            call.reply.bulk(replica.acknowledged.to_string().as_bytes());
        }
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

/// `REPLCONF option value ...`
fn replconf(call: &mut Call<'_>) -> CommandResult {
    let (now_ms, args) = (call.now_ms, call.args);
    let peer = call.instance.clients.of(call.session).map(|client| client.address.clone());
    let peer = peer.unwrap_or_default();
    let Some(replica) = call.instance.replicas.of(call.session) else {
        return Err(CommandError::Text("ERR only a connection can be a replica"));
    };
    if replica.address.is_empty() {
        let host = peer.rsplit_once(':').map_or("", |(host, _)| host);
        replica.address = host.trim_matches(['[', ']']).to_owned();
    }
    let number = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<u64>().ok();
    let mut acknowledges = false;
    for at in (1..args.len()).step_by(2) {
        let Some(value) = args.get(at + 1) else { return Err(CommandError::Syntax) };
        match args.at(at).to_ascii_lowercase().as_slice() {
            b"listening-port" => {
                let port = number(value).and_then(|port| u16::try_from(port).ok());
                replica.port = port.ok_or(CommandError::NotInteger)?;
            }
            b"ip-address" => replica.address = String::from_utf8_lossy(value).into_owned(),
            b"ack" => {
                let offset = number(value).unwrap_or_default();
                replica.acknowledged = offset.max(replica.acknowledged);
                replica.acknowledged_ms = now_ms;
                acknowledges = true;
            }
            b"fack" => {
                replica.saved = number(value).unwrap_or_default().max(replica.saved);
                acknowledges = true;
            }
            b"capa" | b"version" | b"rdb-only" | b"rdb-filter-only" => {}
            option => {
                let option = String::from_utf8_lossy(option);
                let text = format!("ERR Unrecognized REPLCONF option: {option}");
                return Err(CommandError::Owned(text.into_bytes()));
            }
        }
    }
    if acknowledges {
        call.instance.copies.note_news();
    } else {
        call.reply.ok();
    }
    Ok(())
}

/// `PSYNC id offset`: what was missed if it is still here, or everything.
fn psync(call: &mut Call<'_>) -> CommandResult {
    check_leads(call)?;
    let wanted = std::str::from_utf8(call.args.at(2)).ok().and_then(|text| text.parse().ok());
    let wanted: i64 = wanted.ok_or(CommandError::NotInteger)?;
    let from = match missed(call, wanted) {
        Some((from, bytes)) => {
            call.instance.replicas.partial += 1;
            let id = call.instance.replication.id.clone();
            call.reply.raw(format!("+CONTINUE {id}\r\n").as_bytes());
            call.reply.raw(&bytes);
            from
        }
        None => {
            let replicas = &mut call.instance.replicas;
            replicas.full += 1;
            replicas.refused += u64::from(wanted >= 0);
            everything(call, true)?
        }
    };
    follows(call, from);
    Ok(())
}

/// `SYNC`: everything, without the id and offset that a later PSYNC would name.
fn sync(call: &mut Call<'_>) -> CommandResult {
    check_leads(call)?;
    call.instance.replicas.full += 1;
    let from = everything(call, false)?;
    follows(call, from);
    Ok(())
}

/// Whether this client can have replicas' data from here.
fn check_leads(call: &mut Call<'_>) -> CommandResult {
    if call.instance.replication.upstream().is_some() {
        const TEXT: &str = "NOMASTERLINK this is a replica itself: follow its primary";
        return Err(CommandError::Text(TEXT));
    }
    if call.instance.replicas.of(call.session).is_none() {
        return Err(CommandError::Text("ERR only a connection can be a replica"));
    }
    Ok(())
}

/// The client is a replica from that offset on.
fn follows(call: &mut Call<'_>, from: u64) {
    call.session.state.set(State::REPLICA, true);
    call.instance.clients.update(call.session);
    let now_ms = call.now_ms;
    call.instance.replicas.heard(now_ms);
    if let Some(replica) = call.instance.replicas.of(call.session) {
        (replica.from, replica.acknowledged_ms) = (Some(from), now_ms);
    }
}

/// What a replica has missed that wants the byte of that number next, and the offset behind it.
fn missed(call: &Call<'_>, wanted: i64) -> Option<(u64, Vec<u8>)> {
    let instance = &call.instance;
    let offset = u64::try_from(wanted).ok()?.checked_sub(1)?;
    let (id, replication) = (call.args.at(1), &instance.replication);
    let before = replication.before.as_ref();
    let is_ours = id == replication.id.as_bytes()
        || before.is_some_and(|(before, end)| id == before.as_bytes() && offset <= *end);
    let end = instance.feed.sealed_offset();
    let bytes =
        (is_ours && instance.feed.is_on()).then(|| instance.replicas.missed(offset, end))?;
    Some((end, bytes?))
}

/// Sends a snapshot, with or without saying where it ends; the changes that follow it begin at the offset returned.
fn everything(call: &mut Call<'_>, is_named: bool) -> Result<u64, CommandError> {
    let make = call.instance.replicas.make_snapshot;
    let make = make.ok_or(CommandError::Text("ERR this cache can't have replicas"))?;
    call.instance.feed.replicate();
    call.instance.look_for_observers(call.keyspace);
    call.instance.feed.reselect();
    let offset = call.instance.feed.offset();
    let libraries = call.instance.scripting.functions.libraries();
    let libraries: Vec<&[u8]> = libraries.map(|(_, code)| code).collect();
    let snapshot = make(call.keyspace, &libraries);
    let id = &call.instance.replication.id;
    if is_named {
        call.reply.raw(format!("+FULLRESYNC {id} {offset}\r\n").as_bytes());
    }
    call.reply.raw(format!("${}\r\n", snapshot.len()).as_bytes());
    call.reply.raw(&snapshot);
    Ok(offset)
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
