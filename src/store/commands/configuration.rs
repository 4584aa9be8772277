//! CONFIG: reads and changes the parameters of `config.rs`.

use super::{Call, Command, CommandResult, Flags, Keys, help};
use crate::store::config::{Known, Refusal};
use crate::store::execute::until_nul;
use crate::store::instance::Attention;
use crate::store::{CommandError, glob};

const FLAGS: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE);

/// This file's rows.
pub const COMMANDS: &[Command] = &[Command {
    flags: Flags(0),
    subcommands: &[
        row("get", -3, "Returns parameters by name or pattern", "2.0.0", get),
        row("help", 2, "Lists the subcommands", "5.0.0", usage),
        row("resetstat", 2, "Sets the counters to zero", "2.0.0", resetstat),
        row("rewrite", 2, "Writes the parameters to the configuration file", "2.8.0", rewrite),
        row("set", -4, "Changes parameters", "2.0.0", set),
    ],
    ..row("config", -2, "A container for commands about parameters", "2.0.0", usage)
}];

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

fn usage(call: &mut Call<'_>) -> CommandResult {
    help(
        &mut call.reply,
        "CONFIG",
        &[
            (
                "GET <pattern>",
                "Return parameters matching the glob-like <pattern> and their values.",
            ),
            ("SET <directive> <value>", "Set the configuration <directive> to <value>."),
            ("RESETSTAT", "Reset statistics reported by the INFO command."),
            ("REWRITE", "Rewrite the configuration file."),
        ],
    );
    Ok(())
}

fn get(call: &mut Call<'_>) -> CommandResult {
    let patterns: Vec<Vec<u8>> = call.args.from(2).iter().map(<[u8]>::to_ascii_lowercase).collect();
    let wanted = |known: &Known| {
        let name = known.name().as_bytes();
        let found = |pattern: &[u8]| match known.is_hidden() {
            true => pattern == name,
            false => glob::matches(pattern, name),
        };
        patterns.iter().any(|pattern| found(pattern))
    };
    let found: Vec<Known> = Known::all().filter(wanted).collect();
    call.reply.map(found.len());
    for known in found {
        call.reply.bulk(known.name().as_bytes());
        call.reply.bulk(&known.get(&call.instance.config));
    }
    Ok(())
}

/// All or nothing: the new values are tried on a copy.
fn set(call: &mut Call<'_>) -> CommandResult {
    let pairs = call.args.from(2);
    if pairs.len() % 2 == 1 {
        return Err(CommandError::Syntax);
    }
    let mut config = call.instance.config.clone();
    let mut changed: Vec<&str> = Vec::new();
    for index in (0..pairs.len()).step_by(2) {
        let (name, value) = (pairs.at(index), pairs.at(index + 1));
        let Some(known) = Known::find(name) else {
            let head = b"ERR Unknown option or number of arguments for CONFIG SET - '";
            let shown = until_nul(name, name.len());
            return Err(CommandError::Owned([&head[..], shown, b"'"].concat()));
        };
        let refused = |reason: Refusal| {
            let name = known.name();
            let text =
                format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}");
            CommandError::Owned(text.into_bytes())
        };
        if changed.contains(&known.name()) {
            return Err(refused("duplicate parameter".into()));
        }
        known.set(&mut config, value).map_err(refused)?;
        changed.push(known.name());
    }
    if config.password != call.instance.config.password {
        call.instance.acl.set_password(config.password.as_deref());
    }
    call.instance.config = config;
    let needs_replicas = call.instance.config.replicas_min > 0;
    call.instance.attention.set(Attention::NEEDS_REPLICAS, needs_replicas);
    call.instance.apply_config(call.keyspace);
    call.reply.ok();
    Ok(())
}

fn resetstat(call: &mut Call<'_>) -> CommandResult {
    let lookups = call.keyspace.statistics();
    call.instance.statistics.reset(lookups, call.now_ms);
    call.instance.observed.histograms.clear();
    call.reply.ok();
    Ok(())
}

fn rewrite(_: &mut Call<'_>) -> CommandResult {
    Err(CommandError::Text("ERR The server is running without a config file"))
}

#[cfg(test)]
mod tests {
    use crate::store::commands::testing::{Client, check, check_resp3};

    #[test]
    fn parameters_are_read_and_changed() {
        check(&[
            ("CONFIG GET nothing", "*0"),
            ("CONFIG GET DATA*", "*2 $9 databases $2 16"),
            ("CONFIG GET save appendonly save", "*4 $10 appendonly $2 no $4 save $0 "),
            ("CONFIG SET a b", "-ERR Unknown option or number of arguments for CONFIG SET - 'a'"),
            ("CONFIG SET a", "-ERR wrong number of arguments for 'config|set' command"),
            (
                "CONFIG SET databases 7",
                "-ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
            ),
            (
                "CONFIG SET requirepass a REQUIREPASS b",
                "-ERR CONFIG SET failed (possibly related to argument 'requirepass') - duplicate parameter",
            ),
            ("CONFIG GET requirepass", "*2 $11 requirepass $0 "),
            ("CONFIG SET maxmemory 1mb maxmemory-policy allkeys-lfu", "+OK"),
            ("CONFIG GET maxmemory maxmemory-policy", "*4 $9 maxmemory $7 1048576 $16 maxmemory-policy $11 allkeys-lfu"),
            (
                "CONFIG SET maxmemory 2mb maxmemory-samples 0",
                "-ERR CONFIG SET failed (possibly related to argument 'maxmemory-samples') - argument must be between 1 \
                 and 64 inclusive",
            ),
            ("CONFIG GET maxmemory", "*2 $9 maxmemory $7 1048576"),
            ("CONFIG SET maxmemory 0", "+OK"),
            ("CONFIG SET appendonly no HZ 50", "+OK"),
            ("CONFIG SET timeout 60 maxmemory-clients 5%", "+OK"),
            ("CONFIG GET timeout maxmemory-clients", "*4 $17 maxmemory-clients $2 5% $7 timeout $2 60"),
            (
                "CONFIG SET maxmemory-clients 101%",
                "-ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - percentage argument must \
                 be less or equal to 100",
            ),
            ("CONFIG GET hz", "*2 $2 hz $2 50"),
            (
                "CONFIG SET appendonly yes",
                "-ERR CONFIG SET failed (possibly related to argument 'appendonly') - this cache isn't kept on disk: \
                 socketley edit NAME --persist snapshot (or aof), then restart it",
            ),
            ("CONFIG SET hash-max-ziplist-entries 1", "+OK"),
            ("HSET h a 1 b 2", ":2"),
            ("OBJECT ENCODING h", "$9 hashtable"),
            ("CONFIG SET list-max-listpack-size 2", "+OK"),
            ("RPUSH l a b", ":2"),
            ("OBJECT ENCODING l", "$8 listpack"),
            ("RPUSH l c", ":3"),
            ("OBJECT ENCODING l", "$9 quicklist"),
            ("CONFIG SET requirepass secret", "+OK"),
            ("CONFIG GET requirepass", "*2 $11 requirepass $6 secret"),
            ("AUTH wrong", "-WRONGPASS invalid username-password pair or user is disabled."),
            ("CONFIG FOO", "-ERR unknown subcommand 'FOO'. Try CONFIG HELP."),
        ].map(|(line, reply)| (line, reply.trim_end())));
        check_resp3(&[
            ("CONFIG GET databases", "%1 $9 databases $2 16"),
            ("CONFIG GET nothing", "%0"),
        ]);
    }

    #[test]
    fn counters_start_again() {
        let mut client = Client::resp2();
        client.check(&[
            ("LPUSH l a", ":1"),
            ("LLEN l", ":1"),
            ("LLEN none", ":0"),
            ("FOO", "-ERR unknown command 'FOO', with args beginning with:"),
        ]);
        let stats = client.bulk("INFO stats commandstats");
        assert!(stats.contains("keyspace_hits:1 keyspace_misses:1 "), "{stats}");
        assert!(
            stats.contains("total_error_replies:1 ") && stats.contains("cmdstat_llen:calls=2,"),
            "{stats}"
        );
        client.check(&[("CONFIG RESETSTAT", "+OK")]);
        let stats = client.bulk("INFO stats commandstats errorstats");
        assert!(stats.contains("keyspace_hits:0 keyspace_misses:0 "), "{stats}");
        assert!(!stats.contains("cmdstat_llen") && !stats.contains("errorstat"), "{stats}");
    }
}
