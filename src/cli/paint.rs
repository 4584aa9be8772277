//! Colours for what an expression came to, as `inspect` writes it.
//!
//! Works on the text alone: strings, numbers, words and `<...>` look the same in every value. Must not know: Lua.

const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";
const YELLOW: &str = "\x1b[33m";
const MAGENTA: &str = "\x1b[35m";
const RESET: &str = "\x1b[0m";

/// The text with colours; control characters in it are the caller's to remove before.
pub fn paint(text: &str) -> String {
    let mut painted = String::with_capacity(text.len() * 2);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, colour) = token(rest, first);
        let (token, after) = rest.split_at(length);
        match colour {
            Some(colour) => painted.extend([colour, token, RESET]),
            None => painted.push_str(token),
        }
        rest = after;
    }
    painted
}

/// The bytes and the colour of what `text` begins with.
fn token(text: &str, first: char) -> (usize, Option<&'static str>) {
    let while_it_is = |is: fn(char) -> bool| text.find(|c| !is(c)).unwrap_or(text.len());
    match first {
        '"' => (string_bytes(text), Some(GREEN)),
        '<' => (text.find('>').map_or(1, |at| at + 1), Some(MAGENTA)),
        '0'..='9' => {
            (while_it_is(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-')), Some(CYAN))
        }
        c if c.is_alphabetic() || c == '_' => {
            let bytes = while_it_is(|c| c.is_alphanumeric() || c == '_');
            let constant = matches!(&text[..bytes], "true" | "false" | "nil" | "nan" | "inf");
            (bytes, constant.then_some(YELLOW))
        }
        c => (c.len_utf8(), None),
    }
}

/// Up to and with the closing quote.
fn string_bytes(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_coloured_and_keys_are_not() {
        let short = |text: &str| {
            let colours = [(GREEN, "g"), (CYAN, "c"), (YELLOW, "y"), (MAGENTA, "m"), (RESET, "|")];
            colours.iter().fold(text.to_string(), |text, (code, letter)| text.replace(code, letter))
        };
        for (text, expected) in [
            ("{ a1 = 1.5, b = \"x 1 \\\" y\" }", "{ a1 = c1.5|, b = g\"x 1 \\\" y\"| }"),
            ("{ [1] = true, nilly = nil }", "{ [c1|] = ytrue|, nilly = ynil| }"),
            ("<conn 5>\t-1e+20", "m<conn 5>|\t-c1e+20|"),
            ("\"never closed", "g\"never closed|"),
            ("größe < 5", "größe m<| c5|"),
        ] {
            assert_eq!(short(&paint(text)), expected, "{text}");
        }
    }
}
