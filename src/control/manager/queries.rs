//! Verbs that only look: lists, figures, log lines.
//!
//! Must not know: how they are drawn.

use globset::GlobBuilder;
use serde_json::{Value, json};

use super::Manager;
use super::verbs::Arguments;
use crate::control::answer::Outcome;
use crate::control::logs::{LogFilter, parse_level};
use crate::error::OperatorError;
use crate::limits::LOG_RECORDS;
use crate::runtime::stats::StatsCell;

/// The counters of `stats`, by name.
type Counter = (&'static str, fn(&StatsCell) -> &std::sync::atomic::AtomicU64);

static COUNTERS: &[Counter] = &[
    ("connections", |cell| &cell.connections),
    ("connections_total", |cell| &cell.connections_total),
    ("messages", |cell| &cell.messages),
    ("bytes_in", |cell| &cell.bytes_in),
    ("bytes_out", |cell| &cell.bytes_out),
    ("refused", |cell| &cell.refused),
    ("protocol_errors", |cell| &cell.protocol_errors),
    ("handshake_errors", |cell| &cell.handshake_errors),
    ("throttled", |cell| &cell.throttled),
    ("idle_closed", |cell| &cell.idle_closed),
    ("slow_closed", |cell| &cell.slow_closed),
    ("dropped", |cell| &cell.dropped),
    ("withheld", |cell| &cell.withheld),
    ("silent_closed", |cell| &cell.silent_closed),
    ("script_errors", |cell| &cell.script_errors),
    ("upstream_connections", |cell| &cell.upstream_connections),
    ("dial_errors", |cell| &cell.dial_errors),
];

/// What a cache's hooks have had to do; nothing of a kind that never happened.
fn add_hooks(stats: &mut Value, hooks: &crate::store::hooks::Figures) {
    let rows = [
        ("hooks_queued", hooks.queued),
        ("hooks_told", hooks.told),
        ("hooks_dropped", hooks.dropped),
        ("misses_asked", hooks.asked),
        ("misses_asking", hooks.asking),
        ("misses_refused", hooks.refused),
        ("behind_queued", hooks.behind),
        ("behind_written", hooks.written),
        ("behind_retried", hooks.retried),
        ("behind_lost", hooks.lost),
    ];
    for (name, count) in rows.into_iter().filter(|(_, count)| *count > 0) {
        stats[name] = json!(count);
    }
}

impl Manager {
    /// `list {}`
    pub(super) fn verb_list(&self, _: &Arguments) -> Outcome {
        Ok(self.runtimes.values().map(|runtime| self.row(runtime)).collect())
    }

    /// `get {name}`: the row of one runtime.
    pub(super) fn verb_get(&self, arguments: &Arguments) -> Outcome {
        Ok(self.row(self.find(arguments.text("name")?)?))
    }

    /// `show {name}`
    pub(super) fn verb_show(&self, arguments: &Arguments) -> Outcome {
        Ok(self.shown(self.find(arguments.text("name")?)?))
    }

    /// `stats {name}`
    pub(super) fn verb_stats(&self, arguments: &Arguments) -> Outcome {
        let runtime = self.find(arguments.text("name")?)?;
        let mut stats = json!({
            "name": runtime.name(),
            "type": runtime.config.kind.name(),
            "status": runtime.status.name(),
        });
        for (name, counter) in COUNTERS {
            stats[*name] = json!(runtime.stats.sum(counter));
        }
        if let Some(started_ms) = runtime.started_ms.filter(|_| runtime.is_running()) {
            stats["uptime_ms"] = json!(self.setup.now.unix_ms.saturating_sub(started_ms));
        }
        if let Some(store) = &runtime.store {
            let snapshot = store.snapshot(self.setup.now.unix_ms);
            stats["keys"] = json!(snapshot.keys.iter().sum::<usize>());
            stats["expiring"] = json!(snapshot.expiring.iter().sum::<usize>());
            stats["memory"] = json!(snapshot.memory_bytes);
            if snapshot.maxmemory > 0 {
                stats["maxmemory"] = json!(snapshot.maxmemory);
                stats["eviction"] = json!(snapshot.eviction);
                stats["evicted"] = json!(snapshot.lookups.evicted);
            }
            stats["commands"] = json!(snapshot.commands);
            stats["errors"] = json!(snapshot.errors);
            if let Some(hooks) = &snapshot.hooks {
                add_hooks(&mut stats, hooks);
            }
            if runtime.keeper.is_some() {
                stats["last_save_ms"] = json!(snapshot.last_save_ms);
                stats["disk"] = json!(snapshot.disk_error.as_deref().unwrap_or("ok"));
            }
        }
        Ok(stats)
    }

    /// `match {patterns}`: names of runtimes, of an app where it is named exactly.
    pub(super) fn verb_match(&self, arguments: &Arguments) -> Outcome {
        let wrong = || OperatorError::usage("patterns: expected a list of texts");
        let patterns = arguments.0.get("patterns").and_then(Value::as_array).ok_or_else(wrong)?;
        let mut names: Vec<&str> = Vec::new();
        for pattern in patterns {
            let found = self.matching(pattern.as_str().ok_or_else(wrong)?)?;
            names.extend(found);
        }
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(*name));
        Ok(json!(names))
    }

    fn matching<'a>(&'a self, pattern: &'a str) -> Result<Vec<&'a str>, OperatorError> {
        if !pattern.contains(['*', '?', '[', '{']) {
            if !self.apps.contains_key(pattern) {
                self.find(pattern)?;
            }
            return Ok(vec![pattern]);
        }
        let glob = GlobBuilder::new(pattern).build().map_err(|error| {
            OperatorError::usage(format!("\"{pattern}\" is not a pattern: {}", error.kind()))
        })?;
        let matcher = glob.compile_matcher();
        let names = self.runtimes.keys().map(String::as_str);
        let found: Vec<&str> = names.filter(|name| matcher.is_match(name)).collect();
        if found.is_empty() {
            return Err(OperatorError::failed(format!("nothing matches \"{pattern}\""))
                .hint("`socketley ls` shows all runtimes"));
        }
        Ok(found)
    }

    /// `logs {name?, tail?, since_ms?, level?}`
    pub(super) fn verb_logs(&self, arguments: &Arguments) -> Outcome {
        let filter = self.log_filter(arguments)?;
        let count = arguments.number("tail")?.map_or(LOG_RECORDS, |tail| tail as usize);
        let entries = self.setup.logs.tail(&filter, count);
        Ok(entries.into_iter().map(super::super::logs::Entry::to_json).collect())
    }

    /// Whose lines: a runtime's with its script's, or an app's with its runtimes'.
    pub(super) fn log_filter(&self, arguments: &Arguments) -> Result<LogFilter, OperatorError> {
        let mut filter = LogFilter {
            since_ms: arguments.number("since_ms")?.unwrap_or(0),
            ..LogFilter::default()
        };
        if let Some(level) = arguments.maybe_text("level")? {
            filter.level = Some(parse_level(level).ok_or_else(|| {
                OperatorError::usage(format!("there is no log level \"{level}\""))
                    .hint("the levels are debug, info, warn, error")
            })?);
        }
        if let Some(name) = arguments.maybe_text("name")? {
            if self.apps.contains_key(name) {
                filter.sources =
                    self.runtimes_of(name).map(|runtime| runtime.name().to_owned()).collect();
            } else {
                self.find(name)?;
            }
            filter.sources.push(name.to_owned());
        }
        Ok(filter)
    }

    /// `apps {}`
    pub(super) fn verb_apps(&self, _: &Arguments) -> Outcome {
        Ok(self.apps.iter().map(|(name, app)| app.row(name)).collect())
    }

    /// `commands {}`: the specs of all apps' own commands, with their app.
    pub(super) fn verb_commands(&self, _: &Arguments) -> Outcome {
        let specs = self.apps.iter().flat_map(|(name, app)| {
            app.commands.iter().map(move |spec| {
                let mut spec = spec.clone();
                if let Some(spec) = spec.as_object_mut() {
                    spec.insert("app".to_owned(), json!(name));
                }
                spec
            })
        });
        Ok(specs.collect())
    }

    /// `info {}`
    pub(super) fn verb_info(&self, _: &Arguments) -> Outcome {
        let mut info = self.setup.facts.clone();
        let running = self.runtimes.values().filter(|runtime| runtime.is_running());
        let connections =
            running.clone().map(|runtime| runtime.stats.sum(|cell| &cell.connections)).sum::<u64>();
        info.insert("workers".to_owned(), json!(self.worker_count()));
        info.insert("runtimes".to_owned(), json!(self.runtimes.len()));
        info.insert("running".to_owned(), json!(running.count()));
        info.insert("apps".to_owned(), json!(self.apps.len()));
        info.insert("connections".to_owned(), json!(connections));
        let up_ms = self.setup.now.unix_ms.saturating_sub(self.started_ms);
        info.insert("uptime_ms".to_owned(), json!(up_ms));
        Ok(Value::Object(info))
    }
}
