//! A cache's `commands` as a definition has them: what may be said of a command, checked.
//!
//! Must not know: what a command does.

use serde_json::{Map, Value, json};

use crate::limits::{LUA_COMMAND_NAME_BYTES_MAX, LUA_COMMANDS_MAX};
use crate::store::scripting::commands::CommandSpec;
use crate::suggest::did_you_mean;

/// What a command's table may have besides `run`.
const FIELDS: [&str; 5] = ["keys", "arity", "flags", "summary", "run"];

/// The commands in the order of their names.
pub fn read(value: &Value) -> Result<Vec<CommandSpec>, String> {
    let rows = match value {
        Value::Object(rows) => rows,
        Value::Array(rows) if rows.is_empty() => return Ok(Vec::new()),
        _ => return Err("expected { [\"NAME\"] = { run = function(db, key) ... end } }".to_owned()),
    };
    if rows.len() > LUA_COMMANDS_MAX {
        return Err(format!("a cache has at most {LUA_COMMANDS_MAX} commands of its own"));
    }
    let mut specs = Vec::new();
    for (name, row) in rows {
        specs.push(spec(name, row).map_err(|problem| format!("\"{name}\": {problem}"))?);
    }
    specs.sort_by(|left, right| left.name.cmp(&right.name));
    let same = |pair: &&[CommandSpec]| pair[0].name.eq_ignore_ascii_case(&pair[1].name);
    match specs.windows(2).find(same) {
        Some(pair) => Err(format!("\"{}\" is there twice", pair[1].name)),
        None => Ok(specs),
    }
}

fn spec(name: &str, row: &Value) -> Result<CommandSpec, String> {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':');
    if name.is_empty() || name.len() > LUA_COMMAND_NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(
            "a command's name is letters, digits, dots, hyphens, colons and underscores".to_owned()
        );
    }
    let empty = Map::new();
    let fields = match row {
        Value::Object(fields) => fields,
        Value::String(text) if text == "<function>" => &empty,
        _ => return Err("expected a function or a table with run = function(db, ...)".to_owned()),
    };
    if let Some(unknown) = fields.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        let hint =
            did_you_mean(unknown, FIELDS).map_or_else(String::new, |hint| format!("; {hint}"));
        return Err(format!("there is no field \"{unknown}\"{hint}"));
    }
    if row.is_object() && fields.get("run").and_then(Value::as_str) != Some("<function>") {
        return Err("run: expected a function(db, ...)".to_owned());
    }
    let keys = whole(fields, "keys", 0, 16)?.unwrap_or(0);
    let least = keys + 1;
    let arity = whole(fields, "arity", -64, 64)?.unwrap_or(-least);
    if arity == 0 || arity.abs() < least {
        return Err(format!("arity: with {keys} keys it is at least {least}, the name counts"));
    }
    let (read_only, fast) = flags(fields.get("flags"))?;
    let summary = match fields.get("summary") {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(_) => return Err("summary: expected a text".to_owned()),
    };
    let (keys, arity) = (keys as u16, arity as i16);
    Ok(CommandSpec { name: name.to_owned(), keys, arity, read_only, fast, summary })
}

fn whole(
    fields: &Map<String, Value>,
    name: &str,
    least: i64,
    most: i64,
) -> Result<Option<i64>, String> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    let number = value.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i64);
    match number.filter(|number| (least..=most).contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(format!("{name}: expected a whole number from {least} to {most}, got {value}")),
    }
}

/// Whether it only reads, and whether it is fast. One that doesn't say so may write.
fn flags(value: Option<&Value>) -> Result<(bool, bool), String> {
    let words: Vec<&str> = match value {
        None => Vec::new(),
        Some(Value::String(text)) => {
            text.split([' ', ',']).filter(|word| !word.is_empty()).collect()
        }
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(_) => return Err("flags: expected \"write\", \"readonly\", \"fast\"".to_owned()),
    };
    let known = ["write", "readonly", "fast"];
    if let Some(unknown) = words.iter().find(|word| !known.contains(word)) {
        let hint =
            did_you_mean(unknown, known).map_or_else(String::new, |hint| format!("; {hint}"));
        return Err(format!("flags: there is no flag \"{unknown}\"{hint}"));
    }
    let (read_only, write) = (words.contains(&"readonly"), words.contains(&"write"));
    if read_only && write {
        return Err("flags: a command writes or is readonly".to_owned());
    }
    Ok((read_only, words.contains(&"fast")))
}

/// As [`read`] takes them.
pub fn write(specs: &[CommandSpec]) -> Value {
    let rows = specs.iter().map(|spec| {
        let mut flags = vec![if spec.read_only { "readonly" } else { "write" }];
        flags.extend(spec.fast.then_some("fast"));
        let row = json!({
            "keys": spec.keys, "arity": spec.arity, "flags": flags, "summary": spec.summary,
            "run": "<function>",
        });
        (spec.name.clone(), row)
    });
    Value::Object(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_says_its_keys_arity_and_flags() {
        let rows = json!({
            "USER.TOUCH": { "keys": 1.0, "flags": "write", "summary": "counts", "run": "<function>" },
            "count": "<function>",
            "look": { "keys": 1, "arity": 3, "flags": ["readonly", "fast"], "run": "<function>" },
        });
        let specs = read(&rows).unwrap();
        let shown: Vec<_> = specs
            .iter()
            .map(|spec| (spec.name.as_str(), spec.keys, spec.arity, spec.read_only, spec.fast))
            .collect();
        let expected = [
            ("USER.TOUCH", 1, -2, false, false),
            ("count", 0, -1, false, false),
            ("look", 1, 3, true, true),
        ];
        assert_eq!(shown, expected);
        assert_eq!(read(&write(&specs)).unwrap(), specs);
    }

    #[test]
    fn mistakes_are_named() {
        for (rows, problem) in [
            (json!("x"), "expected { [\"NAME\"]"),
            (json!({ "a b": "<function>" }), "\"a b\": a command's name is"),
            (json!({ "a": 5 }), "\"a\": expected a function"),
            (json!({ "a": { "keys": 1 } }), "\"a\": run: expected a function"),
            (
                json!({ "a": { "key": 1, "run": "<function>" } }),
                "there is no field \"key\"; did you mean",
            ),
            (json!({ "a": { "keys": 1.5, "run": "<function>" } }), "keys: expected a whole number"),
            (
                json!({ "a": { "keys": 2, "arity": 2, "run": "<function>" } }),
                "arity: with 2 keys it is at least 3",
            ),
            (
                json!({ "a": { "flags": "readnly", "run": "<function>" } }),
                "there is no flag \"readnly\"; did you mean",
            ),
            (
                json!({ "a": { "flags": "write readonly", "run": "<function>" } }),
                "writes or is readonly",
            ),
            (json!({ "a": "<function>", "A": "<function>" }), "is there twice"),
        ] {
            let found = read(&rows).unwrap_err();
            assert!(found.contains(problem), "{rows}: {found}");
        }
    }
}
