//! The readers against tables of what peers send, cut at every byte.

mod requests;
mod responses;

/// The bytes of a table's text: `\r`, `\n`, `\\`, `\xHH`, and `{text*N}` for N times the text.
fn bytes_of(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'\\' => {
                let (&kind, after) = rest.split_first().expect("something behind a backslash");
                rest = after;
                match kind {
                    b'r' => out.push(b'\r'),
                    b'n' => out.push(b'\n'),
                    b'x' => {
                        let digits = std::str::from_utf8(&rest[..2]).unwrap();
                        out.push(u8::from_str_radix(digits, 16).unwrap());
                        rest = &rest[2..];
                    }
                    other => out.push(other),
                }
            }
            b'{' => {
                let end = rest.iter().position(|byte| *byte == b'}').expect("a closing brace");
                let inside = std::str::from_utf8(&rest[..end]).unwrap();
                let (piece, times) = inside.rsplit_once('*').expect("{text*N}");
                out.extend(bytes_of(piece).repeat(times.parse().unwrap()));
                rest = &rest[end + 1..];
            }
            byte => out.push(byte),
        }
    }
    out
}

/// The cases of a table: line number, bytes, what is expected.
fn cases(table: &str) -> impl Iterator<Item = (usize, Vec<u8>, &str)> {
    table
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with("# "))
        .filter(|(_, line)| *line != "#")
        .map(|(index, line)| {
            let (bytes, expected) = line.rsplit_once(" =>").expect("BYTES => EXPECTED");
            (index + 1, bytes_of(bytes), expected.trim_start())
        })
}
