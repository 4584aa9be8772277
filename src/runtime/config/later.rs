//! Fields that people will ask for and that this version refuses, each with the reason. It knows no field that works.

const NOT_YET: &str = "isn't in this version yet";

/// Why a field that is planned is refused; nothing for a field that nobody knows.
pub fn later(name: &str) -> Option<&'static str> {
    match name {
        "http_cache" => Some("files that are asked for often are kept in memory anyway"),
        "cache" | "log" | "write" | "drain" | "sidecar" | "raw" => Some(NOT_YET),
        _ => None,
    }
}
