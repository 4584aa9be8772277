//! HTTP/1.0 and 1.1 as bytes: strict readers of requests and responses, and what is written back.
//!
//! The readers work on borrowed bytes and copy nothing: a head is spans into the caller's buffer, a body is ranges of
//! it. The policy is RFC 9112 without its leniencies, for every one of them has smuggled requests past somebody: one
//! line end (CRLF), one space between the parts of a request line, no folding, no repeated or doubtful framing. What
//! isn't understood is refused, never passed on. Knows nothing of sockets, clocks, Lua or files.

mod body;
mod date;
mod head;
mod negotiate;
mod reader;
mod request;
mod response;
mod status;
mod target;
#[cfg(test)]
mod tests;

pub use body::{Body, BodyError, Step};
pub use date::{DATE_BYTES, parse_date, write_date};
pub use head::{Field, HeadScan, Span, list};
pub use negotiate::{ByteRange, EtagMatch, Ranges, accepts_gzip, match_etag, parse_ranges};
pub use reader::{Event, RequestReader};
pub use request::{Request, RequestError, parse_request};
pub use response::{Response, ResponseBody, ResponseError, parse_response};
pub use status::reason;
pub use target::{PathError, decode_path};

/// The versions that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// RFC 9110 section 5.6.2: what methods, field names and tokens are made of.
pub fn is_token(byte: u8) -> bool {
    CLASS[usize::from(byte)] & TOKEN != 0
}

/// What a field's value may hold: visible characters, blanks, tabs and bytes beyond ASCII.
pub fn is_value(byte: u8) -> bool {
    CLASS[usize::from(byte)] & VALUE != 0
}

/// What a request's target may hold: visible ASCII. Whoever means more encodes it.
fn is_target(byte: u8) -> bool {
    CLASS[usize::from(byte)] & TARGET != 0
}

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;

const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() {
            class[byte] |= TOKEN;
        }
        if b == b'\t' || (b >= b' ' && b != 0x7f) {
            class[byte] |= VALUE;
        }
        if b > b' ' && b < 0x7f {
            class[byte] |= TARGET;
        }
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < marks.len() {
        class[marks[at] as usize] |= TOKEN;
        at += 1;
    }
    class
};
