//! MONITOR: every command that is executed, as a line for those that watch. Secrets aren't shown, nor are commands for
//! administrators.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::call::Call;
use super::clients::Delivery;
use super::commands::{Command, Flags};
use super::instance::{Attention, Instance};
use super::meter;

/// The rows of the clients that watch.
pub type Monitors = BTreeSet<u32>;

/// Tells the monitors of a command that is executed.
#[cold]
pub(super) fn feed(call: &mut Call<'_>, row: &Command) {
    if row.flags.has(Flags::ADMIN) {
        return;
    }
    let bytes = meter::outside(|| line(call, row));
    let Instance { clients, monitors, .. } = &mut *call.instance;
    for row in monitors.iter() {
        if let Some((connection, _)) = clients.address(*row) {
            clients.deliver(Delivery::Push { connection, bytes: Arc::clone(&bytes) });
        }
    }
}

fn line(call: &Call<'_>, row: &Command) -> Arc<[u8]> {
    let from = match call.instance.clients.of(call.session) {
        Some(client) => client.address.as_str(),
        None => "lua",
    };
    let (seconds, ms) = (call.now_ms / 1000, call.now_ms % 1000);
    let mut line = format!("+{seconds}.{ms:03}000 [{} {from}]", call.session.database).into_bytes();
    let secret = match row.name {
        "auth" => 1,
        "hello" => call
            .args
            .iter()
            .position(|argument| argument.eq_ignore_ascii_case(b"auth"))
            .map_or(usize::MAX, |at| at + 1),
        _ => usize::MAX,
    };
    for (index, argument) in call.args.iter().enumerate() {
        line.extend_from_slice(b" \"");
        match index >= secret {
            true => line.extend_from_slice(b"(redacted)"),
            false => escape(argument, &mut line),
        }
        line.push(b'"');
    }
    line.extend_from_slice(b"\r\n");
    line.into()
}

/// As C's string literals.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(*byte),
            _ => out.extend(format!("\\x{byte:02x}").bytes()),
        }
    }
}

impl Instance {
    /// A client watches from now on.
    pub(super) fn start_monitor(&mut self, row: u32) {
        self.monitors.insert(row);
        self.attention.set(Attention::MONITORED, true);
    }

    /// It watches no more, if it did.
    pub(super) fn end_monitor(&mut self, row: Option<u32>) {
        if let Some(row) = row {
            self.monitors.remove(&row);
            self.attention.set(Attention::MONITORED, !self.monitors.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::store::crowd::check;

    #[test]
    fn commands_are_seen_by_those_that_watch() {
        check(&[
            ("a monitor", "+OK", ""),
            (
                "b set k \"a\\",
                "+OK",
                "a: +1000.000000 [0 127.0.0.1:1001] \"set\" \"k\" \"\\\"a\\\\\"",
            ),
            (
                "b auth secret x",
                "-WRONGPASS invalid username-password pair or user is disabled.",
                "a: +1000.000000 [0 127.0.0.1:1001] \"auth\" \"(redacted)\" \"(redacted)\"",
            ),
            ("b config get save", "*2 $4 save $0", ""),
            ("b multi", "+OK", "a: +1000.000000 [0 127.0.0.1:1001] \"multi\""),
            ("b get k", "+QUEUED", ""),
            ("b discard", "+OK", "a: +1000.000000 [0 127.0.0.1:1001] \"discard\""),
            ("a reset", "+RESET", ""),
            ("b ping", "+PONG", ""),
        ]);
    }
}
