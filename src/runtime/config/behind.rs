//! A cache's `write_behind`, as a definition has it. Must not know: how it is carried out.

use serde_json::{Map, Value, json};

use crate::limits::{BEHIND_BATCH_KEYS_MAX, BEHIND_PAUSE_MAX_MS};
use crate::runtime::cache::hooks::WriteBehind;
use crate::suggest::did_you_mean;

/// What the table may have.
const FIELDS: [&str; 3] = ["every", "max", "run"];
const SHAPE: &str = "expected function(batch) ... end or { every = \"1s\", max = 500, run = function(batch) ... end }";

/// Reads it.
pub fn read(value: &Value) -> Result<WriteBehind, String> {
    let fields = value.as_object().ok_or(SHAPE)?;
    if let Some(unknown) = fields.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        let hint =
            did_you_mean(unknown, FIELDS).map_or_else(String::new, |hint| format!("; {hint}"));
        return Err(format!("there is no field \"{unknown}\"{hint}"));
    }
    if fields.get("run").and_then(Value::as_str) != Some("<function>") {
        return Err("run: expected a function(batch)".to_owned());
    }
    let default = WriteBehind::default();
    Ok(WriteBehind {
        every_ms: every(fields)?.unwrap_or(default.every_ms),
        batch_keys: max(fields)?.unwrap_or(default.batch_keys),
    })
}

fn every(fields: &Map<String, Value>) -> Result<Option<u64>, String> {
    let Some(value) = fields.get("every") else { return Ok(None) };
    let ms = match value {
        Value::Number(seconds) => seconds.as_f64().map(|seconds| seconds * 1000.0),
        Value::String(text) => milliseconds(text),
        _ => None,
    };
    let range = 1.0..=BEHIND_PAUSE_MAX_MS as f64;
    match ms.filter(|ms| range.contains(ms)) {
        Some(ms) => Ok(Some(ms as u64)),
        None => Err(format!(
            "every: expected seconds or a duration such as \"500ms\", up to {} s, got {value}",
            BEHIND_PAUSE_MAX_MS / 1000
        )),
    }
}

/// As `sleep` takes it in scripts.
fn milliseconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    let (amount, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "ms" => 1.0,
        "s" => 1000.0,
        "m" => 60_000.0,
        _ => return None,
    };
    amount.parse::<f64>().ok().map(|amount| amount * factor)
}

fn max(fields: &Map<String, Value>) -> Result<Option<usize>, String> {
    let Some(value) = fields.get("max") else { return Ok(None) };
    let keys = value.as_f64().filter(|keys| keys.fract() == 0.0).map(|keys| keys as i64);
    match keys.and_then(|keys| u64::try_from(keys).ok()) {
        Some(keys @ 1..=BEHIND_BATCH_KEYS_MAX) => Ok(Some(keys as usize)),
        _ => Err(format!(
            "max: expected a whole number from 1 to {BEHIND_BATCH_KEYS_MAX}, got {value}"
        )),
    }
}

/// As [`read`] takes it; nothing at its default.
pub fn write(settings: WriteBehind) -> Option<Value> {
    (settings != WriteBehind::default()).then(|| {
        let every = format!("{}ms", settings.every_ms);
        json!({ "every": every, "max": settings.batch_keys, "run": "<function>" })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_when_and_how_many() {
        let read =
            |value: Value| read(&value).map(|settings| (settings.every_ms, settings.batch_keys));
        assert_eq!(read(json!({ "run": "<function>" })), Ok((1000, 500)));
        let full = json!({ "every": "250ms", "max": 10, "run": "<function>" });
        assert_eq!(read(full), Ok((250, 10)));
        assert_eq!(read(json!({ "every": 2.5, "run": "<function>" })), Ok((2500, 500)));
        let settings = WriteBehind { every_ms: 70, batch_keys: 3 };
        assert_eq!(super::read(&write(settings).unwrap()), Ok(settings));
    }

    #[test]
    fn mistakes_are_named() {
        for (value, problem) in [
            (json!(5), "expected function(batch)"),
            (json!({ "every": "1s" }), "run: expected a function(batch)"),
            (
                json!({ "evry": 1, "run": "<function>" }),
                "no field \"evry\"; did you mean \"every\"",
            ),
            (json!({ "every": "1h", "run": "<function>" }), "every: expected seconds or"),
            (json!({ "every": 0, "run": "<function>" }), "every: expected seconds or"),
            (json!({ "every": "61s", "run": "<function>" }), "up to 60 s"),
            (json!({ "max": 0, "run": "<function>" }), "max: expected a whole number from 1"),
            (json!({ "max": 1.5, "run": "<function>" }), "max: expected a whole number"),
        ] {
            let found = read(&value).unwrap_err();
            assert!(found.contains(problem), "{value}: {found}");
        }
    }
}
