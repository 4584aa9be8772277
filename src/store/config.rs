//! The parameters behind CONFIG GET and CONFIG SET: one table, only what really exists.

use super::Keyspace;
use super::eviction::Policy;
use super::instance::Settings;
use super::number::memory_size;
use super::thresholds::REDIS;
use crate::limits::{DATABASES, RESP_BULK_BYTES_MAX};

/// The parameters' values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What AUTH wants; none: everyone may.
    pub password: Option<Vec<u8>>,
    /// The port the store is served on; 0 if it isn't.
    pub port: u16,
    /// Clients that connect may only read.
    pub readonly: bool,
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
pub type Setter = fn(&mut Config, &[u8]) -> Result<(), &'static str>;

impl Config {
    /// The values at start.
    pub fn new(settings: &Settings) -> Config {
        Config {
            password: settings.password.clone().filter(|password| !password.is_empty()),
            port: settings.port,
            readonly: settings.readonly,
            maxmemory: settings.maxmemory,
            policy: settings.policy,
            maxmemory_samples: 5,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
        }
    }

    /// Tells the keyspace what it must know of the values.
    pub fn apply(&self, keyspace: &mut Keyspace) {
        let (factor, minutes) = (self.lfu_log_factor, self.lfu_decay_minutes);
        let counts = self.policy.counts_uses();
        keyspace.for_each_clock(|clock| clock.set_frequencies(counts, factor, minutes));
    }
}

/// A parameter that has one value for now.
macro_rules! fixed {
    ($name:literal, $value:expr) => {
        Parameter { name: $name, get: |_| $value.to_string().into_bytes(), set: None }
    };
}

/// All parameters, by name.
pub const PARAMETERS: &[Parameter] = &[
    fixed!("appendonly", "no"),
    fixed!("databases", DATABASES),
    fixed!("hash-max-listpack-entries", REDIS.hash_entries),
    fixed!("hash-max-listpack-value", REDIS.hash_value_bytes),
    fixed!("list-max-listpack-size", -2),
    Parameter {
        name: "maxmemory",
        get: |config| config.maxmemory.to_string().into_bytes(),
        set: Some(|config, value| {
            config.maxmemory = memory_size(value).ok_or("argument must be a memory value")?;
            Ok(())
        }),
    },
    Parameter {
        name: "maxmemory-policy",
        get: |config| config.policy.name().as_bytes().to_vec(),
        set: Some(|config, value| {
            let mut names = Policy::NAMES.iter();
            let found = names.find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(value));
            config.policy = found.ok_or("argument must be one of the policies")?.1;
            Ok(())
        }),
    },
    Parameter { name: "port", get: |config| config.port.to_string().into_bytes(), set: None },
    fixed!("proto-max-bulk-len", RESP_BULK_BYTES_MAX),
    Parameter {
        name: "requirepass",
        get: |config| config.password.clone().unwrap_or_default(),
        set: Some(|config, value| {
            config.password = (!value.is_empty()).then(|| value.to_vec());
            Ok(())
        }),
    },
    fixed!("save", ""),
    fixed!("set-max-intset-entries", REDIS.set_integers),
    fixed!("set-max-listpack-entries", REDIS.set_entries),
    fixed!("set-max-listpack-value", REDIS.set_value_bytes),
    fixed!("timeout", 0),
    fixed!("zset-max-listpack-entries", REDIS.sorted_set_entries),
    fixed!("zset-max-listpack-value", REDIS.sorted_set_value_bytes),
];

/// The parameter called `name`, in any case.
pub fn parameter(name: &[u8]) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name.as_bytes().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_sorted_and_unique() {
        assert!(PARAMETERS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
