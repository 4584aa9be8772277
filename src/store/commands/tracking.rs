//! CLIENT TRACKING, CACHING, GETREDIR and TRACKINGINFO. Rows are in `client.rs`.

use std::collections::BTreeSet;

use super::collection::is;
use super::{Call, CommandResult};
use crate::store::number::parse_integer;
use crate::store::session::State;
use crate::store::tracking::{Mode, Tracker};
use crate::store::{Args, CommandError};

struct Options {
    mode: Mode,
    no_loop: bool,
    redirect: Option<u64>,
    prefixes: Vec<Vec<u8>>,
}

impl Options {
    fn parse(call: &Call<'_>, args: Args<'_>) -> Result<Options, CommandError> {
        let mut options =
            Options { mode: Mode::Default, no_loop: false, redirect: None, prefixes: Vec::new() };
        let (mut broadcast, mut opt_in, mut opt_out) = (false, false, false);
        let mut rest = args.iter();
        while let Some(option) = rest.next() {
            match option {
                word if is(word, "redirect") => {
                    let id = rest.next().ok_or(CommandError::Syntax)?;
                    options.redirect = redirect(call, id, options.redirect)?;
                }
                word if is(word, "bcast") => broadcast = true,
                word if is(word, "optin") => opt_in = true,
                word if is(word, "optout") => opt_out = true,
                word if is(word, "noloop") => options.no_loop = true,
                word if is(word, "prefix") => {
                    options.prefixes.push(rest.next().ok_or(CommandError::Syntax)?.to_vec());
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        let refuse = |text| Err(CommandError::Text(text));
        options.mode = match (broadcast, opt_in, opt_out) {
            (false, ..) if !options.prefixes.is_empty() => {
                return refuse("ERR PREFIX option requires BCAST mode to be enabled");
            }
            (true, true, _) | (true, _, true) => {
                return refuse("ERR OPTIN and OPTOUT are not compatible with BCAST");
            }
            (_, true, true) => {
                return refuse("ERR You can't specify both OPTIN mode and OPTOUT mode");
            }
            (true, false, false) => Mode::Broadcast,
            (false, true, false) => Mode::OptIn,
            (false, false, true) => Mode::OptOut,
            (false, false, false) => Mode::Default,
        };
        Ok(options)
    }
}

fn redirect(call: &Call<'_>, id: &[u8], before: Option<u64>) -> Result<Option<u64>, CommandError> {
    if before.is_some() {
        return Err(CommandError::Text("ERR A client can only redirect to a single other client"));
    }
    let id = parse_integer(id).ok_or(CommandError::NotInteger)?;
    let Some(id) = u64::try_from(id).ok().filter(|id| *id > 0) else { return Ok(None) };
    if id != call.session.id && call.instance.clients.row_of(id).is_none() {
        return Err(CommandError::Text("ERR The client ID you want redirect to does not exist"));
    }
    Ok(Some(id))
}

/// `CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX prefix ...] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]`
pub(super) fn tracking(call: &mut Call<'_>) -> CommandResult {
    let options = Options::parse(call, call.args.from(3))?;
    if is(call.args.at(2), "off") {
        end(call);
        call.reply.ok();
        return Ok(());
    }
    if !is(call.args.at(2), "on") {
        return Err(CommandError::Syntax);
    }
    let Some(row) = call.session.row else {
        return Err(CommandError::Text("ERR only a connection can track keys"));
    };
    let id = call.session.id;
    let mut prefixes = BTreeSet::new();
    if let Some(before) = call.instance.tracking.of(id) {
        check_switch(before.mode, options.mode)?;
        prefixes = before.prefixes.clone();
    }
    let Options { mode, no_loop, redirect, prefixes: fresh } = options;
    if mode == Mode::Broadcast && fresh.is_empty() {
        // All keys: they begin with nothing.
        prefixes.insert(Vec::new());
    }
    for (at, prefix) in fresh.iter().enumerate() {
        check_prefix(prefix, ("an existing", prefixes.iter()))?;
        check_prefix(prefix, ("another provided", fresh[at + 1..].iter()))?;
    }
    prefixes.extend(fresh);
    let tracker = Tracker { row, mode, no_loop, redirect, prefixes, caching: false, broken: false };
    call.instance.tracking.start(id, tracker);
    call.session.state.set(State::TRACKING, true);
    call.instance.look_for_observers(call.keyspace);
    call.instance.clients.update(call.session);
    call.reply.ok();
    Ok(())
}

fn check_switch(before: Mode, after: Mode) -> CommandResult {
    if (before == Mode::Broadcast) != (after == Mode::Broadcast) {
        return Err(CommandError::Text(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        ));
    }
    let opts = |mode| matches!(mode, Mode::OptIn | Mode::OptOut);
    if before != after && opts(before) && opts(after) {
        return Err(CommandError::Text(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        ));
    }
    Ok(())
}

/// A key shall not be told twice.
fn check_prefix<'a>(
    prefix: &[u8],
    (which, mut others): (&str, impl Iterator<Item = &'a Vec<u8>>),
) -> CommandResult {
    let overlaps = |other: &&Vec<u8>| other.starts_with(prefix) || prefix.starts_with(other);
    let Some(other) = others.find(overlaps) else { return Ok(()) };
    let (prefix, other) = (String::from_utf8_lossy(prefix), String::from_utf8_lossy(other));
    let text = format!(
        "ERR Prefix '{prefix}' overlaps with {which} prefix '{other}'. Prefixes for a single client must not overlap."
    );
    Err(CommandError::Owned(text.into_bytes()))
}

/// The client doesn't track any more.
pub(in crate::store) fn end(call: &mut Call<'_>) {
    if call.session.state.has(State::TRACKING) {
        call.session.state.set(State::TRACKING, false);
        call.instance.tracking.end(call.session.id);
        call.instance.look_for_observers(call.keyspace);
        call.instance.clients.update(call.session);
    }
}

/// `CLIENT CACHING YES|NO`
pub(super) fn caching(call: &mut Call<'_>) -> CommandResult {
    let mode = call.instance.tracking.of(call.session.id).map(|tracker| tracker.mode);
    let Some(mode @ (Mode::OptIn | Mode::OptOut)) = mode else {
        return Err(CommandError::Text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    let refuse = |text| Err(CommandError::Text(text));
    match call.args.at(2) {
        word if is(word, "yes") && mode != Mode::OptIn => {
            return refuse(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            );
        }
        word if is(word, "no") && mode != Mode::OptOut => {
            return refuse(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            );
        }
        word if is(word, "yes") || is(word, "no") => {}
        _ => return Err(CommandError::Syntax),
    }
    if let Some(tracker) = call.instance.tracking.of(call.session.id) {
        tracker.caching = true;
    }
    call.reply.ok();
    Ok(())
}

/// -1: doesn't track; 0: is told itself.
pub(super) fn getredir(call: &mut Call<'_>) -> CommandResult {
    let redirect = match call.instance.tracking.of(call.session.id) {
        Some(tracker) => tracker.redirect.unwrap_or_default() as i64,
        None => -1,
    };
    call.reply.integer(redirect);
    Ok(())
}

pub(super) fn trackinginfo(call: &mut Call<'_>) -> CommandResult {
    let tracker = call.instance.tracking.of(call.session.id).cloned();
    let mut flags = vec![if tracker.is_some() { "on" } else { "off" }];
    let mut redirect = -1;
    if let Some(tracker) = &tracker {
        redirect = tracker.redirect.unwrap_or_default() as i64;
        let (mode, caching) = match tracker.mode {
            Mode::Default => (None, None),
            Mode::Broadcast => (Some("bcast"), None),
            Mode::OptIn => (Some("optin"), Some("caching-yes")),
            Mode::OptOut => (Some("optout"), Some("caching-no")),
        };
        flags.extend(mode);
        flags.extend(caching.filter(|_| tracker.caching));
        flags.extend(Some("noloop").filter(|_| tracker.no_loop));
        flags.extend(Some("broken_redirect").filter(|_| tracker.broken));
    }
    let reply = &mut call.reply;
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.integer(redirect);
    reply.bulk(b"prefixes");
    let prefixes = tracker.map(|tracker| tracker.prefixes).unwrap_or_default();
    reply.array(prefixes.len());
    prefixes.iter().for_each(|prefix| reply.bulk(prefix));
    Ok(())
}
