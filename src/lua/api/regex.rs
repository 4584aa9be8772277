//! The engine behind `regex`: the crate regex, whose time is linear in the text. `stdlib/regex.lua` is what scripts see.
//!
//! Must not know: what is done with a match.

use mlua::{Lua, LuaString, MultiValue, Table, UserData, UserDataMethods, Value};
use regex::bytes::{Regex, RegexBuilder};

use super::problem;
use crate::limits::SCRIPT_REGEX_BYTES_MAX;

/// `compile(pattern, flags)`: a pattern with `find`, `names` and `count`; or nil and what is wrong.
pub fn module(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let compile = |lua: &Lua, (pattern, flags): (String, Option<String>)| {
        let flags = flags.unwrap_or_default();
        if let Some(unknown) = flags.chars().find(|flag| !"imsx".contains(*flag)) {
            let text = format!("regex: {unknown:?} is no flag; there are i, m, s and x");
            return Ok((None, Some(problem(lua, "invalid", &text)?)));
        }
        let built = RegexBuilder::new(&pattern)
            .case_insensitive(flags.contains('i'))
            .multi_line(flags.contains('m'))
            .dot_matches_new_line(flags.contains('s'))
            .ignore_whitespace(flags.contains('x'))
            .size_limit(SCRIPT_REGEX_BYTES_MAX)
            .dfa_size_limit(SCRIPT_REGEX_BYTES_MAX)
            .build();
        match built {
            Ok(regex) => Ok((Some(Pattern(regex)), None)),
            Err(error) => Ok((None, Some(problem(lua, "invalid", &error.to_string())?))),
        }
    };
    table.raw_set("compile", lua.create_function(compile)?)?;
    Ok(table)
}

struct Pattern(Regex);

impl UserData for Pattern {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        // Positions as Lua counts them: first and last byte of the match and of each group, false for a group that took
        // no part. Nothing if there is no match from `init` on.
        methods.add_method("find", |_, this, (text, init): (LuaString, Option<usize>)| {
            let bytes = text.as_bytes();
            let start = init.unwrap_or(1).saturating_sub(1);
            let mut places = MultiValue::new();
            if start > bytes.len() {
                return Ok(places);
            }
            let Some(captures) = this.0.captures_at(&bytes, start) else { return Ok(places) };
            for group in captures.iter() {
                match group {
                    Some(found) => {
                        places.push_back(Value::Number(found.start() as f64 + 1.0));
                        places.push_back(Value::Number(found.end() as f64));
                    }
                    None => {
                        places.push_back(Value::Boolean(false));
                        places.push_back(Value::Boolean(false));
                    }
                }
            }
            Ok(places)
        });
        methods
            .add_method("test", |_, this, text: LuaString| Ok(this.0.is_match(&text.as_bytes())));
        methods.add_method("names", |_, this, ()| {
            Ok(this
                .0
                .capture_names()
                .skip(1)
                .map(Option::unwrap_or_default)
                .map(str::to_owned)
                .collect::<Vec<_>>())
        });
    }
}
