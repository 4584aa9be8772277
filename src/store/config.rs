//! The parameters behind CONFIG GET and CONFIG SET: one table, only what really exists.

use super::instance::Settings;
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
        }
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
    fixed!("maxmemory", 0),
    fixed!("maxmemory-policy", "noeviction"),
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
