//! Whole exchanges through frames: every split, every violation, compressed or not.

use super::frame::{Opcode, write};
use super::*;
use crate::ring::random::Random;

/// An event that outlives its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    Failed(Violation),
}

const KEY: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);
const LIMIT: usize = 1 << 20;

fn text(bytes: &[u8]) -> Seen {
    Seen::Message(Kind::Text, bytes.to_vec())
}

/// What a server sees of `bytes` in pieces of `width`.
fn read_in(bytes: &[u8], width: usize, compression: bool) -> Vec<Seen> {
    let mut reader = Reader::new(Side::Server, compression, LIMIT);
    let mut work = Workspace::default();
    let mut seen = Vec::new();
    for mut piece in bytes.chunks(width) {
        loop {
            match reader.next(&mut piece, &mut work) {
                Ok(None) => break,
                Ok(Some(Event::Message(kind, bytes))) => {
                    seen.push(Seen::Message(kind, bytes.to_vec()))
                }
                Ok(Some(Event::Ping(bytes))) => seen.push(Seen::Ping(bytes.to_vec())),
                Ok(Some(Event::Pong(bytes))) => seen.push(Seen::Pong(bytes.to_vec())),
                Ok(Some(Event::Close(code, reason))) => {
                    seen.push(Seen::Close(code.0, reason.to_owned()))
                }
                Err(violation) => seen.push(Seen::Failed(violation)),
            }
        }
        assert!(piece.is_empty(), "all is consumed");
    }
    seen
}

/// A server sees `wanted`, whatever the pieces are.
fn check(bytes: &[u8], compression: bool, wanted: &[Seen]) {
    for width in (1..=bytes.len().min(40)).chain([bytes.len().max(1)]) {
        assert_eq!(read_in(bytes, width, compression), wanted, "{bytes:02x?} in pieces of {width}");
    }
}

fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, opcode, false, payload, KEY);
    out
}

/// A masked frame whose first byte is what it shouldn't be.
fn with_first(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = masked(Opcode::Ping, payload);
    out[0] = first;
    out
}

const TEXT: Opcode = Opcode::Data(Kind::Text);
const BINARY: Opcode = Opcode::Data(Kind::Binary);

#[test]
fn the_samples_of_the_rfc() {
    check(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", false, &[text(b"Hello")]);
    check(b"\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", false, &[Seen::Ping(b"Hello".to_vec())]);
    let mut out = Vec::new();
    write(&mut out, TEXT, false, b"Hello", None);
    assert_eq!(out, b"\x81\x05Hello");
    assert_eq!(masked(TEXT, b"Hello"), b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    // RFC 7692 7.2.3: compressed, in fragments, stored, in two blocks, with a last block.
    for (payload, wanted) in [
        ("f248cdc9c90700", "Hello"),
        ("000500faff48656c6c6f00", "Hello"),
        ("f348cdc9c9070000", "Hello"),
        ("f24805000000ffffcac9c90700", "Hello"),
        ("00", ""),
    ] {
        let mut out = Vec::new();
        write(&mut out, TEXT, true, &unhex(payload), KEY);
        check(&out, true, &[text(wanted.as_bytes())]);
        let mut twice = out.repeat(2);
        twice.extend(masked(TEXT, b"plain"));
        let wanted = text(wanted.as_bytes());
        check(&twice, true, &[wanted.clone(), wanted, text(b"plain")]);
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
        .collect()
}

/// The original's WebSocket gave a message of more than six bytes back with its end over its beginning.
#[test]
fn payloads_of_every_length_arrive_whole() {
    let long: Vec<u8> = (0..70_000u32).map(|n| n as u8).collect();
    for length in (0..300).chain([4095, 4096, 65_535, 65_536, 70_000]) {
        let payload = &long[..length];
        let bytes = [masked(BINARY, payload), masked(TEXT, b"next")].concat();
        let wanted = [Seen::Message(Kind::Binary, payload.to_vec()), text(b"next")];
        for width in [1, 3, 1000, bytes.len()] {
            assert_eq!(
                read_in(&bytes, width, false),
                wanted,
                "{length} bytes in pieces of {width}"
            );
        }
    }
}

#[test]
fn a_mask_is_undone_at_every_phase() {
    let plain: Vec<u8> = (0..100).collect();
    for cut in 0..plain.len() {
        let mut bytes = plain.clone();
        let (front, back) = bytes.split_at_mut(cut);
        frame::mask(front, [1, 2, 3, 250]);
        frame::mask(back, frame::advance_key([1, 2, 3, 250], cut));
        frame::mask(&mut bytes, [1, 2, 3, 250]);
        assert_eq!(bytes, plain, "cut at {cut}");
    }
}

#[test]
fn fragments_with_control_frames_between() {
    let mut first = masked(TEXT, "€".as_bytes().split_at(1).0);
    first[0] &= 0x7f;
    let mut second = masked(Opcode::Continuation, b"");
    second[0] &= 0x7f;
    let bytes = [
        first,
        masked(Opcode::Ping, b"p"),
        second,
        masked(Opcode::Pong, b""),
        masked(Opcode::Continuation, "€".as_bytes().split_at(1).1),
        masked(BINARY, b"\xff"),
    ];
    check(
        &bytes.concat(),
        false,
        &[
            Seen::Ping(b"p".to_vec()),
            Seen::Pong(Vec::new()),
            text("€".as_bytes()),
            Seen::Message(Kind::Binary, b"\xff".to_vec()),
        ],
    );
}

#[test]
fn what_breaks_the_protocol() {
    let long = [b'x'; 126];
    let fragment = |first: u8| with_first(first, b"a");
    let wide = |length: u64| [&b"\x82\xff"[..], &length.to_be_bytes(), b"\0\0\0\0"].concat();
    let cases: Vec<(Vec<u8>, Violation)> = vec![
        (with_first(0xc1, b"x"), Violation::ReservedBits),
        (with_first(0xa1, b"x"), Violation::ReservedBits),
        (with_first(0x91, b""), Violation::ReservedBits),
        (with_first(0x83, b"x"), Violation::Opcode),
        (with_first(0x8b, b""), Violation::Opcode),
        (with_first(0x09, b"x"), Violation::Control),
        (with_first(0x89, &long), Violation::Control),
        (with_first(0x88, &long), Violation::Control),
        (b"\x89\xfe\0\x05".to_vec(), Violation::Control),
        (b"\x81\x01x".to_vec(), Violation::Mask),
        (b"\x82\xfe\0\x05\0\0\0\0".to_vec(), Violation::Length),
        (wide(5), Violation::Length),
        (wide(1 << 63), Violation::Length),
        (wide(1 << 62), Violation::TooBig),
        (wide(LIMIT as u64 + 1), Violation::TooBig),
        (with_first(0x80, b"x"), Violation::Continuation),
        ([fragment(0x01), fragment(0x81)].concat(), Violation::Interrupted),
        ([fragment(0x01), fragment(0xc0)].concat(), Violation::ReservedBits),
        (masked(TEXT, b"\xff"), Violation::Utf8),
        (masked(TEXT, b"ok\xe2\x82"), Violation::Utf8),
        (with_first(0x01, b"good\xed\xa0"), Violation::Utf8),
        (masked(Opcode::Close, b"\x03"), Violation::CloseCode),
        (masked(Opcode::Close, b"\x03\xed"), Violation::CloseCode),
        (masked(Opcode::Close, b"\x03\xe8\xff"), Violation::Utf8),
    ];
    for (bytes, violation) in cases {
        let more = [&bytes[..], &masked(TEXT, b"late")].concat();
        check(&more, false, &[Seen::Failed(violation)]);
    }
}

/// Text fails at its first wrong byte, though neither its frame nor its message is complete.
#[test]
fn text_fails_fast() {
    let bytes = masked(TEXT, &[b"good\x80".as_slice(), &[b'.'; 100]].concat());
    assert_eq!(read_in(&bytes[..6 + 5], 6 + 5, false), [Seen::Failed(Violation::Utf8)]);
    assert_eq!(read_in(&bytes[..6 + 4], 6 + 4, false), []);
}

#[test]
fn a_message_may_reach_the_limit_in_fragments_but_not_pass_it() {
    let half = vec![b'x'; LIMIT / 2];
    let mut first = masked(BINARY, &half);
    first[0] &= 0x7f;
    let whole = [first.clone(), masked(Opcode::Continuation, &half)].concat();
    assert!(
        matches!(&read_in(&whole, 10_000, false)[..], [Seen::Message(_, bytes)] if bytes.len() == LIMIT)
    );
    let mut over = [first, masked(Opcode::Continuation, &half)].concat();
    over[half.len() + 14] &= 0x7f;
    over.extend(masked(Opcode::Continuation, b"x"));
    assert_eq!(read_in(&over, 10_000, false), [Seen::Failed(Violation::TooBig)]);
}

#[test]
fn close_codes() {
    let frame = |payload: &[u8]| masked(Opcode::Close, payload);
    let late = masked(TEXT, b"late");
    check(&[frame(b""), late.clone()].concat(), false, &[Seen::Close(1005, String::new())]);
    check(&[frame(b"\x03\xe8bye"), late].concat(), false, &[Seen::Close(1000, "bye".into())]);
    for code in 0..=5100u16 {
        let valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let seen = read_in(&frame(&code.to_be_bytes()), 100, false);
        let wanted = if valid {
            Seen::Close(code, String::new())
        } else {
            Seen::Failed(Violation::CloseCode)
        };
        assert_eq!(seen, [wanted], "{code}");
    }
    let mut out = Vec::new();
    frame::write_close(&mut out, CloseCode::NORMAL, &"€".repeat(60), None);
    assert_eq!(out.len(), 2 + 2 + 123, "a reason is cut at a character");
    out.clear();
    frame::write_close(&mut out, CloseCode::NONE, "no code, no reason", None);
    assert_eq!(out, b"\x88\0");
}

#[test]
fn clients_refuse_masked_frames_and_read_bare_ones() {
    let mut work = Workspace::default();
    let mut reader = Reader::new(Side::Client, false, LIMIT);
    let mut bytes: &[u8] = b"\x81\x02hi\x81\x80\0\0\0\0";
    assert_eq!(reader.next(&mut bytes, &mut work), Ok(Some(Event::Message(Kind::Text, b"hi"))));
    assert_eq!(reader.next(&mut bytes, &mut work), Err(Violation::Mask));
}

/// Compresses `message` and reads it back in fragments.
fn there_and_back(message: &[u8], bits: u8, level: Option<u32>) {
    let mut work = Workspace::default();
    let compressed = match level {
        None => work.deflate.compress(message, bits).to_vec(),
        Some(level) => zlib(message, level),
    };
    let mut bytes = Vec::new();
    let pieces: Vec<&[u8]> = compressed.chunks(999).collect();
    for (index, piece) in pieces.iter().enumerate() {
        let opcode = if index == 0 { BINARY } else { Opcode::Continuation };
        let start = bytes.len();
        write(&mut bytes, opcode, index == 0, piece, KEY);
        if index + 1 < pieces.len() {
            bytes[start] &= 0x7f;
        }
    }
    let seen = read_in(&bytes, 5000, true);
    let same = seen == [Seen::Message(Kind::Binary, message.to_vec())];
    assert!(same, "{} bytes, {bits} bits, level {level:?}", message.len());
}

/// A sender of another make: any level (0 makes stored blocks).
fn zlib(message: &[u8], level: u32) -> Vec<u8> {
    let mut compressor = flate2::Compress::new(flate2::Compression::new(level), false);
    let mut out = Vec::with_capacity(2 * message.len() + 1000);
    compressor.compress_vec(message, &mut out, flate2::FlushCompress::Sync).expect("it compresses");
    out.truncate(out.len() - 4);
    out
}

#[test]
fn compressed_messages_come_back() {
    let mut random = Random::new(3);
    let noise: Vec<u8> = (0..100_000).map(|_| random.next_u64() as u8).collect();
    let prose = b"{\"key\": [1, 2, 3], \"nested\": {\"a\": true}}, ".repeat(3000);
    for length in [0, 1, 2, 100, 4096, 70_000, 100_000] {
        for bits in 9..=15 {
            there_and_back(&noise[..length], bits, None);
            there_and_back(&prose[..length], bits, None);
        }
        for level in [0, 1, 9] {
            there_and_back(&noise[..length], 15, Some(level));
            there_and_back(&prose[..length], 15, Some(level));
        }
    }
}

/// Small windows must be kept: the peer may not remember more.
#[test]
fn a_small_window_is_kept() {
    let mut deflate = Deflate::default();
    let block: Vec<u8> = (0..600u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let repeated = block.repeat(4);
    let small = deflate.compress(&repeated, 9).len();
    let large = deflate.compress(&repeated, 15).len();
    assert!(
        small > 2 * large,
        "a repeat 600 bytes back is out of a window of 512: {small}, {large}"
    );
}

#[test]
fn what_does_not_inflate() {
    let compressed = |payload: &[u8]| {
        let mut out = Vec::new();
        write(&mut out, TEXT, true, payload, KEY);
        out
    };
    check(&compressed(b"\xff\xff\xff\xff\xff"), true, &[Seen::Failed(Violation::Deflate)]);
    check(&compressed(b"\x07\x00"), true, &[Seen::Failed(Violation::Deflate)]);
    let bad_text = zlib(b"ok\xff", 6);
    check(&compressed(&bad_text), true, &[Seen::Failed(Violation::Utf8)]);
    // A bomb: 200 times the limit.
    let bomb = zlib(&vec![b' '; 200 * LIMIT], 9);
    assert!(bomb.len() < LIMIT);
    assert_eq!(read_in(&compressed(&bomb), 16_384, true), [Seen::Failed(Violation::TooBig)]);
    // Without an agreement the first reserved bit says nothing.
    check(&compressed(&bad_text), false, &[Seen::Failed(Violation::ReservedBits)]);
}

#[test]
fn an_idle_reader_holds_nothing() {
    let mut reader = Reader::new(Side::Server, true, LIMIT);
    let mut work = Workspace::default();
    let bytes = masked(BINARY, &[1; 50_000]);
    for mut piece in bytes.chunks(1000) {
        while matches!(reader.next(&mut piece, &mut work), Ok(Some(_))) {}
    }
    assert!(reader.next(&mut &b""[..], &mut work).is_ok_and(|event| event.is_none()));
    assert!(reader.capacity() <= crate::limits::WEBSOCKET_KEEP_BYTES);
    assert!(size_of::<Reader>() <= 136, "{}", size_of::<Reader>());
}

/// Any bytes at all: no panic, and the same in one piece as byte by byte.
#[test]
fn any_bytes_are_read_alike_in_any_pieces() {
    let mut random = Random::new(1);
    for seed in 0..2000 {
        let mut bytes = Vec::new();
        for _ in 0..random.below(6) {
            let payload: Vec<u8> =
                (0..random.below(200)).map(|_| random.below(128) as u8).collect();
            let start = bytes.len();
            let opcode =
                [TEXT, BINARY, Opcode::Continuation, Opcode::Ping][random.below(4) as usize];
            write(&mut bytes, opcode, random.chance(200), &payload, KEY);
            if random.chance(300) {
                bytes[start] ^= 1 << random.below(8);
            }
        }
        for compression in [false, true] {
            let whole = read_in(&bytes, bytes.len().max(1), compression);
            assert_eq!(read_in(&bytes, 1, compression), whole, "seed {seed}");
        }
    }
}
