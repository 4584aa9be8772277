//! A TCP peer that speaks lines, or any bytes.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// One connection to a server.
pub struct Peer {
    stream: BufReader<TcpStream>,
}

impl Peer {
    /// Connects to a port of this machine.
    pub fn connect(port: u16) -> Peer {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .unwrap_or_else(|error| panic!("connect to {port}: {error}"));
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream: BufReader::new(stream) }
    }

    /// Sends a line.
    pub fn say(&mut self, line: &str) {
        self.send(format!("{line}\n").as_bytes());
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Sends bytes to someone who may close meanwhile.
    pub fn try_send(&mut self, bytes: &[u8]) {
        drop(self.stream.get_mut().write_all(bytes));
    }

    /// The next line, without its newline.
    ///
    /// # Panics
    /// When none comes, or the connection ends.
    pub fn hear(&mut self) -> String {
        String::from_utf8(self.hear_bytes()).unwrap()
    }

    /// The next line, whatever bytes it has.
    pub fn hear_bytes(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("a line comes in time");
        assert_eq!(
            line.pop(),
            Some(b'\n'),
            "the connection ended, after {:?}",
            String::from_utf8_lossy(&line)
        );
        line
    }

    /// So many bytes.
    ///
    /// # Panics
    /// When fewer come.
    pub fn hear_exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).expect("the bytes come in time");
        bytes
    }

    /// Asserts that the next lines are these.
    pub fn hears(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.hear(), *line);
        }
    }

    /// Says that nothing more comes from this side.
    pub fn finish(&mut self) {
        self.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// Everything until the other side closes.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => {
                panic!("no end comes: {error}")
            }
            _ => String::from_utf8_lossy(&bytes).into_owned(),
        }
    }
}
