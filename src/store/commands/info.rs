//! INFO: the figures that people, clients and exporters read, under Redis's names. What isn't there isn't listed, or is 0.

use std::fmt::Write as _;

use super::{Call, CommandResult, table};
use crate::limits::{CONNECTIONS_PER_WORKER_MAX, REPLICA_BACKLOG_BYTES};
use crate::store::database::Database;
use crate::store::instance::{Instance, REDIS_VERSION};
use crate::store::persistence::Load;
use crate::store::pubsub::Scope;
use crate::store::random::Random;
use crate::store::replication::{LinkState, Upstream};
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
const ON_REQUEST: &[Section] = &[("commandstats", commandstats), ("latencystats", latencystats)];

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
    text.line("redis_git_sha1", "00000000");
    text.line("redis_git_dirty", 0);
    text.line("redis_build_id", "0");
    text.line("redis_mode", "standalone");
    text.line("server_name", "socketley");
    text.line("socketley_version", env!("CARGO_PKG_VERSION"));
    text.line("cache_name", &text.instance.name);
    text.line("os", "Linux");
    text.line("arch_bits", usize::BITS);
    text.line("multiplexing_api", "io_uring");
    text.line("process_supervised", "no");
    text.line("process_id", text.instance.process.id);
    text.line("run_id", &text.instance.run_id);
    text.line("tcp_port", text.instance.config.port);
    text.line("server_time_usec", text.now_ms * 1000);
    text.line("uptime_in_seconds", uptime_s);
    text.line("uptime_in_days", uptime_s / 86_400);
    text.line("hz", 10);
    text.line("configured_hz", 10);
    text.line("lru_clock", (text.now_ms / 1000) & 0xff_ffff);
    text.line("executable", "");
    text.line("config_file", "");
    text.line("io_threads_active", 0);
}

fn clients(text: &mut Text<'_>) {
    text.line("connected_clients", text.instance.clients.len());
    text.line("cluster_connections", 0);
    text.line("maxclients", CONNECTIONS_PER_WORKER_MAX);
    text.line("client_recent_max_input_buffer", 0);
    text.line("client_recent_max_output_buffer", 0);
    text.line("blocked_clients", text.instance.blocked.len());
    text.line("tracking_clients", text.instance.tracking.len());
    text.line("clients_in_timeout_table", 0);
}

fn memory(text: &mut Text<'_>) {
    let used = text.instance.used_bytes();
    let peak = text.instance.peak_bytes.max(used);
    let overhead = text.instance.overhead_bytes.min(used);
    text.bytes("used_memory", used);
    text.bytes("used_memory_rss", text.instance.process.resident_bytes);
    text.bytes("used_memory_peak", peak);
    text.line("used_memory_peak_perc", format_args!("{:.2}%", ratio(used, peak) * 100.0));
    text.line("used_memory_overhead", overhead);
    text.line("used_memory_startup", overhead);
    text.line("used_memory_dataset", used - overhead);
    let share = ratio(used - overhead, used) * 100.0;
    text.line("used_memory_dataset_perc", format_args!("{share:.2}%"));
    text.bytes("total_system_memory", text.instance.process.system_bytes);
    scripts(text);
    text.bytes("maxmemory", text.instance.config.maxmemory);
    text.line("maxmemory_policy", text.instance.config.policy.name());
    allocator(text);
    text.line("mem_not_counted_for_evict", 0);
    text.line("mem_replication_backlog", 0);
    text.line("mem_total_replication_buffers", 0);
    text.line("mem_clients_slaves", 0);
    text.line("mem_clients_normal", text.instance.clients.buffer_bytes());
    text.line("mem_cluster_links", 0);
    text.line("mem_aof_buffer", text.instance.persistence.log_buffer_bytes);
    text.line("mem_allocator", "jemalloc");
    text.line("active_defrag_running", 0);
    text.line("lazyfreed_objects", text.instance.statistics.freed_aside);
    text.line("lazyfree_pending_objects", u8::from(text.instance.meter.garbage_bytes > 0));
}

/// One Lua state runs scripts and functions alike, so the figures of the second one are 0.
fn scripts(text: &mut Text<'_>) {
    let scripting = &text.instance.scripting;
    let (heap, evaled) = (scripting.memory_bytes() as u64, scripting.scripts.text_bytes() as u64);
    let libraries = scripting.functions.libraries().map(|(_, text)| text.len() as u64);
    let loaded: u64 = libraries.sum();
    text.line("used_memory_vm_eval", heap);
    text.bytes("used_memory_lua", heap);
    text.line("used_memory_scripts_eval", evaled);
    text.line("number_of_cached_scripts", scripting.scripts.len());
    text.line("number_of_functions", scripting.functions.iter().len());
    text.line("number_of_libraries", scripting.functions.libraries().len());
    text.line("used_memory_vm_functions", 0);
    text.bytes("used_memory_vm_total", heap);
    text.line("used_memory_functions", loaded);
    text.bytes("used_memory_scripts", evaled + loaded);
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The whole process's: all caches and everything else of the daemon.
fn allocator(text: &mut Text<'_>) {
    let process = text.instance.process;
    let (allocated, active, resident) =
        (process.allocated_bytes, process.active_bytes, process.resident_bytes);
    text.line("allocator_allocated", allocated);
    text.line("allocator_active", active);
    text.line("allocator_resident", resident);
    text.line("allocator_frag_ratio", format_args!("{:.2}", ratio(active, allocated)));
    text.line("allocator_frag_bytes", active.saturating_sub(allocated));
    text.line("allocator_rss_ratio", format_args!("{:.2}", ratio(resident, active)));
    text.line("allocator_rss_bytes", resident.saturating_sub(active));
    text.line("rss_overhead_ratio", "1.00");
    text.line("rss_overhead_bytes", 0);
    text.line("mem_fragmentation_ratio", format_args!("{:.2}", ratio(resident, allocated)));
    text.line("mem_fragmentation_bytes", resident.saturating_sub(allocated));
}

fn persistence(text: &mut Text<'_>) {
    let kept = &text.instance.persistence;
    let (started_ms, now_ms) = (text.instance.started_ms, text.now_ms);
    let seconds = |since_ms: Option<u64>| {
        since_ms.map_or(-1, |since_ms| (now_ms.saturating_sub(since_ms) / 1000) as i64)
    };
    let whole = |ms: Option<u64>| ms.map_or(-1, |ms| ms.div_ceil(1000) as i64);
    let status = |error: &Option<String>| if error.is_none() { "ok" } else { "err" };
    let saves = kept.saving_since_ms.is_some();
    let rewrites = kept.rewriting_since_ms.is_some();
    text.line("loading", u8::from(kept.load != Load::Done));
    text.line("async_loading", 0);
    if let Load::Running { read, total } = kept.load {
        text.line("loading_total_bytes", total);
        text.line("loading_loaded_bytes", read);
    }
    text.line("current_cow_size", text.instance.saving_bytes());
    text.line("current_cow_size_age", 0);
    text.line("current_fork_perc", "0.00");
    text.line(
        "rdb_changes_since_last_save",
        text.keyspace.dirty.saturating_sub(kept.dirty_at_save),
    );
    text.line("rdb_bgsave_in_progress", u8::from(saves));
    text.line("rdb_last_save_time", kept.last_save_ms.unwrap_or(started_ms) / 1000);
    text.line("rdb_last_bgsave_status", status(&kept.save_error));
    text.line("rdb_last_bgsave_time_sec", whole(kept.last_save_took_ms));
    text.line("rdb_current_bgsave_time_sec", seconds(kept.saving_since_ms));
    text.line("rdb_saves", kept.saves);
    text.line("rdb_last_cow_size", kept.last_save_extra_bytes);
    text.line("rdb_last_load_keys_expired", kept.loaded.1);
    text.line("rdb_last_load_keys_loaded", kept.loaded.0);
    text.line("aof_enabled", u8::from(text.instance.config.append_only));
    text.line("aof_rewrite_in_progress", u8::from(rewrites));
    text.line("aof_rewrite_scheduled", u8::from(kept.rewrite_wanted && saves));
    text.line("aof_last_rewrite_time_sec", whole(kept.last_rewrite_took_ms));
    text.line("aof_current_rewrite_time_sec", seconds(kept.rewriting_since_ms));
    text.line("aof_last_bgrewrite_status", status(&kept.rewrite_error));
    text.line("aof_rewrites", kept.rewrites);
    text.line("aof_last_write_status", status(&kept.log_error));
    text.line("aof_last_cow_size", kept.last_rewrite_extra_bytes);
    text.line("module_fork_in_progress", 0);
    text.line("module_fork_last_cow_size", 0);
    if kept.logs {
        text.line("aof_current_size", kept.log_bytes);
        text.line("aof_base_size", kept.log_base_bytes);
        text.line("aof_pending_rewrite", u8::from(kept.rewrite_wanted));
        text.line("aof_buffer_length", kept.log_buffer_bytes);
        text.line("aof_pending_bio_fsync", 0);
        text.line("aof_delayed_fsync", 0);
    }
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
    text.line("instantaneous_input_kbps", format_args!("{:.2}", statistics.input_kbps));
    text.line("instantaneous_output_kbps", format_args!("{:.2}", statistics.output_kbps));
    text.line("rejected_connections", 0);
    text.line("sync_full", text.instance.replicas.full);
    text.line("sync_partial_ok", text.instance.replicas.partial);
    text.line("sync_partial_err", text.instance.replicas.refused);
    text.line("expired_keys", lookups.expired);
    text.line("expired_subkeys", lookups.expired_members);
    text.line("expired_stale_perc", "0.00");
    text.line("expired_time_cap_reached_count", 0);
    text.line("expire_cycle_cpu_milliseconds", 0);
    text.line("evicted_keys", lookups.evicted);
    text.line("evicted_clients", text.instance.statistics.evicted_clients);
    let exceeded = text.instance.eviction.exceeded;
    let current_ms = exceeded.since_ms.map_or(0, |since| text.now_ms.saturating_sub(since));
    text.line("total_eviction_exceeded_time", exceeded.total_ms + current_ms);
    text.line("current_eviction_exceeded_time", current_ms);
    text.line("keyspace_hits", lookups.hits);
    text.line("keyspace_misses", lookups.misses);
    for (name, scope) in [
        ("pubsub_channels", Scope::Channel),
        ("pubsub_patterns", Scope::Pattern),
        ("pubsubshard_channels", Scope::Shard),
    ] {
        text.line(name, text.instance.pubsub.active(scope).len());
    }
    text.line("latest_fork_usec", 0);
    for name in ["total_forks", "migrate_cached_sockets", "slave_expires_tracked_keys"] {
        text.line(name, 0);
    }
    for name in ["active_defrag_hits", "active_defrag_misses", "active_defrag_key_hits"] {
        text.line(name, 0);
    }
    text.line("active_defrag_key_misses", 0);
    let tracking = &text.instance.tracking;
    text.line("tracking_total_keys", tracking.key_count());
    text.line("tracking_total_items", tracking.reader_count());
    text.line("tracking_total_prefixes", tracking.prefix_count());
    text.line("unexpected_error_replies", 0);
    text.line("total_error_replies", statistics.errors);
    text.line("dump_payload_sanitizations", statistics.payloads);
    text.line("total_reads_processed", statistics.reads);
    text.line("total_writes_processed", statistics.writes);
    text.line("io_threaded_reads_processed", 0);
    text.line("io_threaded_writes_processed", 0);
    let denied = statistics.acl_denied;
    text.line("acl_access_denied_auth", denied.authentication);
    text.line("acl_access_denied_cmd", denied.commands);
    text.line("acl_access_denied_key", denied.keys);
    text.line("acl_access_denied_channel", denied.channels);
}

fn replication(text: &mut Text<'_>) {
    let replication = &text.instance.replication;
    match replication.upstream() {
        None => text.line("role", "master"),
        Some(upstream) => upstream_of(text, upstream, replication.offset),
    }
    let offset = match replication.upstream() {
        None => text.instance.feed.offset(),
        Some(_) => replication.offset,
    };
    let (id, none) = (&replication.id, "0".repeat(40));
    let (before, began) = match &replication.before {
        Some((id, offset)) => (id, *offset as i64 + 1),
        None => (&none, -1),
    };
    let replicas = &text.instance.replicas;
    text.line("connected_slaves", replicas.online().count());
    for (index, replica) in replicas.online().enumerate() {
        let lag_s = text.now_ms.saturating_sub(replica.acknowledged_ms) / 1000;
        let (ip, port, offset) = (&replica.address, replica.port, replica.acknowledged);
        text.line(
            &format!("slave{index}"),
            format_args!("ip={ip},port={port},state=online,offset={offset},lag={lag_s}"),
        );
    }
    text.line("master_failover_state", "no-failover");
    text.line("master_replid", id);
    text.line("master_replid2", before);
    text.line("master_repl_offset", offset);
    text.line("second_repl_offset", began);
    let (kept, first) = replicas.backlog();
    text.line("repl_backlog_active", u8::from(kept > 0));
    text.line("repl_backlog_size", REPLICA_BACKLOG_BYTES);
    text.line("repl_backlog_first_byte_offset", if kept > 0 { first + 1 } else { 0 });
    text.line("repl_backlog_histlen", kept);
}

/// What a replica tells of the link to its primary, as Sentinel reads it.
fn upstream_of(text: &mut Text<'_>, upstream: &Upstream, offset: u64) {
    let since_s = |ms: u64| text.now_ms.saturating_sub(ms) / 1000;
    let heard_s = upstream.heard_ms.map_or(-1, |ms| since_s(ms) as i64);
    let down_s = since_s(upstream.down_since_ms);
    let syncs = upstream.link == LinkState::Sync;
    let is_up = upstream.link == LinkState::Connected;
    text.line("role", "slave");
    text.line("master_host", &upstream.host);
    text.line("master_port", upstream.port);
    text.line("master_link_status", if is_up { "up" } else { "down" });
    text.line("master_last_io_seconds_ago", if is_up { heard_s } else { -1 });
    text.line("master_sync_in_progress", u8::from(syncs));
    text.line("slave_read_repl_offset", offset);
    text.line("slave_repl_offset", offset);
    if syncs {
        let (total, read) = upstream.snapshot;
        text.line("master_sync_total_bytes", total);
        text.line("master_sync_read_bytes", read);
        text.line("master_sync_left_bytes", total.saturating_sub(read));
        let share = ratio(read, total) * 100.0;
        text.line("master_sync_perc", format_args!("{share:.2}"));
        text.line("master_sync_last_io_seconds_ago", heard_s);
    }
    if !is_up {
        text.line("master_link_down_since_seconds", down_s);
    }
    let priority = text.instance.config.text("replica-priority");
    let priority =
        if priority.is_empty() { "100".into() } else { String::from_utf8_lossy(priority) };
    text.line("slave_priority", priority);
    text.line("slave_read_only", 1);
    text.line("replica_announced", 1);
    let syncs = text.instance.statistics.syncs;
    text.line("replica_syncs_full", syncs.full);
    text.line("replica_syncs_partial", syncs.partial);
}

fn cpu(text: &mut Text<'_>) {
    let process = text.instance.process;
    text.seconds("used_cpu_sys", process.system_us);
    text.seconds("used_cpu_user", process.user_us);
    text.seconds("used_cpu_sys_children", 0);
    text.seconds("used_cpu_user_children", 0);
    // There is no main thread: what the threads need that serve all caches of the daemon.
    text.seconds("used_cpu_sys_main_thread", process.system_us);
    text.seconds("used_cpu_user_main_thread", process.user_us);
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

fn latencystats(text: &mut Text<'_>) {
    let percentiles = &text.instance.config.latency_percentiles;
    let observed = &text.instance.observed.histograms;
    let lines: Vec<(String, String)> = table()
        .ids()
        .filter_map(|id| Some((id, observed.get(id.index())?.as_ref()?)))
        .map(|(id, histogram)| {
            let figure = |percent: &f64| {
                format!("p{percent}={:.3}", histogram.percentile(*percent) as f64 / 1000.0)
            };
            let figures = percentiles.iter().map(figure).collect::<Vec<_>>().join(",");
            (format!("latency_percentiles_usec_{}", table().full_name(id)), figures)
        })
        .collect();
    lines.iter().for_each(|(name, figures)| text.line(name, figures));
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
        let (keys, expires) = (database.len(), database.expiring());
        let ttl = average_ttl_ms(database, text.now_ms);
        text.line(&format!("db{index}"), format!("keys={keys},expires={expires},avg_ttl={ttl}"));
    }
}

/// The time that expiring keys have left, of some that chance picks.
fn average_ttl_ms(database: &Database, now_ms: u64) -> u64 {
    const SAMPLES: u64 = 16;
    let mut random = Random::new(now_ms);
    let mut left = |_| {
        let at_ms = database.table().random_expiring(&mut random)?.expires_ms()?;
        Some(at_ms.saturating_sub(now_ms))
    };
    (0..SAMPLES).filter_map(&mut left).sum::<u64>() / SAMPLES
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
