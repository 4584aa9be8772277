//! A target's path as a file's path: decoded once, its dots resolved, and nothing that could mean two things.

/// Why a path names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// A percent sign without two hexadecimal digits, or what is decoded is a zero byte.
    Malformed,
    /// It leads out of the root.
    Escapes,
}

/// Decodes the path of a target (without its query) into `out`: percent signs decoded, `.` and `..` resolved, repeated
/// slashes joined, no leading slash. A slash that was encoded is refused: whoever sends one means to confuse.
///
/// # Errors
/// See [`PathError`].
pub fn decode_path(path: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    out.clear();
    let ends_as_folder = matches!(path, [.., b'/'] | [.., b'/', b'.'] | [.., b'/', b'.', b'.']);
    for segment in path.split(|byte| *byte == b'/') {
        let start = out.len();
        if start > 0 {
            out.push(b'/');
        }
        let from = out.len();
        decode_segment(segment, out)?;
        match &out[from..] {
            b"" | b"." => out.truncate(start),
            b".." => {
                if start == 0 {
                    return Err(PathError::Escapes);
                }
                let parent = out[..start].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                out.truncate(parent);
            }
            _ => {}
        }
    }
    if ends_as_folder && !out.is_empty() {
        out.push(b'/');
    }
    Ok(())
}

fn decode_segment(segment: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    let mut at = 0;
    while let Some(&byte) = segment.get(at) {
        let decoded = if byte == b'%' {
            at += 2;
            hex(segment.get(at - 1)).zip(hex(segment.get(at))).map(|(high, low)| high << 4 | low)
        } else {
            Some(byte)
        };
        match decoded {
            None | Some(0 | b'/') => return Err(PathError::Malformed),
            Some(byte) => out.push(byte),
        }
        at += 1;
    }
    Ok(())
}

fn hex(digit: Option<&u8>) -> Option<u8> {
    digit.and_then(|digit| (*digit as char).to_digit(16)).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        let cases: &[(&str, Result<&str, PathError>)] = &[
            ("/", Ok("")),
            ("/a", Ok("a")),
            ("/a/", Ok("a/")),
            ("/a/b.txt", Ok("a/b.txt")),
            ("//a///b", Ok("a/b")),
            ("/./a/./b", Ok("a/b")),
            ("/a/../b", Ok("b")),
            ("/a/..", Ok("")),
            ("/a/b/..", Ok("a/")),
            ("/a/b/.", Ok("a/b/")),
            ("/a%20b", Ok("a b")),
            ("/%61%2e", Ok("a.")),
            ("/%252e", Ok("%2e")),
            ("/a/%2e%2e/b", Ok("b")),
            ("/..", Err(PathError::Escapes)),
            ("/../etc/passwd", Err(PathError::Escapes)),
            ("/%2e%2e/etc/passwd", Err(PathError::Escapes)),
            ("/%2E./x", Err(PathError::Escapes)),
            ("/a/../../x", Err(PathError::Escapes)),
            ("/a%2f..%2f..%2fx", Err(PathError::Malformed)),
            ("/a%", Err(PathError::Malformed)),
            ("/a%2", Err(PathError::Malformed)),
            ("/a%zz", Err(PathError::Malformed)),
            ("/a%00.html", Err(PathError::Malformed)),
            ("", Ok("")),
        ];
        let mut out = Vec::new();
        for (path, expected) in cases {
            let result = decode_path(path.as_bytes(), &mut out);
            let shown = result.map(|()| String::from_utf8(out.clone()).unwrap());
            assert_eq!(shown, expected.map(str::to_owned), "{path}");
        }
    }
}
