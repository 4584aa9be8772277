//! SLOWLOG and LATENCY: what took long.

use super::{Call, Command, CommandId, CommandResult, Flags, Keys, help, table};
use crate::proto::resp::strict_integer;
use crate::store::observe::latency::Event;
use crate::store::{CommandError, Reply};

const FLAGS: Flags = Flags::ADMIN.and(Flags::LOADING).and(Flags::STALE);
/// What SLOWLOG GET shows by itself.
const SLOW_SHOWN: usize = 10;
/// Columns of LATENCY GRAPH.
const COLUMNS: usize = 80;

/// This file's rows.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command {
        flags: Flags(0),
        subcommands: &[
            row("doctor", 2, "Says what events took long and what to do", "2.8.13", doctor),
            row("graph", 3, "Draws the times of an event", "2.8.13", graph),
            row("help", 2, "Lists the subcommands", "2.8.13", latency_usage),
            row("histogram", -2, "Returns how long commands took, by powers of two", "7.0.0", histogram),
            row("history", 3, "Returns the times of an event", "2.8.13", history),
            row("latest", 2, "Returns the last time of each event", "2.8.13", latest),
            row("reset", -2, "Forgets events", "2.8.13", latency_reset),
        ],
        ..row("latency", -2, "A container for commands about the latency monitor", "2.8.13", latency_usage)
    },
    Command {
        flags: Flags(0),
        subcommands: &[
            row("get", -2, "Returns entries of the slow log", "2.2.12", slow_get),
            row("help", 2, "Lists the subcommands", "6.2.0", slow_usage),
            row("len", 2, "Returns the number of entries in the slow log", "2.2.12", slow_len),
            row("reset", 2, "Empties the slow log", "2.2.12", slow_reset),
        ],
        ..row("slowlog", -2, "A container for commands about the slow log", "2.2.12", slow_usage)
    },
];

const fn row(
    name: &'static str,
    arity: i16,
    summary: &'static str,
    since: &'static str,
    run: fn(&mut Call<'_>) -> CommandResult,
) -> Command {
    let (flags, keys) = (FLAGS, Keys::NONE);
    Command { name, arity, flags, keys, group: "server", summary, since, run, subcommands: &[] }
}

fn slow_usage(call: &mut Call<'_>) -> CommandResult {
    let lines = [
        (
            "GET [<count>]",
            "Return top <count> entries from the slowlog (default: 10, -1 mean all): id, timestamp, time in microseconds, \
             arguments array, client IP and port, client name.",
        ),
        ("LEN", "Return the length of the slowlog."),
        ("RESET", "Reset the slowlog."),
    ];
    help(&mut call.reply, "SLOWLOG", &lines);
    Ok(())
}

fn slow_len(call: &mut Call<'_>) -> CommandResult {
    call.reply.integer(call.instance.observed.slow_log.entries().len() as i64);
    Ok(())
}

fn slow_reset(call: &mut Call<'_>) -> CommandResult {
    call.instance.observed.slow_log.clear();
    call.reply.ok();
    Ok(())
}

fn slow_get(call: &mut Call<'_>) -> CommandResult {
    const LEAST: &str = "ERR count should be greater than or equal to -1";
    let count = match call.args.get(2) {
        None => SLOW_SHOWN,
        Some(_) if call.args.len() > 3 => return Err(CommandError::Syntax),
        Some(count) => match strict_integer(count).ok_or(CommandError::NotInteger)? {
            -1 => usize::MAX,
            count => usize::try_from(count).map_err(|_| CommandError::Text(LEAST))?,
        },
    };
    let (entries, reply) = (call.instance.observed.slow_log.entries(), &mut call.reply);
    reply.array(count.min(entries.len()));
    for entry in entries.take(count) {
        reply.array(6);
        reply.integer(entry.id as i64);
        reply.integer(entry.at_s as i64);
        reply.integer(entry.us as i64);
        reply.array(entry.args.len());
        entry.args.iter().for_each(|argument| reply.bulk(argument));
        reply.bulk(entry.address.as_bytes());
        reply.bulk(&entry.name);
    }
    Ok(())
}

fn latency_usage(call: &mut Call<'_>) -> CommandResult {
    let lines = [
        ("DOCTOR", "Return a human readable latency analysis report."),
        ("GRAPH <event>", "Return an ASCII latency graph for the <event> class."),
        ("HISTORY <event>", "Return time-latency samples for the <event> class."),
        ("LATEST", "Return the latest latency samples for all events."),
        (
            "RESET [<event> ...]",
            "Reset latency data of one or more <event> classes, of all by default.",
        ),
        (
            "HISTOGRAM [COMMAND ...]",
            "Return a cumulative distribution of latencies in the format of a histogram for the specified commands.",
        ),
    ];
    help(&mut call.reply, "LATENCY", &lines);
    Ok(())
}

fn history(call: &mut Call<'_>) -> CommandResult {
    let event = call.instance.observed.latency.event(call.args.at(2));
    let samples = event.map(|event| event.samples.iter());
    call.reply.array(samples.as_ref().map_or(0, ExactSizeIterator::len));
    for (second, ms) in samples.into_iter().flatten() {
        call.reply.array(2);
        call.reply.integer(*second as i64);
        call.reply.integer(*ms as i64);
    }
    Ok(())
}

fn latest(call: &mut Call<'_>) -> CommandResult {
    let events = call.instance.observed.latency.events();
    call.reply.array(events.len());
    for (name, event) in events {
        let (second, ms) = event.samples.back().copied().unwrap_or_default();
        call.reply.array(4);
        call.reply.bulk(name.as_bytes());
        [second, ms, event.max_ms].into_iter().for_each(|value| call.reply.integer(value as i64));
    }
    Ok(())
}

fn latency_reset(call: &mut Call<'_>) -> CommandResult {
    let names: Vec<&[u8]> = call.args.from(2).iter().collect();
    let gone = call.instance.observed.latency.reset(&names);
    call.reply.integer(gone as i64);
    Ok(())
}

fn doctor(call: &mut Call<'_>) -> CommandResult {
    let mut text = String::new();
    if call.instance.config.latency_threshold_ms == 0 {
        text += "The latency monitor is off: CONFIG SET latency-monitor-threshold <milliseconds> turns it on.\n";
    }
    for (name, event) in call.instance.observed.latency.events() {
        let count = event.samples.len().max(1) as u64;
        let mean = event.samples.iter().map(|(_, ms)| ms).sum::<u64>() / count;
        text += &format!(
            "{name}: {} latency spikes (average {mean}ms, worst {}ms). SLOWLOG GET tells which commands.\n",
            event.samples.len(),
            event.max_ms
        );
    }
    if text.is_empty() {
        text += "No latency spike was observed since the latency data was last reset.\n";
    }
    call.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn graph(call: &mut Call<'_>) -> CommandResult {
    let name = call.args.at(2);
    let Some(event) = call.instance.observed.latency.event(name) else {
        let shown = String::from_utf8_lossy(name);
        let text = format!("ERR No samples available for event '{shown}'");
        return Err(CommandError::Owned(text.into_bytes()));
    };
    let text = drawn(&String::from_utf8_lossy(name), event);
    call.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// Four rows of columns, the newest sample on the right.
fn drawn(name: &str, event: &Event) -> String {
    const ROWS: u64 = 4;
    let skipped = event.samples.len().saturating_sub(COLUMNS);
    let times: Vec<u64> = event.samples.iter().skip(skipped).map(|(_, ms)| *ms).collect();
    let high = times.iter().copied().max().unwrap_or_default();
    let low = times.iter().copied().min().unwrap_or_default();
    let mut text =
        format!("{name} - high {high} ms, low {low} ms (all time high {} ms)\n", event.max_ms);
    text += &"-".repeat(COLUMNS);
    text.push('\n');
    for level in (0..ROWS).rev() {
        let mark = |ms: &u64| if ms * ROWS > level * high.max(1) { '#' } else { ' ' };
        text.extend(times.iter().map(mark));
        text.push('\n');
    }
    text
}

fn histogram(call: &mut Call<'_>) -> CommandResult {
    let names = call.args.from(2);
    let asked: Vec<CommandId> = match names.len() {
        0 => table().ids().collect(),
        _ => names.iter().filter_map(super::introspection::find).flat_map(with_children).collect(),
    };
    let observed = &call.instance.observed.histograms;
    let found =
        |id: CommandId| observed.get(id.index()).and_then(Option::as_ref).map(|one| (id, one));
    let found: Vec<_> =
        asked.into_iter().filter_map(found).filter(|(_, one)| one.total() > 0).collect();
    let reply: &mut Reply<'_> = &mut call.reply;
    reply.map(found.len());
    for (id, one) in found {
        reply.bulk(table().full_name(id).as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(one.total() as i64);
        reply.bulk(b"histogram_usec");
        let steps = one.doublings();
        reply.map(steps.len());
        for (us, count) in steps {
            reply.integer(us as i64);
            reply.integer(count as i64);
        }
    }
    Ok(())
}

/// A container's subcommands, or the command itself.
fn with_children(id: CommandId) -> Vec<CommandId> {
    let children = table().row(id).subcommands.iter();
    let children: Vec<CommandId> =
        children.filter_map(|row| table().subcommand(id, row.name.as_bytes())).collect();
    if children.is_empty() { vec![id] } else { children }
}

#[cfg(test)]
mod tests {
    use crate::store::commands::table;
    use crate::store::commands::testing::Client;
    use crate::store::{ArgsBuffer, Session};

    fn timed(client: &mut Client, line: &str, us: u64) {
        let mut args = ArgsBuffer::default();
        args.extend(line.split(' ').map(str::as_bytes));
        let id = table().resolve(args.args());
        let session = Session::new(1);
        client.store.instance.on_timed(&session, id, args.args(), (us * 1000, client.now_ms));
    }

    #[test]
    fn the_slow_log_keeps_what_is_slow_and_no_secrets() {
        let mut client = Client::resp2();
        timed(&mut client, "GET fast", 9_999);
        timed(&mut client, "GET a", 10_000);
        timed(&mut client, "AUTH secret", 20_000);
        timed(&mut client, "CONFIG SET requirepass secret", 20_000);
        timed(&mut client, &format!("SADD s {}", "m ".repeat(40).trim()), 20_000);
        timed(&mut client, &format!("SET k {}", "x".repeat(200)), 20_000);
        client.check(&[
            ("SLOWLOG LEN", ":4"),
            ("SLOWLOG GET -2", "-ERR count should be greater than or equal to -1"),
        ]);
        let log = client.run("SLOWLOG GET");
        assert!(log.contains("$10 (redacted)") && !log.contains("secret"), "{log}");
        assert!(
            log.contains("... (11 more arguments)") && log.contains("... (72 more bytes)"),
            "{log}"
        );
        client.check(&[
            ("SLOWLOG GET 0", "*0"),
            ("CONFIG SET slowlog-max-len 1", "+OK"),
            ("SLOWLOG RESET", "+OK"),
        ]);
        timed(&mut client, "GET a", 10_000);
        timed(&mut client, "GET b", 10_000);
        client.check(&[("SLOWLOG GET 5", "*1 *6 :5 :1000 :10000 *2 $3 GET $1 b $0  $0")]);
    }

    #[test]
    fn latency_events() {
        let mut client = Client::resp2();
        timed(&mut client, "KEYS *", 500_000);
        client.check(&[
            ("LATENCY LATEST", "*0"),
            ("CONFIG SET latency-monitor-threshold 200", "+OK"),
        ]);
        timed(&mut client, "KEYS *", 500_000);
        client.now_ms += 1000;
        timed(&mut client, "KEYS *", 300_000);
        timed(&mut client, "GET a", 250_000);
        client.check(&[
            ("LATENCY HISTORY command", "*2 *2 :1000 :500 *2 :1001 :300"),
            (
                "LATENCY LATEST",
                "*2 *4 $7 command :1001 :300 :500 *4 $12 fast-command :1001 :250 :250",
            ),
            ("LATENCY GRAPH none", "-ERR No samples available for event 'none'"),
            ("LATENCY RESET none command", ":1"),
            ("LATENCY RESET", ":1"),
        ]);
        assert!(
            client
                .run("LATENCY HISTOGRAM keys")
                .starts_with("*2 $4 keys *4 $5 calls :3 $14 histogram_usec")
        );
        let info = client.bulk("INFO latencystats");
        assert!(info.contains("latency_percentiles_usec_keys:p50="), "{info}");
    }
}
