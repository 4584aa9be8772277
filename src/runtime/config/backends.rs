//! Backends as users write them: `[NAME=]ADDRESS [weight=N] [backup] [strategy=WORD]`, kept as such texts.
//!
//! A name that several share makes them one upstream. Must not know: what is at an address.

use serde_json::Value;

use super::values as v;
use crate::limits::PROXY_WEIGHT_MAX;
use crate::net::dial::Target;
use crate::runtime::Backend;

/// Backends of one proxy.
const BACKENDS_MAX: usize = 256;

type Read<T> = Result<T, String>;

/// A backend's name and address: `name=address`, or one text for both; without its options.
pub fn backend_parts(backend: &str) -> (&str, &str) {
    let plain = backend.split(' ').next().unwrap_or_default();
    plain.split_once('=').unwrap_or((plain, plain))
}

/// A backend as its text says, without addresses.
pub fn backend_of(text: &str) -> Backend {
    let (name, address) = backend_parts(text);
    let mut backend =
        Backend { name: name.to_owned(), address: address.to_owned(), ..Backend::default() };
    for option in text.split(' ').skip(1) {
        match option.split_once('=') {
            Some(("weight", number)) => backend.weight = number.parse().unwrap_or(1),
            Some(("strategy", word)) => {
                backend.strategy = v::choice(&Value::String(word.to_owned()), v::STRATEGIES).ok();
            }
            _ => backend.backup |= option == "backup",
        }
    }
    backend
}

/// A list, a text with commas, or a table of names. An entry of a list is a text, or a table with the address first and
/// `weight` or `backup` beside; an entry of a table of names also a list of such.
pub(super) fn read(value: &Value) -> Read<Vec<String>> {
    let mut list = Vec::new();
    match value {
        Value::String(text) => {
            for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
                list.push(one(None, entry)?);
            }
        }
        Value::Array(entries) => {
            for entry in entries {
                list.push(entry_of(None, entry)?);
            }
        }
        Value::Object(table) => {
            for (name, entry) in table {
                named(name, entry, &mut list)?;
            }
        }
        _ => return Err("expected a list of \"HOST:PORT\" or runtimes' names".to_owned()),
    }
    match list.len() {
        0 => Err("a proxy needs at least one".to_owned()),
        1..=BACKENDS_MAX => Ok(list),
        count => Err(format!("at most {BACKENDS_MAX} are possible, got {count}")),
    }
}

/// The backends of a name.
fn named(name: &str, value: &Value, list: &mut Vec<String>) -> Read<()> {
    match value {
        Value::Array(entries) => {
            for entry in entries {
                list.push(entry_of(Some(name), entry)?);
            }
        }
        // One with options has an address and then words; several have a list in numbers.
        Value::Object(table)
            if table.get("2").is_some_and(|it| it.is_string() || it.is_object()) =>
        {
            let first = list.len();
            for number in 1..=BACKENDS_MAX {
                let Some(entry) = table.get(&number.to_string()) else { break };
                list.push(entry_of(Some(name), entry)?);
            }
            let words = table.iter().filter(|(key, _)| key.parse::<usize>().is_err());
            for (key, value) in words {
                let strategy = match key.as_str() {
                    "strategy" => strategy(value)?,
                    _ => {
                        return Err(format!(
                            "{name}: {key} isn't an option of several backends; strategy is, others stand with each: {{ \"HOST:PORT\", weight = 2 }}"
                        ));
                    }
                };
                list[first].push_str(&strategy);
            }
        }
        _ => list.push(entry_of(Some(name), value)?),
    }
    Ok(())
}

/// A strategy as an option of a backend: that of all of its name.
fn strategy(value: &Value) -> Read<String> {
    let strategy = v::strategy(value).map_err(|problem| format!("strategy: {problem}"))?;
    let word = v::word(strategy, v::STRATEGIES);
    let word = word.as_ref().and_then(Value::as_str).unwrap_or_default();
    Ok(format!(" strategy={word}"))
}

fn entry_of(name: Option<&str>, value: &Value) -> Read<String> {
    match value {
        Value::String(text) => one(name, text),
        Value::Array(list) if list.len() == 1 => entry_of(name, &list[0]),
        Value::Object(table) => {
            let address = table.get("1").or_else(|| table.get("address"));
            let address = address.and_then(Value::as_str).ok_or("an address is missing")?;
            let mut text = address.to_owned();
            for (key, value) in table {
                match key.as_str() {
                    "1" | "address" => {}
                    "weight" => {
                        let weight = v::integer(value, 1, PROXY_WEIGHT_MAX)
                            .map_err(|problem| format!("weight: {problem}"))?;
                        text.push_str(&format!(" weight={weight}"));
                    }
                    "backup" => {
                        if v::boolean(value).map_err(|problem| format!("backup: {problem}"))? {
                            text.push_str(" backup");
                        }
                    }
                    "strategy" => text.push_str(&strategy(value)?),
                    _ => {
                        return Err(format!(
                            "{key}: there is no such option; weight, backup and strategy are"
                        ));
                    }
                }
            }
            one(name, &text)
        }
        _ => Err(format!("expected \"HOST:PORT\" or a runtime's name, got {value}")),
    }
}

/// A text, checked and written in one way.
fn one(name: Option<&str>, text: &str) -> Read<String> {
    let mut words = text.split_whitespace();
    let entry = words.next().unwrap_or_default();
    let (own_name, address) = backend_parts(entry);
    if address.contains(':') {
        address.parse::<Target>().map_err(|error| error.message)?;
    } else {
        super::check_name(address.strip_prefix('@').unwrap_or(address))
            .map_err(|_| format!("expected HOST:PORT or a runtime's name, got \"{address}\""))?;
    }
    let name = name.or((own_name != address).then_some(own_name));
    let mut out = name.map_or(address.to_owned(), |name| format!("{name}={address}"));
    for word in words {
        match word.split_once('=') {
            Some(("weight", number)) => {
                let weight = number.parse().ok().filter(|n| (1..=PROXY_WEIGHT_MAX).contains(n));
                let weight = weight.ok_or_else(|| {
                    format!("{address}: weight: expected 1 to {PROXY_WEIGHT_MAX}, got \"{number}\"")
                })?;
                if weight > 1 {
                    out.push_str(&format!(" weight={weight}"));
                }
            }
            Some(("strategy", word)) => out.push_str(&strategy(&Value::String(word.to_owned()))?),
            None if word == "backup" => out.push_str(" backup"),
            _ => {
                return Err(format!(
                    "expected HOST:PORT or a runtime's name, then weight=N or backup, got \"{word}\""
                ));
            }
        }
    }
    Ok(out)
}
