//! `hash`, `hmac` and `crypto` for Lua, by aws-lc. Must not know: what is hashed.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, digest, hmac, rand};
use mlua::{Lua, LuaString, Table, Value};

use super::base64::hex;
use super::problem;
use crate::limits::SCRIPT_RANDOM_BYTES_MAX;

const DIGESTS: [(&str, &digest::Algorithm, hmac::Algorithm); 4] = [
    ("sha1", &digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
    ("sha256", &digest::SHA256, hmac::HMAC_SHA256),
    ("sha384", &digest::SHA384, hmac::HMAC_SHA384),
    ("sha512", &digest::SHA512, hmac::HMAC_SHA512),
];

/// `hash.sha256(bytes, raw)` and its kin: hexadecimal, or raw bytes; `hash.xxh3(bytes)`, which isn't for secrets.
pub fn hash_module(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for (name, algorithm, _) in DIGESTS {
        let run = move |lua: &Lua, (bytes, raw): (LuaString, Option<bool>)| {
            shown(lua, digest::digest(algorithm, &bytes.as_bytes()).as_ref(), raw)
        };
        table.raw_set(name, lua.create_function(run)?)?;
    }
    let xxh3 = |_: &Lua, bytes: LuaString| {
        Ok(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes.as_bytes())))
    };
    table.raw_set("xxh3", lua.create_function(xxh3)?)?;
    Ok(table)
}

/// `hmac.sha256(key, bytes, raw)` and its kin.
pub fn hmac_module(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for (name, _, algorithm) in DIGESTS {
        let run = move |lua: &Lua, (key, bytes, raw): (LuaString, LuaString, Option<bool>)| {
            let key = hmac::Key::new(algorithm, &key.as_bytes());
            shown(lua, hmac::sign(&key, &bytes.as_bytes()).as_ref(), raw)
        };
        table.raw_set(name, lua.create_function(run)?)?;
    }
    Ok(table)
}

fn shown(lua: &Lua, bytes: &[u8], raw: Option<bool>) -> mlua::Result<LuaString> {
    if raw == Some(true) { lua.create_string(bytes) } else { lua.create_string(hex(bytes)) }
}

/// `crypto.random(count)`, `crypto.equal(a, b)`, `crypto.seal(key, text)`, `crypto.open(key, sealed)`.
pub fn crypto_module(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let random = |lua: &Lua, count: usize| {
        if count > SCRIPT_RANDOM_BYTES_MAX {
            let most = SCRIPT_RANDOM_BYTES_MAX;
            return Err(mlua::Error::runtime(format!(
                "crypto.random: at most {most} bytes at a time"
            )));
        }
        lua.create_string(random_bytes(count)?)
    };
    table.raw_set("random", lua.create_function(random)?)?;
    let equal = |_: &Lua, (a, b): (LuaString, LuaString)| {
        Ok(constant_time::verify_slices_are_equal(&a.as_bytes(), &b.as_bytes()).is_ok())
    };
    table.raw_set("equal", lua.create_function(equal)?)?;
    let seal = |lua: &Lua, (key, text): (LuaString, LuaString)| {
        let key = sealing_key(&key, "crypto.seal")?;
        let nonce = random_bytes(NONCE_LEN)?;
        let mut sealed = text.as_bytes().to_vec();
        let used = Nonce::try_assume_unique_for_key(&nonce).map_err(failed)?;
        key.seal_in_place_append_tag(used, Aad::empty(), &mut sealed).map_err(failed)?;
        lua.create_string([nonce, sealed].concat())
    };
    table.raw_set("seal", lua.create_function(seal)?)?;
    let open = |lua: &Lua, (key, sealed): (LuaString, LuaString)| {
        let key = sealing_key(&key, "crypto.open")?;
        let sealed = sealed.as_bytes();
        let opened = sealed.split_at_checked(NONCE_LEN).and_then(|(nonce, rest)| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut rest = rest.to_vec();
            key.open_in_place(nonce, Aad::empty(), &mut rest).ok().map(|text| text.to_vec())
        });
        Ok(match opened {
            Some(text) => (Value::String(lua.create_string(text)?), None),
            None => {
                let text = "crypto.open: it wasn't sealed with this key, or was changed since";
                (Value::Nil, Some(problem(lua, "invalid", text)?))
            }
        })
    };
    table.raw_set("open", lua.create_function(open)?)?;
    Ok(table)
}

fn sealing_key(key: &LuaString, name: &str) -> mlua::Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, &key.as_bytes());
    let wrong =
        |_| mlua::Error::runtime(format!("{name}: key: expected 32 bytes: crypto.random(32)"));
    key.map(LessSafeKey::new).map_err(wrong)
}

fn random_bytes(count: usize) -> mlua::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    rand::fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn failed(_: aws_lc_rs::error::Unspecified) -> mlua::Error {
    mlua::Error::runtime("the system's cryptography fails")
}
