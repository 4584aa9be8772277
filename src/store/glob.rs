//! Name patterns as KEYS, SCAN MATCH and PSUBSCRIBE take them (Redis's `stringmatchlen`): `*`, `?`, `[a-z]`, `[^a]` and
//! `\` before a byte that means itself. Knows nothing of keys.
//!
//! After a mismatch only the last `*` takes one byte more, so the time is bounded by the product of the two lengths; a
//! recursion over all stars would be exponential in their number.

/// Whether the whole of `text` fits `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest, mut at) = (pattern, 0);
    // The pattern behind the last star, and where the text that the star doesn't cover began.
    let mut star: Option<(&[u8], usize)> = None;
    loop {
        if let [b'*', after @ ..] = rest {
            rest = after;
            star = Some((after, at));
            continue;
        }
        if rest.is_empty() && at == text.len() {
            return true;
        }
        match text.get(at).and_then(|byte| match_one(rest, *byte)) {
            Some(after) => {
                rest = after;
                at += 1;
            }
            None => match &mut star {
                Some((after, covered)) if *covered < text.len() => {
                    *covered += 1;
                    (rest, at) = (after, *covered);
                }
                _ => return false,
            },
        }
    }
}

/// The pattern behind its first item, if that item fits the byte. The item isn't `*`.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', class @ ..] => {
            let (fits, rest) = match_class(class, byte);
            fits.then_some(rest)
        }
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
    }
}

/// Whether the class up to `]` (or the end) holds the byte, and what follows it.
fn match_class(class: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut fits = false;
    loop {
        rest = match rest {
            [] => return (fits != negated, rest),
            [b']', after @ ..] => return (fits != negated, after),
            [b'\\', literal, after @ ..] => {
                fits |= *literal == byte;
                after
            }
            [first, b'-', last, after @ ..] => {
                fits |= (*first.min(last)..=*first.max(last)).contains(&byte);
                after
            }
            [literal, after @ ..] => {
                fits |= *literal == byte;
                after
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            (r"h\*llo", "h*llo", true),
            (r"h\*llo", "hello", false),
            (r"[\]]", "]", true),
            (r"a\", r"a\", true),
            ("[abc", "c", true),
            ("[", "a", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
            ("*a", "ba", true),
            ("a**", "a", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        assert!(!matches(&b"a*".repeat(2000), &[b'a'; 1999]));
        assert!(!matches(b"*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", &[b'a'; 5000]));
    }
}
