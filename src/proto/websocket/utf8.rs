//! UTF-8 that comes in pieces: wrong bytes are found as soon as they are seen, also inside a character.
//!
//! Must not know: frames.

/// What is known of a text so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8 {
    /// The begun character.
    begun: [u8; 4],
    /// Its bytes so far.
    len: u8,
}

impl Utf8 {
    /// Takes the next bytes; `false` if no text can go on so.
    pub fn push(&mut self, mut bytes: &[u8]) -> bool {
        while self.len > 0 {
            let Some((&first, rest)) = bytes.split_first() else { return true };
            self.begun[usize::from(self.len)] = first;
            self.len += 1;
            bytes = rest;
            match std::str::from_utf8(&self.begun[..usize::from(self.len)]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => true,
            Err(error) if error.error_len().is_some() => false,
            Err(error) => {
                let begun = &bytes[error.valid_up_to()..];
                self.begun[..begun.len()].copy_from_slice(begun);
                self.len = begun.len() as u8;
                true
            }
        }
    }

    /// Whether the text may end here.
    pub fn is_complete(self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &[&str] =
        &["", "a", "κόσμε", "\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}", "漢字🎉"];
    /// Each is wrong at its last byte and right before it.
    const INVALID: &[&[u8]] = &[
        b"\x80",
        b"a\xff",
        b"\xc0",
        b"\xc2 ",
        b"\xe0\x9f",
        b"\xed\xa0",
        b"\xf0\x8f",
        b"\xf4\x90",
        b"\xf5",
        b"\xe2\x82\xc0",
        b"\xf0\x90\x80 ",
    ];

    #[test]
    fn valid_texts_pass_in_any_pieces() {
        for text in VALID {
            for width in 1..=text.len().max(1) {
                let mut utf8 = Utf8::default();
                assert!(text.as_bytes().chunks(width).all(|piece| utf8.push(piece)), "{text}");
                assert!(utf8.is_complete(), "{text}");
            }
        }
    }

    #[test]
    fn the_first_wrong_byte_is_found_in_any_pieces() {
        for bytes in INVALID {
            let (right, wrong) = bytes.split_at(bytes.len() - 1);
            for width in 1..=bytes.len() {
                let mut utf8 = Utf8::default();
                assert!(right.chunks(width).all(|piece| utf8.push(piece)), "{bytes:x?}");
                assert!(!utf8.push(wrong), "{bytes:x?}");
            }
        }
    }

    #[test]
    fn a_text_that_ends_inside_a_character_is_incomplete() {
        let mut utf8 = Utf8::default();
        assert!(utf8.push(b"ok\xe2\x82") && !utf8.is_complete());
        assert!(utf8.push(b"\xac") && utf8.is_complete());
    }
}
