//! What scripts can call, one Lua table per file. Must not know: which thread the VM is on.

mod base64;
mod compress;
mod digest;
pub mod json;
mod msgpack;
mod regex;

use mlua::{Lua, Table};

/// The module that `require "socketley.NAME"` makes natively, or nothing.
pub fn native_module(lua: &Lua, name: &str) -> mlua::Result<Option<Table>> {
    let make = match name {
        "base64" => base64::module,
        "hex" => base64::hex_module,
        "hash" => digest::hash_module,
        "hmac" => digest::hmac_module,
        "crypto" => digest::crypto_module,
        "compress" => compress::module,
        "msgpack" => msgpack::module,
        "regex.engine" => regex::module,
        _ => return Ok(None),
    };
    make(lua).map(Some)
}

/// An error as functions answer it beside nil: `err.code`, `err.message`, readable by `tostring`.
fn problem(lua: &Lua, code: &str, text: &str) -> mlua::Result<Table> {
    const NAME: &str = "socketley.problem";
    let metatable = match lua.named_registry_value::<Option<Table>>(NAME)? {
        Some(known) => known,
        None => {
            let made = lua.create_table()?;
            let shown = |_: &Lua, error: Table| error.raw_get::<String>("message");
            made.raw_set("__tostring", lua.create_function(shown)?)?;
            made.raw_set("__metatable", "error")?;
            lua.set_named_registry_value(NAME, &made)?;
            made
        }
    };
    let error = lua.create_table()?;
    error.raw_set("code", code)?;
    error.raw_set("message", text)?;
    error.set_metatable(Some(metatable))?;
    Ok(error)
}
