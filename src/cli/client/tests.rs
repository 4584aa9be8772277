//! The client against daemons that a test plays on a socket of its own.

use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use serde_json::json;

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("socketley-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Accepts one client, reads its first frame and answers with `bytes`.
fn answer_with(socket: &Path, bytes: Vec<u8>) -> JoinHandle<Value> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = Reader::default();
        let mut buffer = [0; 1024];
        loop {
            if let Some(frame) = reader.next_frame().unwrap() {
                stream.write_all(&bytes).unwrap();
                return frame;
            }
            let count = stream.read(&mut buffer).unwrap();
            reader.push(&buffer[..count]);
        }
    })
}

fn frames(frames: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        control::write(frame, &mut bytes).unwrap();
    }
    bytes
}

fn arguments(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn a_request_is_sent_as_it_is_and_answered_by_frames() {
    let folder = Folder::new("client-frames");
    let socket = folder.0.join("s");
    let text = "two lines\nremove victim ".repeat(5000);
    let daemon = answer_with(&socket, frames(&[json!({"text": "done"}), json!({"exit": 3})]));
    let mut client = Client::connect(&socket, false).unwrap();
    client.request("send", arguments(json!({"message": text}))).unwrap();
    assert!(matches!(client.next_frame(), Ok(Output::Text { text, .. }) if text == "done"));
    assert_eq!(client.next_frame(), Ok(Output::Exit { exit: 3 }));
    let sent = daemon.join().unwrap();
    assert_eq!((&sent["v"], &sent["command"]), (&json!(1), &json!("send")));
    assert_eq!(sent["arguments"]["message"], text);
}

#[test]
fn questions_are_answered_by_json_or_an_error() {
    let folder = Folder::new("client-ask");
    for (number, (answer, expected)) in [
        (vec![json!({"json": [1]}), json!({"exit": 0})], Ok(json!([1]))),
        (
            vec![json!({"error": {"message": "no", "hint": "try"}}), json!({"exit": 2})],
            Err(OperatorError::usage("no").hint("try")),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let socket = folder.0.join(number.to_string());
        let daemon = answer_with(&socket, frames(&answer));
        let mut client = Client::connect(&socket, false).unwrap();
        assert_eq!(client.ask("commands", Map::new()), expected);
        daemon.join().unwrap();
    }
}

#[test]
fn what_goes_wrong_is_said() {
    let folder = Folder::new("client-errors");
    let cases: [(&str, Option<Vec<u8>>, &str); 4] = [
        ("gone", Some(Vec::new()), "closed the connection before it had answered"),
        ("half", Some(vec![0, 0, 0, 9, b'{']), "in the middle of its answer"),
        ("stranger", Some(b"HTTP/1.1 400 Bad Request\r\n".to_vec()), "isn't a socketley daemon"),
        ("odd", Some(frames(&[json!({"what": 1})])), "isn't a socketley daemon"),
    ];
    for (name, answer, expected) in cases {
        let socket = folder.0.join(name);
        let daemon = answer.map(|bytes| answer_with(&socket, bytes));
        let mut client = Client::connect(&socket, false).unwrap();
        client.request("ls", Map::new()).unwrap();
        let error = client.next_frame().unwrap_err();
        assert!(error.message.contains(expected), "{name}: {error}");
        assert!(error.hint.is_some(), "{name} says what to do");
        daemon.map(JoinHandle::join);
    }
}

#[test]
fn no_daemon_no_connection() {
    let folder = Folder::new("client-none");
    let stale = folder.0.join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    let long = folder.0.join("x".repeat(200));
    for (socket, expected) in [
        (folder.0.join("none"), "is it running?\n  hint: start it with `socketley daemon &`"),
        (stale, "is it running?"),
        (long, "cannot connect to the daemon at"),
    ] {
        let error = Client::connect(&socket, false).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let denied = io::Error::from(io::ErrorKind::PermissionDenied);
    assert!(no_connection(Path::new("/x"), &denied).message.ends_with("permission denied"));
}

#[test]
fn a_request_beyond_a_frame_is_refused_here() {
    let folder = Folder::new("client-long");
    let socket = folder.0.join("s");
    let _listener = UnixListener::bind(&socket).unwrap();
    let mut client = Client::connect(&socket, false).unwrap();
    let text = "x".repeat(crate::limits::CONTROL_FRAME_BYTES_MAX);
    let error = client.request("send", arguments(json!({"message": text}))).unwrap_err();
    assert!(error.message.contains("can't be sent: a frame of"), "{error}");
    assert_eq!(error.exit_code, 2);
}
