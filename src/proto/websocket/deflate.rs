//! permessage-deflate's work on whole messages (RFC 7692 7.2), with compressors that all connections share.
//!
//! Nothing is taken over from one message to the next, so one compressor for each agreed window size serves everybody;
//! they are made when they are first needed. Must not know: frames, what was agreed with whom.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Violation;
use crate::limits::{WEBSOCKET_DEFLATE_LEVEL, WEBSOCKET_SCRATCH_KEEP_BYTES};

/// What ends a message's blocks and isn't sent.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// How far back a compressed block may point.
const WINDOW_BYTES: usize = 1 << 15;
/// The smallest and largest window that zlib makes for raw blocks (it can't make one of 8 bits).
pub const WINDOW_BITS: std::ops::RangeInclusive<u8> = 9..=15;

/// Shared compressors.
#[derive(Default)]
pub struct Deflate {
    inflater: Option<Decompress>,
    compressors: [Option<Compress>; 7],
    /// The message inflated or compressed last.
    output: Vec<u8>,
}

impl Deflate {
    /// The message that `compressed` holds. `compressed` is lent for the tail that the peer has left out.
    ///
    /// # Errors
    /// It doesn't inflate, or to more than `bytes_max`.
    pub fn inflate(
        &mut self,
        compressed: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<&[u8], Violation> {
        self.shrink();
        compressed.extend_from_slice(&TAIL);
        let inflater = self.inflater.get_or_insert_with(|| Decompress::new(false));
        inflater.reset(false);
        let mut rest = &compressed[..];
        loop {
            let free = self.output.capacity() - self.output.len();
            if free == 0 {
                self.output.reserve(rest.len().max(1024));
            }
            let (taken, made) = (inflater.total_in(), inflater.total_out());
            let status = inflater
                .decompress_vec(rest, &mut self.output, FlushDecompress::Sync)
                .map_err(|_| Violation::Deflate)?;
            let (taken, made) = (inflater.total_in() - taken, inflater.total_out() - made);
            rest = &rest[taken as usize..];
            if self.output.len() > bytes_max {
                return Err(Violation::TooBig);
            }
            let has_room = self.output.len() < self.output.capacity();
            match status {
                // A block may call itself the last and be followed by others, which may point back into it.
                Status::StreamEnd if !rest.is_empty() => {
                    inflater.reset(false);
                    let window = self.output.len().saturating_sub(WINDOW_BYTES);
                    let window = &self.output[window..];
                    inflater.set_dictionary(window).map_err(|_| Violation::Deflate)?;
                }
                Status::StreamEnd => break,
                _ if rest.is_empty() && has_room => break,
                _ if taken == 0 && made == 0 && has_room => return Err(Violation::Deflate),
                _ => {}
            }
        }
        Ok(&self.output)
    }

    /// `message` compressed for a peer whose window has `window_bits`.
    pub fn compress(&mut self, message: &[u8], window_bits: u8) -> &[u8] {
        self.shrink();
        let bits = window_bits.clamp(*WINDOW_BITS.start(), *WINDOW_BITS.end());
        let compressor = self.compressors[usize::from(bits - WINDOW_BITS.start())]
            .get_or_insert_with(|| {
                let level = Compression::new(WEBSOCKET_DEFLATE_LEVEL);
                Compress::new_with_window_bits(level, false, bits)
            });
        compressor.reset();
        let mut rest = message;
        loop {
            // Room for what can't be compressed, with the header of each stored block.
            self.output.reserve(rest.len() + rest.len() / 1024 + 64);
            let taken = compressor.total_in();
            let flush = FlushCompress::Sync;
            let result = compressor.compress_vec(rest, &mut self.output, flush);
            rest = &rest[(compressor.total_in() - taken) as usize..];
            let has_room = self.output.len() < self.output.capacity();
            if result.is_err() || rest.is_empty() && has_room {
                break;
            }
        }
        self.output.strip_suffix(&TAIL).unwrap_or(&self.output)
    }

    fn shrink(&mut self) {
        self.output.clear();
        if self.output.capacity() > WEBSOCKET_SCRATCH_KEEP_BYTES {
            self.output = Vec::new();
        }
    }
}
