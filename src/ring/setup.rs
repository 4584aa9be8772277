//! Making a ring: the best flags this kernel takes, or an error that says who denies io_uring and what to do.
//!
//! Many will run this in a container, where io_uring is denied by default since 2023: the message must be exact.

use std::fs;
use std::io;

use io_uring::{IoUring, squeue};

use super::features::Features;
use crate::error::OperatorError;
use crate::limits::{RECEIVE_BUFFERS, RING_ENTRIES};

/// How to make a [`super::Uring`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Let a kernel thread poll for submissions: 2.3-2.7 times the CPU, less latency on idle cores.
    pub sqpoll: bool,
    /// Features that may be used if the kernel has them; tests take some away.
    pub allowed: Features,
    /// Receive buffers to ask for (a power of two); fewer when memory is short.
    pub buffers: usize,
    /// Entries of the submission queue (a power of two).
    pub entries: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            sqpoll: false,
            allowed: Features::ALL,
            buffers: RECEIVE_BUFFERS,
            entries: RING_ENTRIES,
        }
    }
}

const SQPOLL_IDLE_MS: u32 = 100;

/// The ring, and which features it has.
pub(super) fn build(options: &Options) -> Result<(IoUring, Features), OperatorError> {
    let (ring, flags) = build_best(options).map_err(|error| explain(&error, &Machine::this()))?;
    if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
        return Err(too_old(&Machine::this()));
    }
    let found = Features::probe(&ring).and(options.allowed).with(flags);
    Ok((ring, found))
}

/// Tries the best flags first; a kernel that doesn't know one says EINVAL.
fn build_best(options: &Options) -> io::Result<(IoUring, Features)> {
    let ladder: &[Features] = if options.sqpoll {
        &[Features::SQPOLL.with(Features::SINGLE_ISSUER), Features::SQPOLL]
    } else {
        &[
            Features::SINGLE_ISSUER.with(Features::DEFER_TASKRUN),
            Features::COOP_TASKRUN.with(Features::SINGLE_ISSUER),
            Features::COOP_TASKRUN,
            Features::NONE,
        ]
    };
    let allowed = options.allowed.with(Features::SQPOLL);
    let mut last = io::Error::from_raw_os_error(libc::EINVAL);
    for flags in ladder.iter().filter(|flags| allowed.has(**flags)) {
        match build_with(options.entries, *flags) {
            Ok(ring) => return Ok((ring, *flags)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn build_with(entries: u32, flags: Features) -> io::Result<IoUring> {
    let mut builder = IoUring::<squeue::Entry>::builder();
    builder.setup_cqsize(entries * 4).setup_submit_all();
    if flags.has(Features::SQPOLL) {
        builder.setup_sqpoll(SQPOLL_IDLE_MS);
    }
    if flags.has(Features::COOP_TASKRUN) {
        builder.setup_coop_taskrun();
    }
    if flags.has(Features::SINGLE_ISSUER) {
        builder.setup_single_issuer();
    }
    if flags.has(Features::DEFER_TASKRUN) {
        builder.setup_defer_taskrun();
    }
    builder.build(entries)
}

/// What decides whether io_uring is allowed here.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    /// `uname -r`; empty if unknown.
    release: String,
    /// `kernel.io_uring_disabled`: 0, 1 or 2; nothing before 6.6.
    disabled: Option<u8>,
    /// Whether a seccomp filter is on this process.
    filtered: bool,
}

impl Machine {
    pub(super) fn this() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        Machine {
            release: read("/proc/sys/kernel/osrelease").trim().to_string(),
            disabled: read("/proc/sys/kernel/io_uring_disabled").trim().parse().ok(),
            filtered: status
                .lines()
                .any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2")),
        }
    }
}

/// Why the kernel refused a ring, and what to do about it.
pub(super) fn explain(error: &io::Error, machine: &Machine) -> OperatorError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => denied(machine),
        Some(libc::ENOSYS) if machine.filtered => denied_by_filter(),
        Some(libc::ENOSYS) => OperatorError::failed(format!(
            "this kernel ({}) has no io_uring",
            machine.release
        ))
        .hint("Linux 5.19 or later is needed, 6.1 is better; gVisor (runsc) has none, use runc or crun"),
        Some(libc::EINVAL) => too_old(machine),
        Some(libc::ENOMEM) => {
            OperatorError::failed("the kernel has no memory for an io_uring (ENOMEM)").hint(
                "raise the locked-memory limit: ulimit -l unlimited, LimitMEMLOCK=infinity in systemd, --ulimit memlock=-1 for a container",
            )
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            OperatorError::failed("no file descriptor is left for an io_uring").hint(
                "raise the limit: ulimit -n 65536, LimitNOFILE=65536 in systemd, --ulimit nofile=65536 for a container",
            )
        }
        _ => OperatorError::failed(format!("the kernel refused an io_uring: {error}")),
    }
}

fn denied(machine: &Machine) -> OperatorError {
    match machine.disabled {
        Some(2..) => OperatorError::failed(
            "io_uring is switched off on this machine (kernel.io_uring_disabled = 2)",
        )
        .hint("as root: sysctl kernel.io_uring_disabled=0, and a line in /etc/sysctl.d/ to keep it"),
        Some(1) => OperatorError::failed(
            "io_uring is reserved for privileged processes on this machine (kernel.io_uring_disabled = 1)",
        )
        .hint("as root: sysctl kernel.io_uring_disabled=0, or put this user's group into kernel.io_uring_group"),
        _ if machine.filtered => denied_by_filter(),
        _ => OperatorError::failed("the kernel's security policy denies io_uring (EPERM)")
            .hint("look for a denial of SELinux, AppArmor or a container policy: journalctl -k, ausearch -m avc"),
    }
}

fn denied_by_filter() -> OperatorError {
    OperatorError::failed("a seccomp filter denies io_uring: the default of Docker, Podman and containerd since 2023")
        .hint("run with --security-opt seccomp=unconfined, or with a profile that allows io_uring_setup, io_uring_enter and io_uring_register (Kubernetes: securityContext.seccompProfile; systemd: SystemCallFilter=@io-event and the three names)")
}

fn too_old(machine: &Machine) -> OperatorError {
    OperatorError::failed(format!("this kernel's io_uring is too old ({})", machine.release))
        .hint("Linux 5.19 or later is needed, 6.1 is better")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_names_its_cause_and_a_remedy() {
        let plain = Machine { release: "6.8.0".into(), disabled: Some(0), filtered: false };
        let filtered = Machine { filtered: true, ..plain.clone() };
        let off = Machine { disabled: Some(2), filtered: true, ..plain.clone() };
        let reserved = Machine { disabled: Some(1), ..plain.clone() };
        let old = Machine { release: "4.4.0".into(), disabled: None, filtered: false };
        let cases = [
            (libc::EPERM, &off, "io_uring_disabled = 2", "sysctl"),
            (libc::EPERM, &reserved, "io_uring_disabled = 1", "io_uring_group"),
            (libc::EPERM, &filtered, "seccomp", "--security-opt"),
            (libc::EPERM, &plain, "security policy", "SELinux"),
            (libc::ENOSYS, &filtered, "seccomp", "--security-opt"),
            (libc::ENOSYS, &old, "(4.4.0) has no io_uring", "5.19"),
            (libc::EINVAL, &old, "too old (4.4.0)", "5.19"),
            (libc::ENOMEM, &plain, "memory", "ulimit -l"),
            (libc::EMFILE, &plain, "file descriptor", "ulimit -n"),
        ];
        for (errno, machine, message, hint) in cases {
            let error = explain(&io::Error::from_raw_os_error(errno), machine);
            assert!(error.message.contains(message), "{errno}: {error}");
            assert!(error.hint.as_deref().unwrap_or("").contains(hint), "{errno}: {error}");
        }
    }

    #[test]
    fn this_machine_has_a_release() {
        assert!(Machine::this().release.starts_with(|first: char| first.is_ascii_digit()));
    }
}
