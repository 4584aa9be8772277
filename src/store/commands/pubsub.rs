//! Publish and subscribe: channels, patterns, shard channels, and PUBSUB.

use super::collection::{Run, row};
use super::{Call, Command, CommandResult, Flags, Keys, help};
use crate::limits::SUBSCRIPTIONS_PER_CLIENT_MAX;
use crate::store::pubsub::Scope;
use crate::store::session::State;
use crate::store::{CommandError, Session, glob};

const ANY_TIME: Flags = Flags::LOADING.and(Flags::STALE);
const LISTENS: Flags = ANY_TIME.and(Flags::PUBSUB).and(Flags::NOSCRIPT);
const SPEAKS: Flags = ANY_TIME.and(Flags::PUBSUB).and(Flags::FAST);
const ASKS: Flags = ANY_TIME.and(Flags::PUBSUB);

const fn pubsub(
    usage: (&'static str, i16),
    flags: Flags,
    about: (&'static str, &'static str),
    run: Run,
) -> Command {
    row("pubsub", usage, flags, Keys::NONE, about, run)
}

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    pubsub(("subscribe", -2), LISTENS, ("2.0.0", "Listens to channels"), subscribe),
    pubsub(("unsubscribe", -1), LISTENS, ("2.0.0", "Stops listening to channels"), unsubscribe),
    pubsub(("psubscribe", -2), LISTENS, ("2.0.0", "Listens to all channels that fit patterns"), psubscribe),
    pubsub(("punsubscribe", -1), LISTENS, ("2.0.0", "Stops listening to patterns"), punsubscribe),
    pubsub(("ssubscribe", -2), LISTENS, ("7.0.0", "Listens to shard channels"), ssubscribe),
    pubsub(("sunsubscribe", -1), LISTENS, ("7.0.0", "Stops listening to shard channels"), sunsubscribe),
    pubsub(("publish", 3), SPEAKS, ("2.0.0", "Sends a message to a channel"), publish),
    pubsub(("spublish", 3), SPEAKS, ("7.0.0", "Sends a message to a shard channel"), spublish),
    Command {
        subcommands: &[
            pubsub(("channels", -2), ASKS, ("2.8.0", "Returns the channels that somebody listens to"), channels),
            pubsub(("help", 2), ANY_TIME, ("6.2.0", "Lists the subcommands"), usage),
            pubsub(("numpat", 2), ASKS, ("2.8.0", "Returns the number of patterns that somebody listens to"), numpat),
            pubsub(("numsub", -2), ASKS, ("2.8.0", "Returns how many listen to channels"), numsub),
            pubsub(("shardchannels", -2), ASKS, ("7.0.0", "Returns the shard channels that somebody listens to"), shardchannels),
            pubsub(("shardnumsub", -2), ASKS, ("7.0.0", "Returns how many listen to shard channels"), shardnumsub),
        ],
        ..pubsub(("pubsub", -2), Flags(0), ("2.8.0", "A container for questions about channels"), usage)
    },
];

/// Whether a client that speaks RESP2 may send the command while it listens: its replies would be taken for messages.
pub(in crate::store) fn while_listening(command: &Command) -> bool {
    const OTHERS: &[&str] = &["ping", "quit", "reset"];
    command.name.ends_with("subscribe") || OTHERS.contains(&command.name)
}

fn usage(call: &mut Call<'_>) -> CommandResult {
    help(
        &mut call.reply,
        "PUBSUB",
        &[
            (
                "CHANNELS [<pattern>]",
                "Return the currently active channels matching a <pattern> (default: '*').",
            ),
            ("NUMPAT", "Return number of subscriptions to patterns."),
            (
                "NUMSUB [<channel> ...]",
                "Return the number of subscribers for the specified channels.",
            ),
            (
                "SHARDCHANNELS [<pattern>]",
                "Return the currently active shard level channels matching a <pattern>.",
            ),
            (
                "SHARDNUMSUB [<shardchannel> ...]",
                "Return the number of subscribers for the specified shard channels.",
            ),
        ],
    );
    Ok(())
}

fn subscribe(call: &mut Call<'_>) -> CommandResult {
    start(call, Scope::Channel, b"subscribe")
}

fn psubscribe(call: &mut Call<'_>) -> CommandResult {
    start(call, Scope::Pattern, b"psubscribe")
}

fn ssubscribe(call: &mut Call<'_>) -> CommandResult {
    start(call, Scope::Shard, b"ssubscribe")
}

fn unsubscribe(call: &mut Call<'_>) -> CommandResult {
    end(call, Scope::Channel, b"unsubscribe")
}

fn punsubscribe(call: &mut Call<'_>) -> CommandResult {
    end(call, Scope::Pattern, b"punsubscribe")
}

fn sunsubscribe(call: &mut Call<'_>) -> CommandResult {
    end(call, Scope::Shard, b"sunsubscribe")
}

fn start(call: &mut Call<'_>, scope: Scope, word: &[u8]) -> CommandResult {
    let Some(row) = call.session.row else {
        return Err(CommandError::Text(
            "ERR only a connection can subscribe: scripts listen with pubsub.on",
        ));
    };
    let names = call.args.from(1);
    let before = call.instance.pubsub.count(scope, row);
    if before + names.len() > SUBSCRIPTIONS_PER_CLIENT_MAX {
        return Err(CommandError::Text("ERR too many subscriptions"));
    }
    for name in names.iter() {
        call.instance.pubsub.subscribe(scope, row, name);
        confirm(call, scope, row, word, Some(name));
    }
    Ok(())
}

fn end(call: &mut Call<'_>, scope: Scope, word: &[u8]) -> CommandResult {
    let row = call.session.row.unwrap_or(u32::MAX);
    let all: Vec<Vec<u8>> = match call.args.len() {
        1 => call.instance.pubsub.names(scope, row),
        _ => call.args.from(1).iter().map(<[u8]>::to_vec).collect(),
    };
    for name in &all {
        call.instance.pubsub.unsubscribe(scope, row, name);
        confirm(call, scope, row, word, Some(name));
    }
    if all.is_empty() {
        confirm(call, scope, row, word, None);
    }
    Ok(())
}

/// Answers one change, and notes in the session what it listens to.
fn confirm(call: &mut Call<'_>, scope: Scope, row: u32, word: &[u8], name: Option<&[u8]>) {
    let pubsub = &call.instance.pubsub;
    let counts =
        [Scope::Channel, Scope::Pattern, Scope::Shard].map(|scope| pubsub.count(scope, row) as u32);
    note(call.session, counts);
    let count = match scope {
        Scope::Shard => counts[2],
        Scope::Channel | Scope::Pattern => counts[0] + counts[1],
    };
    call.instance.clients.update(call.session);
    call.reply.push(3);
    call.reply.bulk(word);
    match name {
        Some(name) => call.reply.bulk(name),
        None => call.reply.null(),
    }
    call.reply.integer(i64::from(count));
}

fn note(session: &mut Session, counts: [u32; 3]) {
    session.subscriptions = counts;
    session.state.set(State::SUBSCRIBED, counts != [0; 3]);
}

/// A client listens to nothing any more.
pub(in crate::store) fn forget(call: &mut Call<'_>) {
    if let Some(row) = call.session.row {
        call.instance.pubsub.forget(row);
    }
    note(call.session, [0; 3]);
}

fn publish(call: &mut Call<'_>) -> CommandResult {
    send(call, Scope::Channel)
}

fn spublish(call: &mut Call<'_>) -> CommandResult {
    send(call, Scope::Shard)
}

fn send(call: &mut Call<'_>, scope: Scope) -> CommandResult {
    let instance = &mut *call.instance;
    let (channel, message) = (call.args.at(1), call.args.at(2));
    let to = (&mut instance.clients, &mut instance.nudges);
    let heard = instance.pubsub.publish(to, scope, channel, message);
    call.reply.integer(heard as i64);
    Ok(())
}

fn channels(call: &mut Call<'_>) -> CommandResult {
    list(call, Scope::Channel, "channels")
}

fn shardchannels(call: &mut Call<'_>) -> CommandResult {
    list(call, Scope::Shard, "shardchannels")
}

fn list(call: &mut Call<'_>, scope: Scope, name: &str) -> CommandResult {
    if call.args.len() > 3 {
        let text = format!("ERR wrong number of arguments for 'pubsub|{name}' command");
        return Err(CommandError::Owned(text.into_bytes()));
    }
    let pattern = call.args.get(2);
    let mark = call.reply.mark();
    let mut count = 0;
    for name in call.instance.pubsub.active(scope) {
        if pattern.is_none_or(|pattern| glob::matches(pattern, name)) {
            call.reply.bulk(name);
            count += 1;
        }
    }
    call.reply.array_at(mark, count);
    Ok(())
}

fn numsub(call: &mut Call<'_>) -> CommandResult {
    listeners(call, Scope::Channel)
}

fn shardnumsub(call: &mut Call<'_>) -> CommandResult {
    listeners(call, Scope::Shard)
}

fn listeners(call: &mut Call<'_>, scope: Scope) -> CommandResult {
    let names = call.args.from(2);
    call.reply.array(names.len() * 2);
    for name in names.iter() {
        call.reply.bulk(name);
        call.reply.integer(call.instance.pubsub.listeners(scope, name) as i64);
    }
    Ok(())
}

fn numpat(call: &mut Call<'_>) -> CommandResult {
    call.reply.integer(call.instance.pubsub.active(Scope::Pattern).len() as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::store::crowd::{Crowd, check};

    #[test]
    fn messages_reach_who_listens() {
        check(&[
            (
                "a subscribe x y x",
                "*3 $9 subscribe $1 x :1 *3 $9 subscribe $1 y :2 *3 $9 subscribe $1 x :2",
                "",
            ),
            ("b psubscribe ? z*", "*3 $10 psubscribe $1 ? :1 *3 $10 psubscribe $2 z* :2", ""),
            (
                "c publish x m",
                ":2",
                "a: *3 $7 message $1 x $1 m / b: *4 $8 pmessage $1 ? $1 x $1 m",
            ),
            ("c publish zz m", ":1", "b: *4 $8 pmessage $2 z* $2 zz $1 m"),
            ("c publish other m", ":0", ""),
            (
                "a unsubscribe x none",
                "*3 $11 unsubscribe $1 x :1 *3 $11 unsubscribe $4 none :1",
                "",
            ),
            ("c publish x m", ":1", "b: *4 $8 pmessage $1 ? $1 x $1 m"),
            ("a unsubscribe", "*3 $11 unsubscribe $1 y :0", ""),
            ("a unsubscribe", "*3 $11 unsubscribe $-1 :0", ""),
            ("a sunsubscribe", "*3 $12 sunsubscribe $-1 :0", ""),
            ("b punsubscribe", "*3 $12 punsubscribe $1 ? :1 *3 $12 punsubscribe $2 z* :0", ""),
            ("c publish x m", ":0", ""),
            ("a get k", "$-1", ""),
        ]);
    }

    #[test]
    fn shards_are_channels_of_their_own() {
        check(&[
            ("a ssubscribe x", "*3 $10 ssubscribe $1 x :1", ""),
            ("a subscribe x", "*3 $9 subscribe $1 x :1", ""),
            ("b psubscribe *", "*3 $10 psubscribe $1 * :1", ""),
            ("c spublish x m", ":1", "a: *3 $8 smessage $1 x $1 m"),
            ("c pubsub shardchannels", "*1 $1 x", ""),
            ("c pubsub shardnumsub x y", "*4 $1 x :1 $1 y :0", ""),
        ]);
    }

    #[test]
    fn who_listens_in_resp2_does_little_else() {
        let refusal = |name: &str| {
            format!(
                "-ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
                 this context"
            )
        };
        let (get, info) = (refusal("get"), refusal("client|info"));
        check(&[
            ("a ssubscribe x", "*3 $10 ssubscribe $1 x :1", ""),
            ("a get k", &get, ""),
            ("a client info", &info, ""),
            ("a get", "-ERR wrong number of arguments for 'get' command", ""),
            ("a ping", "*2 $4 pong $0", ""),
            ("a ping hi", "*2 $4 pong $2 hi", ""),
            ("a reset", "+RESET", ""),
            ("a get k", "$-1", ""),
            ("b spublish x m", ":0", ""),
        ]);
    }

    #[test]
    fn resp3_pushes_and_goes_on() {
        let mut crowd = Crowd::new(2);
        crowd.run(0, "hello 3");
        crowd.check(&[
            ("a subscribe x", ">3 $9 subscribe $1 x :1", ""),
            ("a get k", "_", ""),
            ("a ping", "+PONG", ""),
            ("b subscribe x", "*3 $9 subscribe $1 x :1", ""),
            ("a publish x m", ":2", "a: >3 $7 message $1 x $1 m / b: *3 $7 message $1 x $1 m"),
            ("a multi", "+OK", ""),
            ("a publish x 1", "+QUEUED", ""),
            ("a unsubscribe x", "+QUEUED", ""),
            (
                "a exec",
                "*2 :2 >3 $11 unsubscribe $1 x :0",
                "a: >3 $7 message $1 x $1 1 / b: *3 $7 message $1 x $1 1",
            ),
        ]);
    }

    #[test]
    fn questions() {
        check(&[
            (
                "a subscribe xa xb y",
                "*3 $9 subscribe $2 xa :1 *3 $9 subscribe $2 xb :2 *3 $9 subscribe $1 y :3",
                "",
            ),
            ("b subscribe xa", "*3 $9 subscribe $2 xa :1", ""),
            ("b psubscribe p*", "*3 $10 psubscribe $2 p* :2", ""),
            ("c pubsub channels", "*3 $2 xa $2 xb $1 y", ""),
            ("c pubsub channels x*", "*2 $2 xa $2 xb", ""),
            (
                "c pubsub channels a b",
                "-ERR wrong number of arguments for 'pubsub|channels' command",
                "",
            ),
            ("c pubsub numsub xa none", "*4 $2 xa :2 $4 none :0", ""),
            ("c pubsub numpat", ":1", ""),
            ("c pubsub what", "-ERR unknown subcommand 'what'. Try PUBSUB HELP.", ""),
        ]);
    }

    /// CLIENT REPLY OFF silences replies, and what is said of channels isn't one.
    #[test]
    fn messages_come_although_replies_are_off() {
        let mut crowd = Crowd::new(2);
        crowd.check(&[
            ("a client reply off", "", ""),
            ("a subscribe x", "*3 $9 subscribe $1 x :1", ""),
            ("a subscribe", "", ""),
            ("b publish x m", ":1", "a: *3 $7 message $1 x $1 m"),
        ]);
    }

    #[test]
    fn who_goes_away_hears_nothing() {
        let mut crowd = Crowd::new(2);
        crowd.run(0, "subscribe x");
        crowd.run(0, "psubscribe x");
        let row = crowd.sessions[0].row.expect("clients have rows");
        crowd.store.instance.pubsub.forget(row);
        crowd.check(&[("b publish x m", ":0", ""), ("b pubsub numpat", ":0", "")]);
    }
}
