//! `daemon --supervise`: a small process that starts the daemon, and starts it again when it crashes.
//!
//! It holds no lock, socket or state: the daemon's own restart from disk is the recovery. Must not know: what it does.

use std::process::{Child, Command, ExitStatus};

use super::daemon::SIGNALS;
use crate::error::OperatorError;
use crate::log::LogLevel;
use crate::log::LogRecord;
use crate::ring::clock;
use crate::ring::process::{self, Signal, Signals};

const MARK: &str = "SOCKETLEY_SUPERVISED";

/// The first pause before a restart; it doubles with each crash.
const PAUSE_MS_MIN: u64 = 100;
const PAUSE_MS_MAX: u64 = 10_000;
/// A daemon that ran so long has recovered: the next pause is the first again.
const RECOVERED_MS: u64 = 60_000;

/// Whether this process was started by a supervisor.
pub fn is_child() -> bool {
    std::env::var_os(MARK).is_some()
}

/// A supervised daemon drains and ends when its supervisor is killed: nobody would restart it.
pub fn follow_parent() {
    if is_child()
        && let Err(error) = process::end_with_parent(libc::SIGTERM)
    {
        say(LogLevel::Warn, format!("won't notice the end of its supervisor: {error}"));
    }
}

/// Starts this program again as the daemon, and again after each crash, until it ends by itself or is told to.
///
/// # Errors
/// It can't be started, or it refused to start and said why.
pub fn run() -> Result<(), OperatorError> {
    let mut wanted = SIGNALS.to_vec();
    wanted.push(libc::SIGCHLD);
    let mut signals = Signals::block(&wanted)
        .map_err(|error| OperatorError::failed(format!("can't take signals: {error}")))?;
    let mut pause_ms = PAUSE_MS_MIN;
    loop {
        let started_ms = clock::now().monotonic_ms();
        let mut child = start()?;
        let (status, told_to_end) = watch(&mut child, &mut signals)?;
        match status.code() {
            Some(0) => return Ok(()),
            // It has said why on standard error.
            Some(code @ (1 | 2)) => std::process::exit(code),
            _ if told_to_end => return Ok(()),
            _ => {}
        }
        if clock::now().monotonic_ms() - started_ms >= RECOVERED_MS {
            pause_ms = PAUSE_MS_MIN;
        }
        say(
            LogLevel::Error,
            format!("the daemon crashed ({status}); starting it again in {pause_ms} ms"),
        );
        if signals.wait(pause_ms as i32).iter().any(|signal| ends(*signal)) {
            return Ok(());
        }
        pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
    }
}

fn start() -> Result<Child, OperatorError> {
    let failed = |error| OperatorError::failed(format!("can't start the daemon: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    let arguments = std::env::args_os().skip(1);
    Command::new(program).args(arguments).env(MARK, "1").spawn().map_err(failed)
}

/// Passes signals on until the daemon has ended; also tells whether it was told to.
fn watch(child: &mut Child, signals: &mut Signals) -> Result<(ExitStatus, bool), OperatorError> {
    let mut told_to_end = false;
    loop {
        let ended = child.try_wait().map_err(|error| {
            OperatorError::failed(format!("can't wait for the daemon: {error}"))
        })?;
        if let Some(status) = ended {
            return Ok((status, told_to_end));
        }
        for signal in signals.wait(-1) {
            told_to_end |= ends(signal);
            if signal != libc::SIGCHLD
                && let Err(error) = process::send_signal(child.id(), signal)
            {
                say(LogLevel::Warn, format!("can't pass signal {signal} on: {error}"));
            }
        }
    }
}

fn ends(signal: Signal) -> bool {
    signal == libc::SIGTERM || signal == libc::SIGINT
}

fn say(level: LogLevel, text: String) {
    let unix_ms = clock::now().unix_ms;
    let mut logs = super::logs::Logs::new(LogLevel::Info);
    logs.echo_to(Box::new(std::io::stderr()), false);
    logs.add(LogRecord { unix_ms, level, source: "supervisor".to_owned(), text });
}
