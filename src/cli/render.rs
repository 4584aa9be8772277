//! What a person or a program sees: the daemon's frames as tables, text and JSON.
//!
//! Nothing is cut, and colour is for terminals only. Text goes out as it comes, but on a terminal control characters
//! become `?`: a peer's message must not move the cursor. Must not know: where frames come from.

use std::io::{self, Write};

use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr;

use super::paint::paint;
use crate::error::OperatorError;
use crate::proto::control::{Column, ColumnKind, Failure, Output, Stream, Table};

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// All rows and records as one JSON array.
    Json,
    /// Each row or record as a line of JSON.
    JsonLines,
}

impl Format {
    /// From the value of `--format`.
    pub fn parse(name: Option<&str>) -> Format {
        match name {
            Some("json") => Format::Json,
            Some("jsonl") => Format::JsonLines,
            _ => Format::Table,
        }
    }
}

/// What the output goes to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// A person reads along.
    pub terminal: bool,
    /// And wants colours.
    pub colour: bool,
    /// Now, for ages.
    pub unix_ms: u64,
}

/// To the screen's top, and nothing below it (ECMA-48: CUP, ED).
const CLEAR_SCREEN: &str = "\x1b[H\x1b[2J";

/// Prints frames.
pub struct Renderer<O, E> {
    out: O,
    err: E,
    format: Format,
    style: Style,
    /// Rows and records for the JSON array; nothing if none was announced.
    collected: Option<Vec<Value>>,
    /// Nothing was printed, and nothing failed: then the JSON array is empty.
    silent: bool,
}

impl<O: Write, E: Write> Renderer<O, E> {
    /// Prints to `out` and `err`.
    pub fn new(out: O, err: E, format: Format, style: Style) -> Renderer<O, E> {
        Renderer { out, err, format, style, collected: None, silent: true }
    }

    /// Prints one frame.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn frame(&mut self, frame: Output) -> io::Result<()> {
        match frame {
            Output::Table { table } => self.table(table),
            Output::Record { record, text } => match self.format {
                Format::Table => self.line(&text),
                _ => self.record(record),
            },
            Output::Text { text, to: Stream::Out } => self.line(&text),
            Output::Text { text, to: Stream::Err } => {
                self.out.flush()?;
                writeln!(self.err, "{}", self.printable(&text))
            }
            Output::Clear { .. } if self.style.terminal && self.format == Format::Table => {
                write!(self.out, "{CLEAR_SCREEN}")
            }
            Output::Clear { .. } => Ok(()),
            Output::Json { json } => {
                let text = match self.format {
                    Format::JsonLines => json.to_string(),
                    _ => format!("{json:#}"),
                };
                self.line(&text)
            }
            Output::Error { error } => self.error(&error),
            Output::Exit { .. } => Ok(()),
        }
    }

    /// Prints an error of this process as one of the daemon's.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn operator_error(&mut self, error: &OperatorError) -> io::Result<()> {
        self.frame(Output::error(error))
    }

    /// Prints what was kept to the end.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.format == Format::Json && self.silent {
            self.collected.get_or_insert_default();
        }
        if let Some(values) = self.collected.take() {
            self.line(&format!("{:#}", Value::Array(values)))?;
        }
        self.out.flush()
    }

    /// Prints what an expression came to.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn value(&mut self, text: &str) -> io::Result<()> {
        let text = self.printable(text);
        let text = if self.style.colour { paint(&text) } else { text };
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        self.silent = false;
        writeln!(self.out, "{}", self.printable(text))?;
        self.out.flush()
    }

    fn record(&mut self, record: Value) -> io::Result<()> {
        if self.format == Format::JsonLines {
            return self.line(&record.to_string());
        }
        self.collected.get_or_insert_default().push(record);
        Ok(())
    }

    fn error(&mut self, error: &Failure) -> io::Result<()> {
        self.silent = false;
        self.out.flush()?;
        if self.format != Format::Table {
            return writeln!(self.err, "{}", serde_json::json!({ "error": error }));
        }
        let word = self.coloured("error", "31;1");
        writeln!(self.err, "{word}: {}", self.printable(&error.message))?;
        if let Some(hint) = &error.hint {
            let word = self.coloured("hint", "36");
            writeln!(self.err, "  {word}: {}", self.printable(hint))?;
        }
        Ok(())
    }

    fn coloured(&self, text: &str, code: &str) -> String {
        if self.style.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    fn printable(&self, text: &str) -> String {
        if !self.style.terminal {
            return text.to_string();
        }
        let keep = |c: char| if c == '\n' || c == '\t' || !c.is_control() { c } else { '?' };
        text.chars().map(keep).collect()
    }

    fn table(&mut self, table: Table) -> io::Result<()> {
        if self.format == Format::Table {
            return self.grid(&table);
        }
        if self.format == Format::Json {
            self.collected.get_or_insert_default();
        }
        for row in table.rows {
            let keys = table.columns.iter().map(|column| column.key.clone());
            let entries: Map<String, Value> =
                keys.zip(row).filter(|(_, cell)| !cell.is_null()).collect();
            self.record(Value::Object(entries))?;
        }
        Ok(())
    }

    /// Upper-case header, two spaces between columns, no borders, the last column as long as it is.
    fn grid(&mut self, table: &Table) -> io::Result<()> {
        let shown: Vec<(usize, &Column)> = table
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.kind != Some(ColumnKind::Hidden))
            .collect();
        let mut lines = vec![shown.iter().map(|(_, column)| column.title.clone()).collect()];
        for row in &table.rows {
            let cell = |(index, column): &(usize, &Column)| {
                cell_text(row.get(*index).unwrap_or(&Value::Null), column.kind, self.style.unix_ms)
            };
            lines.push(shown.iter().map(cell).collect::<Vec<String>>());
        }
        let width = |index: usize| lines.iter().map(|line| line[index].width()).max();
        let widths: Vec<usize> = (0..shown.len()).filter_map(width).collect();
        for (number, line) in lines.iter().enumerate() {
            let mut text = String::new();
            for (index, cell) in line.iter().enumerate() {
                let last = index + 1 == line.len();
                let padding = if last { 0 } else { widths[index] - cell.width() + 2 };
                let colour = cell_colour(number == 0, &shown[index].1.key, cell);
                match colour {
                    Some(code) => text.push_str(&self.coloured(cell, code)),
                    None => text.push_str(cell),
                }
                text.push_str(&" ".repeat(padding));
            }
            writeln!(self.out, "{}", text.trim_end())?;
        }
        self.out.flush()
    }
}

fn cell_colour(header: bool, key: &str, cell: &str) -> Option<&'static str> {
    match (header, key, cell) {
        (true, _, _) => Some("1"),
        (_, "status", "running") | (_, "op", "+") => Some("32"),
        (_, "status", "degraded" | "failed") | (_, "op", "-") => Some("31"),
        (_, "op", "~") => Some("33"),
        _ => None,
    }
}

/// A cell on one line, for a person.
fn cell_text(value: &Value, kind: Option<ColumnKind>, now_ms: u64) -> String {
    let text = match (kind, value) {
        (_, Value::Null) => "-".to_string(),
        (Some(ColumnKind::Bytes), Value::Number(_)) => bytes_text(value.as_f64().unwrap_or(0.0)),
        (Some(ColumnKind::Duration), Value::Number(_)) => duration_text(whole(value)),
        (Some(ColumnKind::Ago), Value::Number(_)) => ago_text(now_ms.saturating_sub(whole(value))),
        (_, Value::String(text)) => text.clone(),
        (_, Value::Array(items)) => {
            items.iter().map(|item| cell_text(item, None, now_ms)).collect::<Vec<_>>().join(", ")
        }
        (_, other) => other.to_string(),
    };
    let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.is_empty() { "-".to_string() } else { text }
}

fn whole(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| value.as_f64().unwrap_or(0.0) as u64)
}

/// `1.5 KB`.
fn bytes_text(mut bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut unit = 0;
    while bytes >= 1024.0 && unit + 1 < UNITS.len() {
        bytes /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{bytes:.1} {}", UNITS[unit]) }
}

/// The two largest units: `2d 4h`, `3m 12s`.
fn duration_text(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes, seconds) {
        (0, 0, 0, 0) => format!("{ms}ms"),
        (0, 0, 0, _) => format!("{rest}s"),
        (0, 0, _, _) => format!("{minutes}m {rest}s"),
        (0, _, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// `3 minutes ago`.
fn ago_text(ms: u64) -> String {
    let seconds = ms / 1000;
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    match (count, unit) {
        (0, _) => "just now".to_string(),
        (1, _) => format!("1 {unit} ago"),
        _ => format!("{count} {unit}s ago"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn print(frames: Vec<Value>, format: Format, style: Style) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut renderer = Renderer::new(&mut out, &mut err, format, style);
        for frame in frames {
            renderer.frame(serde_json::from_value(frame).unwrap()).unwrap();
        }
        renderer.finish().unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn rows() -> Value {
        json!({"table": {
            "columns": [
                {"key": "name", "title": "NAME"},
                {"key": "status", "title": "STATUS"},
                {"key": "size", "title": "SIZE", "kind": "bytes"},
                {"key": "uptime_ms", "title": "UPTIME", "kind": "duration"},
                {"key": "created_ms", "title": "CREATED", "kind": "ago"},
                {"key": "degraded", "title": "DEGRADED", "kind": "hidden"},
            ],
            "rows": [
                ["chat", "running", 1536, 192_000, 40_000, null],
                ["größe-日本", "degraded", 12, null, 99_000, "why"],
            ],
        }})
    }

    const PLAIN: Style = Style { terminal: false, colour: false, unix_ms: 100_000 };

    #[test]
    fn only_terminals_are_cleared() {
        let cleared = |format, terminal| {
            print(vec![json!({"clear": true})], format, Style { terminal, ..PLAIN }).0
        };
        assert_eq!(cleared(Format::Table, true), CLEAR_SCREEN);
        assert_eq!(cleared(Format::Table, false), "");
        assert_eq!(cleared(Format::JsonLines, true), "");
    }

    #[test]
    fn tables_are_for_people() {
        let (out, err) = print(vec![rows()], Format::Table, PLAIN);
        let expected = "\
NAME        STATUS    SIZE    UPTIME  CREATED
chat        running   1.5 KB  3m 12s  1 minute ago
größe-日本  degraded  12 B    -       1 second ago
";
        assert_eq!((out.as_str(), err.as_str()), (expected, ""));
        let style = Style { terminal: true, colour: true, ..PLAIN };
        let (out, _) = print(vec![rows()], Format::Table, style);
        assert!(out.contains("\x1b[32mrunning\x1b[0m   1.5 KB"), "{out:?}");
    }

    #[test]
    fn json_is_for_programs() {
        let first = json!({"name": "chat", "status": "running", "size": 1536, "uptime_ms": 192_000,
            "created_ms": 40_000});
        let (out, _) = print(vec![rows()], Format::Json, PLAIN);
        let all: Vec<Value> = serde_json::from_str(&out).unwrap();
        assert_eq!((all.len(), &all[0]), (2, &first));
        assert_eq!(all[1]["degraded"], "why");
        let (out, _) = print(vec![rows()], Format::JsonLines, PLAIN);
        assert_eq!(serde_json::from_str::<Value>(out.lines().next().unwrap()).unwrap(), first);
        let empty = json!({"table": {"columns": [], "rows": []}});
        assert_eq!(print(vec![empty], Format::Json, PLAIN).0, "[]\n");
        assert_eq!(print(vec![], Format::Json, PLAIN).0, "[]\n");
        let failed = json!({"error": {"message": "no"}});
        assert_eq!(print(vec![failed], Format::Json, PLAIN).0, "");
        let records = vec![json!({"record": {"a": 1}, "text": "a is 1"})];
        assert_eq!(print(records.clone(), Format::Table, PLAIN).0, "a is 1\n");
        assert_eq!(print(records, Format::JsonLines, PLAIN).0, "{\"a\":1}\n");
    }

    #[test]
    fn errors_go_beside() {
        let frames = vec![
            json!({"text": "api-2"}),
            json!({"error": {"message": "no such runtime: chta", "hint": "did you mean \"chat\"?"}}),
        ];
        let (out, err) = print(frames.clone(), Format::Table, PLAIN);
        assert_eq!(out, "api-2\n");
        assert_eq!(err, "error: no such runtime: chta\n  hint: did you mean \"chat\"?\n");
        let (_, err) = print(frames, Format::JsonLines, PLAIN);
        let expected = "{\"error\":{\"message\":\"no such runtime: chta\",\"hint\":\"did you mean \\\"chat\\\"?\"}}\n";
        assert_eq!(err, expected);
    }

    #[test]
    fn a_terminal_gets_no_control_characters() {
        let frames = vec![json!({"text": "a\u{1b}[2Jb\tc\nd"})];
        assert_eq!(print(frames.clone(), Format::Table, PLAIN).0, "a\u{1b}[2Jb\tc\nd\n");
        let style = Style { terminal: true, ..PLAIN };
        assert_eq!(print(frames, Format::Table, style).0, "a?[2Jb\tc\nd\n");
    }

    #[test]
    fn quantities_read_well() {
        for (bytes, text) in [(0.0, "0 B"), (1023.0, "1023 B"), (1536.0, "1.5 KB"), (5e9, "4.7 GB")]
        {
            assert_eq!(bytes_text(bytes), text);
        }
        for (ms, text) in [
            (5, "5ms"),
            (59_999, "59s"),
            (60_000, "1m 0s"),
            (7_380_000, "2h 3m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(duration_text(ms), text);
        }
        for (ms, text) in [(10, "just now"), (1000, "1 second ago"), (7_200_000, "2 hours ago")] {
            assert_eq!(ago_text(ms), text);
        }
    }
}
