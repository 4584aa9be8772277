//! What is done with hostile bytes: one plain function for each parser, shared by the bounded run of `cargo test` and by
//! `cargo fuzz`. Each asserts what must hold whatever the bytes are; none may panic otherwise.

use socketley::persist::manifest::Manifest;
use socketley::persist::rdb::{Item, Reader};
use socketley::proto::control;
use socketley::proto::detect::{Detected, detect};
use socketley::proto::framing::Framing;
use socketley::proto::http1::{self, Field, HeadScan, RequestReader};
use socketley::proto::proxy_protocol;
use socketley::proto::resp::{Parsed, ReplyReader, RequestParser};
use socketley::proto::websocket::handshake::{Offer, Policy, accept};
use socketley::proto::websocket::{self, Side, Workspace};
use socketley::store::packed::Packed;
use socketley::store::rdb::{self, Builder, Input};
use socketley::store::{Hasher, thresholds};

/// What is done with bytes.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const ALL: &[(&str, Target)] = &[
    ("requests", requests),
    ("replies", replies),
    ("values", value),
    ("restored", crate::restored::restored),
    ("files", file),
    ("manifests", manifest),
    ("blobs", blob),
    ("http_requests", http_requests),
    ("http_responses", http_responses),
    ("websocket_frames", websocket_frames),
    ("websocket_handshakes", websocket_handshakes),
    ("proxy_headers", proxy_headers),
    ("control_frames", control_frames),
    ("streams", streams),
];

/// The target of a name.
///
/// # Panics
/// When there is none.
pub fn named(name: &str) -> Target {
    ALL.iter().find(|(known, _)| *known == name).expect("a target of this name").1
}

/// The longest message of a WebSocket here.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

fn builder() -> Builder<'static> {
    Builder { hasher: Hasher::seeded(1), thresholds: &thresholds::REDIS }
}

/// Requests in pieces, as a socket brings them.
fn requests(bytes: &[u8]) {
    let (mut parser, mut spans, mut at) = (RequestParser::default(), Vec::new(), 0);
    let piece = piece(bytes);
    for end in (piece..bytes.len() + piece).step_by(piece).map(|end| end.min(bytes.len())) {
        loop {
            spans.clear();
            match parser.parse(&bytes[at..end], &mut spans) {
                Ok(Parsed::Command { consumed, rewritten }) => {
                    let limit = if rewritten { parser.rewritten().len() } else { consumed };
                    for span in &spans {
                        assert!(span.start as usize + span.len as usize <= limit, "{span:?}");
                    }
                    assert!(consumed > 0 && at + consumed <= end);
                    at += consumed;
                }
                Ok(Parsed::Skip { consumed }) => {
                    assert!(consumed > 0);
                    at += consumed;
                }
                Ok(Parsed::Incomplete) => break,
                Err(_) => return,
            }
        }
    }
}

fn replies(bytes: &[u8]) {
    if let Ok(Some((_, len))) = ReplyReader::default().read(bytes) {
        assert!(len <= bytes.len());
    }
}

/// One value; what is read can be written and read again.
fn value(bytes: &[u8]) {
    if let Ok(value) = rdb::read_value(&mut Input::new(bytes), &builder()) {
        let payload = rdb::dump(value.view());
        let back = rdb::restore(&payload, &builder()).expect("what was read is well made");
        assert_eq!(rdb::dump(back.view()).len(), payload.len());
    }
}

fn file(bytes: &[u8]) {
    let mut reader = Reader::new();
    for piece in bytes.chunks(100) {
        reader.feed(piece);
        while let Ok(Some(item)) = reader.next(&builder()) {
            if matches!(item, Item::End) {
                return;
            }
        }
    }
    reader.complete();
    // Whatever comes of it is an answer.
    drop(reader.next(&builder()));
}

/// What is told of an append log's files is told again when it is written.
fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(manifest) = Manifest::parse(text) {
        assert_eq!(Manifest::parse(&manifest.text()), Ok(manifest));
    }
}

/// A blob of somebody's making can be walked and changed, or is refused.
fn blob(bytes: &[u8]) {
    let Some(mut packed) = Packed::from_bytes(bytes.to_vec()) else { return };
    assert_eq!(packed.iter().count(), packed.len());
    assert_eq!(packed.iter().rev().count(), packed.len());
    while packed.pop_front(|_| ()).is_some() && packed.pop_back(|_| ()).is_some() {}
    assert!(packed.len() <= 1);
}

/// How long the pieces are in which bytes come: the first byte says.
fn piece(bytes: &[u8]) -> usize {
    1 + bytes.first().map_or(0, |byte| usize::from(*byte) % 64)
}

/// What a reader of HTTP tells of bytes that come in pieces of this length: its events, the bytes of bodies, how it ended.
fn http_events(bytes: &[u8], piece: usize) -> (Vec<String>, Vec<u8>, Option<String>) {
    let (mut reader, mut fields) = (RequestReader::default(), Vec::<Field>::new());
    let (mut events, mut bodies, mut at, mut end) = (Vec::new(), Vec::new(), 0, 0);
    loop {
        match reader.next(&bytes[at..end], &mut fields) {
            Ok(Some(http1::Event::Head { request, end: len })) => {
                assert!(len > 0 && len <= end - at);
                let head = &bytes[at..at + len];
                let words = fields.iter().map(|field| (field.name.of(head), field.value.of(head)));
                events.push(format!("{request:?} {:?}", words.collect::<Vec<_>>()));
                at += len;
            }
            Ok(Some(http1::Event::Data(range))) => {
                assert!(!range.is_empty() && range.end <= end - at);
                bodies.extend_from_slice(&bytes[at..][range.clone()]);
                at += range.end;
            }
            Ok(Some(http1::Event::End(used))) => {
                assert!(used <= end - at);
                at += used;
            }
            Ok(None) => {
                if reader.is_in_body() {
                    at = end;
                }
                if end == bytes.len() {
                    return (events, bodies, None);
                }
                end = bytes.len().min(end + piece);
            }
            Err(error) => return (events, bodies, Some(format!("{error:?}"))),
        }
    }
}

/// Requests mean the same in one piece and in many.
fn http_requests(bytes: &[u8]) {
    let whole = http_events(bytes, bytes.len().max(1));
    assert_eq!(whole, http_events(bytes, piece(bytes)));
}

fn http_responses(bytes: &[u8]) {
    let (mut scan, mut fields) = (HeadScan::default(), Vec::new());
    for end in (0..bytes.len()).step_by(piece(bytes)).chain([bytes.len()]) {
        match http1::parse_response(&bytes[..end], &mut scan, false, &mut fields) {
            Ok(Some((_, len))) => return assert!(len <= end),
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// Frames as a server and as a client read them, compressed or not; an end stays one.
fn websocket_frames(bytes: &[u8]) {
    let first = bytes.first().copied().unwrap_or_default();
    let side = if first & 1 == 0 { Side::Server } else { Side::Client };
    let mut work = Workspace::default();
    let mut reader = websocket::Reader::new(side, first & 2 == 0, MESSAGE_BYTES_MAX);
    let mut ended = false;
    for piece in bytes.get(1..).unwrap_or_default().chunks(piece(bytes)) {
        let mut rest = piece;
        loop {
            let before = rest.len();
            match reader.next(&mut rest, &mut work) {
                Ok(Some(event)) => {
                    assert!(!ended, "{event:?} after the end");
                    assert!(rest.len() < before, "{event:?} of nothing");
                    if let websocket::Event::Message(_, message) = event {
                        assert!(message.len() <= MESSAGE_BYTES_MAX);
                    }
                }
                Ok(None) => break,
                Err(_) => ended = true,
            }
            if ended {
                break;
            }
        }
    }
}

/// Both sides of the handshake.
fn websocket_handshakes(bytes: &[u8]) {
    let mut fields = Vec::new();
    let read = RequestReader::default().next(bytes, &mut fields);
    if let Ok(Some(http1::Event::Head { request, end })) = read {
        let head = &bytes[..end];
        let policy = Policy { compression: true, ..Policy::default() };
        let words = fields.iter().map(|field| (field.name.of(head), field.value.of(head)));
        let is_1_1 = request.version == http1::Version::Http11;
        if let Ok(accepted) = accept(request.method.of(head), is_1_1, words, &policy) {
            assert!(accepted.answer().ends_with("\r\n\r\n"));
        }
    }
    let offer = Offer::new([7; 16], &["chat".to_owned()], true);
    if let Ok(Some(established)) = offer.judge(bytes) {
        assert!(established.bytes <= bytes.len());
    }
}

/// What is told of the whole header is told of none of its beginnings.
fn proxy_headers(bytes: &[u8]) {
    if let Ok(Some(header)) = proxy_protocol::parse(bytes) {
        assert!(header.consumed <= bytes.len().min(proxy_protocol::HEADER_BYTES_MAX));
        for end in 0..header.consumed {
            assert_eq!(proxy_protocol::parse(&bytes[..end]), Ok(None));
        }
    }
}

fn control_frames(bytes: &[u8]) {
    let mut reader = control::Reader::default();
    for piece in bytes.chunks(piece(bytes)) {
        reader.push(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => drop(control::FromClient::parse(frame)),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(reader.pending() <= bytes.len());
    }
}

/// What is told from the first bytes stays so when more come, and messages lie inside of what was given.
fn streams(bytes: &[u8]) {
    let mut told = Detected::Unknown;
    for end in 0..=bytes.len().min(300) {
        let now = detect(&bytes[..end]);
        assert!(told == Detected::Unknown || now == told, "{told:?}, then {now:?}");
        told = now;
    }
    for framing in [Framing::Lines, Framing::Length(1), Framing::Length(2), Framing::Length(4)] {
        let mut rest = bytes;
        while let Ok(Some(frame)) = framing.next(rest, 0) {
            assert!(frame.message.end <= frame.consumed && frame.consumed > 0);
            rest = &rest[frame.consumed..];
        }
    }
}
