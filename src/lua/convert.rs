//! What an app hands over as data (definitions, questions, replies), and store replies as Lua values. Tables are read
//! raw: no metamethod runs.
//!
//! Unlike `api::json`, which is for exact JSON, this names runtimes, and takes lists with names. Must not know: what the
//! values mean.

use mlua::{Lua, Table, Value as LuaValue};
use serde_json::{Map, Number, Value};

use crate::limits::SCRIPT_DATA_DEPTH_MAX;
use crate::proto::resp::Value as Reply;

/// How what isn't data is handed over.
pub(super) struct Reader {
    /// By object: runtimes, which become their names.
    pub(super) runtimes: Option<Table>,
    /// Functions become `"<function>"` instead of an error.
    pub(super) lenient: bool,
}

impl Reader {
    /// A value as JSON; the error says where in the value, and what is wrong there.
    pub(super) fn json(&self, value: &LuaValue) -> Result<Value, String> {
        self.read(value, 0, "")
    }

    fn read(&self, value: &LuaValue, depth: usize, path: &str) -> Result<Value, String> {
        let place = if path.is_empty() { "the value" } else { path };
        match value {
            LuaValue::Nil => Ok(Value::Null),
            LuaValue::Boolean(flag) => Ok(Value::Bool(*flag)),
            LuaValue::Integer(number) => Ok(Value::from(*number)),
            LuaValue::Number(number) => json_number(*number)
                .ok_or_else(|| format!("{place}: {number} isn't a number JSON has")),
            LuaValue::String(text) => Ok(Value::String(text.to_string_lossy())),
            LuaValue::LightUserData(light) if light.0.is_null() => Ok(Value::Null),
            LuaValue::Table(table) => self.table(table, depth, path),
            LuaValue::Function(_) if self.lenient => Ok(Value::String("<function>".to_owned())),
            other => Err(format!("{place}: a {} isn't data", other.type_name())),
        }
    }

    fn table(&self, table: &Table, depth: usize, path: &str) -> Result<Value, String> {
        if depth == SCRIPT_DATA_DEPTH_MAX {
            return Err(format!("{path}: tables nested too deep, or a cycle"));
        }
        if let Some(name) = self.runtime_name(table) {
            return Ok(Value::String(name));
        }
        let len = table.raw_len();
        let mut object = Map::new();
        let mut array = Vec::new();
        for pair in table.pairs::<LuaValue, LuaValue>() {
            let (key, item) = pair.map_err(|error| error.to_string())?;
            let name = key_text(&key)
                .ok_or_else(|| format!("{path}: a {} as a key isn't data", key.type_name()))?;
            let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let item = self.read(&item, depth + 1, &below)?;
            let index = name.parse::<usize>().unwrap_or(0);
            if len > 0 && index == array.len() + 1 && !matches!(key, LuaValue::String(_)) {
                array.push(item);
            } else {
                object.insert(name, item);
            }
        }
        if object.is_empty() && !array.is_empty() {
            return Ok(Value::Array(array));
        }
        for (index, item) in array.into_iter().enumerate() {
            object.insert((index + 1).to_string(), item);
        }
        Ok(Value::Object(object))
    }

    fn runtime_name(&self, table: &Table) -> Option<String> {
        let runtime: Option<Table> = self.runtimes.as_ref()?.raw_get(table).ok()?;
        runtime?.raw_get("name").ok()
    }
}

fn json_number(number: f64) -> Option<Value> {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        return Some(Value::from(number as i64));
    }
    Number::from_f64(number).map(Value::Number)
}

fn key_text(key: &LuaValue) -> Option<String> {
    match key {
        LuaValue::String(text) => Some(text.to_string_lossy()),
        LuaValue::Integer(number) => Some(number.to_string()),
        LuaValue::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A store's reply as a Lua value. An array with nothing in some places has their count in `n`.
pub(super) fn reply_to_lua(lua: &Lua, reply: &Reply) -> mlua::Result<LuaValue> {
    Ok(match reply {
        Reply::Null => LuaValue::Nil,
        Reply::Boolean(flag) => LuaValue::Boolean(*flag),
        Reply::Integer(number) => LuaValue::Number(*number as f64),
        Reply::Double(number) => LuaValue::Number(*number),
        Reply::Simple(bytes)
        | Reply::Bulk(bytes)
        | Reply::Error(bytes)
        | Reply::BigNumber(bytes) => LuaValue::String(lua.create_string(bytes)?),
        Reply::Verbatim { text, .. } => LuaValue::String(lua.create_string(text)?),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (index, item) in items.iter().enumerate() {
                table.raw_set(index + 1, reply_to_lua(lua, item)?)?;
            }
            if items.contains(&Reply::Null) {
                table.raw_set("n", items.len())?;
            }
            LuaValue::Table(table)
        }
        Reply::Map(pairs) => {
            let table = lua.create_table_with_capacity(0, pairs.len())?;
            for (key, item) in pairs {
                table.raw_set(reply_to_lua(lua, key)?, reply_to_lua(lua, item)?)?;
            }
            LuaValue::Table(table)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_json() {
        let lua = Lua::new();
        let reader = Reader { runtimes: None, lenient: false };
        for (code, expected) in [
            ("{1, 2, 'x'}", Ok(serde_json::json!([1, 2, "x"]))),
            ("{a = {b = true}}", Ok(serde_json::json!({"a": {"b": true}}))),
            ("{[1] = 'a', x = 2}", Ok(serde_json::json!({"1": "a", "x": 2}))),
            ("{[5] = 'a'}", Ok(serde_json::json!({"5": "a"}))),
            ("{}", Ok(serde_json::json!({}))),
            ("1.5", Ok(serde_json::json!(1.5))),
            ("{a = {f = print}}", Err("a.f: a function isn't data".to_owned())),
            ("1/0", Err("the value: inf isn't a number JSON has".to_owned())),
            ("(function() local t = {} t.t = t return t end)()", Err(String::new())),
        ] {
            let value: LuaValue = lua.load(code).eval().unwrap();
            match (reader.json(&value), expected) {
                (Ok(json), Ok(expected)) => {
                    assert_eq!(json.to_string().len(), expected.to_string().len(), "{code}")
                }
                (Err(error), Err(expected)) => {
                    assert!(error.contains(&expected), "{code}: {error}")
                }
                (result, _) => panic!("{code}: {result:?}"),
            }
        }
    }
}
