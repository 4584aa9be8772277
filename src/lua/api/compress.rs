//! `compress` for Lua: gzip, zlib and raw deflate, whole or piece by piece. Must not know: what the bytes are.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::{
    DeflateDecoder, DeflateEncoder, GzEncoder, MultiGzDecoder, ZlibDecoder, ZlibEncoder,
};
use mlua::{Lua, LuaString, Table, UserData, UserDataMethods, Value};

use super::problem;
use crate::limits::SCRIPT_RECEIVE_BYTES_MAX;

/// `compress.gzip(bytes, level)`, `gunzip(bytes, max)`, `deflate`, `inflate`, and `decoder(kind)`.
pub fn module(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let gzip = |lua: &Lua, (bytes, level): (LuaString, Option<u32>)| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level.unwrap_or(6).min(9)));
        encoder.write_all(&bytes.as_bytes())?;
        lua.create_string(encoder.finish()?)
    };
    table.raw_set("gzip", lua.create_function(gzip)?)?;
    let deflate = |lua: &Lua, (bytes, level): (LuaString, Option<u32>)| {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level.unwrap_or(6).min(9)));
        encoder.write_all(&bytes.as_bytes())?;
        lua.create_string(encoder.finish()?)
    };
    table.raw_set("deflate", lua.create_function(deflate)?)?;
    let raw = |lua: &Lua, (bytes, level): (LuaString, Option<u32>)| {
        let mut encoder =
            DeflateEncoder::new(Vec::new(), Compression::new(level.unwrap_or(6).min(9)));
        encoder.write_all(&bytes.as_bytes())?;
        lua.create_string(encoder.finish()?)
    };
    table.raw_set("deflate_raw", lua.create_function(raw)?)?;
    for (name, kind) in [("gunzip", "gzip"), ("inflate", "deflate")] {
        let whole = move |lua: &Lua, (bytes, most): (LuaString, Option<usize>)| {
            let most = most.unwrap_or(SCRIPT_RECEIVE_BYTES_MAX).min(SCRIPT_RECEIVE_BYTES_MAX);
            let mut decoder = Decoder::new(kind, most).expect("a kind of its own");
            let fed = decoder.step(&bytes.as_bytes());
            let rest = fed.and_then(|first| Ok([first, decoder.end()?].concat()));
            answer(lua, rest)
        };
        table.raw_set(name, lua.create_function(whole)?)?;
    }
    let decoder = |_: &Lua, kind: String| {
        Decoder::new(&kind, SCRIPT_RECEIVE_BYTES_MAX).ok_or_else(|| {
            mlua::Error::runtime(format!("compress.decoder: expected gzip or deflate, got {kind}"))
        })
    };
    table.raw_set("decoder", lua.create_function(decoder)?)?;
    Ok(table)
}

/// Undoes a compression piece by piece.
struct Decoder {
    kind: Kind,
    /// What one step may bring.
    most: usize,
}

enum Kind {
    Gzip(Box<MultiGzDecoder<Bounded>>),
    Zlib(Box<ZlibDecoder<Bounded>>),
    /// What servers send that mean zlib and leave its head away.
    Raw(Box<DeflateDecoder<Bounded>>),
    /// `deflate` before its first byte.
    Unknown,
}

/// Output that refuses to grow without end: a few bytes may stand for gigabytes.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decoder {
    fn new(kind: &str, most: usize) -> Option<Decoder> {
        let kind = match kind {
            "gzip" => {
                Kind::Gzip(Box::new(MultiGzDecoder::new(Bounded { bytes: Vec::new(), most })))
            }
            "deflate" => Kind::Unknown,
            _ => return None,
        };
        Some(Decoder { kind, most })
    }

    fn step(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        if let (Kind::Unknown, Some(first)) = (&self.kind, bytes.first()) {
            let room = Bounded { bytes: Vec::new(), most: self.most };
            self.kind = match first & 15 {
                8 => Kind::Zlib(Box::new(ZlibDecoder::new(room))),
                _ => Kind::Raw(Box::new(DeflateDecoder::new(room))),
            };
        }
        match &mut self.kind {
            Kind::Gzip(decoder) => decoder.write_all(bytes)?,
            Kind::Zlib(decoder) => decoder.write_all(bytes)?,
            Kind::Raw(decoder) => decoder.write_all(bytes)?,
            Kind::Unknown => {}
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<Vec<u8>> {
        let room = match &mut self.kind {
            Kind::Gzip(decoder) => {
                decoder.flush()?;
                decoder.get_mut()
            }
            Kind::Zlib(decoder) => {
                decoder.flush()?;
                decoder.get_mut()
            }
            Kind::Raw(decoder) => {
                decoder.flush()?;
                decoder.get_mut()
            }
            Kind::Unknown => return Ok(Vec::new()),
        };
        Ok(std::mem::take(&mut room.bytes))
    }

    fn end(&mut self) -> io::Result<Vec<u8>> {
        match &mut self.kind {
            Kind::Gzip(decoder) => decoder.try_finish()?,
            Kind::Zlib(decoder) => decoder.try_finish()?,
            Kind::Raw(decoder) => decoder.try_finish()?,
            Kind::Unknown => {}
        }
        self.flush()
    }
}

impl UserData for Decoder {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method_mut("feed", |lua, this, bytes: LuaString| {
            let fed = this.step(&bytes.as_bytes());
            answer(lua, fed)
        });
        methods.add_method_mut("finish", |lua, this, ()| {
            let rest = this.end();
            answer(lua, rest)
        });
    }
}

fn answer(lua: &Lua, result: io::Result<Vec<u8>>) -> mlua::Result<(Value, Option<Table>)> {
    match result {
        Ok(bytes) => Ok((Value::String(lua.create_string(bytes)?), None)),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            let text = "what is compressed is longer than is allowed";
            Ok((Value::Nil, Some(problem(lua, "too_long", text)?)))
        }
        Err(error) => {
            Ok((Value::Nil, Some(problem(lua, "invalid", &format!("compress: {error}"))?)))
        }
    }
}
