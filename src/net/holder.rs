//! Who listens on a port: the kernel's table of sockets names an inode, a process's open files name it too.
//!
//! Only processes that this user may look into are found. Must not know: why it is asked.

use std::fs;
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`), and of an open one in `/proc/net/udp`.
const STATES: [&str; 2] = ["0A", "07"];

/// The name and number of a process that listens on a port of this machine; `table` is `tcp` or `udp`.
pub fn of_port(table: &str, port: u16) -> Option<(String, u32)> {
    let inodes: Vec<String> = ["", "6"]
        .iter()
        .filter_map(|family| fs::read_to_string(format!("/proc/net/{table}{family}")).ok())
        .flat_map(|table| listening(&table, port))
        .collect();
    of_inodes(&inodes)
}

/// The same for the path of a Unix socket.
pub fn of_path(path: &Path) -> Option<(String, u32)> {
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    let inode = |line: &str| {
        let (_, bound) = line.split_once('/')?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let fits = path.to_str()?.strip_prefix('/') == Some(bound);
        words.get(6).filter(|_| fits).map(|inode| (*inode).to_owned())
    };
    let inodes: Vec<String> = table.lines().skip(1).filter_map(inode).collect();
    of_inodes(&inodes)
}

fn of_inodes(inodes: &[String]) -> Option<(String, u32)> {
    if inodes.is_empty() {
        return None;
    }
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let process: u32 = entry.file_name().to_str()?.parse().ok()?;
        holds(&entry.path(), inodes).then(|| (name(&entry.path()), process))
    })
}

/// The inodes of a table's sockets that listen on a port.
fn listening(table: &str, port: u16) -> Vec<String> {
    let inode = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, bound) = words.get(1)?.rsplit_once(':')?;
        let fits = u16::from_str_radix(bound, 16) == Ok(port)
            && words.get(3).is_some_and(|state| STATES.contains(state));
        words.get(9).filter(|_| fits).map(|inode| (*inode).to_owned())
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn holds(process: &Path, inodes: &[String]) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).any(|link| {
        let link = link.to_string_lossy();
        let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.iter().any(|other| other == inode))
    })
}

fn name(process: &Path) -> String {
    fs::read_to_string(process.join("comm")).map_or_else(|_| String::new(), |n| n.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_port_is_found_and_its_process_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(of_port("tcp", port).map(|(_, process)| process), Some(std::process::id()));
        drop(listener);
        assert_eq!(of_port("tcp", port), None);
    }

    #[test]
    fn tables_are_read_by_port_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:2328 0100007F:9000 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0";
        assert_eq!(listening(table, 9000), ["111"]);
        assert_eq!(listening(table, 80), ["333"]);
        assert!(listening(table, 36864).is_empty());
    }
}
