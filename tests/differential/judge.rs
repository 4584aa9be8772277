//! The two sides: a redis-server of our own on a Unix socket, and the store in this process.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use socketley::persist::rdb::{Item, Reader, Version, Writer};
use socketley::proto::resp::ReplyReader;
use socketley::store::rdb::Builder;
use socketley::store::{Expiry, Session, Settings, SharedStore, table};

/// Says that there is no judge; where one is required that is a failure.
#[allow(clippy::print_stdout, reason = "a skipped test has to say so")]
fn skip(reason: &std::io::Error) {
    let required = std::env::var("SOCKETLEY_JUDGES").is_ok_and(|value| value == "required");
    assert!(!required, "redis-server is required and can't be started: {reason}");
    println!("skipped: redis-server can't be started: {reason}");
}

/// A redis-server that ends with this value.
pub struct Judge {
    process: Child,
    folder: PathBuf,
    socket: UnixStream,
    reader: ReplyReader,
    unread: Vec<u8>,
}

impl Judge {
    /// Starts one; nothing if there is no redis-server and nobody requires it.
    pub fn start() -> Option<Judge> {
        Judge::start_with(None)
    }

    /// The RDB file of all its keys.
    pub fn file(&mut self) -> Vec<u8> {
        assert_eq!(self.run(&[b"SAVE".to_vec()]), b"+OK\r\n");
        std::fs::read(self.folder.join("dump.rdb")).expect("redis-server saved its keys")
    }

    /// Starts one with the keys of an RDB file.
    pub fn start_with(file: Option<&[u8]>) -> Option<Judge> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir()
            .join(format!("socketley-differential-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        if let Some(file) = file {
            std::fs::write(folder.join("dump.rdb"), file).expect("a file in our own folder");
        }
        let path = folder.join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"]).arg(&folder);
        command.arg("--unixsocket").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        // What a 7.4 has by default.
        command.args(["--hash-max-listpack-entries", "512"]);
        let process = match command.spawn() {
            Ok(process) => process,
            Err(error) => {
                skip(&error);
                return None;
            }
        };
        let socket = connect(&path);
        Some(Judge { process, folder, socket, reader: ReplyReader::default(), unread: Vec::new() })
    }

    /// Sends a command and reads its reply's bytes.
    pub fn run(&mut self, command: &[Vec<u8>]) -> Vec<u8> {
        let mut request = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.socket.write_all(&request).expect("redis-server reads");
        loop {
            let read = self.reader.read(&self.unread).expect("redis-server speaks RESP");
            if let Some((_, len)) = read {
                return self.unread.drain(..len).collect();
            }
            let mut chunk = [0; 64 * 1024];
            let count = self.socket.read(&mut chunk).expect("redis-server answers");
            assert!(count > 0, "redis-server closed the connection");
            self.unread.extend_from_slice(&chunk[..count]);
        }
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.process.kill().expect("our own child can be killed");
        self.process.wait().expect("our own child can be waited for");
        std::fs::remove_dir_all(&self.folder).expect("our own folder can be removed");
    }
}

/// Waits for the socket to appear: redis-server says when by creating it.
fn connect(path: &std::path::Path) -> UnixStream {
    for _ in 0..10_000_000 {
        if let Ok(socket) = UnixStream::connect(path) {
            return socket;
        }
        std::thread::yield_now();
    }
    panic!("redis-server didn't open {}", path.display());
}

/// The store of this process and one client of it.
pub struct Ours {
    store: Arc<SharedStore>,
    session: Session,
}

impl Ours {
    pub fn new(seed: u64) -> Ours {
        let scripting = Some(socketley::lua::scripts::make as _);
        let settings = Settings { seed, scripting, now_ms: now_ms(), ..Settings::default() };
        let store = SharedStore::new(&settings);
        let session = store.session(now_ms());
        Ours { store, session }
    }

    /// Whether the command is in the table.
    pub fn knows(&self, name: &str) -> bool {
        table().lookup(name.as_bytes()).is_some()
    }

    /// The RDB file of all keys of the first database.
    pub fn file(&mut self) -> Vec<u8> {
        let held = self.store.lock(now_ms());
        let mut writer = Writer::new(Version::Redis70, &[("redis-ver", "7.0.15")]);
        let database = &held.keyspace.databases()[0];
        writer.database(0, database.len(), database.expiring());
        database.table().iter().for_each(|entry| writer.entry(entry));
        writer.finish();
        writer.take()
    }

    /// Takes the keys of an RDB file over.
    pub fn load(&mut self, file: &[u8]) {
        let mut held = self.store.lock(now_ms());
        let (hasher, thresholds) = (held.keyspace.hasher(), held.keyspace.thresholds);
        let builder = Builder { hasher, thresholds: &thresholds };
        let mut reader = Reader::new();
        reader.feed(file);
        reader.complete();
        while let Some(item) = reader.next(&builder).expect("redis-server's own file") {
            if let Item::Key(key) = item {
                let (hash, expiry) = (hasher.hash(&key.key), Expiry::from(key.expires_ms));
                held.keyspace.database(0).insert_value(&key.key, hash, key.value, expiry);
            }
        }
    }

    /// Removes all keys.
    pub fn flush(&mut self) {
        self.store.lock(now_ms()).keyspace.flush();
    }

    /// Runs a command and returns its reply's bytes.
    pub fn run(&mut self, command: &[Vec<u8>]) -> Vec<u8> {
        let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        self.store.call(&mut self.session, &words, now_ms(), &mut out);
        let read = ReplyReader::default().read(&out);
        let whole = matches!(read, Ok(Some((_, len))) if len == out.len());
        assert!(whole, "one whole reply to {words:?}: {}", out.escape_ascii());
        out
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the judge has the real clock, so this side needs it too"
)]
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is past 1970").as_millis() as u64
}
