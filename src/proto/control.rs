//! What the command line and the daemon say to each other over the unix socket.
//!
//! A frame is a big-endian `u32` length and that many bytes of JSON, at most [`CONTROL_FRAME_BYTES_MAX`].
//! The client opens with a [`Request`] and may send [`Input`]s while it runs; the daemon answers with [`Output`]s, the
//! last of which is `exit`. Then the next request may come on the same connection.
//! Must not know: sockets, commands, how anything is shown.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::OperatorError;
use crate::limits::CONTROL_FRAME_BYTES_MAX;

/// The version of this page. A daemon refuses another one and says so.
pub const VERSION: u32 = 1;

const LENGTH_BYTES: usize = 4;

/// A command to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub v: u32,
    /// The command's name.
    pub command: String,
    /// Its arguments and flags by name, as its spec declares them.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Whether a person's terminal shows the answer.
    #[serde(default)]
    pub tty: bool,
    /// The caller's working directory.
    #[serde(default)]
    pub cwd: String,
}

/// What else a client may send while its request runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// End it.
    Cancel,
    /// A line that was typed, without its newline.
    Line(String),
    /// No more lines.
    End,
}

/// A frame from a client.
#[derive(Clone, Debug, PartialEq)]
pub enum FromClient {
    /// Run a command.
    Request(Request),
    /// For the one that runs.
    Input(Input),
}

impl FromClient {
    /// As a frame's JSON.
    pub fn to_json(&self) -> Value {
        match self {
            FromClient::Request(request) => {
                serde_json::to_value(request).expect("a request is plain data")
            }
            FromClient::Input(Input::Cancel) => serde_json::json!({"cancel": true}),
            FromClient::Input(Input::Line(line)) => serde_json::json!({"line": line}),
            FromClient::Input(Input::End) => serde_json::json!({"end": true}),
        }
    }

    /// From a frame's JSON.
    ///
    /// # Errors
    /// When it is none of the three, or another version's.
    pub fn parse(mut frame: Value) -> Result<FromClient, FrameError> {
        if frame["cancel"] == Value::Bool(true) {
            return Ok(FromClient::Input(Input::Cancel));
        }
        if frame["end"] == Value::Bool(true) {
            return Ok(FromClient::Input(Input::End));
        }
        if frame["line"].is_string()
            && let Value::String(line) = frame["line"].take()
        {
            return Ok(FromClient::Input(Input::Line(line)));
        }
        match frame["v"].as_u64() {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => return Err(FrameError::Version(version)),
            None => return Err(FrameError::Unknown),
        }
        let request = serde_json::from_value(frame).map_err(|_| FrameError::Unknown)?;
        Ok(FromClient::Request(request))
    }
}

/// How a column's values are meant, so that a person sees `3 minutes` where a program gets milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    /// A number of bytes.
    Bytes,
    /// Milliseconds that something took or lasts.
    Duration,
    /// Milliseconds since the epoch, shown as how long ago.
    Ago,
    /// A list, shown with commas.
    List,
    /// For programs only.
    Hidden,
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name in JSON.
    pub key: String,
    /// Its header.
    pub title: String,
    /// Its values' meaning, if it isn't just text or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ColumnKind>,
}

/// A frame from the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Output {
    /// Rows for people or programs.
    Table {
        /// The columns and the rows' cells in their order.
        table: Table,
    },
    /// A line for people that is a record for programs.
    Record {
        /// For programs.
        record: Value,
        /// For people.
        text: String,
    },
    /// A line of text.
    Text {
        /// Without its newline.
        text: String,
        /// `err` for standard error.
        #[serde(default)]
        to: Stream,
    },
    /// What stood on the reader's screen goes, if it has one: what follows replaces it.
    Clear {
        /// Always true.
        clear: bool,
    },
    /// A value.
    Json {
        /// Any JSON.
        json: Value,
    },
    /// Something failed.
    Error {
        /// What, and what to do.
        error: Failure,
    },
    /// The command has ended.
    Exit {
        /// The process's exit code.
        exit: u8,
    },
}

/// Where text goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    #[default]
    Out,
    /// Standard error.
    Err,
}

/// Rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// What each row's cells are, in order.
    #[serde(deserialize_with = "lua_list")]
    pub columns: Vec<Column>,
    /// The cells, raw.
    #[serde(deserialize_with = "lua_list")]
    pub rows: Vec<Vec<Value>>,
}

/// A list. Lua's empty table is list and object at once and comes as an object.
fn lua_list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    match Value::deserialize(deserializer)? {
        Value::Object(entries) if entries.is_empty() => Ok(Vec::new()),
        value => serde_json::from_value(value).map_err(serde::de::Error::custom),
    }
}

/// An error in a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What failed, and on which name.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Output {
    /// An operator's error as a frame.
    pub fn error(error: &OperatorError) -> Output {
        Output::Error {
            error: Failure { message: error.message.clone(), hint: error.hint.clone() },
        }
    }
}

/// Why a connection's bytes are no frames. The connection can't go on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is beyond the limit, as it is when something else than our client talks.
    #[error("a frame of {0} bytes is more than the {CONTROL_FRAME_BYTES_MAX} allowed")]
    TooLong(usize),
    /// The bytes aren't JSON.
    #[error("a frame that isn't JSON")]
    NotJson,
    /// The JSON is none of this page's frames.
    #[error("a frame that is no request")]
    Unknown,
    /// The client speaks another version.
    #[error(
        "the protocol's version is {VERSION}, yours is {0}: use the socketley that started the daemon"
    )]
    Version(u64),
}

/// Writes one frame.
///
/// # Errors
/// When it is too long to be read at the other end; nothing is written then.
pub fn write(frame: &impl Serialize, into: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = into.len();
    into.extend([0; LENGTH_BYTES]);
    if serde_json::to_writer(&mut *into, frame).is_err() {
        into.truncate(start);
        return Err(FrameError::NotJson);
    }
    let bytes = into.len() - start - LENGTH_BYTES;
    if bytes > CONTROL_FRAME_BYTES_MAX {
        into.truncate(start);
        return Err(FrameError::TooLong(bytes));
    }
    let length = u32::try_from(bytes).expect("the limit is below 4 GiB");
    into[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Puts frames together from whatever pieces arrive.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that earlier frames used up.
    consumed: usize,
}

impl Reader {
    /// Takes bytes from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that wait for the rest of their frame.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.consumed
    }

    /// The next whole frame's JSON, if it has arrived.
    ///
    /// # Errors
    /// When the stream is not made of frames. A length beyond the limit is refused before its bytes come.
    pub fn next_frame(&mut self) -> Result<Option<Value>, FrameError> {
        let rest = &self.buffer[self.consumed..];
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > CONTROL_FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let value = serde_json::from_slice(body).map_err(|_| FrameError::NotJson)?;
        self.consumed += LENGTH_BYTES + length;
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(command: &str) -> FromClient {
        FromClient::Request(Request {
            v: VERSION,
            command: command.to_string(),
            arguments: json!({"name": "a\nremove b"}).as_object().unwrap().clone(),
            tty: false,
            cwd: "/".to_string(),
        })
    }

    #[test]
    fn frames_arrive_whole_at_every_split() {
        let sent = [
            request("send"),
            FromClient::Input(Input::Line("über\nzwei Zeilen".to_string())),
            FromClient::Input(Input::End),
            FromClient::Input(Input::Cancel),
        ];
        let mut bytes = Vec::new();
        for frame in &sent {
            write(&frame.to_json(), &mut bytes).unwrap();
        }
        for split in 0..=bytes.len() {
            let mut reader = Reader::default();
            let mut received = Vec::new();
            for part in [&bytes[..split], &bytes[split..]] {
                reader.push(part);
                while let Some(frame) = reader.next_frame().unwrap() {
                    received.push(FromClient::parse(frame).unwrap());
                }
            }
            assert_eq!(received, sent, "split at {split}");
            assert_eq!(reader.pending(), 0);
        }
    }

    #[test]
    fn outputs_survive_the_way() {
        let error = OperatorError::failed("no such runtime: x").hint("see `socketley ls`");
        for output in [
            Output::error(&error),
            Output::Text { text: "hello".into(), to: Stream::Err },
            Output::Record { record: json!({"a": 1}), text: "a=1".into() },
            Output::Json { json: json!([1, null]) },
            Output::Exit { exit: 2 },
            Output::Table {
                table: Table {
                    columns: vec![Column {
                        key: "size".into(),
                        title: "SIZE".into(),
                        kind: Some(ColumnKind::Bytes),
                    }],
                    rows: vec![vec![json!(1)]],
                },
            },
        ] {
            let json = serde_json::to_value(&output).unwrap();
            assert_eq!(serde_json::from_value::<Output>(json).unwrap(), output);
        }
    }

    #[test]
    fn a_table_without_rows_is_one() {
        let frame = json!({"table": {"columns": {}, "rows": {}}});
        let table = Table::default();
        assert_eq!(serde_json::from_value::<Output>(frame).unwrap(), Output::Table { table });
    }

    #[test]
    fn garbage_is_refused_at_once() {
        let mut zero = Reader::default();
        zero.push(&[0, 0, 0, 0]);
        assert_eq!(zero.next_frame(), Err(FrameError::NotJson));
        for (bytes, error) in [
            (b"GET / HTTP/1.1\r\n".to_vec(), FrameError::TooLong(0x4745_5420)),
            (vec![0xff; 8], FrameError::TooLong(0xffff_ffff)),
            ([&[0, 0, 0, 4][..], b"nope"].concat(), FrameError::NotJson),
        ] {
            let mut reader = Reader::default();
            reader.push(&bytes);
            assert_eq!(reader.next_frame(), Err(error));
        }
    }

    #[test]
    fn only_requests_of_this_version_are_taken() {
        for (frame, error) in [
            (json!({"v": 2, "command": "ls"}), FrameError::Version(2)),
            (json!({"command": "ls"}), FrameError::Unknown),
            (json!({"v": 1}), FrameError::Unknown),
            (json!([1, 2]), FrameError::Unknown),
            (json!("ls"), FrameError::Unknown),
            (json!({"line": 5}), FrameError::Unknown),
        ] {
            assert_eq!(FromClient::parse(frame.clone()), Err(error), "{frame}");
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_is_not_written() {
        let mut bytes = vec![1];
        let text = "x".repeat(CONTROL_FRAME_BYTES_MAX);
        assert!(matches!(write(&text, &mut bytes), Err(FrameError::TooLong(_))));
        assert_eq!(bytes, [1]);
    }
}
