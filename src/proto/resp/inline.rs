//! Inline commands: a line of words as a person types it, quoted as Redis's `sdssplitargs` reads it.

use super::Span;

/// A quote that isn't closed, or is followed by something else than a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unbalanced;

/// Splits a line without quotes in place: spans relative to the line, moved by `offset`.
pub(super) fn split_plain(line: &[u8], offset: usize, spans: &mut Vec<Span>) {
    let mut at = 0;
    while let Some(start) = next_word(line, at) {
        let len =
            line[start..].iter().position(|byte| ends_word(*byte)).unwrap_or(line.len() - start);
        spans.push(Span { start: (offset + start) as u32, len: len as u32 });
        at = start + len;
    }
}

/// Splits a line with quotes: the words without them go to `text`, the spans are places in `text`.
pub(super) fn split_quoted(
    line: &[u8],
    text: &mut Vec<u8>,
    spans: &mut Vec<Span>,
) -> Result<(), Unbalanced> {
    text.clear();
    let mut at = 0;
    while let Some(mut next) = next_word(line, at) {
        let start = text.len();
        while next < line.len() && !ends_word(line[next]) {
            // A closing quote ends its word.
            match line[next] {
                b'"' => {
                    next = double_quoted(line, next + 1, text)?;
                    break;
                }
                b'\'' => {
                    next = single_quoted(line, next + 1, text)?;
                    break;
                }
                byte => text.push(byte),
            }
            next += 1;
        }
        spans.push(Span { start: start as u32, len: (text.len() - start) as u32 });
        at = next;
    }
    Ok(())
}

/// Where the next word starts. A zero byte ends the line, as in C.
fn next_word(line: &[u8], from: usize) -> Option<usize> {
    let rest = &line[from..];
    let skipped = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t'..=b'\r'))?;
    (rest[skipped] != 0).then_some(from + skipped)
}

fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0)
}

/// From behind the opening quote to behind the closing one.
fn double_quoted(line: &[u8], mut at: usize, text: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    loop {
        match line[at.min(line.len())..] {
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                text.push(hex(high) << 4 | hex(low));
                at += 4;
            }
            [b'\\', escaped, ..] if escaped != 0 => {
                text.push(unescape(escaped));
                at += 2;
            }
            [b'"', ..] => return closed(line, at + 1),
            [] | [0, ..] => return Err(Unbalanced),
            [byte, ..] => {
                text.push(byte);
                at += 1;
            }
        }
    }
}

fn single_quoted(line: &[u8], mut at: usize, text: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    loop {
        match line[at.min(line.len())..] {
            [b'\\', b'\'', ..] => {
                text.push(b'\'');
                at += 2;
            }
            [b'\'', ..] => return closed(line, at + 1),
            [] | [0, ..] => return Err(Unbalanced),
            [byte, ..] => {
                text.push(byte);
                at += 1;
            }
        }
    }
}

/// After a closing quote there must be a space or the end.
fn closed(line: &[u8], at: usize) -> Result<usize, Unbalanced> {
    match line.get(at) {
        None | Some(0 | b' ' | b'\t'..=b'\r') => Ok(at),
        Some(_) => Err(Unbalanced),
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
