//! The data as it lies on disk: bytes only. Files are the ring's, when to write them is the runtime's.

pub mod manifest;
pub mod rdb;
pub mod snapshot;
