//! The process's own figures for INFO: memory and CPU time, read from the allocator and `/proc/self`.

use crate::store::statistics::Process;

/// Clock ticks a second in `/proc/self/stat`; fixed by the kernel's user interface (`proc(5)`).
const TICKS_PER_SECOND: u64 = 100;
/// Bytes of a page in `/proc/self/statm`.
const PAGE_BYTES: u64 = 4096;

/// The figures of now. Costs some tens of microseconds: once a second is often enough.
pub fn figures() -> Process {
    let mut process = Process { id: std::process::id(), ..Process::default() };
    if tikv_jemalloc_ctl::epoch::advance().is_ok() {
        process.allocated_bytes =
            tikv_jemalloc_ctl::stats::allocated::read().unwrap_or_default() as u64;
        process.active_bytes = tikv_jemalloc_ctl::stats::active::read().unwrap_or_default() as u64;
    }
    let pages = field(&read("/proc/self/statm"), 1);
    process.resident_bytes = pages * PAGE_BYTES;
    let stat = read("/proc/self/stat");
    // The second field is the program's name in brackets and may hold spaces.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    process.user_us = field(after_name, 11) * 1_000_000 / TICKS_PER_SECOND;
    process.system_us = field(after_name, 12) * 1_000_000 / TICKS_PER_SECOND;
    let total_kib = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:").map(|rest| field(rest, 0)));
    process.system_bytes = total_kib.unwrap_or_default() * 1024;
    process
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn field(text: &str, index: usize) -> u64 {
    text.split_ascii_whitespace().nth(index).and_then(|word| word.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory_and_time() {
        let process = figures();
        assert!(process.resident_bytes > 1 << 20, "{process:?}");
        assert!(process.system_bytes > process.resident_bytes, "{process:?}");
        assert_eq!(process.id, std::process::id());
    }
}
