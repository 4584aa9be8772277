//! The head of a request.

use super::head::{Field, Framing, HeadError, Span, TransferEncoding, line_end, read_fields};
use super::{Body, Version, is_target, is_token};

/// A request's head; spans into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Letters as they were sent: methods are case-sensitive.
    pub method: Span,
    /// The whole target.
    pub target: Span,
    /// Path and query: the target, or what stands behind the authority of an absolute one. `*` and a CONNECT's
    /// authority are as they are. Empty for an absolute target without a path.
    pub path_and_query: Span,
    /// The authority: of an absolute target, else the Host field's value. Nothing for HTTP/1.0 without one.
    pub host: Option<Span>,
    /// Its version.
    pub version: Version,
    /// What follows.
    pub body: Body,
    /// The client wants to send more on this connection.
    pub keep_alive: bool,
    /// It waits for a `100 Continue`, or for the answer, before it sends the body.
    pub expects_continue: bool,
    /// It offers to change the protocol.
    pub upgrade: bool,
}

/// Why a request is refused; the connection can't go on after any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Not HTTP, or framed in a way that could be understood in two.
    Malformed,
    /// The request line is too long.
    TargetTooLong,
    /// The fields are too many or too large.
    FieldsTooLarge,
    /// `Expect` asks for something that nobody does.
    ExpectationFailed,
    /// A transfer coding that isn't `chunked`.
    CodingNotImplemented,
    /// Neither 1.0 nor 1.1.
    VersionNotSupported,
}

impl RequestError {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            RequestError::Malformed => 400,
            RequestError::TargetTooLong => 414,
            RequestError::ExpectationFailed => 417,
            RequestError::FieldsTooLarge => 431,
            RequestError::CodingNotImplemented => 501,
            RequestError::VersionNotSupported => 505,
        }
    }
}

impl From<HeadError> for RequestError {
    fn from(error: HeadError) -> RequestError {
        match error {
            HeadError::Malformed => RequestError::Malformed,
            HeadError::FirstLineTooLong => RequestError::TargetTooLong,
            HeadError::TooLarge => RequestError::FieldsTooLarge,
        }
    }
}

/// Reads a whole head, which begins at `start` (empty lines before it) and ends with `head`.
///
/// # Errors
/// Anything that isn't exactly a request.
pub fn parse_request(
    head: &[u8],
    start: usize,
    fields: &mut Vec<Field>,
) -> Result<Request, RequestError> {
    let line = line_end(head, start)?;
    let (method, target, version) = request_line(head, start, line)?;
    let mut framing = Framing::default();
    let mut host = None;
    let mut expects_continue = false;
    read_fields(head, line + 2, fields, |name, value, span| {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if host.replace(span).is_some() || !is_authority(value) {
                    return Err(RequestError::Malformed);
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(RequestError::ExpectationFailed);
                }
                expects_continue = version == Version::Http11;
            }
            _ => framing.see(name, value)?,
        }
        Ok(())
    })?;
    if host.is_none() && version == Version::Http11 {
        return Err(RequestError::Malformed);
    }
    let (authority, path_and_query) = split_target(head, method.of(head), target)?;
    let body = body_of(&framing, version)?;
    Ok(Request {
        method,
        target,
        path_and_query,
        host: authority.or(host),
        version,
        body,
        keep_alive: !framing.close && (version == Version::Http11 || framing.keep_alive),
        expects_continue: expects_continue && body != Body::None,
        upgrade: framing.upgrade && framing.connection_upgrade && version == Version::Http11,
    })
}

fn request_line(
    head: &[u8],
    start: usize,
    end: usize,
) -> Result<(Span, Span, Version), RequestError> {
    let line = &head[start..end];
    let method = line.iter().take_while(|byte| is_token(**byte)).count();
    if method == 0 || line.get(method) != Some(&b' ') {
        return Err(RequestError::Malformed);
    }
    let rest = &line[method + 1..];
    let target = rest.iter().take_while(|byte| is_target(**byte)).count();
    if target == 0 || rest.get(target) != Some(&b' ') {
        return Err(RequestError::Malformed);
    }
    let version = match &rest[target + 1..] {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(RequestError::VersionNotSupported);
        }
        _ => return Err(RequestError::Malformed),
    };
    let from = start + method + 1;
    Ok((Span::new(start, start + method), Span::new(from, from + target), version))
}

/// RFC 9112 section 3.2: the four forms of a target. The authority, if the target has one, and the path with its query.
fn split_target(
    head: &[u8],
    method: &[u8],
    target: Span,
) -> Result<(Option<Span>, Span), RequestError> {
    let text = target.of(head);
    let start = target.start as usize;
    if method == b"CONNECT" {
        let has_port = text.rsplit(|byte| *byte == b':').next().is_some_and(is_port);
        let is_one = is_authority(text) && text.contains(&b':') && has_port;
        return if is_one { Ok((Some(target), target)) } else { Err(RequestError::Malformed) };
    }
    match text {
        [b'/', ..] => Ok((None, target)),
        b"*" if method == b"OPTIONS" => Ok((None, target)),
        _ => {
            let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| {
                text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme))
            });
            let from = scheme.ok_or(RequestError::Malformed)?.len();
            let behind = &text[from..];
            let authority = behind.iter().take_while(|byte| !b"/?#".contains(byte)).count();
            if authority == 0 || !is_authority(&behind[..authority]) {
                return Err(RequestError::Malformed);
            }
            let split = start + from + authority;
            let path = Span::new(split, start + text.len());
            Ok((Some(Span::new(start + from, split)), path))
        }
    }
}

/// `host[:port]`, an address in brackets, or nothing.
fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            let inside = &rest[..end];
            let is_address = !inside.is_empty()
                && inside.iter().all(|b| b.is_ascii_hexdigit() || b":.".contains(b));
            if !is_address {
                return false;
            }
            (&b""[..], &rest[end + 1..])
        }
        _ => text.split_at(text.iter().position(|byte| *byte == b':').unwrap_or(text.len())),
    };
    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
    host.iter().all(is_host)
        && matches!(port, [] | [b':', ..])
        && is_port(port.get(1..).unwrap_or_default())
}

fn is_port(text: &[u8]) -> bool {
    text.len() <= 5 && text.iter().all(u8::is_ascii_digit)
}

fn body_of(framing: &Framing, version: Version) -> Result<Body, RequestError> {
    match (framing.transfer_encoding, framing.content_length) {
        (TransferEncoding::None, None) => Ok(Body::None),
        (TransferEncoding::None, Some(0)) => Ok(Body::None),
        (TransferEncoding::None, Some(length)) => Ok(Body::Length(length)),
        (TransferEncoding::Chunked, None) if version == Version::Http11 => Ok(Body::chunked()),
        (TransferEncoding::Other, None) => Err(RequestError::CodingNotImplemented),
        _ => Err(RequestError::Malformed),
    }
}
