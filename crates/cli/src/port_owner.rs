//! Who holds a port: a cheap look through `/proc`, for hints only.

use std::collections::HashSet;
use std::fs;

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    pub(crate) command: String,
}

/// The process that listens on the port of `address` (anything that ends in `:port`) or on its path
/// (`unix:path`), if it can be seen. We are never the answer: our own sockets are not in our way.
pub(crate) fn find(address: &str) -> Option<Owner> {
    if let Some(path) = address.strip_prefix("unix:") {
        // The table has a path as the server wrote it: a relative one says nothing.
        if !path.starts_with('/') {
            return None;
        }
        let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        return holder(&table.lines().filter_map(|line| path_inode(line, path)).collect());
    }
    let port = port_of(address)?;
    let udp = address.starts_with("udp");
    let tables = if udp { ["udp", "udp6"] } else { ["tcp", "tcp6"] };
    let mut inodes = HashSet::new();
    for table in tables {
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        inodes.extend(
            text.lines()
                .skip(1)
                .filter_map(|line| bound_inode(line, port, udp)),
        );
    }
    holder(&inodes)
}

/// The number at the end of an address.
pub(crate) fn port_of(address: &str) -> Option<u16> {
    let port = address.rsplit_once(':')?.1.parse().ok();
    port.filter(|port| *port != 0 && !address.starts_with("unix:"))
}

/// The inode of a line of `/proc/net/unix`, if it listens on this path.
fn path_inode(line: &str, path: &str) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let listens = *fields.get(3)? == "00010000" && line.ends_with(&format!(" {path}"));
    listens.then(|| fields.get(6)?.parse().ok()).flatten()
}

/// The inode of a line of `/proc/net/tcp` or its kin, if it is bound to this port (and listens, for TCP).
fn bound_inode(line: &str, port: u16, udp: bool) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let local = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
    let listens = udp || *fields.get(3)? == "0A";
    (local == port && listens)
        .then(|| fields.get(9)?.parse().ok())
        .flatten()
}

fn holder(inodes: &HashSet<u64>) -> Option<Owner> {
    if inodes.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holders = pids.filter(|pid| *pid != std::process::id() && holds(*pid, inodes));
    let pid = holders.min()?;
    Some(Owner {
        pid,
        command: command(pid),
    })
}

fn holds(pid: u32, inodes: &HashSet<u64>) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors.flatten().any(|entry| {
        let Ok(target) = fs::read_link(entry.path()) else {
            return false;
        };
        let inode = target
            .to_str()
            .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
        inode
            .and_then(|text| text.parse().ok())
            .is_some_and(|inode: u64| inodes.contains(&inode))
    })
}

/// The command line, cut to what fits a message.
fn command(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let line: String = line
        .trim_end_matches('\0')
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        assert_eq!(port_of("127.0.0.1:80"), Some(80));
        assert_eq!(port_of(":::80"), Some(80));
        assert_eq!(port_of("unix:/run/x"), None);
        assert_eq!(port_of("unix:/run/x:80"), None);
        assert_eq!(port_of("[::]:0"), None);
    }

    #[test]
    fn lines_of_the_table() {
        let line = "   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        assert_eq!(bound_inode(line, 3000, false), Some(4711));
        assert_eq!(bound_inode(line, 3001, false), None);
        assert_eq!(bound_inode(&line.replace(" 0A ", " 01 "), 3000, false), None);
        assert_eq!(bound_inode(&line.replace(" 0A ", " 07 "), 3000, true), Some(4711));
        assert_eq!(bound_inode("garbage", 3000, false), None);
    }

    #[test]
    fn lines_of_the_table_of_paths() {
        let line = "0000000000000000: 00000002 00000000 00010000 0001 01 4711 /run/my app.sock";
        assert_eq!(path_inode(line, "/run/my app.sock"), Some(4711));
        assert_eq!(path_inode(line, "/run/other.sock"), None);
        let connected = line.replace("00010000", "00000000");
        assert_eq!(path_inode(&connected, "/run/my app.sock"), None);
        assert_eq!(path_inode("garbage", "garbage"), None);
    }

    #[test]
    fn another_process_is_found_and_we_are_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(find(&address), None);
        // A child that inherits the socket as its standard input.
        let socket = std::os::fd::OwnedFd::from(listener.try_clone().unwrap());
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .stdin(socket)
            .spawn()
            .unwrap();
        let owner = find(&address).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(
            owner,
            Owner {
                pid: child.id(),
                command: "sleep 60".into()
            }
        );
    }
}
