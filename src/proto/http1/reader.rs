//! Requests out of a stream of bytes: a head, the pieces of its body, the next head.

use std::ops::Range;

use super::{Body, BodyError, Field, HeadScan, Request, RequestError, Step, parse_request};

/// What comes next in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A head, whose spans are in the bytes given, up to `end`. A request without a body is complete with it.
    Head { request: Request, end: usize },
    /// These bytes belong to the body.
    Data(Range<usize>),
    /// The body has ended, after so many bytes.
    End(usize),
}

/// The reader of one connection's requests.
#[derive(Clone, Copy, Debug)]
pub struct RequestReader {
    scan: HeadScan,
    body: Body,
}

impl Default for RequestReader {
    fn default() -> RequestReader {
        RequestReader { scan: HeadScan::default(), body: Body::None }
    }
}

impl RequestReader {
    /// The next event at the front of `bytes`, which begin behind the last one. Nothing if more bytes are needed: of a
    /// head, all those given must be given again with them; of a body, they are used up.
    ///
    /// # Errors
    /// The stream can't go on.
    pub fn next(
        &mut self,
        bytes: &[u8],
        fields: &mut Vec<Field>,
    ) -> Result<Option<Event>, RequestError> {
        if self.is_in_body() {
            return event_of(self.body.next(bytes));
        }
        let Some((start, end)) = self.scan.find(bytes)? else { return Ok(None) };
        self.scan = HeadScan::default();
        let request = parse_request(&bytes[..end], start, fields)?;
        self.body = request.body;
        Ok(Some(Event::Head { request, end }))
    }

    /// The same within a body, with its trailers kept; see [`Body::next_keeping`].
    ///
    /// # Errors
    /// As [`RequestReader::next`].
    pub fn next_of_body(
        &mut self,
        bytes: &[u8],
        trailers: &mut Vec<u8>,
    ) -> Result<Option<Event>, RequestError> {
        event_of(self.body.next_keeping(bytes, trailers))
    }

    /// Whether the next bytes are of a body. One with a length ends with its last byte, without an [`Event::End`].
    pub fn is_in_body(&self) -> bool {
        self.body != Body::None
    }

    /// Whether some of a head has come.
    pub fn has_begun_head(&self) -> bool {
        self.scan.has_begun()
    }
}

fn event_of(step: Result<Step, BodyError>) -> Result<Option<Event>, RequestError> {
    match step {
        Ok(Step::Data(range)) => Ok(Some(Event::Data(range))),
        Ok(Step::More) => Ok(None),
        Ok(Step::End(used)) => Ok(Some(Event::End(used))),
        Err(BodyError::Malformed) => Err(RequestError::Malformed),
        Err(BodyError::TooLarge) => Err(RequestError::FieldsTooLarge),
    }
}
