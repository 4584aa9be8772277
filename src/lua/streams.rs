//! What a VM's own sockets have received and the script hasn't taken yet, and what it waits for.
//!
//! Bytes are appended by the host as they come and taken by compiled Lua without leaving its trace. A reader that finds
//! too little registers what it wants, and is woken once when that is there. Bounded: the host is told to stop reading
//! above a mark that follows from what is wanted. Must not know: sockets, Lua.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::limits::{SCRIPT_INPUT_HIGH_BYTES, SCRIPT_RECEIVE_BYTES_MAX, SCRIPT_RECEIVE_LINE_BYTES};

/// What a reader wants of the bytes to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Whatever is there, but not more than this.
    Some(usize),
    /// Exactly so many.
    Exactly(usize),
    /// Up to a newline, which isn't part of it, nor is a carriage return before it.
    Line,
    /// Up to these bytes, which aren't part of it.
    Until(Box<[u8]>),
    /// All until the end.
    All,
}

/// Why nothing more comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// For scripts: `closed`, `reset`, `tls`, ...
    pub(super) code: &'static str,
    /// For people.
    pub(super) text: String,
}

/// The outcome of a [`Stream::take`]; the bytes are in [`Stream::bytes`] until the next change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Here it is.
    Bytes(Range<usize>),
    /// Not yet.
    Wait,
    /// There won't be enough: what is left.
    Ended(Range<usize>),
    /// More than a reader may ask to be kept.
    TooLong,
}

/// One socket's side in the VM.
#[derive(Debug, Default)]
pub(super) struct Stream {
    input: Vec<u8>,
    /// Taken bytes at the start of `input`.
    start: usize,
    /// Bytes after `start` that were searched in vain.
    scanned: usize,
    want: Option<(u64, Want)>,
    end: Option<End>,
    /// The host was told to stop reading.
    stopped: bool,
    /// Nothing can be sent any more.
    pub(super) broken: bool,
    /// Bytes that aren't known to be sent.
    pub(super) unsent_bytes: usize,
}

impl Want {
    /// Bytes that may be kept for it.
    fn high_bytes(&self) -> usize {
        match self {
            Want::Some(_) => SCRIPT_INPUT_HIGH_BYTES,
            Want::Exactly(count) => SCRIPT_INPUT_HIGH_BYTES.max(*count),
            Want::Line | Want::Until(_) => SCRIPT_RECEIVE_LINE_BYTES,
            Want::All => SCRIPT_RECEIVE_BYTES_MAX,
        }
    }
}

impl Stream {
    /// The buffer that ranges are about.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.input
    }

    /// Why nothing more comes, if so.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Whether it is open and empty.
    pub(super) fn is_idle(&self) -> bool {
        self.end.is_none() && !self.broken && self.len() == 0
    }

    fn len(&self) -> usize {
        self.input.len() - self.start
    }

    fn high_bytes(&self) -> usize {
        self.want.as_ref().map_or(SCRIPT_INPUT_HIGH_BYTES, |(_, want)| want.high_bytes())
    }

    /// Bytes have come: the task that wanted them, and whether to stop reading.
    pub(super) fn append(&mut self, bytes: &[u8]) -> (Option<u64>, bool) {
        if self.start > 0 {
            self.input.drain(..self.start);
            self.start = 0;
        }
        self.input.extend_from_slice(bytes);
        let woken = self.woken();
        self.stopped = self.len() >= self.high_bytes();
        (woken, self.stopped)
    }

    /// Nothing more comes: the task that waits.
    pub(super) fn finish(&mut self, end: End) -> Option<u64> {
        self.end.get_or_insert(end);
        self.want.take().map(|(task, _)| task)
    }

    /// The reader, if what it wants is there.
    fn woken(&mut self) -> Option<u64> {
        let (task, want) = self.want.take()?;
        if self.find(&want) == Taken::Wait {
            self.want = Some((task, want));
            return None;
        }
        Some(task)
    }

    /// Registers a reader that has found too little.
    pub(super) fn wait(&mut self, task: u64, want: Want) {
        self.want = Some((task, want));
    }

    /// Whether reading may go on that was stopped; told once.
    pub(super) fn resumes(&mut self) -> bool {
        let due = self.stopped && self.end.is_none() && self.len() < self.high_bytes() / 2;
        if due {
            self.stopped = false;
        }
        due
    }

    /// Takes what a reader wants, if it is there.
    pub(super) fn take(&mut self, want: &Want) -> Taken {
        let taken = self.find(want);
        let (range, skipped) = match (&taken, want) {
            (Taken::Bytes(range), Want::Line) => {
                let after = &self.input[range.end..];
                let skipped = if after.first() == Some(&b'\r') { 2 } else { 1 };
                (range.clone(), skipped)
            }
            (Taken::Bytes(range), Want::Until(end)) => (range.clone(), end.len()),
            (Taken::Bytes(range), _) | (Taken::Ended(range), _) => (range.clone(), 0),
            _ => return taken,
        };
        self.start = range.end + skipped;
        self.scanned = 0;
        taken
    }

    fn find(&mut self, want: &Want) -> Taken {
        let (start, len) = (self.start, self.len());
        match want {
            Want::Some(most) if len > 0 => Taken::Bytes(start..start + len.min(*most)),
            Want::Exactly(count) if *count <= len => Taken::Bytes(start..start + count),
            Want::All if self.end.as_ref().is_some_and(|end| end.code == "closed") => {
                Taken::Bytes(start..start + len)
            }
            Want::All if len >= SCRIPT_RECEIVE_BYTES_MAX => Taken::TooLong,
            Want::Line | Want::Until(_) => self.search(want),
            _ => self.missing(),
        }
    }

    fn missing(&self) -> Taken {
        match self.end {
            Some(_) => Taken::Ended(self.start..self.input.len()),
            None => Taken::Wait,
        }
    }

    fn search(&mut self, want: &Want) -> Taken {
        let from = self.start + self.scanned;
        let unseen = &self.input[from..];
        let (found, overlap) = match want {
            Want::Until(end) => (memchr::memmem::find(unseen, end), end.len() - 1),
            _ => (memchr::memchr(b'\n', unseen), 0),
        };
        match found {
            Some(at) => {
                let at = from + at;
                let has_return =
                    *want == Want::Line && at > self.start && self.input[at - 1] == b'\r';
                Taken::Bytes(self.start..at - usize::from(has_return))
            }
            None if self.len() >= SCRIPT_RECEIVE_LINE_BYTES => Taken::TooLong,
            None => {
                self.scanned = self.len().saturating_sub(overlap);
                self.missing()
            }
        }
    }
}

/// All sockets of a VM, by the numbers that the script's side gave them.
pub(super) type Streams = BTreeMap<u64, Stream>;

#[cfg(test)]
mod tests {
    use super::*;

    fn closed() -> End {
        End { code: "closed", text: "the other side closed it".to_owned() }
    }

    fn text(stream: &mut Stream, want: &Want) -> Result<String, Taken> {
        match stream.take(want) {
            Taken::Bytes(range) => {
                Ok(String::from_utf8(stream.bytes()[range].to_vec()).expect("text"))
            }
            other => Err(other),
        }
    }

    /// The same reads, whatever pieces the bytes come in.
    #[test]
    fn pieces_dont_matter() {
        let bytes = b"one\r\ntwo\n\nabcdefhead: 1\r\n\r\nrest";
        let until = Want::Until(b"\r\n\r\n".as_slice().into());
        let reads = [
            (Want::Line, "one"),
            (Want::Line, "two"),
            (Want::Line, ""),
            (Want::Exactly(6), "abcdef"),
            (until, "head: 1"),
            (Want::All, "rest"),
        ];
        for size in 1..bytes.len() {
            let mut stream = Stream::default();
            let mut pieces = bytes.chunks(size);
            for (want, expected) in &reads {
                let found = loop {
                    match text(&mut stream, want) {
                        Ok(found) => break found,
                        Err(Taken::Wait) => {}
                        Err(other) => panic!("{want:?}: {other:?}"),
                    }
                    stream.wait(7, want.clone());
                    let Some(piece) = pieces.next() else {
                        assert_eq!(stream.finish(closed()), Some(7));
                        continue;
                    };
                    let (woken, stop) = stream.append(piece);
                    assert!(woken.is_none_or(|task| task == 7) && !stop);
                };
                assert_eq!(&found, expected, "pieces of {size}");
            }
        }
    }

    #[test]
    fn an_end_leaves_what_is_left() {
        let mut stream = Stream::default();
        stream.append(b"abc");
        stream.finish(closed());
        assert_eq!(stream.take(&Want::Exactly(5)), Taken::Ended(0..3));
        assert_eq!(stream.take(&Want::Line), Taken::Ended(3..3));
        assert_eq!(text(&mut stream, &Want::All), Ok(String::new()));
        let mut broken = Stream::default();
        broken.append(b"abc");
        broken.finish(End { code: "reset", text: String::new() });
        assert_eq!(broken.take(&Want::All), Taken::Ended(0..3), "half of it isn't all of it");
    }

    #[test]
    fn reading_stops_above_what_is_wanted_and_goes_on_below() {
        let mut stream = Stream::default();
        let piece = vec![b'x'; SCRIPT_INPUT_HIGH_BYTES / 2];
        assert_eq!(stream.append(&piece), (None, false));
        assert_eq!(stream.append(&piece), (None, true));
        assert!(!stream.resumes());
        assert!(matches!(stream.take(&Want::Some(usize::MAX)), Taken::Bytes(_)));
        assert!(stream.resumes() && !stream.resumes());
        // Whoever wants more gets more.
        stream.wait(1, Want::Exactly(SCRIPT_INPUT_HIGH_BYTES + 1));
        stream.append(&piece);
        assert_eq!(stream.append(&piece), (None, false));
        assert_eq!(stream.append(b"x"), (Some(1), true));
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut stream = Stream::default();
        stream.wait(1, Want::Line);
        assert_eq!(stream.append(&vec![b'x'; SCRIPT_RECEIVE_LINE_BYTES]), (Some(1), true));
        assert_eq!(stream.take(&Want::Line), Taken::TooLong);
    }
}
