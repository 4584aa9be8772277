//! The options and the reply that SSCAN, HSCAN and ZSCAN share.

use super::collection::{integer, is};
use crate::store::call::CommandError;
use crate::store::element::Element;
use crate::store::{Args, Reply, glob};

/// The arguments of SSCAN, HSCAN and ZSCAN behind the key.
pub struct Scan<'a> {
    /// Where to go on.
    pub cursor: u64,
    /// About how many elements to look at.
    pub count: usize,
    pattern: Option<&'a [u8]>,
    /// HSCAN: fields only.
    pub no_values: bool,
}

impl<'a> Scan<'a> {
    /// A cursor: any unsigned 64-bit number.
    pub fn cursor(text: &[u8]) -> Result<u64, CommandError> {
        let text = std::str::from_utf8(text).ok();
        text.and_then(|text| text.parse().ok()).ok_or(CommandError::Text("ERR invalid cursor"))
    }

    /// Cursor and options from argument 2 on.
    pub fn parse(args: Args<'a>, may_omit_values: bool) -> Result<Scan<'a>, CommandError> {
        let cursor = Scan::cursor(args.at(2))?;
        let mut scan = Scan { cursor, count: 10, pattern: None, no_values: false };
        let mut options = args.from(3).iter();
        while let Some(option) = options.next() {
            if is(option, "novalues") && may_omit_values {
                scan.no_values = true;
                continue;
            }
            let value = options.next().ok_or(CommandError::Syntax)?;
            if is(option, "count") {
                let count = integer(value)?;
                scan.count = usize::try_from(count.max(0)).unwrap_or_default();
                if scan.count == 0 {
                    return Err(CommandError::Syntax);
                }
            } else if is(option, "match") {
                scan.pattern = Some(value).filter(|pattern| *pattern != b"*");
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(scan)
    }

    /// Whether to show this one.
    pub fn wants(&self, element: Element<'_>) -> bool {
        let mut digits = itoa::Buffer::new();
        self.pattern.is_none_or(|pattern| glob::matches(pattern, element.text(&mut digits)))
    }

    /// The answer for a key that isn't there.
    pub fn nothing(reply: &mut Reply<'_>) {
        reply.array(2);
        reply.bulk(b"0");
        reply.array(0);
    }

    /// The answer; `elements` is the scan itself: it writes elements and returns the next cursor and how many it wrote.
    pub fn answer(reply: &mut Reply<'_>, elements: impl FnOnce(&mut Reply<'_>) -> (u64, usize)) {
        let mark = reply.mark();
        let (next, count) = elements(reply);
        reply.array_at(mark, count);
        reply.prefix(mark, |reply| {
            reply.array(2);
            let mut digits = itoa::Buffer::new();
            reply.bulk(digits.format(next).as_bytes());
        });
    }
}
