//! When a collection leaves its packed form: Redis 7.4's defaults, in one place, because OBJECT ENCODING shows them.

/// The limits of the packed forms. Tests shrink them so that conversions happen early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// `list-max-listpack-size -2`: bytes of a packed list, and of one node of a longer list.
    pub list_bytes: usize,
    /// `set-max-intset-entries`
    pub set_integers: usize,
    /// `set-max-listpack-entries`
    pub set_entries: usize,
    /// `set-max-listpack-value`: bytes of one member.
    pub set_value_bytes: usize,
    /// `hash-max-listpack-entries`: fields.
    pub hash_entries: usize,
    /// `hash-max-listpack-value`: bytes of one field or value.
    pub hash_value_bytes: usize,
    /// `zset-max-listpack-entries`: members.
    pub sorted_set_entries: usize,
    /// `zset-max-listpack-value`: bytes of one member.
    pub sorted_set_value_bytes: usize,
}

/// Redis 7.4's defaults.
pub const REDIS: Thresholds = Thresholds {
    list_bytes: 8192,
    set_integers: 512,
    set_entries: 128,
    set_value_bytes: 64,
    hash_entries: 128,
    hash_value_bytes: 64,
    sorted_set_entries: 128,
    sorted_set_value_bytes: 64,
};
