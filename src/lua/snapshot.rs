//! Copies `state` tables out of one generation and into the next.
//!
//! Tables become indexes, so shared and cyclic ones keep their identity. Read raw: no metamethod runs. Must not know:
//! what a state means.

use std::collections::HashMap;

use mlua::{Function, Lua, Table, Value};

use super::{StateSnapshot, StateValue};
use crate::id::ConnectionId;

/// What tells connection objects from other tables: the dispatcher's functions.
pub(super) struct Connections {
    /// A connection object's id; nil for others, false for a closed one.
    pub(super) id_of: Function,
    /// The object for an id.
    pub(super) object_for: Function,
}

/// Walks the tables. They are kept in a Lua table, since mlua's own references to values are few.
struct Exporter<'a> {
    connections: &'a Connections,
    seen: HashMap<usize, usize>,
    /// By index + 1: the tables found.
    found: Table,
    /// How each was first reached: from which table, by which step. Whole paths would be long as lists are deep.
    reached: Vec<(Option<usize>, String)>,
    tables: Vec<Vec<(StateValue, StateValue)>>,
}

/// Copies the tables (by runtime name) out; the error names the path of what can't be carried over.
pub(super) fn export(
    lua: &Lua,
    tables: &Table,
    connections: &Connections,
) -> Result<StateSnapshot, String> {
    let found = lua.create_table().map_err(|error| error.to_string())?;
    let (seen, reached) = (HashMap::new(), Vec::new());
    let mut exporter = Exporter { connections, seen, found, reached, tables: Vec::new() };
    let mut roots = Vec::new();
    for pair in tables.pairs::<String, Table>() {
        let (name, table) = pair.map_err(|error| error.to_string())?;
        let index = exporter.number(&table, None, format!("{name}.state"))?;
        roots.push((name, index));
    }
    let mut index = 0;
    while index < exporter.tables.len() {
        exporter.copy(index)?;
        index += 1;
    }
    Ok(StateSnapshot { roots, tables: exporter.tables })
}

impl Exporter<'_> {
    /// Copies one table's pairs; the tables among them are only numbered.
    fn copy(&mut self, index: usize) -> Result<(), String> {
        let table: Table = self.found.raw_get(index + 1).map_err(|error| error.to_string())?;
        if table.metatable().is_some() {
            let path = self.path(index);
            return Err(format!(
                "{path}: a table with a metatable can't be carried over to the next generation"
            ));
        }
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair.map_err(|error| error.to_string())?;
            let copied_key = self.value(&key, index, &key, " (the key)")?;
            let copied = self.value(&value, index, &key, "")?;
            // A closed connection is nil in the next generation.
            if let (Some(key), Some(value)) = (copied_key, copied) {
                self.tables[index].push((key, value));
            }
        }
        Ok(())
    }

    /// The way from a root to a table.
    fn path(&self, index: usize) -> String {
        let mut steps = Vec::new();
        let mut at = Some(index);
        while let Some(index) = at {
            let (from, step) = &self.reached[index];
            steps.push(step.as_str());
            at = *from;
        }
        steps.reverse();
        steps.concat()
    }

    /// The table's number.
    fn number(
        &mut self,
        table: &Table,
        from: Option<usize>,
        step: String,
    ) -> Result<usize, String> {
        let pointer = table.to_pointer() as usize;
        if let Some(index) = self.seen.get(&pointer) {
            return Ok(*index);
        }
        let index = self.tables.len();
        self.found.raw_set(index + 1, table).map_err(|error| error.to_string())?;
        self.seen.insert(pointer, index);
        self.reached.push((from, step));
        self.tables.push(Vec::new());
        Ok(index)
    }

    fn value(
        &mut self,
        value: &Value,
        from: usize,
        key: &Value,
        note: &str,
    ) -> Result<Option<StateValue>, String> {
        Ok(Some(match value {
            Value::Boolean(flag) => StateValue::Boolean(*flag),
            Value::Integer(number) => StateValue::Number(*number as f64),
            Value::Number(number) => StateValue::Number(*number),
            Value::String(text) => StateValue::String(text.as_bytes().to_vec()),
            Value::Table(table) => match self.connection(table)? {
                Value::Nil => StateValue::Table(self.number(table, Some(from), step(key))?),
                Value::Number(id) => return Ok(connection(id as u64)),
                Value::Integer(id) => return Ok(connection(id as u64)),
                _ => return Ok(None),
            },
            other => {
                return Err(format!(
                    "{}{}{note}: expected nil, boolean, number, string, table or connection, got {}",
                    self.path(from),
                    step(key),
                    other.type_name()
                ));
            }
        }))
    }

    fn connection(&self, table: &Table) -> Result<Value, String> {
        self.connections.id_of.call(table).map_err(|error| error.to_string())
    }
}

fn connection(id: u64) -> Option<StateValue> {
    ConnectionId::from_bits(id).map(StateValue::Connection)
}

fn step(key: &Value) -> String {
    match key {
        Value::String(text) => format!(".{}", text.to_string_lossy()),
        Value::Integer(number) => format!("[{number}]"),
        Value::Number(number) => format!("[{number}]"),
        other => format!("[{}]", other.type_name()),
    }
}

/// Fills the tables of the new generation. Tables that its file made at the same place keep their identity, since locals
/// of the file may hold them; what only they have stays.
pub(super) fn import(
    lua: &Lua,
    snapshot: &StateSnapshot,
    tables: &Table,
    connections: &Connections,
) -> mlua::Result<()> {
    let made = lua.create_table_with_capacity(snapshot.tables.len(), 0)?;
    for (name, index) in &snapshot.roots {
        if let Some(table) = tables.raw_get::<Option<Table>>(name.as_str())? {
            graft(lua, snapshot, *index, table, &made)?;
        }
    }
    for index in 0..snapshot.tables.len() {
        if !made.contains_key(index + 1)? {
            made.raw_set(index + 1, lua.create_table()?)?;
        }
    }
    for (index, pairs) in snapshot.tables.iter().enumerate() {
        let table: Table = made.raw_get(index + 1)?;
        for (key, value) in pairs {
            let key = to_lua(lua, key, &made, connections)?;
            table.raw_set(key, to_lua(lua, value, &made, connections)?)?;
        }
    }
    Ok(())
}

/// Takes `table`, which the new file made, for table `index`; and so on for what it has at the same names. The depth is
/// that of a table constructor in a file.
fn graft(
    lua: &Lua,
    snapshot: &StateSnapshot,
    index: usize,
    table: Table,
    made: &Table,
) -> mlua::Result<()> {
    if made.contains_key(index + 1)? {
        return Ok(());
    }
    made.raw_set(index + 1, &table)?;
    for (key, value) in &snapshot.tables[index] {
        if let (StateValue::String(key), StateValue::Table(below)) = (key, value)
            && let Value::Table(existing) = table.raw_get(lua.create_string(key)?)?
            && existing.metatable().is_none()
        {
            graft(lua, snapshot, *below, existing, made)?;
        }
    }
    Ok(())
}

fn to_lua(
    lua: &Lua,
    value: &StateValue,
    made: &Table,
    connections: &Connections,
) -> mlua::Result<Value> {
    Ok(match value {
        StateValue::Boolean(flag) => Value::Boolean(*flag),
        StateValue::Number(number) => Value::Number(*number),
        StateValue::String(bytes) => Value::String(lua.create_string(bytes)?),
        StateValue::Table(index) => made.raw_get(index + 1)?,
        StateValue::Connection(id) => connections.object_for.call(id.bits() as f64)?,
    })
}
