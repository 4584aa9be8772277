//! The name that a TLS client asks for, read from its first message without answering it (RFC 8446 section 4.1.2, RFC
//! 6066 section 3).
//!
//! Must not know: sockets, what is done with the name.

use crate::limits::CLIENT_HELLO_BYTES_MAX;

/// What the first bytes of a connection say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// Not enough yet.
    More,
    /// TLS for this name, in lower case.
    Name(String),
    /// TLS without a name.
    Nameless,
    /// Something else.
    Other,
}

/// Reads the first bytes of a connection, all of them each time.
pub fn server_name(bytes: &[u8]) -> Hello {
    let mut message = Vec::new();
    let mut rest = bytes;
    // The message may be cut into records anywhere.
    loop {
        match rest {
            [] => break,
            [22, 3, ..] | [22] => {}
            _ => return Hello::Other,
        }
        let Some((header, after)) = rest.split_at_checked(5) else { break };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 {
            return Hello::Other;
        }
        message.extend_from_slice(&after[..length.min(after.len())]);
        match after.get(length..) {
            Some(next) => rest = next,
            None => break,
        }
        if let Some(hello) = whole(&message) {
            return read(hello);
        }
    }
    if message.first().is_some_and(|kind| *kind != 1) {
        return Hello::Other;
    }
    match whole(&message) {
        Some(hello) => read(hello),
        None if bytes.len() > CLIENT_HELLO_BYTES_MAX => Hello::Other,
        None => Hello::More,
    }
}

/// The client's hello, if the message is one and all of it is there.
fn whole(message: &[u8]) -> Option<&[u8]> {
    let (header, body) = message.split_at_checked(4)?;
    let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
    if header[0] == 1 { body.get(..length) } else { None }
}

fn read(hello: &[u8]) -> Hello {
    match name(hello) {
        Some(Some(name)) => Hello::Name(name),
        Some(None) => Hello::Nameless,
        None => Hello::Other,
    }
}

/// Cuts off a piece whose length stands before it in so many bytes.
fn piece<'a>(bytes: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_at_checked(width)?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (piece, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(piece)
}

fn name(hello: &[u8]) -> Option<Option<String>> {
    // Its version and random bytes; then session, cipher suites and compression.
    let mut rest = hello.get(34..)?;
    for width in [1, 2, 1] {
        piece(&mut rest, width)?;
    }
    if rest.is_empty() {
        return Some(None);
    }
    let mut extensions = piece(&mut rest, 2)?;
    while !extensions.is_empty() {
        let (kind, after) = extensions.split_at_checked(2)?;
        extensions = after;
        let mut extension = piece(&mut extensions, 2)?;
        if kind != [0, 0] {
            continue;
        }
        let mut names = piece(&mut extension, 2)?;
        let (kind, mut after) = names.split_at_checked(1)?;
        if kind != [0] {
            return None;
        }
        names = piece(&mut after, 2)?;
        let is_fit = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
        if names.is_empty() || !names.iter().all(is_fit) {
            return None;
        }
        return Some(Some(String::from_utf8_lossy(names).to_ascii_lowercase()));
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixed(width: usize, bytes: &[u8]) -> Vec<u8> {
        let length = (bytes.len() as u32).to_be_bytes();
        [&length[4 - width..], bytes].concat()
    }

    /// A client's hello with these extensions.
    fn hello(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend(prefixed(1, &[9; 32]));
        body.extend(prefixed(2, &[0x13, 0x01]));
        body.extend(prefixed(1, &[0]));
        body.extend(prefixed(2, extensions));
        [&[1][..], &prefixed(3, &body)].concat()
    }

    fn named(name: &[u8]) -> Vec<u8> {
        let entry = [&[0][..], &prefixed(2, name)].concat();
        let extension = prefixed(2, &prefixed(2, &entry));
        [&[0, 43, 0, 1, 4, 0, 0][..], &extension].concat()
    }

    fn record(bytes: &[u8]) -> Vec<u8> {
        [&[22, 3, 1][..], &prefixed(2, bytes)].concat()
    }

    #[test]
    fn names_are_found_however_the_message_is_cut() {
        let message = hello(&named(b"Shop.Example"));
        let expected = Hello::Name("shop.example".to_owned());
        for size in [1, 7, 50, 1000] {
            let bytes: Vec<u8> = message.chunks(size).flat_map(record).collect();
            for end in 0..bytes.len() {
                assert_eq!(server_name(&bytes[..end]), Hello::More, "{size} {end}");
            }
            assert_eq!(server_name(&bytes), expected);
            assert_eq!(server_name(&[&bytes[..], b"more"].concat()), expected);
        }
    }

    #[test]
    fn what_has_no_name_is_told_apart() {
        assert_eq!(server_name(&record(&hello(&[]))), Hello::Nameless);
        assert_eq!(server_name(&record(&hello(&named(b"a b")))), Hello::Other);
        assert_eq!(server_name(&record(&hello(&[0, 0, 0, 9, 1]))), Hello::Other);
        assert_eq!(server_name(b"GET / HTTP/1.1\r\n"), Hello::Other);
        assert_eq!(server_name(&record(&[2, 0, 0, 0])), Hello::Other);
        assert_eq!(server_name(&[22, 3, 1, 0, 0]), Hello::Other);
        let endless = record(&[&[1, 0xff, 0xff, 0xff][..], &[0; 16_000]].concat());
        assert_eq!(server_name(&[&endless[..], &endless].concat()), Hello::Other);
    }
}
