//! HTTP/1 on a server's connections.

use crate::runtime::connection::ProtocolState;
use crate::runtime::local::Local;

const NOTHING_HERE: &[u8] =
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The client speaks HTTP.
pub fn begin(local: &mut Local, slot: u32) {
    local.connections.at(slot).protocol = ProtocolState::Http;
    local.send(slot, NOTHING_HERE);
    local.close_after_flush(slot);
}
