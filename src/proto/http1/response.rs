//! The head of a response, for those who read one: proxies and clients.

use super::head::{Field, Framing, HeadError, Span, TransferEncoding, line_end, read_fields};
use super::{Body, HeadScan, Version, is_value};

/// A response's head; spans into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its version.
    pub version: Version,
    /// From 100 to 599.
    pub status: u16,
    /// Possibly empty.
    pub reason: Span,
    /// What follows.
    pub body: ResponseBody,
    /// The connection can carry another request after this response's body.
    pub keep_alive: bool,
    /// It changes the protocol: all that follows is of the new one.
    pub upgrade: bool,
}

/// How a response's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    /// As a request's.
    Framed(Body),
    /// With the connection.
    UntilClose,
}

/// Why a response can't be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// Not HTTP, or framed in a way that could be understood in two.
    Malformed,
    /// Its head is beyond the limits.
    TooLarge,
}

impl From<HeadError> for ResponseError {
    fn from(error: HeadError) -> ResponseError {
        match error {
            HeadError::Malformed => ResponseError::Malformed,
            HeadError::FirstLineTooLong | HeadError::TooLarge => ResponseError::TooLarge,
        }
    }
}

/// Finds and reads a head at the front of `bytes`: the response and the head's length. `scan` goes with the message.
/// `to_head`: it answers a HEAD request, and has no body whatever it says.
///
/// # Errors
/// Anything that isn't exactly a response.
pub fn parse_response(
    bytes: &[u8],
    scan: &mut HeadScan,
    to_head: bool,
    fields: &mut Vec<Field>,
) -> Result<Option<(Response, usize)>, ResponseError> {
    let Some((start, end)) = scan.find(bytes)? else { return Ok(None) };
    *scan = HeadScan::default();
    if start > 0 {
        return Err(ResponseError::Malformed);
    }
    let head = &bytes[..end];
    let line = line_end(head, 0)?;
    let (version, status, reason) = status_line(head, line)?;
    let mut framing = Framing::default();
    read_fields(head, line + 2, fields, |name, value, _| {
        framing.see(name, value).map_err(ResponseError::from)
    })?;
    let upgrade = status == 101;
    if upgrade && !(framing.upgrade && framing.connection_upgrade) {
        return Err(ResponseError::Malformed);
    }
    let body = body_of(&framing, version, status, to_head)?;
    let says_more = !framing.close && (version == Version::Http11 || framing.keep_alive);
    let response = Response {
        version,
        status,
        reason,
        body,
        keep_alive: says_more && body != ResponseBody::UntilClose,
        upgrade,
    };
    Ok(Some((response, end)))
}

fn status_line(head: &[u8], end: usize) -> Result<(Version, u16, Span), ResponseError> {
    let line = &head[..end];
    let version = match line.get(..9) {
        Some(b"HTTP/1.1 ") => Version::Http11,
        Some(b"HTTP/1.0 ") => Version::Http10,
        _ => return Err(ResponseError::Malformed),
    };
    let digits = line.get(9..12).filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let digits = digits.ok_or(ResponseError::Malformed)?;
    let status = digits.iter().fold(0, |status, byte| status * 10 + u16::from(byte - b'0'));
    // The blank before an empty reason is often left out.
    let has_reason = match line.get(12) {
        None => false,
        Some(b' ') => true,
        Some(_) => return Err(ResponseError::Malformed),
    };
    let reason = Span::new(12 + usize::from(has_reason), end);
    let is_good = (100..600).contains(&status) && reason.of(head).iter().all(|b| is_value(*b));
    if is_good { Ok((version, status, reason)) } else { Err(ResponseError::Malformed) }
}

fn body_of(
    framing: &Framing,
    version: Version,
    status: u16,
    to_head: bool,
) -> Result<ResponseBody, ResponseError> {
    let framed = match (framing.transfer_encoding, framing.content_length) {
        (TransferEncoding::None, None) => ResponseBody::UntilClose,
        (TransferEncoding::None, Some(0)) => ResponseBody::Framed(Body::None),
        (TransferEncoding::None, Some(length)) => ResponseBody::Framed(Body::Length(length)),
        (TransferEncoding::Chunked, None) if version == Version::Http11 => {
            ResponseBody::Framed(Body::chunked())
        }
        _ => return Err(ResponseError::Malformed),
    };
    let is_bodiless = to_head || status < 200 || status == 204 || status == 304;
    Ok(if is_bodiless { ResponseBody::Framed(Body::None) } else { framed })
}
