//! What the NVIDIA driver wrote into the kernel's log: its errors, each with a number (Xid). The driver tells them to who
//! waits for them only, so the log is the one place where those of the past stand.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::super::Cx;
use crate::clean;
use crate::host::nvml::Pci;
use crate::host::spawn::{Command, Exit};
use crate::redact::Clean;

/// Lines that are read of the log, the newest.
const MAX_LINES: usize = 200;
/// Bytes of them.
const MAX_BYTES: usize = 64 << 10;
/// What stands in each of the lines.
const MARK: &str = "NVRM: Xid (";

/// How bad a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// A program's own fault, or what follows from its end: its worker dies, the card goes on.
    Program,
    /// Not known to be either.
    Other,
    /// The card or its driver is broken until it is reset, or for good.
    Card,
}

/// The class of a number and what it means, after NVIDIA's catalogue of them.
pub(super) fn class(code: u32) -> (Class, &'static str) {
    match code {
        8 | 43 => (Class::Program, "a program's work was stopped"),
        13 => (Class::Program, "a program's exception"),
        31 => (Class::Program, "a program's bad memory access"),
        45 => (Class::Program, "a program's work was cleaned up"),
        68 | 69 => (Class::Program, "a program's bad command"),
        94 => (Class::Program, "a memory error that was contained"),
        48 => (Class::Card, "a memory error that can't be corrected"),
        62 => (Class::Card, "its controller halted"),
        64 => (Class::Card, "bad memory could not be taken out of use"),
        74 => (Class::Card, "a link between cards failed"),
        79 => (Class::Card, "it fell off the bus"),
        95 => (Class::Card, "a memory error that was not contained"),
        119 | 120 => (Class::Card, "its firmware does not answer"),
        140 => (Class::Card, "memory errors that were not recovered from"),
        143 => (Class::Card, "it could not be started"),
        63 => (Class::Other, "bad memory was taken out of use"),
        92 => (Class::Other, "many memory errors were corrected"),
        _ => (Class::Other, "an error of the driver"),
    }
}

/// One line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Xid {
    pub at: Timestamp,
    pub pci: Pci,
    pub code: u32,
}

/// The driver's errors of this boot within a time, oldest first; or why the log can't be read. Never an unread: the
/// cards are looked at without it.
pub(super) async fn read(cx: &Cx, within: SignedDuration) -> Result<Vec<Xid>, Clean> {
    let since = cx.now.wall.checked_sub(within).unwrap_or(Timestamp::UNIX_EPOCH);
    let argv = [
        "journalctl",
        "--dmesg",
        "--boot",
        &format!("--since=@{}", since.as_second().max(0)),
        "--grep=NVRM: Xid",
        "--output=short-unix",
        &format!("--lines={MAX_LINES}"),
        "--no-pager",
    ];
    let argv = argv.map(str::to_owned).to_vec();
    let command = Command { argv, max_output_bytes: MAX_BYTES, ..Command::default() };
    let ran = cx.host.run(&command, cx.deadline).await.map_err(|unread| clean!("`journalctl`: {}", unread.said))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let found = parse(&stdout);
    if !found.is_empty() {
        return Ok(found.into_iter().filter(|xid| xid.at >= since).collect());
    }
    // Where nothing matches, it ends with 1 and says nothing on stderr; where it may not look, it says so there.
    match (ran.exit, stderr.trim()) {
        (Exit::Status(0 | 1), "") => Ok(Vec::new()),
        (Exit::TimedOut, _) => Err(clean!("`journalctl` did not end in time")),
        (_, why) => Err(clean!("`journalctl` says {}", Clean::line(why, 160).quoted())),
    }
}

/// The lines that name an Xid, as `short-unix` writes them: `1774042200.123456 host kernel: NVRM: Xid (PCI:0000:01:00): 79, …`.
fn parse(text: &str) -> Vec<Xid> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Xid> {
    let at = line.split([' ', '.']).next()?.parse().ok().and_then(|second| Timestamp::from_second(second).ok())?;
    // Older drivers leave `PCI:` out.
    let (place, rest) = line.split_once(MARK)?.1.split_once("): ")?;
    let mut parts = place.trim_start_matches("PCI:").split(':').map(|part| u32::from_str_radix(part, 16));
    let (Some(Ok(domain)), Some(Ok(bus)), Some(Ok(device)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(Xid { at, pci: Pci { domain, bus, device }, code: digits.parse().ok()? })
}

/// The errors of one place by number: how often, and when the last one came.
pub(super) fn of(xids: &[Xid], pci: Option<Pci>) -> BTreeMap<u32, (u64, Timestamp)> {
    let mut by_code = BTreeMap::new();
    for xid in xids.iter().filter(|xid| Some(xid.pci) == pci) {
        let entry = by_code.entry(xid.code).or_insert((0, xid.at));
        *entry = (entry.0 + 1, xid.at.max(entry.1));
    }
    by_code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::at;

    #[test]
    fn lines_are_read_as_new_and_old_drivers_write_them() {
        let text = "\
1774042200.123456 box kernel: NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
1774042201.000001 box kernel: NVRM: Xid (0000:c1:00): 31, Ch 0000000b, engmask 00000120, intr 10000000
1774042202.5 box kernel: NVRM: Xid (PCI:10002:01:00.0): 13, more places than there are
1774042203.5 box kernel: usb 1-1: Xid 79
1774042204.5 box kernel: NVRM: Xid (PCI:0000:01:00): eleven
-- No entries --
";
        let pci = |bus| Pci { domain: 0, bus, device: 0 };
        assert_eq!(
            parse(text),
            [
                Xid { at: at(1_774_042_200), pci: pci(1), code: 79 },
                Xid { at: at(1_774_042_201), pci: pci(0xc1), code: 31 },
            ]
        );
    }

    #[test]
    fn errors_are_counted_by_place_and_number() {
        let pci = |bus| Pci { domain: 0, bus, device: 0 };
        let xid = |at_second, bus, code| Xid { at: at(at_second), pci: pci(bus), code };
        let xids = [xid(1, 1, 31), xid(5, 1, 31), xid(3, 2, 79), xid(4, 1, 48)];
        assert_eq!(of(&xids, Some(pci(1))), BTreeMap::from([(31, (2, at(5))), (48, (1, at(4)))]));
        assert_eq!(of(&xids, None), BTreeMap::new());
        assert_eq!(class(31).0, Class::Program);
        assert_eq!(class(79).0, Class::Card);
        assert_eq!(class(4_000).0, Class::Other);
    }
}
