//! Requests: the table, whole, in two pieces cut anywhere, and byte by byte.

use super::cases;
use crate::proto::http1::{Event, Field, Request, RequestReader, Version};

const TABLE: &str = include_str!("requests.txt");

/// Plays a connection: bytes come in pieces, events are written down.
#[derive(Default)]
struct Reading {
    reader: RequestReader,
    fields: Vec<Field>,
    input: Vec<u8>,
    lines: Vec<String>,
    failed: bool,
}

impl Reading {
    fn feed(&mut self, piece: &[u8]) {
        self.input.extend_from_slice(piece);
        while !self.failed && !self.input.is_empty() {
            let was_in_body = self.reader.is_in_body();
            let used = match self.reader.next(&self.input, &mut self.fields) {
                Ok(Some(Event::Head { request, end })) => {
                    let line = self.describe(&request, end);
                    self.lines.push(line);
                    end
                }
                Ok(Some(Event::Data(range))) => {
                    let text = String::from_utf8_lossy(&self.input[range.clone()]).into_owned();
                    let text = text.replace('\r', "\\r").replace('\n', "\\n");
                    self.lines.last_mut().expect("a head comes first").push_str(&text);
                    range.end
                }
                Ok(Some(Event::End(used))) => used,
                Ok(None) if was_in_body => self.input.len(),
                Ok(None) => return,
                Err(error) => {
                    self.failed = true;
                    self.lines.push(format!("error {}", error.status()));
                    0
                }
            };
            self.input.drain(..used);
        }
    }

    fn describe(&self, request: &Request, end: usize) -> String {
        let head = &self.input[..end];
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let version = if request.version == Version::Http11 { "1.1" } else { "1.0" };
        let path = text(request.path_and_query.of(head));
        let mut line = format!("{} {path} {version}", text(request.method.of(head)));
        if let Some(host) = request.host {
            line.push_str(&format!(" host={}", text(host.of(head))));
        }
        for (is_set, word) in [
            (!request.keep_alive, " close"),
            (request.upgrade, " upgrade"),
            (request.expects_continue, " expect"),
            (self.reader.is_in_body(), " body="),
        ] {
            line.push_str(if is_set { word } else { "" });
        }
        line
    }

    fn end(mut self) -> String {
        if !self.failed && (self.reader.is_in_body() || !self.input.is_empty()) {
            self.lines.push("more".to_owned());
        }
        self.lines.join("; ")
    }
}

fn read(pieces: &[&[u8]]) -> String {
    let mut reading = Reading::default();
    pieces.iter().for_each(|piece| reading.feed(piece));
    reading.end()
}

fn is_as_expected(result: &str, expected: &str) -> bool {
    match expected.split_once("body=* ") {
        Some((before, after)) => {
            let rest = result.strip_prefix(before).and_then(|rest| rest.strip_prefix("body="));
            rest.is_some_and(|rest| rest.ends_with(&format!("; {after}")))
        }
        None if expected == "long" => !result.contains("error") && !result.contains("more"),
        None => result == expected,
    }
}

#[test]
fn the_table_holds_however_the_bytes_are_cut() {
    let mut count = 0;
    for (line, bytes, expected) in cases(TABLE) {
        count += 1;
        let whole = read(&[&bytes]);
        assert!(is_as_expected(&whole, expected), "line {line}: {whole:?}, expected {expected:?}");
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let slow = read(&single);
        assert!(is_as_expected(&slow, expected), "line {line} byte by byte: {slow:?}");
        let cuts = if bytes.len() < 400 { bytes.len() } else { 0 };
        for cut in 0..cuts {
            let (first, second) = bytes.split_at(cut);
            let result = read(&[first, second]);
            assert!(is_as_expected(&result, expected), "line {line} cut at {cut}: {result:?}");
        }
    }
    assert!(count >= 300, "{count} cases");
}

/// Random bytes and random changes of good requests: never a panic, and cuts make no difference.
#[test]
fn damaged_requests_are_read_the_same_however_they_are_cut() {
    let mut random = crate::ring::random::Random::new(7);
    let good: Vec<Vec<u8>> = cases(TABLE)
        .filter(|(_, bytes, expected)| !expected.contains("error") && bytes.len() < 300)
        .map(|(_, bytes, _)| bytes)
        .collect();
    for _ in 0..3000 {
        let mut bytes = good[random.below(good.len() as u64) as usize].clone();
        bytes.extend(&good[random.below(good.len() as u64) as usize]);
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(3) {
                0 => bytes[at] = random.next_u64() as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\r\n :,\0"[random.below(6) as usize]),
            }
        }
        let cut = random.below(bytes.len() as u64) as usize;
        let (first, second) = bytes.split_at(cut);
        assert_eq!(
            read(&[&bytes]),
            read(&[first, second]),
            "{:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
}
