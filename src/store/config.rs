//! The parameters behind CONFIG GET and CONFIG SET: what changes something here, and (`kept.rs`) what tools set and read
//! back although this store has nothing to tune there, or has one value only.

mod kept;
mod values;

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Keyspace;
use super::client_bounds::ClientsLimit;
use super::events::Classes;
use super::eviction::Policy;
use super::instance::Settings;
use super::output_limits::OutputLimits;
use super::persistence::{Persist, SaveRule, Sync, parse_rules, rules_text};
use super::thresholds::{REDIS, Thresholds};
use crate::limits::{BUSY_REPLY_THRESHOLD_MS, DATABASES, RESP_BULK_BYTES_MAX};

/// The parameters' values.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What AUTH wants; none: everyone may.
    pub password: Option<Vec<u8>>,
    /// The port the store is served on; 0 if it isn't.
    pub port: u16,
    /// Clients that connect may only read.
    pub readonly: bool,
    /// How long a script keeps others waiting before they are told that it is busy.
    pub busy_reply_threshold_ms: u32,
    /// DEBUG is for clients of other machines, too.
    pub admin: bool,
    /// Bytes that the store may have; 0: no limit.
    pub maxmemory: u64,
    /// Which keys go when they are reached.
    pub policy: Policy,
    /// Keys drawn from each database to find one to remove.
    pub maxmemory_samples: u32,
    /// How slowly LFU counters grow.
    pub lfu_log_factor: u32,
    /// Minutes in which an LFU counter loses one; 0: it never does.
    pub lfu_decay_minutes: u32,
    /// Microseconds from which on a command is in the slow log; below zero: none is.
    pub slowlog_slower_than_us: i64,
    /// Entries of the slow log.
    pub slowlog_len: usize,
    /// Milliseconds from which on the latency monitor notes an event; 0: it notes none.
    pub latency_threshold_ms: u64,
    /// Whether commands' times are kept for percentiles.
    pub latency_tracking: bool,
    /// The percentiles that INFO shows.
    pub latency_percentiles: Vec<f64>,
    /// Entries of ACL LOG.
    pub acl_log_len: usize,
    /// Whether new users may use all channels.
    pub acl_all_channels: bool,
    /// When collections leave their packed forms.
    pub thresholds: Thresholds,
    /// Parameters without effect that were set.
    kept: BTreeMap<&'static str, Vec<u8>>,
    /// Which events of keys are told, and how.
    pub(super) notify: Classes,
    /// Keys that are noted for clients that cache; 0: no limit.
    pub tracking_keys_max: usize,
    /// Replicas without which nothing is written.
    pub replicas_min: u32,
    /// Seconds since its last acknowledgement after which a replica doesn't count; 0: none is asked for.
    pub replicas_lag_s: u32,
    /// How much may wait for clients that don't read.
    pub output_limits: OutputLimits,
    /// Seconds after which a client that sends nothing is closed; 0: none is.
    pub idle_s: u32,
    /// How much all clients together may take.
    pub clients_limit: ClientsLimit,
    /// Somebody keeps the store on disk, in that folder.
    pub on_disk: bool,
    pub folder: String,
    /// Whether changes are written to an append log, and when that is forced to the disk.
    pub append_only: bool,
    pub sync: Sync,
    /// When snapshots are written by themselves.
    pub save_rules: Vec<SaveRule>,
    /// The log is rewritten when it has grown by so many percent and has so many bytes; 0: never.
    pub rewrite_percentage: u32,
    pub rewrite_bytes_min: u64,
    /// Writing commands are refused after a snapshot that failed.
    pub stops_on_save_error: bool,
}

/// One parameter.
pub struct Parameter {
    /// As CONFIG spells it.
    pub name: &'static str,
    /// Its value as text.
    pub get: fn(&Config) -> Vec<u8>,
    /// Changes it or says why not; none: it can't be changed while the store runs.
    pub set: Option<Setter>,
}

/// Takes the new value's text.
pub type Setter = fn(&mut Config, &[u8]) -> Result<(), Refusal>;

/// Why a value is refused.
pub type Refusal = Cow<'static, str>;

impl Config {
    /// The values at start.
    pub fn new(settings: &Settings) -> Config {
        Config {
            password: settings.password.clone().filter(|password| !password.is_empty()),
            port: settings.port,
            readonly: settings.readonly,
            busy_reply_threshold_ms: BUSY_REPLY_THRESHOLD_MS,
            admin: settings.admin,
            maxmemory: settings.maxmemory,
            policy: settings.policy,
            maxmemory_samples: 5,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
            slowlog_slower_than_us: 10_000,
            slowlog_len: 128,
            latency_threshold_ms: 0,
            latency_tracking: true,
            latency_percentiles: vec![50.0, 99.0, 99.9],
            acl_log_len: 128,
            acl_all_channels: false,
            thresholds: REDIS,
            kept: BTreeMap::new(),
            notify: Classes::default(),
            tracking_keys_max: 1_000_000,
            replicas_min: 0,
            replicas_lag_s: 10,
            output_limits: OutputLimits::default(),
            idle_s: 0,
            clients_limit: ClientsLimit::Bytes(0),
            on_disk: settings.persist != Persist::None,
            folder: settings.folder.clone(),
            append_only: settings.persist == Persist::Aof,
            sync: settings.sync,
            save_rules: match settings.persist {
                Persist::Snapshot => parse_rules(SAVE_RULES).unwrap_or_default(),
                Persist::None | Persist::Aof => Vec::new(),
            },
            rewrite_percentage: 100,
            rewrite_bytes_min: 64 << 20,
            stops_on_save_error: true,
        }
    }

    /// The text of a parameter that means nothing to the store itself.
    pub fn text(&self, name: &str) -> &[u8] {
        self.kept.get(name).map_or(&[], Vec::as_slice)
    }

    /// Tells the keyspace what it must know of the values.
    pub fn apply(&self, keyspace: &mut Keyspace) {
        let (factor, minutes) = (self.lfu_log_factor, self.lfu_decay_minutes);
        let counts = self.policy.counts_uses();
        keyspace.for_each_clock(|clock| clock.set_frequencies(counts, factor, minutes));
        keyspace.thresholds = self.thresholds;
    }
}

/// A parameter that has one value for now.
macro_rules! fixed {
    ($name:literal, $value:expr) => {
        Parameter { name: $name, get: |_| $value.to_string().into_bytes(), set: None }
    };
}

/// A whole number in a field of the configuration, and its bounds.
macro_rules! number {
    ($name:literal, $($field:ident).+, $bounds:expr) => {
        Parameter {
            name: $name,
            get: |config| config.$($field).+.to_string().into_bytes(),
            set: Some(|config, value| {
                values::integer(value, $bounds).map(|number| config.$($field).+ = number as _)
            }),
        }
    };
}

/// Bytes, as a number or with a unit.
macro_rules! memory {
    ($name:literal, $($field:ident).+) => {
        Parameter {
            name: $name,
            get: |config| config.$($field).+.to_string().into_bytes(),
            set: Some(|config, value| {
                values::memory(value).map(|bytes| config.$($field).+ = bytes as _)
            }),
        }
    };
}

/// `yes` or `no`.
macro_rules! boolean {
    ($name:literal, $($field:ident).+) => {
        Parameter {
            name: $name,
            get: |config| values::yes_or_no(config.$($field).+),
            set: Some(|config, value| {
                values::boolean(value).map(|on| config.$($field).+ = on)
            }),
        }
    };
}

const COUNT: std::ops::RangeInclusive<i64> = 0..=i64::MAX;
const SMALL: std::ops::RangeInclusive<i64> = 0..=i32::MAX as i64;

/// Redis's.
const SAVE_RULES: &[u8] = b"3600 1 300 100 60 10000";

const NO_DISK: &str = "this cache isn't kept on disk: socketley edit NAME --persist snapshot (or aof), then restart it";

/// The parameters that mean something here, by name.
#[rustfmt::skip]
pub const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "acl-pubsub-default",
        get: |config| (if config.acl_all_channels { "allchannels" } else { "resetchannels" }).into(),
        set: Some(|config, value| {
            values::choice(value, &["allchannels", "resetchannels"])
                .map(|index| config.acl_all_channels = index == 0)
        }),
    },
    number!("acllog-max-len", acl_log_len, SMALL),
    Parameter {
        name: "appendfsync",
        get: |config| config.sync.name().into(),
        set: Some(|config, value| {
            values::choice(value, &Sync::NAMES).map(|index| config.sync = Sync::of_index(index))
        }),
    },
    Parameter {
        name: "appendonly",
        get: |config| values::yes_or_no(config.append_only),
        set: Some(|config, value| match values::boolean(value)? {
            true if !config.on_disk => Err(NO_DISK.into()),
            on => {
                config.append_only = on;
                Ok(())
            }
        }),
    },
    memory!("auto-aof-rewrite-min-size", rewrite_bytes_min),
    number!("auto-aof-rewrite-percentage", rewrite_percentage, SMALL),
    number!("busy-reply-threshold", busy_reply_threshold_ms, SMALL),
    Parameter {
        name: "client-output-buffer-limit",
        get: |config| config.output_limits.text(),
        set: Some(|config, value| config.output_limits.set(value).map_err(Cow::Borrowed)),
    },
    fixed!("databases", DATABASES),
    Parameter { name: "dir", get: |config| config.folder.clone().into_bytes(), set: None },
    Parameter {
        name: "enable-debug-command",
        get: |config| (if config.admin { "yes" } else { "local" }).into(),
        set: None,
    },
    number!("hash-max-listpack-entries", thresholds.hash_entries, COUNT),
    memory!("hash-max-listpack-value", thresholds.hash_value_bytes),
    number!("hash-max-ziplist-entries", thresholds.hash_entries, COUNT),
    memory!("hash-max-ziplist-value", thresholds.hash_value_bytes),
    number!("latency-monitor-threshold", latency_threshold_ms, COUNT),
    boolean!("latency-tracking", latency_tracking),
    Parameter {
        name: "latency-tracking-info-percentiles",
        get: |config| values::percentiles_text(&config.latency_percentiles),
        set: Some(|config, value| {
            values::percentiles(value).map(|list| config.latency_percentiles = list)
        }),
    },
    number!("lfu-decay-time", lfu_decay_minutes, SMALL),
    number!("lfu-log-factor", lfu_log_factor, SMALL),
    Parameter { name: "list-max-listpack-size", get: list_size, set: Some(set_list_size) },
    Parameter { name: "list-max-ziplist-size", get: list_size, set: Some(set_list_size) },
    number!("lua-time-limit", busy_reply_threshold_ms, SMALL),
    memory!("maxmemory", maxmemory),
    Parameter {
        name: "maxmemory-clients",
        get: |config| config.clients_limit.text().into_bytes(),
        set: Some(|config, value| {
            config.clients_limit = ClientsLimit::parse(value)?;
            Ok(())
        }),
    },
    Parameter {
        name: "maxmemory-policy",
        get: |config| config.policy.name().as_bytes().to_vec(),
        set: Some(|config, value| {
            let names = Policy::NAMES.map(|(name, _)| name);
            values::choice(value, &names).map(|index| config.policy = Policy::NAMES[index].1)
        }),
    },
    number!("maxmemory-samples", maxmemory_samples, 1..=64),
    number!("min-replicas-max-lag", replicas_lag_s, 0..=i64::from(i32::MAX)),
    number!("min-replicas-to-write", replicas_min, 0..=i64::from(i32::MAX)),
    number!("min-slaves-max-lag", replicas_lag_s, 0..=i64::from(i32::MAX)),
    number!("min-slaves-to-write", replicas_min, 0..=i64::from(i32::MAX)),
    Parameter {
        name: "notify-keyspace-events",
        get: |config| config.notify.text(),
        set: Some(|config, value| {
            let refusal = "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
            config.notify = Classes::parse(value).ok_or(refusal)?;
            Ok(())
        }),
    },
    Parameter {
        name: "port",
        get: |config| config.port.to_string().into_bytes(),
        set: Some(|config, value| match value == config.port.to_string().as_bytes() {
            true => Ok(()),
            false => Err("Unable to listen on this port: the cache's field `port` says where".into()),
        }),
    },
    Parameter {
        name: "proto-max-bulk-len",
        get: |_| RESP_BULK_BYTES_MAX.to_string().into_bytes(),
        set: Some(|_, value| match values::memory(value)? == RESP_BULK_BYTES_MAX as u64 {
            true => Ok(()),
            false => Err("this limit can't be changed".into()),
        }),
    },
    Parameter {
        name: "requirepass",
        get: |config| config.password.clone().unwrap_or_default(),
        set: Some(|config, value| {
            config.password = (!value.is_empty()).then(|| value.to_vec());
            Ok(())
        }),
    },
    Parameter {
        name: "save",
        get: |config| rules_text(&config.save_rules).into_bytes(),
        set: Some(|config, value| {
            let rules = parse_rules(value).ok_or("Invalid save parameters")?;
            if !rules.is_empty() && !config.on_disk {
                return Err(NO_DISK.into());
            }
            config.save_rules = rules;
            Ok(())
        }),
    },
    number!("set-max-intset-entries", thresholds.set_integers, COUNT),
    number!("set-max-listpack-entries", thresholds.set_entries, COUNT),
    memory!("set-max-listpack-value", thresholds.set_value_bytes),
    number!("slowlog-log-slower-than", slowlog_slower_than_us, -1..=i64::MAX),
    number!("slowlog-max-len", slowlog_len, SMALL),
    boolean!("stop-writes-on-bgsave-error", stops_on_save_error),
    Parameter {
        name: "stream-node-max-entries",
        // As much as the bytes of a node allow.
        get: |config| match config.thresholds.stream_node_entries {
            usize::MAX => b"0".to_vec(),
            entries => entries.to_string().into_bytes(),
        },
        set: Some(|config, value| {
            let entries = values::integer(value, COUNT)? as usize;
            config.thresholds.stream_node_entries = if entries == 0 { usize::MAX } else { entries };
            Ok(())
        }),
    },
    number!("timeout", idle_s, SMALL),
    number!("tracking-table-max-keys", tracking_keys_max, COUNT),
    number!("zset-max-listpack-entries", thresholds.sorted_set_entries, COUNT),
    memory!("zset-max-listpack-value", thresholds.sorted_set_value_bytes),
    number!("zset-max-ziplist-entries", thresholds.sorted_set_entries, COUNT),
    memory!("zset-max-ziplist-value", thresholds.sorted_set_value_bytes),
];

fn list_size(config: &Config) -> Vec<u8> {
    config.thresholds.list_size().to_string().into_bytes()
}

fn set_list_size(config: &mut Config, value: &[u8]) -> Result<(), Refusal> {
    let size = values::integer(value, i64::from(i32::MIN)..=i64::from(i32::MAX))?;
    config.thresholds.set_list_size(size);
    Ok(())
}

/// A parameter that CONFIG knows.
#[derive(Clone, Copy)]
pub enum Known {
    /// It means something here.
    Parameter(&'static Parameter),
    /// It doesn't.
    Kept(&'static kept::Kept),
}

impl Known {
    /// The parameter called `name`, in any case.
    pub fn find(name: &[u8]) -> Option<Known> {
        Known::all().find(|known| known.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// All, those that mean something first.
    pub fn all() -> impl Iterator<Item = Known> {
        let kept = kept::KEPT.iter().map(Known::Kept);
        PARAMETERS.iter().map(Known::Parameter).chain(kept)
    }

    /// As CONFIG spells it.
    pub fn name(self) -> &'static str {
        match self {
            Known::Parameter(parameter) => parameter.name,
            Known::Kept(kept) => kept.name,
        }
    }

    /// Whether a pattern doesn't find it.
    pub fn is_hidden(self) -> bool {
        kept::HIDDEN.contains(&self.name())
    }

    /// Its value as text.
    pub fn get(self, config: &Config) -> Vec<u8> {
        match self {
            Known::Parameter(parameter) => (parameter.get)(config),
            Known::Kept(kept) => {
                let set = config.kept.get(kept.name).cloned();
                set.unwrap_or_else(|| kept.default.as_bytes().to_vec())
            }
        }
    }

    /// Changes it.
    ///
    /// # Errors
    /// Says why not, in Redis's words.
    pub fn set(self, config: &mut Config, value: &[u8]) -> Result<(), Refusal> {
        match self {
            Known::Parameter(parameter) => {
                parameter.set.ok_or("can't set immutable config")?(config, value)
            }
            Known::Kept(kept) => {
                let text = kept.check(value)?;
                config.kept.insert(kept.name, text);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_sorted_and_unique() {
        assert!(PARAMETERS.windows(2).all(|pair| pair[0].name < pair[1].name));
        let mut names: Vec<&str> = Known::all().map(Known::name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }

    /// What is read can be written back, unless it can't be changed at all.
    #[test]
    fn every_value_is_its_own_input() {
        let mut config = Config::new(&Settings::default());
        let before = config.clone();
        for known in Known::all() {
            let value = known.get(&config);
            let name = known.name();
            match known.set(&mut config, &value) {
                Ok(()) => assert_eq!(known.get(&config), value, "{name}"),
                Err(reason) => assert_eq!(reason, "can't set immutable config", "{name}"),
            }
        }
        assert_eq!(Config { kept: before.kept.clone(), ..config }, before);
    }
}
