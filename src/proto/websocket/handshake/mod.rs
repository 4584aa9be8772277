//! The opening handshake (RFC 6455 4): [`accept`] on a server, [`Offer`] on a client.
//!
//! Header fields come as pairs of bytes, from whoever has parsed the request's head.
//! Must not know: how an HTTP head is parsed on a server, sockets, where a key's random bytes come from.

mod client;
mod server;

pub use client::{BadAnswer, Established, Offer};
pub use server::{Accepted, Policy, Refusal, accept};

use aws_lc_rs::digest;

/// What the key is joined with.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a server proves with that it has read a key.
fn accept_value(key: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(GUID);
    base64(context.finish().as_ref())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut wide = [0; 4];
        wide[1..=group.len()].copy_from_slice(group);
        let wide = u32::from_be_bytes(wide);
        for place in 0..4 {
            let letter = ALPHABET[(wide >> (18 - 6 * place)) as usize & 63];
            text.push(if place > group.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

/// Whether a key is 16 bytes in base64.
fn is_key(key: &str) -> bool {
    let letters = key.strip_suffix("==").unwrap_or_default().as_bytes();
    // The last letter carries two bits only.
    let ends_well = letters.last().is_some_and(|last| b"AQgw".contains(last));
    letters.len() == 22 && ends_well && letters.iter().all(|letter| ALPHABET.contains(letter))
}

/// The items of a comma-separated field.
fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(|item| item.trim_matches([' ', '\t'])).filter(|item| !item.is_empty())
}

fn has_item(value: &str, wanted: &str) -> bool {
    items(value).any(|item| item.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests;
