//! What scripts can call, one Lua table per file. Must not know: which thread the VM is on.

pub mod json;
