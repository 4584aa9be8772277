//! What FUNCTION DUMP answers and FUNCTION RESTORE takes: the libraries' texts in Redis's RDB format.

use super::super::rdb::crc64::crc64;
use super::super::rdb::{Input, VERSION_READ_MAX, write_string};

/// The opcode in front of a library's text.
const FUNCTION: u8 = 245;
/// RDB's version since functions are in it.
const VERSION: u16 = 10;
/// Version and checksum.
const FOOTER_BYTES: usize = 10;

/// All texts in order.
pub fn write<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for text in texts {
        out.push(FUNCTION);
        write_string(&mut out, text);
    }
    out.extend_from_slice(&VERSION.to_le_bytes());
    let sum = crc64(0, &out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// The texts in a payload.
///
/// # Errors
/// It isn't one.
pub fn read(payload: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    const DAMAGED: &str = "ERR DUMP payload version or checksum are wrong";
    let body_bytes = payload.len().checked_sub(FOOTER_BYTES).ok_or(DAMAGED)?;
    let (body, footer) = payload.split_at(body_bytes);
    let mut footer = Input::new(footer);
    let version = u16::from_le_bytes(footer.array().map_err(|_| DAMAGED)?);
    let sum = u64::from_le_bytes(footer.array().map_err(|_| DAMAGED)?);
    if version > VERSION_READ_MAX || crc64(0, &payload[..body_bytes + 2]) != sum {
        return Err(DAMAGED);
    }
    let mut input = Input::new(body);
    let mut texts = Vec::new();
    while input.left() > 0 {
        let kind = input.byte().map_err(|_| DAMAGED)?;
        if kind != FUNCTION {
            return Err("ERR given type is not a function");
        }
        let text = input.string().map_err(|_| "ERR failed loading library code from payload")?;
        texts.push(text.into_owned());
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_seen() {
        let texts: [&[u8]; 2] = [b"#!lua name=a\nx", &[b'y'; 300]];
        let payload = write(texts.into_iter());
        assert_eq!(read(&payload).unwrap(), texts.map(<[u8]>::to_vec));
        for at in 0..payload.len() {
            let mut damaged = payload.clone();
            damaged[at] ^= 1;
            assert!(read(&damaged).is_err(), "byte {at}");
            assert!(read(&payload[..at]).is_err(), "length {at}");
        }
    }

    /// `FUNCTION DUMP` of redis-server 7.0.15.
    #[test]
    fn a_payload_of_redis() {
        let mut payload =
            b"\xf5\x3a#!lua name=b\nredis.register_function(\"g2\", function() end)".to_vec();
        payload.extend_from_slice(b"\x0a\x00\xc4\x66\xb6\x9f\x2d\x6b\x9a\xb1");
        assert_eq!(read(&payload).map(|texts| texts.len()), Ok(1));
        assert_eq!(write(read(&payload).unwrap().iter().map(Vec::as_slice)), payload);
    }
}
