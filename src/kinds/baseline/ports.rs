//! The ports that are listened on, from the kernel's tables, and the programs that do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use tokio::time::Instant;

use super::compare::{IS, UNTOLD};
use super::sources::Seen;
use crate::clean;
use crate::facts::Unread;
use crate::host::files;
use crate::words::size;

/// Bytes of one of the kernel's tables.
const MAX_TABLE: usize = 16 << 20;
/// Where a name server, an address or a time is asked from, where the kernel doesn't say.
const EPHEMERAL: (u16, u16) = (32_768, 60_999);
/// The state of a TCP socket that listens, and of a UDP socket that is connected to nobody (`tcp_states.h`).
const LISTENS: &str = "0A";
const UNCONNECTED: &str = "07";

/// What is listened on. Where programs are asked for, those are named whose open files this user may see.
pub(super) fn read(proc: &Path, programs: bool, until: Instant) -> Result<Seen, Unread> {
    let mut seen = Seen::default();
    let mut sockets: BTreeSet<(&str, SocketAddr, u64)> = BTreeSet::new();
    let ephemeral = ephemeral(proc);
    let mut tables = 0;
    for (table, name, state) in
        [("tcp", "tcp", LISTENS), ("tcp6", "tcp", LISTENS), ("udp", "udp", UNCONNECTED), ("udp6", "udp", UNCONNECTED)]
    {
        let path = proc.join("net").join(table);
        match files::read(&path, MAX_TABLE) {
            // A machine without IPv6 has no table of it.
            Err(unread) if unread.code.as_str() == "missing" => continue,
            Err(unread) => drop(seen.unread.insert(name.to_owned(), unread)),
            Ok((_, true)) => {
                let said = clean!("{} is longer than {}", files::shown(&path), size(MAX_TABLE as u64));
                seen.unread.insert(name.to_owned(), Unread::blind("too_large", said));
            }
            Ok((bytes, false)) => {
                let text = String::from_utf8_lossy(&bytes);
                let rows = text.lines().skip(1).filter_map(|line| row(line, state));
                // A client's socket for one question looks like a server's.
                let asks = |port: u16| name == "udp" && (ephemeral.0..=ephemeral.1).contains(&port);
                sockets.extend(rows.filter(|(at, _)| !asks(at.port())).map(|(at, inode)| (name, at, inode)));
            }
        }
        tables += 1;
    }
    if tables == 0 {
        return Err(Unread::blind(
            "unreadable",
            clean!("{} has no tables of sockets", files::shown(&proc.join("net"))),
        ));
    }
    let whose =
        if programs { owners(proc, sockets.iter().map(|socket| socket.2).collect(), until) } else { BTreeMap::new() };
    seen.members.extend(sockets.iter().map(|(name, at, inode)| match (programs, whose.get(inode)) {
        (false, _) => format!("{name} {at}"),
        (true, whose) => format!("{name} {at}{IS}{}", whose.map_or(UNTOLD, String::as_str)),
    }));
    Ok(seen)
}

/// One line of a table: the address, and the socket's number.
fn row(line: &str, state: &str) -> Option<(SocketAddr, u64)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != state {
        return None;
    }
    Some((address(fields.get(1)?)?, fields.get(9)?.parse().ok()?))
}

/// `0100007F:0016`: words of the address as this machine's numbers, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (piece, at) in bytes.chunks_exact_mut(4).zip([0, 8, 16, 24]) {
                piece.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

fn ephemeral(proc: &Path) -> (u16, u16) {
    let read = files::read(&proc.join("sys/net/ipv4/ip_local_port_range"), 64).ok();
    let text = read.map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let mut ends = text.split_ascii_whitespace().filter_map(|end| end.parse().ok());
    ends.next().zip(ends.next()).unwrap_or(EPHEMERAL)
}

/// The programs that hold these sockets, as far as this user may see. Of several that share one, the oldest by its id.
fn owners(proc: &Path, mut wanted: BTreeSet<u64>, until: Instant) -> BTreeMap<u64, String> {
    let mut owners = BTreeMap::new();
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let pids: BTreeSet<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for pid in pids {
        if wanted.is_empty() || Instant::now() >= until {
            break;
        }
        let folder = proc.join(pid.to_string());
        for open in std::fs::read_dir(folder.join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = std::fs::read_link(open.path()) else { continue };
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode.filter(|inode| wanted.remove(inode)) {
                owners.insert(inode, program(&folder));
            }
        }
    }
    owners
}

/// The file that a process runs: its name alone, which an update leaves as it is.
fn program(folder: &Path) -> String {
    let link = std::fs::read_link(folder.join("exe")).ok();
    let name = link.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.map_or_else(|| UNTOLD.to_owned(), |name| name.trim_end_matches(" (deleted)").to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn addresses_are_as_people_write_them() {
        for (text, at) in [
            ("0100007F:0016", Some("127.0.0.1:22")),
            ("00000000:07E8", Some("0.0.0.0:2024")),
            ("00000000000000000000000001000000:1F90", Some("[::1]:8080")),
            ("B80D01200000000067452301EFCDAB89:0035", Some("[2001:db8::123:4567:89ab:cdef]:53")),
            ("0100007F", None),
            ("01:0016", None),
            ("0100007G:0016", None),
        ] {
            assert_eq!(address(text).map(|at| at.to_string()).as_deref(), at, "{text}");
        }
    }

    #[test]
    fn real_listeners_are_there_with_their_program_and_clients_are_not() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let asks = UdpSocket::bind("127.0.0.1:0").unwrap();
        let own = std::env::current_exe().unwrap();
        let own = own.file_name().unwrap().to_str().unwrap();
        let seen = read(Path::new("/proc"), true, soon()).unwrap();
        let at = server.local_addr().unwrap();
        assert!(seen.members.contains(&format!("tcp {at} is {own}")), "{:?}", seen.members);
        let there =
            |name: &str, at: SocketAddr| seen.members.iter().any(|member| member.starts_with(&format!("{name} {at} ")));
        assert!(there("tcp", at) && !there("tcp", client.local_addr().unwrap()));
        assert!(!there("udp", asks.local_addr().unwrap()));
        let plain = read(Path::new("/proc"), false, soon()).unwrap();
        assert!(plain.members.contains(&format!("tcp {at}")), "{:?}", plain.members);
    }

    #[test]
    fn udp_servers_are_told_from_questions_by_their_port() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            files::replace(&path, text.as_bytes(), 0o600).unwrap();
        };
        let line =
            |port: &str, state: &str| format!("  1: 00000000:{port} 00000000:0000 {state} 0:0 0:0 0 0 0 77 1 0 0\n");
        put("net/udp", &format!("  sl head\n{}{}{}half", line("0035", "07"), line("8CA0", "07"), line("0036", "01")));
        assert_eq!(read(dir.path(), false, soon()).unwrap().members, ["udp 0.0.0.0:53"]);
        put("sys/net/ipv4/ip_local_port_range", "50000\t60000\n");
        assert_eq!(read(dir.path(), false, soon()).unwrap().members, ["udp 0.0.0.0:53", "udp 0.0.0.0:36000"]);
        let none = tempfile::tempdir().unwrap();
        assert_eq!(read(none.path(), false, soon()).unwrap_err().code.as_str(), "unreadable");
    }
}
