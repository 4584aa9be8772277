//! JSON for Lua: the `json` module, and the conversion that everything between Lua and the daemon uses.
//!
//! Lua's one table is two things in JSON: a sequence from 1 without holes is an array, string keys make an object, both
//! at once is an error. An empty table is an object unless it was decoded from `[]` or marked by `json.array`.
//! `null` is nothing inside objects and the value `json.null` inside arrays, so that lengths hold.
//! Must not know: VMs' owners, events.

use mlua::{Lua, Table, Value as LuaValue};
use serde_json::{Map, Number, Value};

use crate::limits::JSON_DEPTH_MAX;

/// Marks tables that are arrays even if empty; its registry name.
const ARRAY_METATABLE: &str = "socketley.json.array";

/// Integers that a Lua number holds exactly.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// Makes the Lua value of `value`.
///
/// # Errors
/// When the VM is out of memory.
pub fn to_lua(lua: &Lua, value: &Value) -> mlua::Result<LuaValue> {
    Ok(match value {
        Value::Null => LuaValue::Nil,
        Value::Bool(flag) => LuaValue::Boolean(*flag),
        Value::Number(number) => LuaValue::Number(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => LuaValue::String(lua.create_string(text)?),
        Value::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (index, item) in items.iter().enumerate() {
                let item = if item.is_null() { LuaValue::NULL } else { to_lua(lua, item)? };
                table.raw_set(index + 1, item)?;
            }
            table.set_metatable(Some(array_metatable(lua)?))?;
            LuaValue::Table(table)
        }
        Value::Object(entries) => {
            let table = lua.create_table_with_capacity(0, entries.len())?;
            for (key, entry) in entries {
                table.raw_set(key.as_str(), to_lua(lua, entry)?)?;
            }
            LuaValue::Table(table)
        }
    })
}

/// Makes the JSON value of a Lua value.
///
/// # Errors
/// Says what can't be told in JSON and where it is: `cannot encode a function (at .handlers[1])`.
pub fn from_lua(lua: &Lua, value: &LuaValue) -> Result<Value, String> {
    let array = array_metatable(lua).map_err(|error| error.to_string())?;
    Encoder { array, path: Vec::new() }.value(value)
}

fn array_metatable(lua: &Lua) -> mlua::Result<Table> {
    if let Ok(Some(table)) = lua.named_registry_value::<Option<Table>>(ARRAY_METATABLE) {
        return Ok(table);
    }
    let table = lua.create_table()?;
    lua.set_named_registry_value(ARRAY_METATABLE, &table)?;
    Ok(table)
}

struct Encoder {
    array: Table,
    path: Vec<String>,
}

impl Encoder {
    fn fail<T>(&self, message: &str) -> Result<T, String> {
        if self.path.is_empty() {
            return Err(message.to_string());
        }
        Err(format!("{message} (at {})", self.path.concat()))
    }

    fn value(&mut self, value: &LuaValue) -> Result<Value, String> {
        match value {
            LuaValue::Nil => Ok(Value::Null),
            LuaValue::LightUserData(pointer) if pointer.0.is_null() => Ok(Value::Null),
            LuaValue::Boolean(flag) => Ok(Value::Bool(*flag)),
            LuaValue::Integer(integer) => Ok(Value::from(*integer)),
            LuaValue::Number(number) => self.number(*number),
            LuaValue::String(text) => match text.to_str() {
                Ok(text) => Ok(Value::String(text.to_string())),
                Err(_) => self.fail("cannot encode a string that isn't UTF-8"),
            },
            LuaValue::Table(table) => self.table(table),
            other => self.fail(&format!("cannot encode a {}", other.type_name())),
        }
    }

    fn number(&self, number: f64) -> Result<Value, String> {
        if number.fract() == 0.0 && number.abs() <= INTEGER_MAX {
            return Ok(Value::from(number as i64));
        }
        match Number::from_f64(number) {
            Some(number) => Ok(Value::Number(number)),
            None => self.fail(&format!("cannot encode the number {number}")),
        }
    }

    fn table(&mut self, table: &Table) -> Result<Value, String> {
        if self.path.len() >= JSON_DEPTH_MAX {
            self.path.truncate(8);
            self.path.push("...".to_string());
            return self.fail(&format!("deeper than {JSON_DEPTH_MAX} levels, or a cycle"));
        }
        let length = table.raw_len();
        let marked = table.metatable().is_some_and(|meta| meta == self.array);
        if length > 0 || marked { self.array(table, length) } else { self.object(table) }
    }

    fn array(&mut self, table: &Table, length: usize) -> Result<Value, String> {
        let mut items = Vec::with_capacity(length.min(1024));
        for index in 1..=length {
            let item = table.raw_get(index).map_err(|error| error.to_string())?;
            self.path.push(format!("[{index}]"));
            items.push(self.value(&item)?);
            self.path.pop();
        }
        let mut entries = 0;
        for pair in table.pairs::<LuaValue, LuaValue>() {
            let (key, _) = pair.map_err(|error| error.to_string())?;
            if let LuaValue::String(key) = key {
                self.path.push(format!(".{}", key.to_string_lossy()));
                return self.fail("cannot encode a table that is a list and has names too");
            }
            entries += 1;
        }
        if entries != length {
            return self.fail("cannot encode a list with holes");
        }
        Ok(Value::Array(items))
    }

    fn object(&mut self, table: &Table) -> Result<Value, String> {
        let mut entries = Vec::new();
        for pair in table.pairs::<LuaValue, LuaValue>() {
            let (key, value) = pair.map_err(|error| error.to_string())?;
            let LuaValue::String(key) = key else {
                return self
                    .fail(&format!("cannot encode a table with a {} as key", key.type_name()));
            };
            let Ok(key) = key.to_str().map(|key| key.to_string()) else {
                return self.fail("cannot encode a key that isn't UTF-8");
            };
            self.path.push(format!(".{key}"));
            entries.push((key, self.value(&value)?));
            self.path.pop();
        }
        // A table has no order; the text of equal tables should be equal.
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Value::Object(Map::from_iter(entries)))
    }
}

/// The module: `json.encode(value, { pretty = true }?)`, `json.decode(text)`, `json.null`, `json.array(table)`.
///
/// # Errors
/// When the VM is out of memory.
pub fn module(lua: &Lua) -> mlua::Result<Table> {
    let module = lua.create_table()?;
    module.raw_set("null", LuaValue::NULL)?;
    module.raw_set("encode", lua.create_function(encode)?)?;
    module.raw_set("decode", lua.create_function(decode)?)?;
    module.raw_set(
        "array",
        lua.create_function(|lua, table: Table| {
            table.set_metatable(Some(array_metatable(lua)?))?;
            Ok(table)
        })?,
    )?;
    Ok(module)
}

/// A value that can't be encoded is the script's mistake: an error.
fn encode(lua: &Lua, (value, options): (LuaValue, Option<Table>)) -> mlua::Result<String> {
    let value = from_lua(lua, &value)
        .map_err(|message| mlua::Error::runtime(format!("json: {message}")))?;
    let pretty = match options {
        Some(options) => options.get::<Option<bool>>("pretty")?.unwrap_or(false),
        None => false,
    };
    let text =
        if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
    text.map_err(mlua::Error::external)
}

/// A text that isn't JSON is the world's: `nil` and why.
fn decode(lua: &Lua, text: mlua::LuaString) -> mlua::Result<(LuaValue, Option<String>)> {
    match serde_json::from_slice::<Value>(&text.as_bytes()) {
        Ok(value) => Ok((to_lua(lua, &value)?, None)),
        Err(error) => Ok((LuaValue::Nil, Some(format!("not JSON: {error}")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm() -> Lua {
        let lua = Lua::new();
        let module = module(&lua).unwrap();
        lua.globals().set("json", module).unwrap();
        lua
    }

    #[test]
    fn values_become_the_json_one_expects() {
        let lua = vm();
        for (expression, json) in [
            ("nil", "null"),
            ("true", "true"),
            ("1", "1"),
            ("-0.5", "-0.5"),
            ("2^53", "9007199254740992"),
            ("1e300", "1e+300"),
            ("'a\\n\"b'", r#""a\n\"b""#),
            ("{}", "{}"),
            ("json.array {}", "[]"),
            ("{1,2,{3}}", "[1,2,[3]]"),
            ("{b=1,a={c=true}}", r#"{"a":{"c":true},"b":1}"#),
            ("{json.null, 1}", "[null,1]"),
            ("json.decode('[]')", "[]"),
            ("json.decode('[1,null]')", "[1,null]"),
            ("json.decode('{\"a\":null,\"b\":[]}')", r#"{"b":[]}"#),
        ] {
            let text: String =
                lua.load(format!("return json.encode({expression})")).eval().unwrap();
            assert_eq!(text, json, "{expression}");
        }
    }

    #[test]
    fn what_json_cannot_say_is_named_with_its_place() {
        let lua = vm();
        for (expression, message) in [
            ("print", "cannot encode a function"),
            ("{a={1,print}}", "cannot encode a function (at .a[2])"),
            ("0/0", "cannot encode the number NaN"),
            ("{1,2,x=3}", "cannot encode a table that is a list and has names too (at .x)"),
            ("{[true]=1}", "cannot encode a table with a boolean as key"),
            ("'\\255'", "cannot encode a string that isn't UTF-8"),
            (
                "(function() local t = {} t.t = t return t end)()",
                "deeper than 128 levels, or a cycle",
            ),
        ] {
            let error = lua
                .load(format!("return json.encode({expression})"))
                .eval::<String>()
                .unwrap_err()
                .to_string();
            assert!(error.contains(message), "{expression}: {error}");
        }
    }

    #[test]
    fn what_is_no_json_gives_nil_and_the_reason() {
        let lua = vm();
        let deep = "[".repeat(200);
        for text in ["", "{", "nope", "{\"a\":}", "1 2", deep.as_str()] {
            let (value, error): (LuaValue, Option<String>) =
                lua.load("return json.decode(...)").call(text).unwrap();
            assert!(value.is_nil(), "{text}");
            assert!(error.unwrap().starts_with("not JSON: "), "{text}");
        }
    }
}
