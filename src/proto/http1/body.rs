//! Bodies: a length, or chunks with trailers, read piece by piece without copying.
//!
//! Trailers are checked, and dropped unless the caller keeps them: nothing here may change what the head has said.

use std::ops::Range;

use super::{is_token, is_value};
use crate::limits::{HTTP_CHUNK_EXTENSION_BYTES_MAX, HTTP_TRAILER_BYTES_MAX};

/// What is left of a message's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    None,
    /// So many bytes, not 0.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
}

/// Where in a chunked body the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunked {
    place: Place,
    /// Bytes of the chunk that are left, or its size as far as it was read.
    left: u64,
    /// Digits of the size.
    digits: u8,
    /// Bytes of chunk extensions so far, in the whole body.
    extension: u16,
    /// Bytes of trailers so far.
    trailer: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Size,
    Extension,
    /// A quoted string of an extension; true: behind a backslash.
    Quoted(bool),
    SizeEnd,
    Data,
    DataReturn,
    DataNewline,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerNewline,
    LastNewline,
}

/// Why a body can't be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Not a chunk, or not a trailer.
    Malformed,
    /// Extensions or trailers beyond the limits.
    TooLarge,
}

/// One step through a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These bytes are of the body; continue behind them.
    Data(Range<usize>),
    /// All bytes given were used, and more are needed.
    More,
    /// The body has ended, after so many bytes.
    End(usize),
}

impl Body {
    /// A chunked body's beginning.
    pub fn chunked() -> Body {
        Body::Chunked(Chunked { place: Place::Size, left: 0, digits: 0, extension: 0, trailer: 0 })
    }

    /// The next step through `bytes`.
    ///
    /// # Errors
    /// The message can't be understood any more.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Step, BodyError> {
        self.step(bytes, None)
    }

    /// The same, with the bytes of trailers appended to `trailers`: whole checked lines when the body has ended.
    ///
    /// # Errors
    /// As [`Body::next`].
    pub fn next_keeping(
        &mut self,
        bytes: &[u8],
        trailers: &mut Vec<u8>,
    ) -> Result<Step, BodyError> {
        self.step(bytes, Some(trailers))
    }

    fn step(&mut self, bytes: &[u8], trailers: Option<&mut Vec<u8>>) -> Result<Step, BodyError> {
        match self {
            Body::None => Ok(Step::End(0)),
            Body::Length(_) if bytes.is_empty() => Ok(Step::More),
            Body::Length(left) => {
                let take = (*left).min(bytes.len() as u64);
                *left -= take;
                if *left == 0 {
                    *self = Body::None;
                }
                Ok(Step::Data(0..take as usize))
            }
            Body::Chunked(chunked) => {
                let step = chunked.next(bytes, trailers)?;
                if matches!(step, Step::End(_)) {
                    *self = Body::None;
                }
                Ok(step)
            }
        }
    }
}

impl Chunked {
    fn next(
        &mut self,
        bytes: &[u8],
        mut trailers: Option<&mut Vec<u8>>,
    ) -> Result<Step, BodyError> {
        let mut at = 0;
        while at < bytes.len() {
            if self.place == Place::Data {
                let take = self.left.min((bytes.len() - at) as u64);
                self.left -= take;
                if self.left == 0 {
                    self.place = Place::DataReturn;
                }
                return Ok(Step::Data(at..at + take as usize));
            }
            let is_end = self.place == Place::LastNewline;
            let trailer = self.trailer;
            self.place = self.on_byte(bytes[at])?;
            if self.trailer != trailer
                && let Some(kept) = &mut trailers
            {
                kept.push(bytes[at]);
            }
            at += 1;
            if is_end {
                return Ok(Step::End(at));
            }
        }
        Ok(Step::More)
    }

    fn on_byte(&mut self, byte: u8) -> Result<Place, BodyError> {
        match (self.place, byte) {
            (Place::Size, _) if byte.is_ascii_hexdigit() => {
                self.digits += 1;
                if self.digits > 16 || self.left >> 59 != 0 {
                    return Err(BodyError::Malformed);
                }
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                self.left = self.left << 4 | digit;
                Ok(Place::Size)
            }
            (Place::Size, b'\r') if self.digits > 0 => Ok(Place::SizeEnd),
            (Place::Size, b';') if self.digits > 0 => self.extension(Place::Extension),
            (Place::Extension, b'\r') => Ok(Place::SizeEnd),
            (Place::Extension, b'"') => self.extension(Place::Quoted(false)),
            (Place::Extension, _) if is_value(byte) => self.extension(Place::Extension),
            (Place::Quoted(false), b'"') => self.extension(Place::Extension),
            (Place::Quoted(false), b'\\') => self.extension(Place::Quoted(true)),
            (Place::Quoted(_), _) if is_value(byte) => self.extension(Place::Quoted(false)),
            (Place::SizeEnd, b'\n') => {
                self.digits = 0;
                Ok(if self.left == 0 { Place::TrailerStart } else { Place::Data })
            }
            (Place::DataReturn, b'\r') => Ok(Place::DataNewline),
            (Place::DataNewline, b'\n') => Ok(Place::Size),
            (Place::TrailerStart, b'\r') => Ok(Place::LastNewline),
            (Place::TrailerStart | Place::TrailerName, _) if is_token(byte) => {
                self.trailer(Place::TrailerName)
            }
            (Place::TrailerName, b':') => self.trailer(Place::TrailerValue),
            (Place::TrailerValue, b'\r') => self.trailer(Place::TrailerNewline),
            (Place::TrailerValue, _) if is_value(byte) => self.trailer(Place::TrailerValue),
            (Place::TrailerNewline, b'\n') => self.trailer(Place::TrailerStart),
            (Place::LastNewline, b'\n') => Ok(Place::LastNewline),
            _ => Err(BodyError::Malformed),
        }
    }

    fn extension(&mut self, next: Place) -> Result<Place, BodyError> {
        self.extension += 1;
        let fits = usize::from(self.extension) <= HTTP_CHUNK_EXTENSION_BYTES_MAX;
        if fits { Ok(next) } else { Err(BodyError::TooLarge) }
    }

    fn trailer(&mut self, next: Place) -> Result<Place, BodyError> {
        self.trailer += 1;
        let fits = usize::from(self.trailer) <= HTTP_TRAILER_BYTES_MAX;
        if fits { Ok(next) } else { Err(BodyError::TooLarge) }
    }
}
