//! Heads as they are passed on: which fields stay, which are the connection's own, which are the proxy's.
//!
//! Fields that stay are copied as runs of the bytes they came in, so that a head with nothing to change is one copy.
//! The rules are RFC 9110 section 7.6.1: what `Connection` names goes no further, except what says where a message ends
//! and what it is for.

use std::net::IpAddr;

use crate::proto::http1::{Body, Field, Request, Response, Version, list};
use crate::runtime::proxy::settings::{Forwarded, HeaderChange};

/// What the backend is told beside what the client says.
pub(super) struct Facts<'a> {
    /// Who the client is.
    pub(super) ip: IpAddr,
    /// It is a proxy that is believed about that.
    pub(super) is_trusted: bool,
    /// It speaks TLS.
    pub(super) is_tls: bool,
    /// The Host field; nothing for the client's own.
    pub(super) host: Option<&'a [u8]>,
    /// The path and query.
    pub(super) target: &'a [u8],
    pub(super) forwarded: Forwarded,
    pub(super) via: Option<&'a str>,
    pub(super) changes: &'a [&'a [HeaderChange]],
}

/// What the runs of copied fields leave out.
struct Copy<'a> {
    head: &'a [u8],
    fields: &'a [Field],
}

impl Copy<'_> {
    /// Appends the lines of the fields that stay.
    fn run(&self, out: &mut Vec<u8>, stays: impl Fn(&[u8], &[u8]) -> bool) {
        let end_of_all = self.head.len() - 2;
        let mut run: Option<usize> = None;
        for (at, field) in self.fields.iter().enumerate() {
            let start = field.name.start as usize;
            let stays = stays(field.name.of(self.head), field.value.of(self.head));
            match (stays, run) {
                (true, None) => run = Some(start),
                (false, Some(from)) => {
                    out.extend_from_slice(&self.head[from..start]);
                    run = None;
                }
                _ => {}
            }
            debug_assert!(at == 0 || self.fields[at - 1].name.start < field.name.start);
        }
        if let Some(from) = run {
            out.extend_from_slice(&self.head[from..end_of_all]);
        }
    }

    /// The values of the Connection fields that name other fields.
    fn named(&self) -> Option<Vec<&[u8]>> {
        let mut named: Option<Vec<&[u8]>> = None;
        for field in self.fields.iter().filter(|field| field.name.len == 10) {
            if !field.name.of(self.head).eq_ignore_ascii_case(b"connection") {
                continue;
            }
            let value = field.value.of(self.head);
            let is_usual = |word: &[u8]| {
                word.eq_ignore_ascii_case(b"close")
                    || word.eq_ignore_ascii_case(b"keep-alive")
                    || word.eq_ignore_ascii_case(b"upgrade")
            };
            let others = list(value).filter(|word| !is_usual(word));
            for other in others {
                named.get_or_insert_default().push(other);
            }
        }
        named
    }
}

fn is(name: &[u8], known: &[u8]) -> bool {
    name.eq_ignore_ascii_case(known)
}

/// Whether a field is the connection's own, or says what the proxy says itself.
fn is_hop(name: &[u8]) -> bool {
    match name.len() {
        2 => is(name, b"te"),
        7 => is(name, b"upgrade"),
        10 => is(name, b"connection") || is(name, b"keep-alive"),
        16 => is(name, b"proxy-connection"),
        17 => is(name, b"transfer-encoding"),
        _ => false,
    }
}

/// Fields that `Connection` can't take away: they say where the message ends and whom it is for.
fn is_essential(name: &[u8]) -> bool {
    match name.len() {
        4 => is(name, b"host"),
        14 => is(name, b"content-length"),
        _ => false,
    }
}

/// What only a believed proxy may say of a client.
fn is_forwarding(name: &[u8]) -> bool {
    match name.len() {
        9 => is(name, b"forwarded") || is(name, b"x-real-ip"),
        15 => is(name, b"x-forwarded-for"),
        16 => is(name, b"x-forwarded-host") || is(name, b"x-forwarded-port"),
        17 => is(name, b"x-forwarded-proto"),
        _ => false,
    }
}

fn is_changed(name: &[u8], changes: &[&[HeaderChange]]) -> bool {
    changes.iter().copied().flatten().any(|(changed, _)| is(name, changed.as_bytes()))
}

fn append_changes(out: &mut Vec<u8>, changes: &[&[HeaderChange]]) {
    for (at, list) in changes.iter().enumerate() {
        for (name, value) in *list {
            // A later list has the last word.
            let is_overruled = changes[at + 1..]
                .iter()
                .copied()
                .flatten()
                .any(|(other, _)| is(other.as_bytes(), name.as_bytes()));
            if let Some(value) = value.as_ref().filter(|_| !is_overruled) {
                line(out, name.as_bytes(), value.as_bytes());
            }
        }
    }
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A request's head for a backend.
pub(super) fn request(
    out: &mut Vec<u8>,
    head: &[u8],
    request: &Request,
    fields: &[Field],
    facts: &Facts<'_>,
) {
    let copy = Copy { head, fields };
    let named = copy.named();
    let upgrade = upgrade_of(head, request, fields);
    out.extend_from_slice(request.method.of(head));
    out.push(b' ');
    out.extend_from_slice(facts.target);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    let own = request.host.map_or(&b""[..], |host| host.of(head));
    out.extend_from_slice(facts.host.unwrap_or(own));
    out.extend_from_slice(b"\r\n");
    copy.run(out, |name, _| {
        let is_named = || {
            let named = named.as_ref();
            named.is_some_and(|named| named.iter().any(|word| is(name, word)))
        };
        let is_own = is(name, b"host")
            || is_hop(name)
            || is_named() && !is_essential(name)
            || is_forwarding(name) && !facts.is_trusted
            || facts.forwarded.common && is_forwarding_own(name)
            || facts.forwarded.standard && is(name, b"forwarded");
        !(is_own || is_changed(name, facts.changes))
    });
    forwarding(out, &copy, own, facts);
    if let Some(own) = facts.via {
        let version = if request.version == Version::Http10 { "1.0" } else { "1.1" };
        line(out, b"Via", format!("{version} {own}").as_bytes());
    }
    append_changes(out, facts.changes);
    if let Body::Chunked(_) = request.body {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if let Some(upgrade) = upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
        line(out, b"Upgrade", upgrade);
    }
    out.extend_from_slice(b"\r\n");
}

/// Fields that are written anew from what they said.
fn is_forwarding_own(name: &[u8]) -> bool {
    match name.len() {
        15 => is(name, b"x-forwarded-for"),
        16 => is(name, b"x-forwarded-host"),
        17 => is(name, b"x-forwarded-proto"),
        _ => false,
    }
}

/// The protocol that a request offers to change to, if that may be passed on. HTTP/2 without TLS isn't: in its tunnel
/// requests would reach the backend that nobody here has read. Nor is an offer with a body.
pub(super) fn upgrade_of<'a>(
    head: &'a [u8],
    request: &Request,
    fields: &[Field],
) -> Option<&'a [u8]> {
    if !request.upgrade || request.body != Body::None {
        return None;
    }
    let field = fields.iter().find(|field| is(field.name.of(head), b"upgrade"))?;
    let value = field.value.of(head);
    let is_h2c = list(value).any(|protocol| is(protocol, b"h2c"));
    (!is_h2c).then_some(value)
}

/// Who the client is and what it asked for.
fn forwarding(out: &mut Vec<u8>, copy: &Copy<'_>, host: &[u8], facts: &Facts<'_>) {
    let proto: &[u8] = if facts.is_tls { b"https" } else { b"http" };
    let values = |name: &'static [u8]| {
        let fields = copy.fields.iter().filter(|_| facts.is_trusted);
        fields
            .filter(move |field| is(field.name.of(copy.head), name))
            .map(|field| field.value.of(copy.head))
    };
    if facts.forwarded.common {
        out.extend_from_slice(b"X-Forwarded-For: ");
        for value in values(b"x-forwarded-for") {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
        address(out, facts.ip);
        out.extend_from_slice(b"\r\n");
        line(out, b"X-Forwarded-Proto", values(b"x-forwarded-proto").next_back().unwrap_or(proto));
        let host = values(b"x-forwarded-host").next_back().unwrap_or(host);
        if !host.is_empty() {
            line(out, b"X-Forwarded-Host", host);
        }
    }
    if facts.forwarded.standard {
        out.extend_from_slice(b"Forwarded: ");
        for value in values(b"forwarded") {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(b"for=");
        let is_v6 = matches!(facts.ip.to_canonical(), IpAddr::V6(_));
        out.extend_from_slice(if is_v6 { b"\"[" } else { b"" });
        address(out, facts.ip);
        out.extend_from_slice(if is_v6 { b"]\"" } else { b"" });
        if !host.is_empty() {
            out.extend_from_slice(b";host=\"");
            out.extend_from_slice(host);
            out.push(b'"');
        }
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(proto);
        out.extend_from_slice(b"\r\n");
    }
}

/// An address, without an allocation for the usual ones.
fn address(out: &mut Vec<u8>, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let mut buffer = itoa::Buffer::new();
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(buffer.format(octet).as_bytes());
            }
        }
        IpAddr::V6(v6) => out.extend_from_slice(v6.to_string().as_bytes()),
    }
}

/// How an answer's end is told to the client, and what is said of the connection.
pub(super) struct Framing {
    /// The body comes in chunks.
    pub(super) chunked: bool,
    /// There is no body whatever the fields say; what they say of one stays (an answer to HEAD, 304).
    pub(super) is_bodiless: bool,
    /// The connection closes behind it.
    pub(super) closes: bool,
    /// The client speaks HTTP/1.0.
    pub(super) is_http10: bool,
}

/// An answer's head for a client.
pub(super) fn answer(
    out: &mut Vec<u8>,
    head: &[u8],
    response: &Response,
    fields: &[Field],
    framing: &Framing,
    changes: &[&[HeaderChange]],
    extra: &str,
) {
    let copy = Copy { head, fields };
    let named = copy.named();
    // The line behind the version, with its line end.
    let line_end = memchr::memchr(b'\n', head).map_or(head.len(), |at| at + 1);
    out.extend_from_slice(b"HTTP/1.1");
    if response.reason.len == 0 {
        out.extend_from_slice(&head[8..12]);
        out.extend_from_slice(b" \r\n");
    } else {
        out.extend_from_slice(&head[8..line_end]);
    }
    let is_upgrade = response.status == 101;
    let has_length = !is_upgrade && response.status >= 200 && response.status != 204;
    copy.run(out, |name, _| {
        let is_named = || {
            let named = named.as_ref();
            named.is_some_and(|named| named.iter().any(|word| is(name, word)))
        };
        let is_own = is_hop(name) && !(is_upgrade && is(name, b"upgrade"))
            || is_named() && !is_essential(name)
            || is(name, b"content-length") && !has_length;
        !(is_own || is_changed(name, changes))
    });
    append_changes(out, changes);
    out.extend_from_slice(extra.as_bytes());
    let says_chunked = || fields.iter().any(|field| is(field.name.of(head), b"transfer-encoding"));
    if framing.chunked || framing.is_bodiless && has_length && !framing.is_http10 && says_chunked()
    {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if is_upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
    } else if response.status >= 200 {
        match (framing.closes, framing.is_http10) {
            (true, _) => out.extend_from_slice(b"Connection: close\r\n"),
            (false, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (false, false) => {}
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// A piece of a body as a chunk.
pub(super) fn chunk(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut size = [0; 16];
    let (mut at, mut left) = (size.len(), bytes.len());
    while left > 0 || at == size.len() {
        at -= 1;
        size[at] = DIGITS[left & 15];
        left >>= 4;
    }
    out.extend_from_slice(&size[at..]);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// The end of a body in chunks, with those of its trailers that may be passed on.
pub(super) fn last_chunk(out: &mut Vec<u8>, trailers: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    for trailer in trailers.split_inclusive(|byte| *byte == b'\n') {
        let name = trailer.split(|byte| *byte == b':').next().unwrap_or_default();
        if may_trail(name) {
            out.extend_from_slice(trailer);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 section 6.5.1: framing, routing, authentication, content's form and conditions belong in the head.
fn may_trail(name: &[u8]) -> bool {
    const NEVER: &[&[u8]] = &[
        b"authorization",
        b"age",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"expect",
        b"expires",
        b"forwarded",
        b"host",
        b"location",
        b"max-forwards",
        b"origin",
        b"pragma",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"trailer",
        b"vary",
        b"via",
        b"warning",
        b"www-authenticate",
    ];
    let is_conditional = name.len() > 3 && is(&name[..3], b"if-");
    let is_proxys = name.len() > 6 && is(&name[..6], b"proxy-");
    !(is_conditional
        || is_proxys
        || is_hop(name)
        || is_forwarding(name)
        || NEVER.iter().any(|never| is(name, never)))
}
