//! The connection to a daemon: one request after the other, each answered by frames and an exit code.
//!
//! Ctrl-C while a command runs asks the daemon to end it; a second one ends this process.
//! Must not know: what commands mean, how frames are shown.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use super::EXIT_CANCELLED;
use crate::error::OperatorError;
use crate::proto::control::{self, FromClient, Input, Output, Reader, Request, VERSION};

const READ_BYTES: usize = 64 * 1024;

/// A connected daemon.
pub struct Client {
    stream: UnixStream,
    socket: PathBuf,
    reader: Reader,
    /// A person's terminal shows the answers.
    tty: bool,
    frames: VecDeque<Output>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Says why it can't, and what to do.
    pub fn connect(socket: &Path, tty: bool) -> Result<Client, OperatorError> {
        let stream = UnixStream::connect(socket).map_err(|error| no_connection(socket, &error))?;
        Ok(Client {
            stream,
            socket: socket.to_path_buf(),
            reader: Reader::default(),
            tty,
            frames: VecDeque::new(),
        })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When it is too long or the daemon has gone.
    pub fn request(
        &mut self,
        command: &str,
        arguments: Map<String, Value>,
    ) -> Result<(), OperatorError> {
        let cwd = std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned();
        let command = command.to_string();
        let request = Request { v: VERSION, command, arguments, tty: self.tty, cwd };
        let mut bytes = Vec::new();
        control::write(&FromClient::Request(request).to_json(), &mut bytes)
            .map_err(|error| OperatorError::usage(format!("the request can't be sent: {error}")))?;
        match self.stream.write_all(&bytes) {
            // It may have said why before it closed: reading comes next and tells.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(self.lost(&error)),
            _ => Ok(()),
        }
    }

    /// The next frame. After [`Output::Exit`] the next request may be sent.
    ///
    /// # Errors
    /// When the daemon goes before it has answered, or what answers is no daemon.
    pub fn next_frame(&mut self) -> Result<Output, OperatorError> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(frame);
            }
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(self.closed()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.lost(&error)),
            };
            self.reader.push(&buffer[..count]);
            while let Some(frame) = self.reader.next_frame().map_err(|_| self.stranger())? {
                let frame = serde_json::from_value(frame).map_err(|_| self.stranger())?;
                self.frames.push_back(frame);
            }
        }
    }

    /// Runs a command to its end and collects its JSON and errors; for the command line's own questions.
    ///
    /// # Errors
    /// The daemon's first error, or the connection's.
    pub fn ask(
        &mut self,
        command: &str,
        arguments: Map<String, Value>,
    ) -> Result<Value, OperatorError> {
        self.request(command, arguments)?;
        let mut answer = Value::Null;
        let mut failure = None;
        loop {
            match self.next_frame()? {
                Output::Json { json } => answer = json,
                Output::Error { error } => {
                    let mut found = OperatorError::failed(error.message);
                    found.hint = error.hint;
                    failure.get_or_insert(found);
                }
                Output::Exit { exit } => {
                    return match failure {
                        Some(error) => Err(OperatorError { exit_code: exit.max(1), ..error }),
                        None => Ok(answer),
                    };
                }
                Output::Table { .. }
                | Output::Record { .. }
                | Output::Text { .. }
                | Output::Clear { .. } => {}
            }
        }
    }

    /// Waits until the daemon closes the connection, as it does when it ends.
    pub fn wait_for_end(&mut self) {
        while self.next_frame().is_ok() {}
    }

    /// A second handle, for threads that send input or cancel.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn sender(&self) -> Result<Sender, OperatorError> {
        let stream = self.stream.try_clone();
        Ok(Sender { stream: stream.map_err(|error| self.lost(&error))? })
    }

    fn closed(&self) -> OperatorError {
        let message = if self.reader.pending() > 0 {
            "the daemon closed the connection in the middle of its answer"
        } else {
            "the daemon closed the connection before it had answered"
        };
        OperatorError::failed(message).hint("see its log; `socketley ping` tells whether it lives")
    }

    fn lost(&self, error: &io::Error) -> OperatorError {
        OperatorError::failed(format!("the daemon at {} is lost: {error}", self.socket.display()))
            .hint("`socketley ping` tells whether it lives")
    }

    fn stranger(&self) -> OperatorError {
        let socket = self.socket.display();
        OperatorError::failed(format!("what answers at {socket} isn't a socketley daemon"))
            .hint("check --socket, SOCKETLEY_SOCKET and SOCKETLEY_HOME")
    }
}

fn no_connection(socket: &Path, error: &io::Error) -> OperatorError {
    let at = socket.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => OperatorError::failed(format!(
            "cannot connect to the daemon at {at}: permission denied"
        ))
        .hint("it belongs to another user: run this as that user, or start your own daemon"),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            OperatorError::failed(format!("cannot connect to the daemon at {at}: is it running?"))
                .hint("start it with `socketley daemon &`")
        }
        _ => OperatorError::failed(format!("cannot connect to the daemon at {at}: {error}"))
            .hint("check --socket, SOCKETLEY_SOCKET and SOCKETLEY_HOME"),
    }
}

/// Sends what may come while a command runs.
pub struct Sender {
    stream: UnixStream,
}

impl Sender {
    /// Sends one input.
    ///
    /// # Errors
    /// When the daemon has gone, or a line is longer than a frame.
    pub fn send(&mut self, input: Input) -> io::Result<()> {
        let mut bytes = Vec::new();
        control::write(&FromClient::Input(input).to_json(), &mut bytes)
            .map_err(io::Error::other)?;
        self.stream.write_all(&bytes)
    }
}

/// Ctrl-C as a request to the daemon.
#[derive(Clone, Default)]
pub struct Interrupts {
    running: Arc<Mutex<Option<Sender>>>,
}

impl Interrupts {
    /// Takes SIGINT over for the rest of the process. Without a running command it ends the process as usual.
    ///
    /// # Errors
    /// When the signal can't be caught.
    pub fn install() -> io::Result<Interrupts> {
        let interrupts = Interrupts::default();
        let seen = interrupts.clone();
        let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT])?;
        std::thread::Builder::new().name("interrupts".to_string()).spawn(move || {
            for _ in signals.forever() {
                let sender = seen.running.lock().unwrap_or_else(PoisonError::into_inner).take();
                let asked = sender.is_some_and(|mut sender| sender.send(Input::Cancel).is_ok());
                if !asked {
                    std::process::exit(i32::from(EXIT_CANCELLED));
                }
            }
        })?;
        Ok(interrupts)
    }

    /// From now on Ctrl-C cancels what `sender` speaks to, once.
    pub fn cancel_with(&self, sender: Option<Sender>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = sender;
    }
}

/// Sends the lines of the standard input to the command that runs, to its end.
pub fn forward_lines(mut sender: Sender) -> io::Result<()> {
    let lines = move || {
        for line in io::stdin().lines() {
            let Ok(line) = line else { break };
            if sender.send(Input::Line(line)).is_err() {
                return;
            }
        }
        // If the daemon has gone, the main thread sees it too and says so.
        sender.send(Input::End).ok();
    };
    std::thread::Builder::new().name("input".to_string()).spawn(lines).map(drop)
}

#[cfg(test)]
mod tests;
