//! INFO: the figures that people, clients and exporters read, under Redis's names. What isn't there isn't listed, or is 0.

use std::fmt::Write as _;

use super::{Call, CommandResult, table};
use crate::store::instance::{Instance, REDIS_VERSION};
use crate::store::{CommandError, Keyspace};

type Section = (&'static str, fn(&mut Text<'_>));

/// Sections shown without being asked for.
const DEFAULT: &[Section] = &[
    ("server", server),
    ("clients", clients),
    ("memory", memory),
    ("persistence", persistence),
    ("stats", stats),
    ("replication", replication),
    ("cpu", cpu),
    ("modules", |_| {}),
    ("errorstats", errorstats),
    ("cluster", |text| text.line("cluster_enabled", 0)),
    ("keyspace", keyspace),
];

/// Sections shown by `INFO all`.
const ON_REQUEST: &[Section] = &[("commandstats", commandstats)];

/// The text so far and where its figures come from.
struct Text<'a> {
    out: String,
    keyspace: &'a Keyspace,
    instance: &'a Instance,
    now_ms: u64,
}

/// `INFO [section ...]`
pub(super) fn info(call: &mut Call<'_>) -> CommandResult {
    let names: Vec<Vec<u8>> = call.args.from(1).iter().map(<[u8]>::to_ascii_lowercase).collect();
    let asked = |name: &str| names.iter().any(|asked| asked == name.as_bytes());
    let everything = asked("all") || asked("everything");
    let default = names.is_empty() || asked("default");
    let mut text = Text {
        out: String::new(),
        keyspace: call.keyspace,
        instance: call.instance,
        now_ms: call.now_ms,
    };
    for (section, shown) in [(DEFAULT, default || everything), (ON_REQUEST, everything)] {
        for (name, write) in section.iter().filter(|(name, _)| shown || asked(name)) {
            text.title(name);
            write(&mut text);
        }
    }
    call.reply.verbatim("txt", text.out.as_bytes());
    Ok::<(), CommandError>(())
}

impl Text<'_> {
    fn title(&mut self, name: &str) {
        let title =
            if name == "cpu" { "CPU".to_owned() } else { name[..1].to_uppercase() + &name[1..] };
        let gap = if self.out.is_empty() { "" } else { "\r\n" };
        self.out.push_str(&format!("{gap}# {title}\r\n"));
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        write!(self.out, "{name}:{value}\r\n").expect("writing to a string doesn't fail");
    }

    /// A figure in bytes, and once more for people.
    fn bytes(&mut self, name: &str, value: u64) {
        self.line(name, value);
        self.line(&format!("{name}_human"), human(value));
    }

    fn seconds(&mut self, name: &str, microseconds: u64) {
        self.line(
            name,
            format_args!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000),
        );
    }
}

/// As Redis's `bytesToHuman`.
fn human(bytes: u64) -> String {
    let scaled = |shift: u32| bytes as f64 / (1_u64 << shift) as f64;
    match bytes {
        0..0x400 => format!("{bytes}B"),
        0x400..0x10_0000 => format!("{:.2}K", scaled(10)),
        0x10_0000..0x4000_0000 => format!("{:.2}M", scaled(20)),
        0x4000_0000..0x100_0000_0000 => format!("{:.2}G", scaled(30)),
        _ => format!("{:.2}T", scaled(40)),
    }
}

fn server(text: &mut Text<'_>) {
    let uptime_s = text.now_ms.saturating_sub(text.instance.started_ms) / 1000;
    text.line("redis_version", REDIS_VERSION);
    text.line("redis_mode", "standalone");
    text.line("server_name", "socketley");
    text.line("socketley_version", env!("CARGO_PKG_VERSION"));
    text.line("cache_name", &text.instance.name);
    text.line("os", "Linux");
    text.line("arch_bits", usize::BITS);
    text.line("multiplexing_api", "io_uring");
    text.line("process_id", text.instance.process.id);
    text.line("run_id", &text.instance.run_id);
    text.line("tcp_port", text.instance.config.port);
    text.line("server_time_usec", text.now_ms * 1000);
    text.line("uptime_in_seconds", uptime_s);
    text.line("uptime_in_days", uptime_s / 86_400);
}

fn clients(text: &mut Text<'_>) {
    text.line("connected_clients", text.instance.clients.len());
    text.line("cluster_connections", 0);
    text.line("blocked_clients", 0);
    text.line("tracking_clients", 0);
}

fn memory(text: &mut Text<'_>) {
    let process = text.instance.process;
    let used = text.instance.used_bytes();
    text.bytes("used_memory", used);
    text.bytes("used_memory_rss", process.resident_bytes);
    text.bytes("used_memory_peak", text.instance.peak_bytes.max(used));
    text.line("allocator_allocated", process.allocated_bytes);
    text.line("allocator_active", process.active_bytes);
    text.line("allocator_resident", process.resident_bytes);
    text.bytes("total_system_memory", process.system_bytes);
    text.bytes("maxmemory", text.instance.config.maxmemory);
    text.line("maxmemory_policy", text.instance.config.policy.name());
    text.line(
        "mem_fragmentation_ratio",
        format_args!("{:.2}", process.fragmentation().unwrap_or_default()),
    );
    text.line("mem_allocator", "jemalloc");
}

fn persistence(text: &mut Text<'_>) {
    text.line("loading", 0);
    text.line("async_loading", 0);
    text.line("rdb_changes_since_last_save", text.keyspace.dirty);
    text.line("rdb_bgsave_in_progress", 0);
    text.line("rdb_saves", 0);
    text.line("aof_enabled", 0);
    text.line("aof_rewrite_in_progress", 0);
}

fn stats(text: &mut Text<'_>) {
    let statistics = &text.instance.statistics;
    let lookups = statistics.lookups_since_reset(text.keyspace.statistics());
    let (input, output) = (statistics.input_bytes, statistics.output_bytes);
    text.line("total_connections_received", statistics.connections);
    text.line("total_commands_processed", statistics.total_commands);
    text.line("instantaneous_ops_per_sec", statistics.commands_per_second);
    text.line("total_net_input_bytes", input);
    text.line("total_net_output_bytes", output);
    text.line("rejected_connections", 0);
    text.line("sync_full", 0);
    text.line("sync_partial_ok", 0);
    text.line("sync_partial_err", 0);
    text.line("expired_keys", lookups.expired);
    text.line("expired_subkeys", lookups.expired_members);
    text.line("evicted_keys", lookups.evicted);
    text.line("keyspace_hits", lookups.hits);
    text.line("keyspace_misses", lookups.misses);
    text.line("pubsub_channels", 0);
    text.line("pubsub_patterns", 0);
    text.line("latest_fork_usec", 0);
    text.line("total_error_replies", statistics.errors);
}

fn replication(text: &mut Text<'_>) {
    text.line("role", "master");
    text.line("connected_slaves", 0);
    text.line("master_replid", &text.instance.run_id);
    text.line("master_repl_offset", 0);
    text.line("second_repl_offset", -1);
    text.line("repl_backlog_active", 0);
}

fn cpu(text: &mut Text<'_>) {
    let process = text.instance.process;
    text.seconds("used_cpu_sys", process.system_us);
    text.seconds("used_cpu_user", process.user_us);
}

fn commandstats(text: &mut Text<'_>) {
    for id in table().ids() {
        let counter = text.instance.statistics.commands[id.index()];
        if counter.calls + counter.rejected == 0 {
            continue;
        }
        let us = counter.nanoseconds as f64 / 1000.0;
        let per_call = if counter.calls == 0 { 0.0 } else { us / counter.calls as f64 };
        text.line(
            &format!("cmdstat_{}", table().full_name(id)),
            format_args!(
                "calls={},usec={us:.0},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
                counter.calls, counter.rejected, counter.failed
            ),
        );
    }
}

fn errorstats(text: &mut Text<'_>) {
    let statistics = &text.instance.statistics;
    for (kind, count) in &statistics.error_kinds {
        let name = format!("errorstat_{}", String::from_utf8_lossy(kind));
        text.line(&name, format_args!("count={count}"));
    }
}

fn keyspace(text: &mut Text<'_>) {
    let databases = text.keyspace.databases();
    for (index, database) in
        databases.iter().enumerate().filter(|(_, database)| !database.is_empty())
    {
        let figures = format!("keys={},expires={},avg_ttl=0", database.len(), database.expiring());
        text.line(&format!("db{index}"), figures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in
            [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1_849_504, "1.76M"), (1 << 31, "2.00G")]
        {
            assert_eq!(human(bytes), text);
        }
    }
}
