//! `socketley run FILE`: one file in the foreground, and what its reader sees at the start.
//!
//! Must not know: how a file is applied.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use serde_json::{Value, json};

use super::answer::{Answer, Outcome};
use super::manager::Manager;
use crate::error::OperatorError;
use crate::runtime::Address;

/// A file that is being applied.
pub struct Started {
    outcome: Rc<RefCell<Option<Outcome>>>,
    file: String,
}

/// Applies the file; the outcome comes later.
pub fn start(manager: &mut Manager, path: &Path) -> Started {
    let outcome = Rc::new(RefCell::new(None));
    let place = Rc::clone(&outcome);
    let answer = Answer::new(move |given| *place.borrow_mut() = Some(given));
    manager.call("apply", json!({ "path": path }), answer);
    Started { outcome, file: path.display().to_string() }
}

impl Started {
    /// Why it can't run, if it can't.
    pub fn take_failure(&self) -> Option<OperatorError> {
        self.outcome.borrow_mut().take_if(|outcome| outcome.is_err())?.err()
    }

    /// Prints what listens where and what to try, once.
    pub fn show(&self, manager: &mut Manager) {
        if self.outcome.borrow_mut().take().is_none() {
            return;
        }
        let (rows, file) = (Rc::new(RefCell::new(Value::Null)), &self.file);
        let place = Rc::clone(&rows);
        let keep = move |outcome: Outcome| *place.borrow_mut() = outcome.unwrap_or_default();
        manager.call("list", json!({}), Answer::new(keep));
        let text = summary(rows.borrow().as_array().map_or(&[], Vec::as_slice), file);
        // Someone who has closed the output doesn't want to read it.
        io::stdout().write_all(text.as_bytes()).unwrap_or(());
    }
}

fn summary(rows: &[Value], file: &str) -> String {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let place = |row: &Value| {
        let listen = text(row, "listen");
        if listen.is_empty() { format!("-> {}", text(row, "target")) } else { listen }
    };
    let width = |key: &str| rows.iter().map(|row| text(row, key).len()).max().unwrap_or(0);
    let (names, kinds) = (width("name"), width("type"));
    let mut lines = String::new();
    for row in rows {
        let (name, kind) = (text(row, "name"), text(row, "type"));
        lines.push_str(&format!("  {name:<names$}  {kind:<kinds$}  {}\n", place(row)));
    }
    let tries: Vec<String> = rows.iter().filter_map(try_next).collect();
    if !tries.is_empty() {
        lines.push_str("\nTry in another terminal:\n");
        tries.iter().for_each(|line| lines.push_str(&format!("  {line}\n")));
    }
    format!("{file} runs:\n{lines}\nSave the file and it changes live. Ctrl-C ends it.\n\n")
}

/// A command that talks to a runtime.
fn try_next(row: &Value) -> Option<String> {
    let address: Address = row["listen"].as_str()?.parse().ok()?;
    if let Address::Unix(path) = &address {
        let path = path.path().display();
        return match row["type"].as_str()? {
            "cache" => Some(format!("redis-cli -s {path} ping")),
            _ => Some(format!("nc -U {path}")),
        };
    }
    let listen = address.socket()?;
    let host =
        if listen.ip().is_unspecified() { "127.0.0.1".to_owned() } else { listen.ip().to_string() };
    let port = listen.port();
    match row["type"].as_str()? {
        "cache" => Some(format!("redis-cli -h {host} -p {port} ping")),
        _ if address.is_udp() => Some(format!("nc -u {host} {port}")),
        _ => Some(format!("nc {host} {port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_sees_what_listens_where_and_what_to_try() {
        let rows = [
            json!({"name": "chat", "type": "server", "listen": "127.0.0.1:9000"}),
            json!({"name": "db", "type": "cache", "listen": "0.0.0.0:6379"}),
            json!({"name": "up", "type": "client", "target": "127.0.0.1:1"}),
        ];
        let expected = "\
a.lua runs:
  chat  server  127.0.0.1:9000
  db    cache   0.0.0.0:6379
  up    client  -> 127.0.0.1:1

Try in another terminal:
  nc 127.0.0.1 9000
  redis-cli -h 127.0.0.1 -p 6379 ping

Save the file and it changes live. Ctrl-C ends it.

";
        assert_eq!(summary(&rows, "a.lua"), expected);
    }
}
