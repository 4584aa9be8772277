//! TLS between a socket's bytes and a protocol's: what connections of a runtime share, and the state of each.
//!
//! [`settings`] reads certificates and keys and says what is wrong with them; [`session`] turns records into bytes and
//! back without a socket; [`development`] makes certificates to try it with. Must not know: who speaks, which runtime it is, why a connection ends.

mod certificates;
pub mod development;
pub mod session;
pub mod settings;
#[cfg(test)]
pub mod tests;

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

pub use session::{Progress, Room, Session};
pub use settings::{Files, Mode, Settings};

/// What the connections of a runtime share.
#[derive(Clone, Default)]
pub struct Tls {
    /// For connections that are accepted.
    pub accept: Option<Arc<ServerConfig>>,
    /// Plain connections are accepted too.
    pub optional: bool,
    /// For connections that are dialled.
    pub dial: Option<Arc<ClientConfig>>,
    /// The name that dialled servers must have, if it isn't the one that was dialled.
    pub server_name: Option<Arc<str>>,
}

impl Tls {
    /// The server's side of a new connection; nothing if TLS isn't spoken here.
    pub fn accept(&self) -> Option<Session> {
        Session::server(Arc::clone(self.accept.as_ref()?)).ok()
    }

    /// The client's side of a connection to `host`; nothing if TLS isn't spoken here.
    pub fn dial(&self, host: &str) -> Option<Session> {
        let config = Arc::clone(self.dial.as_ref()?);
        let name = self.server_name.as_deref().unwrap_or(host);
        Session::client(config, server_name(name)?).ok()
    }
}

/// A name or an address as certificates have it; nothing if it can't be in one.
pub fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.trim_end_matches('.').to_owned()).ok()
}
