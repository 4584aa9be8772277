//! CLIENT: names, the list of clients, ending them, and what a client wants to be answered.

use super::{Call, Command, CommandResult, Flags, Keys, client_wait, help, table, tracking};
use crate::proto::resp::strict_integer;
use crate::store::client_bounds::{Buffers, client_bytes};
use crate::store::clients::{Client, Delivery};
use crate::store::instance::Instance;
use crate::store::session::State;
use crate::store::{CommandError, Session};

const FLAGS: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);

/// This file's rows.
pub const COMMANDS: &[Command] = &[Command {
    name: "client",
    arity: -2,
    flags: Flags(0),
    keys: Keys::NONE,
    group: "connection",
    summary: "A container for commands about client connections",
    since: "2.4.0",
    run: usage,
    subcommands: &[
        row(
            "caching",
            3,
            "Tells tracking whether to note the next command's keys",
            "6.0.0",
            tracking::caching,
        ),
        row("getname", 2, "Returns the connection's name", "2.6.9", getname),
        row("getredir", 2, "Returns whom tracking's messages go to", "6.0.0", tracking::getredir),
        row("help", 2, "Lists the subcommands", "5.0.0", usage),
        row("id", 2, "Returns the connection's number", "5.0.0", id),
        row("info", 2, "Describes the connection", "6.2.0", info),
        Command {
            flags: FLAGS.and(Flags::ADMIN),
            ..row("kill", -3, "Ends connections", "2.4.0", kill)
        },
        Command {
            flags: FLAGS.and(Flags::ADMIN),
            ..row("list", -2, "Describes all connections", "2.4.0", list)
        },
        Command {
            flags: FLAGS.and(Flags::ADMIN),
            ..row("no-evict", 3, "Keeps the connection when memory runs out", "7.0.0", no_evict)
        },
        row("no-touch", 3, "Lets commands leave no trace in access times", "7.2.0", no_touch),
        Command {
            flags: FLAGS.and(Flags::ADMIN),
            ..row("pause", -3, "Makes commands wait for a while", "3.0.0", client_wait::pause)
        },
        row("reply", 3, "Chooses whether commands are answered", "3.2.0", reply),
        row("setinfo", 4, "Notes the client library's name or version", "7.2.0", setinfo),
        row("setname", 3, "Names the connection", "2.6.9", setname),
        row(
            "tracking",
            -3,
            "Tells of changes of keys that the connection has read",
            "6.0.0",
            tracking::tracking,
        ),
        row(
            "trackinginfo",
            2,
            "Returns how tracking works for this connection",
            "6.2.0",
            tracking::trackinginfo,
        ),
        Command {
            flags: FLAGS.and(Flags::ADMIN),
            ..row("unblock", -3, "Ends the wait of a client", "5.0.0", client_wait::unblock)
        },
        Command {
            flags: FLAGS.and(Flags::ADMIN),
            ..row("unpause", 2, "Ends CLIENT PAUSE", "6.2.0", client_wait::unpause)
        },
    ],
}];

const fn row(
    name: &'static str,
    arity: i16,
    summary: &'static str,
    since: &'static str,
    run: fn(&mut Call<'_>) -> CommandResult,
) -> Command {
    let (flags, keys) = (FLAGS, Keys::NONE);
    Command { name, arity, flags, keys, group: "connection", summary, since, run, subcommands: &[] }
}

fn usage(call: &mut Call<'_>) -> CommandResult {
    help(
        &mut call.reply,
        "CLIENT",
        &[
            (
                "CACHING (YES|NO)",
                "Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
            ),
            ("GETNAME", "Return the name of the current connection."),
            ("GETREDIR", "Return the client ID that tracking's messages go to."),
            ("ID", "Return the ID of the current connection."),
            ("INFO", "Return information about the current connection."),
            ("KILL <ip:port>", "Kill the connection made from <ip:port>."),
            (
                "KILL <option> <value> [<option> <value> [...]]",
                "Kill connections by ID, ADDR, LADDR, TYPE, USER, MAXAGE; SKIPME (yes) keeps this one.",
            ),
            ("LIST [TYPE <type>] [ID <id> [...]]", "Return information about client connections."),
            ("NO-EVICT (ON|OFF)", "Protect the current connection from eviction."),
            ("NO-TOUCH (ON|OFF)", "Commands of this connection don't change access times."),
            (
                "PAUSE <timeout> [WRITE|ALL]",
                "Suspend all, or just write, clients for <timeout> milliseconds.",
            ),
            ("REPLY (ON|OFF|SKIP)", "Control the replies sent to the current connection."),
            ("SETINFO (LIB-NAME|LIB-VER) <value>", "Set the client library's name or version."),
            ("SETNAME <name>", "Assign the name <name> to the current connection."),
            (
                "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT] [NOLOOP]",
                "Control server assisted client side caching.",
            ),
            ("TRACKINGINFO", "Report the tracking status of the current connection."),
            ("UNBLOCK <clientid> [TIMEOUT|ERROR]", "Unblock the specified blocked client."),
            ("UNPAUSE", "Stop the current client pause, resuming traffic."),
        ],
    );
    Ok(())
}

/// No spaces, line ends or other bytes that would break CLIENT LIST.
pub(super) fn check_name(name: &[u8]) -> CommandResult {
    if name.iter().all(|byte| matches!(byte, b'!'..=b'~')) {
        return Ok(());
    }
    Err(CommandError::Text(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

fn getname(call: &mut Call<'_>) -> CommandResult {
    if call.session.name.is_empty() {
        call.reply.null();
    } else {
        call.reply.bulk(&call.session.name);
    }
    Ok(())
}

fn setname(call: &mut Call<'_>) -> CommandResult {
    check_name(call.args.at(2))?;
    call.session.name = call.args.at(2).to_vec();
    changed(call)
}

fn setinfo(call: &mut Call<'_>) -> CommandResult {
    let (option, value) = (call.args.at(2).to_ascii_lowercase(), call.args.at(3));
    let library = &mut call.session.library;
    let place = match option.as_slice() {
        b"lib-name" => &mut library.0,
        b"lib-ver" => &mut library.1,
        _ => {
            let text = [b"ERR Unrecognized option '", call.args.at(2), b"'"].concat();
            return Err(CommandError::Owned(text));
        }
    };
    if !value.iter().all(|byte| matches!(byte, b'!'..=b'~')) {
        let text =
            [b"ERR ", &option[..], b" cannot contain spaces, newlines or special characters."]
                .concat();
        return Err(CommandError::Owned(text));
    }
    *place = value.to_vec();
    changed(call)
}

/// Shows the session's change in CLIENT LIST and answers OK.
fn changed(call: &mut Call<'_>) -> CommandResult {
    call.instance.clients.update(call.session);
    call.reply.ok();
    Ok(())
}

fn id(call: &mut Call<'_>) -> CommandResult {
    call.reply.integer(call.session.id as i64);
    Ok(())
}

fn no_evict(call: &mut Call<'_>) -> CommandResult {
    switch(call, State::NO_EVICT)
}

fn no_touch(call: &mut Call<'_>) -> CommandResult {
    switch(call, State::NO_TOUCH)
}

fn switch(call: &mut Call<'_>, state: State) -> CommandResult {
    let on = match call.args.at(2) {
        word if word.eq_ignore_ascii_case(b"on") => true,
        word if word.eq_ignore_ascii_case(b"off") => false,
        _ => return Err(CommandError::Syntax),
    };
    call.session.state.set(state, on);
    changed(call)
}

fn reply(call: &mut Call<'_>) -> CommandResult {
    let state = &mut call.session.state;
    match call.args.at(2) {
        word if word.eq_ignore_ascii_case(b"on") => {
            state.set(State::REPLY_OFF.and(State::SKIP_NEXT).and(State::SKIPPING), false);
            call.reply.ok();
        }
        word if word.eq_ignore_ascii_case(b"off") => state.set(State::REPLY_OFF, true),
        word if word.eq_ignore_ascii_case(b"skip") => {
            let off = state.has(State::REPLY_OFF);
            state.set(State::SKIP_NEXT, !off);
        }
        _ => return Err(CommandError::Syntax),
    }
    Ok(())
}

fn info(call: &mut Call<'_>) -> CommandResult {
    let client = call.instance.clients.of(call.session).cloned().unwrap_or_default();
    let client = Client { id: call.session.id, session: Some(call.session.clone()), ..client };
    let command = Sent::of(call);
    let line = describe(&client, redirection(call.instance, client.id), &command, call.now_ms);
    call.reply.verbatim("txt", line.as_bytes());
    Ok(())
}

/// The line of CLIENT LIST about a session.
pub(in crate::store) fn line_of(instance: &Instance, session: &Session, now_ms: u64) -> String {
    let alone = Client {
        id: session.id,
        connected_ms: now_ms,
        active_ms: now_ms,
        session: Some(session.clone()),
        ..Client::default()
    };
    let client = instance.clients.of(session).unwrap_or(&alone);
    describe(client, redirection(instance, client.id), &Sent::default(), now_ms)
}

fn list(call: &mut Call<'_>) -> CommandResult {
    let mut ids: Option<Vec<u64>> = None;
    let mut kind = None;
    match call.args.get(2) {
        None => {}
        Some(option) if option.eq_ignore_ascii_case(b"type") && call.args.len() == 4 => {
            kind = Some(ClientType::parse(call.args.at(3))?);
        }
        Some(option) if option.eq_ignore_ascii_case(b"id") && call.args.len() > 3 => {
            let parse = |argument| strict_integer(argument).and_then(|id| u64::try_from(id).ok());
            let parsed: Option<Vec<u64>> = call.args.from(3).iter().map(parse).collect();
            ids = Some(parsed.ok_or(CommandError::Text("ERR Invalid client ID"))?);
        }
        Some(_) => return Err(CommandError::Syntax),
    }
    let listed = |client: &&Client| {
        kind.is_none_or(|kind| kind == ClientType::of(client))
            && ids.as_ref().is_none_or(|ids| ids.contains(&client.id))
    };
    call.instance.clients.update(call.session);
    let sent = Sent::of(call);
    let mut text = String::new();
    for client in call.instance.clients.sorted().into_iter().filter(listed) {
        let sent = if client.id == call.session.id { sent } else { Sent::default() };
        text += &describe(client, redirection(call.instance, client.id), &sent, call.now_ms);
    }
    call.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientType {
    Normal,
    PubSub,
    Other,
}

impl ClientType {
    fn parse(name: &[u8]) -> Result<ClientType, CommandError> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(ClientType::Normal),
            b"pubsub" => Ok(ClientType::PubSub),
            b"master" | b"replica" | b"slave" => Ok(ClientType::Other),
            _ => Err(CommandError::Owned([b"ERR Unknown client type '", name, b"'"].concat())),
        }
    }

    fn of(client: &Client) -> ClientType {
        match &client.session {
            Some(session) if session.state.has(State::SUBSCRIBED) => ClientType::PubSub,
            _ => ClientType::Normal,
        }
    }
}

/// Bytes of a client's command that runs.
#[derive(Clone, Copy, Default)]
struct Sent {
    /// As it came.
    input: usize,
    /// Its words.
    words: usize,
}

impl Sent {
    fn of(call: &Call<'_>) -> Sent {
        let digits = |number: usize| number.checked_ilog10().unwrap_or_default() as usize + 1;
        let words = call.args.iter().map(<[u8]>::len).sum();
        let framed = |word: &[u8]| digits(word.len()) + word.len() + b"$\r\n\r\n".len();
        let heading = digits(call.args.len()) + b"*\r\n".len();
        Sent { input: heading + call.args.iter().map(framed).sum::<usize>(), words }
    }
}

/// Whom tracking's messages of a client go to; -1: it doesn't track.
fn redirection(instance: &Instance, id: u64) -> i64 {
    let tracker = instance.tracking.tracker(id);
    tracker.map_or(-1, |tracker| tracker.redirect.unwrap_or_default() as i64)
}

/// One line of CLIENT LIST, in Redis 7.4's order of fields. What its connection
/// holds is what its worker told last.
fn describe(client: &Client, redirection: i64, sent: &Sent, now_ms: u64) -> String {
    let fresh = Session::new(client.id);
    let session = client.session.as_ref().unwrap_or(&fresh);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let seconds = |since: u64| now_ms.saturating_sub(since) / 1000;
    let mut flags = String::new();
    const SHOWN: [(State, char); 4] = [
        (State::REPLICA, 'S'),
        (State::MONITOR, 'O'),
        (State::SUBSCRIBED, 'P'),
        (State::TRACKING, 't'),
    ];
    for (state, flag) in SHOWN {
        if session.state.has(state) {
            flags.push(flag);
        }
    }
    if session.wait.is_some() {
        flags.push('b');
    }
    if session.transaction.is_some() {
        flags.push('x');
    }
    if session.state.has(State::NO_EVICT) {
        flags.push('e');
    }
    if session.state.has(State::NO_TOUCH) {
        flags.push('T');
    }
    let transaction = session.transaction.as_deref();
    let multi = transaction.map_or(-1, |transaction| transaction.queued.len() as i64);
    let multi_bytes = transaction.map_or(0, |transaction| transaction.bytes);
    // Its own command isn't among what its worker told last.
    let input = sent.input.max(client.buffers.input);
    let multi_bytes = multi_bytes.max(client.buffers.queued);
    let buffers = Buffers { input, queued: multi_bytes, ..client.buffers };
    let total = client_bytes(client, buffers) + sent.words as u64;
    let (output, pieces) = (buffers.output, usize::from(buffers.output > 0));
    format!(
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={multi} watch={} \
         qbuf={} qbuf-free=0 argv-mem={} multi-mem={multi_bytes} rbs=0 rbp=0 obl=0 oll={pieces} omem={output} tot-mem={total} events=r \
         cmd={} user={} redir={redirection} resp={} lib-name={} lib-ver={}\n",
        client.id,
        client.address,
        client.local_address,
        text(&session.name),
        seconds(client.connected_ms),
        seconds(client.active_ms),
        if flags.is_empty() { "N" } else { &flags },
        session.database,
        session.subscriptions[0],
        session.subscriptions[1],
        session.subscriptions[2],
        session.watched.len(),
        input,
        sent.words,
        client.command.map_or_else(|| "NULL".to_owned(), |id| table().full_name(id)),
        text(session.user_name()),
        if session.resp3 { 3 } else { 2 },
        text(&session.library.0),
        text(&session.library.1),
    )
}

/// Whom CLIENT KILL means.
struct Filter<'a> {
    id: Option<u64>,
    address: Option<&'a [u8]>,
    local_address: Option<&'a [u8]>,
    user: Option<&'a [u8]>,
    older_than_s: Option<u64>,
    kind: Option<ClientType>,
    skip_me: bool,
}

fn kill(call: &mut Call<'_>) -> CommandResult {
    let mut filter = Filter {
        id: None,
        address: None,
        local_address: None,
        user: None,
        older_than_s: None,
        kind: None,
        skip_me: true,
    };
    let old_form = call.args.len() == 3;
    if old_form {
        filter.address = Some(call.args.at(2));
        filter.skip_me = false;
    } else {
        parse_filter(call, &mut filter)?;
    }
    let chosen = |client: &&Client| filter.chooses(client, call.session.id, call.now_ms);
    let all = call.instance.clients.sorted();
    let victims: Vec<(u64, u64)> =
        all.into_iter().filter(chosen).map(|client| (client.id, client.connection)).collect();
    for (id, connection) in &victims {
        if *id == call.session.id {
            call.session.state.set(State::CLOSING, true);
        } else {
            call.instance.clients.deliver(Delivery::Close { connection: *connection });
        }
    }
    match (old_form, victims.len()) {
        (true, 0) => return Err(CommandError::Text("ERR No such client")),
        (true, _) => call.reply.ok(),
        (false, count) => call.reply.integer(count as i64),
    }
    Ok(())
}

fn parse_filter<'a>(call: &Call<'a>, filter: &mut Filter<'a>) -> CommandResult {
    let options = call.args.from(2);
    for index in (0..options.len()).step_by(2) {
        let option = options.at(index);
        let value = options.get(index + 1).ok_or(CommandError::Syntax)?;
        let positive =
            || strict_integer(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
        match option.to_ascii_lowercase().as_slice() {
            b"id" => {
                let error = CommandError::Text("ERR client-id should be greater than 0");
                filter.id = Some(positive().ok_or(error)?);
            }
            b"addr" => filter.address = Some(value),
            b"laddr" => filter.local_address = Some(value),
            b"type" => filter.kind = Some(ClientType::parse(value)?),
            b"user" if call.instance.acl.user(value).is_some() => filter.user = Some(value),
            b"user" => {
                return Err(CommandError::Owned([b"ERR No such user '", value, b"'"].concat()));
            }
            b"maxage" => {
                let error = CommandError::Text("ERR maxage should be greater than 0");
                filter.older_than_s = Some(positive().ok_or(error)?);
            }
            b"skipme" if value.eq_ignore_ascii_case(b"yes") => filter.skip_me = true,
            b"skipme" if value.eq_ignore_ascii_case(b"no") => filter.skip_me = false,
            _ => return Err(CommandError::Syntax),
        }
    }
    Ok(())
}

impl Filter<'_> {
    fn chooses(&self, client: &Client, me: u64, now_ms: u64) -> bool {
        let same = |wanted: Option<&[u8]>, found: &str| {
            wanted.is_none_or(|wanted| wanted == found.as_bytes())
        };
        let age_s = now_ms.saturating_sub(client.connected_ms) / 1000;
        let skipped = self.skip_me && client.id == me;
        !skipped
            && self.kind.is_none_or(|kind| kind == ClientType::of(client))
            && self.id.is_none_or(|id| id == client.id)
            && same(self.address, &client.address)
            && same(self.local_address, &client.local_address)
            && self.user.is_none_or(|user| {
                client.session.as_ref().is_some_and(|session| session.user_name() == user)
            })
            && self.older_than_s.is_none_or(|least| age_s >= least)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::clients::{Client, Delivery};
    use crate::store::commands::testing::{check, check_resp3};
    use crate::store::{Settings, SharedStore};

    #[test]
    fn names() {
        check(&[
            ("CLIENT GETNAME", "$-1"),
            ("CLIENT SETNAME worker-1", "+OK"),
            ("CLIENT GETNAME", "$8 worker-1"),
            (
                "CLIENT SETNAME \u{7f}",
                "-ERR Client names cannot contain spaces, newlines or special characters.",
            ),
            ("CLIENT SETINFO LIB-NAME redis-py", "+OK"),
            ("CLIENT SETINFO lib-foo x", "-ERR Unrecognized option 'lib-foo'"),
            (
                "CLIENT SETINFO lib-ver \u{1}",
                "-ERR lib-ver cannot contain spaces, newlines or special characters.",
            ),
            ("RESET", "+RESET"),
            ("CLIENT GETNAME", "$-1"),
        ]);
        check_resp3(&[("CLIENT GETNAME", "_"), ("CLIENT GETREDIR", ":-1"), ("CLIENT ID", ":1")]);
    }

    #[test]
    fn refusals_keep_the_connection() {
        check(&[
            (
                "CLIENT MAINT_NOTIFICATIONS ON",
                "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.",
            ),
            ("CLIENT SETNAME", "-ERR wrong number of arguments for 'client|setname' command"),
            ("CLIENT", "-ERR wrong number of arguments for 'client' command"),
            ("CLIENT LIST TYPE foo", "-ERR Unknown client type 'foo'"),
            ("CLIENT LIST ID a", "-ERR Invalid client ID"),
            ("CLIENT LIST FOO", "-ERR syntax error"),
            ("CLIENT KILL 1.1.1.1:1", "-ERR No such client"),
            ("CLIENT KILL ID x", "-ERR client-id should be greater than 0"),
            ("CLIENT KILL FOO x", "-ERR syntax error"),
            ("CLIENT KILL ID 99", ":0"),
            ("CLIENT REPLY foo", "-ERR syntax error"),
            ("CLIENT NO-EVICT foo", "-ERR syntax error"),
        ]);
    }

    #[test]
    fn replies_can_be_switched_off() {
        check(&[
            ("CLIENT REPLY OFF", ""),
            ("PING", ""),
            ("FOO", ""),
            ("CLIENT REPLY ON", "+OK"),
            ("CLIENT REPLY SKIP", ""),
            ("PING", ""),
            ("PING", "+PONG"),
            ("CLIENT REPLY SKIP", ""),
            ("CLIENT REPLY ON", "+OK"),
            ("PING", "+PONG"),
        ]);
    }

    #[test]
    fn the_list_names_clients_and_kill_ends_them() {
        let store = SharedStore::new(&Settings { now_ms: 1_000, ..Settings::default() });
        let connect = |port: u16| {
            let address = format!("127.0.0.1:{port}");
            store.connect(
                Client { address, connection: u64::from(port), ..Client::default() },
                1_000,
            )
        };
        let (mut first, _second) = (connect(1), connect(2));
        let mut run = |line: &str| {
            let (words, mut out): (Vec<&[u8]>, _) =
                (line.split(' ').map(str::as_bytes).collect(), Vec::new());
            store.call(&mut first, &words, 5_000, &mut out);
            String::from_utf8(out).expect("replies of these commands are text")
        };
        run("CLIENT SETNAME me");
        run("SELECT 3");
        let list = run("CLIENT LIST");
        let lines: Vec<&str> =
            list.split_terminator("\r\n").nth(1).unwrap_or_default().lines().collect();
        assert!(
            lines[0].starts_with(
                "id=1 addr=127.0.0.1:1 laddr= fd=-1 name=me age=4 idle=0 flags=N db=3 "
            )
        );
        assert!(
            lines[0].contains(" cmd=client|list ") && lines[1].contains(" cmd=NULL "),
            "{list}"
        );
        assert!(lines[1].starts_with("id=2 addr=127.0.0.1:2 "));
        assert!(run("CLIENT LIST ID 2").contains("id=2"));
        assert_eq!(run("CLIENT KILL ADDR 127.0.0.1:2 SKIPME yes"), ":1\r\n");
        assert_eq!(store.lock(5_000).take_deliveries(), [Delivery::Close { connection: 2 }]);
    }
}
