//! A script's errors for people: where, what, three lines of source, how it got there; repeats are only counted.
//!
//! Must not know: Lua values. Texts come as the dispatcher's `handler_error` makes them: message, a zero byte, traceback.

use super::source::Sources;
use crate::error::ScriptError;
use crate::limits::{SCRIPT_ERROR_REPEAT_MS, SCRIPT_ERRORS_REMEMBERED_MAX};

/// Characters of a source line that an excerpt shows.
const EXCERPT_LINE_CHARS: usize = 120;

/// Takes an error's text apart.
pub(super) fn script_error(text: &str, sources: &Sources) -> ScriptError {
    let (message, trace) = text.split_once('\0').unwrap_or((text, ""));
    let traceback = own_frames(trace);
    let (file, line, message) = match position(message, sources) {
        Some((file, line, rest)) => (file, line, rest),
        // An error value without a place: the innermost frame of the script says where.
        None => match traceback.lines().find_map(|frame| position(frame.trim_start(), sources)) {
            Some((file, line, _)) => (file, line, message),
            None => ("", 0, message),
        },
    };
    ScriptError {
        message: message.to_owned(),
        file: file.to_owned(),
        line,
        excerpt: sources.text(file).map_or_else(String::new, |text| excerpt(text, line)),
        traceback,
    }
}

/// `file:line: rest`, if the file is one of the app's.
fn position<'a>(text: &'a str, sources: &Sources) -> Option<(&'a str, u32, &'a str)> {
    text.match_indices(':').find_map(|(colon, _)| {
        let (file, rest) = (&text[..colon], &text[colon + 1..]);
        let (number, rest) = rest.split_once(':')?;
        let line = number.parse().ok()?;
        sources.text(file)?;
        Some((file, line, rest.trim_start()))
    })
}

/// The script's own frames: down to the dispatcher, without what is bundled.
fn own_frames(trace: &str) -> String {
    let frames = trace.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut kept: Vec<&str> = frames
        .skip_while(|line| *line == "stack traceback:")
        .take_while(|line| !is_dispatcher(line))
        .filter(|line| !super::bundle::is_ours(line) && !line.starts_with("[sk "))
        .collect();
    while kept.last().is_some_and(|line| line.starts_with("[C]:")) {
        kept.pop();
    }
    while kept.first().is_some_and(|line| line.starts_with("[C]: in function 'error'")) {
        kept.remove(0);
    }
    kept.iter().map(|line| format!("  {line}\n")).collect()
}

/// Whether the frame is the dispatcher's section round the script's code, below which nothing is the script's.
fn is_dispatcher(frame: &str) -> bool {
    ["[sk dispatch]", "[sk loop]", "[sk load]"].iter().any(|own| frame.starts_with(own))
}

/// The line and its neighbours, the line itself marked.
fn excerpt(text: &str, line: u32) -> String {
    let first = line.saturating_sub(1).max(1);
    let width = (line + 1).to_string().len();
    let lines =
        text.lines().zip(1u32..).skip(first as usize - 1).take_while(|(_, n)| *n <= line + 1);
    lines
        .map(|(text, number)| {
            let mark = if number == line { '>' } else { ' ' };
            let text: String = text.chars().take(EXCERPT_LINE_CHARS).collect();
            format!("  {mark} {number:width$} | {text}\n")
        })
        .collect()
}

/// The errors told lately.
#[derive(Default)]
pub(super) struct Reports {
    told: Vec<Told>,
}

struct Told {
    place: String,
    until_ms: u64,
    repeats: u64,
}

/// What to do about an error.
#[derive(Debug, PartialEq)]
pub(super) enum Telling {
    /// Tell it, and how often it came since it was told last.
    Tell { repeats: u64 },
    /// It was told a moment ago: only counted. `first`: no other repeat is waiting for [`Reports::overdue`].
    Count { first: bool },
}

impl Reports {
    /// An error happened. The same place and message within some seconds is a repeat.
    pub(super) fn happened(&mut self, error: &ScriptError, now_ms: u64) -> Telling {
        let place = if error.line == 0 {
            error.message.clone()
        } else {
            format!("{}:{}", error.file, error.line)
        };
        let until_ms = now_ms + SCRIPT_ERROR_REPEAT_MS;
        let waiting = self.told.iter().any(|told| told.repeats > 0);
        let Some(told) = self.told.iter_mut().find(|told| told.place == place) else {
            if self.told.len() == SCRIPT_ERRORS_REMEMBERED_MAX {
                self.told.remove(0);
            }
            self.told.push(Told { place, until_ms, repeats: 0 });
            return Telling::Tell { repeats: 0 };
        };
        if now_ms < told.until_ms {
            told.repeats += 1;
            return Telling::Count { first: !waiting };
        }
        told.until_ms = until_ms;
        Telling::Tell { repeats: std::mem::take(&mut told.repeats) }
    }

    /// The repeats whose time has passed: place and count.
    pub(super) fn overdue(&mut self, now_ms: u64) -> Vec<(String, u64)> {
        let due = self.told.iter_mut().filter(|told| told.repeats > 0 && told.until_ms <= now_ms);
        due.map(|told| (told.place.clone(), std::mem::take(&mut told.repeats))).collect()
    }

    /// When the next repeats are due, if some wait.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.told.iter().filter(|told| told.repeats > 0).map(|told| told.until_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::lua::{AppSource, VmLimits};

    fn sources() -> Sources {
        Sources::new(&AppSource {
            name: "app".to_owned(),
            path: PathBuf::from("/srv/app.lua"),
            text: "local a\nlocal b = a.x\nreturn b\n".to_owned(),
            generation: 1,
            owner: None,
            modules: Vec::new(),
            limits: VmLimits { budget_ms: 50, memory_bytes: 1 << 20, restricted: false },
        })
    }

    #[test]
    fn an_error_reads_as_one_block() {
        let text = "app.lua:2: attempt to index local 'a' (a nil value)\0\nstack traceback:\n\tapp.lua:2: in function \
                    'f'\n\t[socketley]/stdlib/x.lua:1: in function 'g'\n\t[C]: in function 'xpcall'\n\t[sk loop]:57: in \
                    function 'message'\n\t[sk loop]:80: in function <[sk loop]:70>";
        let error = script_error(text, &sources());
        let block = "app.lua:2: attempt to index local 'a' (a nil value)\n    1 | local a\n  > 2 | local b = a.x\n    3 | \
                     return b\n  app.lua:2: in function 'f'";
        assert_eq!(error.to_string(), block);
    }

    #[test]
    fn an_error_value_without_a_place_takes_the_innermost_frame() {
        let error = script_error(
            "oops\0\nstack traceback:\n\t[C]: in function 'error'\n\tapp.lua:3: in main chunk",
            &sources(),
        );
        assert_eq!(
            (error.file.as_str(), error.line, error.message.as_str()),
            ("app.lua", 3, "oops")
        );
    }

    #[test]
    fn repeats_are_counted_and_told_later() {
        let mut reports = Reports::default();
        let error = ScriptError { file: "a.lua".to_owned(), line: 2, ..Default::default() };
        assert_eq!(reports.happened(&error, 1000), Telling::Tell { repeats: 0 });
        assert_eq!(reports.happened(&error, 1001), Telling::Count { first: true });
        assert_eq!(reports.happened(&error, 1002), Telling::Count { first: false });
        assert_eq!(reports.next_due_ms(), Some(1000 + SCRIPT_ERROR_REPEAT_MS));
        assert_eq!(reports.overdue(1003), []);
        let later = 1000 + SCRIPT_ERROR_REPEAT_MS;
        assert_eq!(reports.overdue(later), [("a.lua:2".to_owned(), 2)]);
        assert_eq!(reports.happened(&error, later), Telling::Tell { repeats: 0 });
    }
}
