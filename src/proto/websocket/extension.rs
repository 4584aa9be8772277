//! Agreeing on permessage-deflate (RFC 7692 7.1): `Sec-WebSocket-Extensions` read and written.
//!
//! Both sides agree to take nothing over from one message to the next; the only thing left to agree on is the window of
//! what we send. Must not know: HTTP, compressors.

use super::deflate::WINDOW_BITS;

const NAME: &str = "permessage-deflate";
const SERVER_NO_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_BITS: &str = "server_max_window_bits";
const CLIENT_BITS: &str = "client_max_window_bits";

/// What a client offers: nothing is taken over; it can inflate any window, and compress for any but 8 bits.
pub const OFFER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// An agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// The window of what we send.
    pub window_bits: u8,
    /// Whether the peer asked for that window, so that the answer must name it.
    named: bool,
}

impl Compression {
    /// A server's choice among what one header offers: the first offer that it can keep.
    pub fn choose(header: &str) -> Option<Compression> {
        split(header, ',').find_map(|offer| {
            let mut parameters = parameters(offer)?;
            let mut seen = Vec::new();
            let mut chosen = Compression { window_bits: 15, named: false };
            let fits = parameters.all(|(name, value)| {
                let is_new = !seen.contains(&name);
                seen.push(name);
                is_new
                    && match (name, value) {
                        (SERVER_NO_TAKEOVER | CLIENT_NO_TAKEOVER | CLIENT_BITS, None) => true,
                        (CLIENT_BITS, Some(bits)) => window_bits(bits).is_some(),
                        (SERVER_BITS, Some(bits)) => match window_bits(bits) {
                            Some(bits) if WINDOW_BITS.contains(&bits) => {
                                chosen = Compression { window_bits: bits, named: true };
                                true
                            }
                            _ => false,
                        },
                        _ => false,
                    }
            });
            fits.then_some(chosen)
        })
    }

    /// The server's answer.
    pub fn answer(self) -> String {
        let mut answer = format!("{NAME}; {SERVER_NO_TAKEOVER}; {CLIENT_NO_TAKEOVER}");
        if self.named {
            answer.push_str(&format!("; {SERVER_BITS}={}", self.window_bits));
        }
        answer
    }

    /// What a server has made of [`OFFER`]; nothing if its answer isn't one to it.
    pub fn of_answer(header: &str) -> Option<Compression> {
        let mut kept = false;
        let mut seen = Vec::new();
        for (name, value) in parameters(header.trim())? {
            let is_new = !seen.contains(&name);
            seen.push(name);
            let fits = match (name, value) {
                (SERVER_NO_TAKEOVER, None) => {
                    kept = true;
                    true
                }
                (CLIENT_NO_TAKEOVER, None) => true,
                (SERVER_BITS, Some(bits)) => window_bits(bits).is_some(),
                _ => false,
            };
            if !fits || !is_new {
                return None;
            }
        }
        kept.then_some(Compression { window_bits: 15, named: false })
    }
}

/// The parameters of one offer of ours; nothing if it is for another extension.
fn parameters(offer: &str) -> Option<impl Iterator<Item = (&str, Option<&str>)>> {
    let mut parts = split(offer, ';');
    let is_ours = parts.next()?.eq_ignore_ascii_case(NAME);
    is_ours.then(|| {
        parts.map(|part| match part.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start()))),
            None => (part, None),
        })
    })
}

fn split(text: &str, by: char) -> impl Iterator<Item = &str> {
    text.split(by).map(|part| part.trim_matches([' ', '\t']))
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// 8 to 15, without leading zeros.
fn window_bits(text: &str) -> Option<u8> {
    let bits = text.parse().ok().filter(|bits| (8..=15).contains(bits))?;
    (!text.starts_with(['0', '+'])).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An offer, and the answer to it.
    const OFFERS: &[(&str, Option<&str>)] = &[
        ("permessage-deflate", Some("")),
        ("Permessage-Deflate", Some("")),
        ("permessage-deflate; client_max_window_bits", Some("")),
        ("permessage-deflate;client_max_window_bits=8", Some("")),
        ("permessage-deflate; server_max_window_bits=10", Some("; server_max_window_bits=10")),
        ("permessage-deflate; server_max_window_bits=\"9\"", Some("; server_max_window_bits=9")),
        ("permessage-deflate ; server_no_context_takeover ; client_no_context_takeover", Some("")),
        ("x-foo, permessage-deflate", Some("")),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", Some("")),
        // zlib can't send a window of 8 bits.
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=010", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
        ("permessage-deflate; ", None),
        ("x-webkit-deflate-frame", None),
        ("", None),
    ];

    #[test]
    fn offers_are_taken_when_they_can_be_kept() {
        for (offer, wanted) in OFFERS {
            let base = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
            let answer = Compression::choose(offer).map(Compression::answer);
            assert_eq!(answer, wanted.map(|more| format!("{base}{more}")), "{offer}");
        }
    }

    #[test]
    fn an_answer_must_keep_what_was_offered() {
        let good = Compression::choose(OFFER).map(Compression::answer).unwrap_or_default();
        assert!(Compression::of_answer(&good).is_some());
        assert!(Compression::of_answer(&format!("{good}; server_max_window_bits=8")).is_some());
        for bad in [
            "permessage-deflate",
            "permessage-deflate; server_no_context_takeover; client_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover, permessage-deflate",
            "x-foo; server_no_context_takeover",
        ] {
            assert_eq!(Compression::of_answer(bad), None, "{bad}");
        }
    }
}
