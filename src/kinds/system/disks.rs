//! Room on disks: which mounts to look at, what they say, and when they will be full.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::trend::Trend;
use super::super::words::as_number;
use super::super::{Cx, Fetched};
use super::{Settings, below, edge, percent, put_forecast};
use crate::clean;
use crate::facts::{Facts, Subject, Unit, Unread};
use crate::host::files;
use crate::host::mounts::Mount;
use crate::settings::Size;
use crate::words::size;

/// Disks looked at side by side.
const AT_ONCE: usize = 8;
/// Disks looked at when none is listed; what is beyond is said.
const MAX_DISKS: usize = 100;

/// File systems that hold people's data on this machine; all others are looked at only where they are listed.
const LOCAL: [&str; 21] = [
    "apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "hfs", "hfsplus", "jfs", "msdos",
    "nilfs2", "ntfs", "ntfs3", "reiserfs", "ufs", "vfat", "xfs", "zfs",
];

/// What `statvfs` says of a disk, in bytes and counts.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Room {
    total: u64,
    free: u64,
    used: u64,
    inodes: u64,
    inodes_free: u64,
}

fn room(point: &Path) -> Result<Room, Unread> {
    let seen = rustix::fs::statvfs(point).map_err(|error| {
        let said = clean!("it can't be asked for its room: {}", std::io::Error::from(error));
        match error {
            rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => Unread::blind("permission_denied", said),
            rustix::io::Errno::NOENT => Unread::target("missing", said),
            _ => Unread::blind("unreadable", said),
        }
    })?;
    let block = if seen.f_frsize > 0 { seen.f_frsize } else { seen.f_bsize };
    Ok(Room {
        total: seen.f_blocks.saturating_mul(block),
        free: seen.f_bavail.saturating_mul(block),
        used: seen.f_blocks.saturating_sub(seen.f_bfree).saturating_mul(block),
        inodes: seen.f_files,
        inodes_free: seen.f_favail,
    })
}

/// One disk to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Disk {
    point: String,
    /// None where a listed disk is not mounted.
    mount: Option<Mount>,
}

/// The mounts to look at, each once: the listed ones, or the local disks. The flag says how many were left out.
fn choose(mounts: &[Mount], listed: Option<&[String]>, was_writable: &BTreeSet<String>) -> (Vec<Disk>, usize) {
    // A later mount covers an earlier one on the same point.
    let top: BTreeMap<&str, &Mount> = mounts.iter().map(|mount| (mount.point.as_str(), mount)).collect();
    if let Some(listed) = listed {
        let points: BTreeSet<&str> = listed.iter().map(|point| trimmed(point)).collect();
        let disks = points
            .into_iter()
            .map(|point| Disk { point: point.to_owned(), mount: top.get(point).map(|mount| (*mount).clone()) })
            .collect();
        return (disks, 0);
    }
    // The root is somebody's disk whatever its type; others only if people keep data there. What was never writable (an
    // image, a boot medium) is full from its birth on. Of a device mounted in several places the shortest path is named.
    let mut by_source: BTreeMap<(&str, &str), &Mount> = BTreeMap::new();
    for (point, mount) in top {
        let wanted = point == "/" || LOCAL.contains(&mount.fs.as_str());
        if !wanted || (mount.is_read_only() && !was_writable.contains(point)) {
            continue;
        }
        // `none` and `overlay` are no devices: such mounts are each their own.
        let source = if mount.source.starts_with('/') || mount.fs == "zfs" { mount.source.as_str() } else { point };
        let kept = by_source.entry((source, mount.fs.as_str())).or_insert(mount);
        if point.len() < kept.point.len() {
            *kept = mount;
        }
    }
    let mut disks: Vec<_> =
        by_source.into_values().map(|mount| Disk { point: mount.point.clone(), mount: Some(mount.clone()) }).collect();
    disks.sort_by(|a, b| a.point.cmp(&b.point));
    let left_out = disks.len().saturating_sub(MAX_DISKS);
    disks.truncate(MAX_DISKS);
    (disks, left_out)
}

/// A mount point as the table writes it: without a slash at the end.
fn trimmed(point: &str) -> &str {
    let trimmed = point.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed }
}

/// What is kept about a disk between cycles.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Whether it was seen mounted for writing.
    writable: bool,
    /// Free bytes.
    #[serde(default)]
    free: Trend,
    /// Free inodes, where the file system counts them.
    #[serde(default)]
    inodes: Trend,
}

/// Looks at the disks and puts their facts.
pub(super) async fn look(settings: &Settings, mounts: &[Mount], cx: &Cx, fetched: &mut Fetched) -> Result<(), Unread> {
    let mut kept: BTreeMap<String, Kept> = BTreeMap::new();
    for (key, bytes) in cx.memory.scan("disk:")? {
        if let (Some(point), Ok(value)) = (key.strip_prefix("disk:"), serde_json::from_slice(&bytes)) {
            kept.insert(point.to_owned(), value);
        }
    }
    let was_writable = kept.iter().filter(|(_, kept)| kept.writable).map(|(point, _)| point.clone()).collect();
    let (chosen, left_out) = choose(mounts, settings.disks.as_deref(), &was_writable);
    if left_out > 0 {
        fetched.facts.info(&Subject::none(), "disks_left_out", left_out);
    }

    // A share whose server is gone hangs every look at it: each disk has a lane of its own.
    let looks: Vec<_> = chosen.iter().map(|disk| look_at(disk, cx)).collect();
    let rooms: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    for (disk, room) in chosen.iter().zip(rooms) {
        let subject = Subject::new(&disk.point);
        let Some(mount) = &disk.mount else {
            fetched.facts.info(&subject, "mounted", false);
            continue;
        };
        let room = match room {
            Ok(Some(room)) => room,
            Ok(None) => continue,
            Err(unread) => {
                fetched.unread.insert(subject, unread);
                continue;
            }
        };
        let now = kept.remove(&disk.point).unwrap_or_default();
        let key = format!("disk:{}", disk.point);
        if let Some(changed) = put_disk(settings, &subject, mount, room, now, cx.now.wall, &mut fetched.facts) {
            fetched.remember.push((key, serde_json::to_vec(&changed).ok()));
        }
    }
    // What is gone for longer than its past says anything is forgotten.
    for (point, old) in kept {
        if old.free.is_over(cx.now.wall) && !chosen.iter().any(|disk| disk.point == point) {
            fetched.remember.push((format!("disk:{point}"), None));
        }
    }
    Ok(())
}

/// A disk's room; none where there is nothing to measure: a file that is mounted, or a file system without size.
async fn look_at(disk: &Disk, cx: &Cx) -> Result<Option<Room>, Unread> {
    if disk.mount.is_none() {
        return Ok(None);
    }
    let point = PathBuf::from(&disk.point);
    let looked = cx.host.lane(&disk.point, cx.deadline, move || {
        if files::stat(&point)?.is_some_and(|stat| !stat.is_dir) {
            return Ok(None);
        }
        room(&point).map(Some)
    });
    Ok(looked.await??.filter(|room| room.total > 0))
}

/// Puts a disk's facts; what to keep about it, when that changed.
fn put_disk(
    settings: &Settings,
    subject: &Subject,
    mount: &Mount,
    room: Room,
    mut kept: Kept,
    now: Timestamp,
    facts: &mut Facts,
) -> Option<Kept> {
    // As `df` counts: what is reserved for the system is neither used nor free.
    let usable = room.used.saturating_add(room.free);
    let free_percent = if usable > 0 { percent(room.free, usable) } else { 0.0 };
    let says = clean!("{} of {} are free ({free_percent:.1} %)", size(room.free), size(room.total));
    facts.info(subject, "total_bytes", room.total);
    facts.info(subject, "used_percent", ((100.0 - free_percent) * 10.0).round() / 10.0);
    facts.info(subject, "file_system", mount.fs.as_str());
    facts.state(subject, "read_only", mount.is_read_only());
    facts.info(subject, "was_writable", kept.writable || !mount.is_read_only());

    // A disk that nothing can be written to does not fill.
    let judged = !mount.is_read_only();
    let limit = |at: Option<f64>| at.filter(|_| judged);
    let scale = below(
        Unit::Bytes,
        edge(limit(settings.disk_warn.of(usable)), "disk_low", true),
        edge(limit(settings.disk_fail.of(usable)), "disk_full", true),
        says,
    );
    facts.gauge(subject, "free_bytes", room.free, scale);
    // btrfs and others make inodes as they are needed and say 0.
    if room.inodes > 0 {
        let scale = below(
            Unit::Percent,
            edge(limit(settings.inodes.warn), "inodes_low", true),
            edge(limit(settings.inodes.fail), "inodes_out", true),
            clean!("{} of {} inodes are free", room.inodes_free, room.inodes),
        );
        facts.gauge(subject, "inodes_free_percent", percent(room.inodes_free, room.inodes), scale);
    }

    let free = as_number(Size(room.free));
    let mut changed = (judged && !kept.writable) | kept.free.note(now, free);
    kept.writable |= judged;
    if judged {
        let full = kept.free.until(now, free, 0.0);
        put_forecast(settings, facts, subject, ("full_in_s", "disk_filling", "full"), full);
    }
    if room.inodes > 0 {
        let free = as_number(Size(room.inodes_free));
        changed |= kept.inodes.note(now, free);
        let out = kept.inodes.until(now, free, 0.0).filter(|_| judged);
        put_forecast(settings, facts, subject, ("inodes_out_in_s", "inodes_filling", "out of inodes"), out);
    }
    changed.then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Class, Scale};
    use crate::host::mounts;
    use crate::kinds::testing;
    use crate::kinds::testing::at;

    const TABLE: &str = "\
/dev/sda2 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
tmpfs /run tmpfs rw 0 0
/dev/sda1 /boot/efi vfat rw 0 0
/dev/nvme0n1p1 /data btrfs rw,subvol=/a 0 0
/dev/nvme0n1p1 /data/inner/home btrfs rw,subvol=/b 0 0
/dev/loop3 /snap/core/1 squashfs ro 0 0
/dev/sr0 /media/cd ext4 ro 0 0
overlay /var/lib/docker/overlay2/x/merged overlay rw 0 0
nas:/vol /mnt/nas nfs4 rw 0 0
tank /tank zfs rw 0 0
tank/photos /tank/photos zfs rw 0 0
/dev/sdb1 /tank/photos ext4 rw 0 0
";

    fn points(listed: Option<&[&str]>, was_writable: &[&str]) -> Vec<(String, Option<String>)> {
        let listed: Option<Vec<String>> = listed.map(|list| list.iter().map(|&point| point.to_owned()).collect());
        let was_writable = was_writable.iter().map(|&point| point.to_owned()).collect();
        let (disks, left_out) = choose(&mounts::parse(TABLE), listed.as_deref(), &was_writable);
        assert_eq!(left_out, 0);
        disks.into_iter().map(|disk| (disk.point, disk.mount.map(|mount| mount.source))).collect()
    }

    #[test]
    fn local_disks_are_found_each_once() {
        let found: Vec<_> = points(None, &[]).into_iter().map(|(point, _)| point).collect();
        assert_eq!(found, ["/", "/boot/efi", "/data", "/tank", "/tank/photos"]);
        let found = points(None, &["/media/cd"]);
        assert!(found.iter().any(|(point, _)| point == "/media/cd"), "{found:?}");
        assert_eq!(
            points(Some(&["/mnt/nas/", "/", "/gone", "/tank/photos"]), &[]),
            [
                ("/".to_owned(), Some("/dev/sda2".to_owned())),
                ("/gone".to_owned(), None),
                ("/mnt/nas".to_owned(), Some("nas:/vol".to_owned())),
                ("/tank/photos".to_owned(), Some("/dev/sdb1".to_owned())),
            ]
        );
        let many: Vec<_> = (0..MAX_DISKS + 3).map(|n| format!("/dev/sd{n} /m{n:03} ext4 rw 0 0")).collect();
        let (disks, left_out) = choose(&mounts::parse(&many.join("\n")), None, &BTreeSet::new());
        assert_eq!((disks.len(), left_out), (MAX_DISKS, 3));
    }

    fn scale_of(facts: &Facts, name: &'static str) -> Option<Scale> {
        match facts.get(&Subject::new("/d"), name).map(|fact| fact.class.clone()) {
            Some(Class::Gauge(scale)) => Some(*scale),
            _ => None,
        }
    }

    #[test]
    fn of_two_limits_the_smaller_counts() {
        const GIB: u64 = 1 << 30;
        let mount = &mounts::parse("/dev/sda1 /d ext4 rw 0 0")[0];
        let settings = testing::settings::<super::super::System>("");
        for (total, free, warn, fail) in [(4_000, 400, 20, 5), (100, 30, 10, 5), (60, 3, 6, 3), (20, 1, 2, 1)]
            .map(|(t, f, w, l)| (t, f, w * GIB, l * GIB))
        {
            let room = Room {
                total: total * GIB,
                free: free * GIB,
                used: (total - free) * GIB,
                inodes: 1_000,
                inodes_free: 70,
            };
            let mut facts = Facts::new();
            let subject = Subject::new("/d");
            let kept = put_disk(&settings, &subject, mount, room, Kept::default(), at(1_000), &mut facts).unwrap();
            assert!(kept.writable);
            assert!(!kept.free.is_over(at(1_000)) && !kept.inodes.is_over(at(1_000)));
            let scale = scale_of(&facts, "free_bytes").unwrap();
            let edges = [scale.warn, scale.fail].map(|edge| edge.map(|edge| (edge.at, edge.code.as_str().to_owned())));
            assert_eq!(
                edges,
                [
                    Some((as_number(Size(warn)), "disk_low".to_owned())),
                    Some((as_number(Size(fail)), "disk_full".to_owned()))
                ],
                "{total} GiB"
            );
            assert_eq!(facts.number(&subject, "free_bytes"), Some(as_number(Size(room.free))));
            assert_eq!(scale_of(&facts, "inodes_free_percent").unwrap().says.as_str(), "70 of 1000 inodes are free");
        }
    }

    #[test]
    fn what_can_only_be_read_is_not_judged_by_its_room() {
        let mount = &mounts::parse("/dev/sda1 /d ext4 ro 0 0")[0];
        let settings = testing::settings::<super::super::System>("");
        let room = Room { total: 100, free: 0, used: 100, inodes: 0, inodes_free: 0 };
        let mut facts = Facts::new();
        let subject = Subject::new("/d");
        put_disk(&settings, &subject, mount, room, Kept { writable: true, ..Kept::default() }, at(0), &mut facts);
        let scale = scale_of(&facts, "free_bytes").unwrap();
        assert_eq!((scale.warn, scale.fail), (None, None));
        assert_eq!(scale_of(&facts, "inodes_free_percent"), None);
        assert_eq!(facts.flag(&subject, "read_only"), Some(true));
        assert_eq!(facts.flag(&subject, "was_writable"), Some(true));
    }

    /// Looks at a disk each quarter of an hour, and what it says of its future at each look.
    fn watched(hours: i64, free: impl Fn(i64) -> u64, inodes_free: impl Fn(i64) -> u64) -> Vec<(i64, String)> {
        let settings = testing::settings::<super::super::System>("full_within = '12h'");
        let mount = &mounts::parse("/dev/sda1 /d ext4 rw 0 0")[0];
        let mut kept = Kept::default();
        let mut said = Vec::new();
        for quarter in 0..=hours * 4 {
            let (second, mut facts) = (quarter * 900, Facts::new());
            let free = free(second);
            let room = Room {
                total: 1 << 40,
                free,
                used: (1 << 40) - free,
                inodes: 1 << 20,
                inodes_free: inodes_free(second),
            };
            let json = serde_json::to_vec(&kept).unwrap();
            let known = serde_json::from_slice(&json).unwrap();
            if let Some(changed) = put_disk(&settings, &Subject::new("/d"), mount, room, known, at(second), &mut facts)
            {
                kept = changed;
            }
            for name in ["full_in_s", "inodes_out_in_s"] {
                let Some(scale) = scale_of(&facts, name) else { continue };
                let within = scale.warn.unwrap().at > facts.number(&Subject::new("/d"), name).unwrap();
                said.push((quarter, format!("{}{}", if within { "! " } else { "" }, scale.says)));
            }
        }
        said
    }

    #[test]
    fn a_disk_that_fills_is_said_and_one_that_is_cleaned_each_night_is_not() {
        const GIB: u64 = 1 << 30;
        let hours = |second: i64| u64::try_from(second / 900).unwrap();
        let many = |_| 1_000_000;
        // 20 GiB an hour.
        let said = watched(5, |second| 280 * GIB - hours(second) * 5 * GIB, many);
        assert_eq!(said.first().unwrap(), &(8, "full in 12 h, as the last 2 h went".to_owned()));
        assert_eq!(said.last().unwrap(), &(20, "! full in 9 h, as the last 5 h went".to_owned()));
        // The same, and at each midnight everything is there again.
        let said = watched(24 * 8, |second| 520 * GIB - hours(second) % 96 * 5 * GIB, many);
        assert!(said.iter().all(|(quarter, _)| *quarter <= 96), "{said:?}");
        // Neither is one that was filled long ago and stays so, nor one that nobody writes to.
        assert_eq!(watched(48, |_| 30 * GIB, many), []);
        // Small files use up what is counted by number.
        let said = watched(5, |_| 500 * GIB, |second| 280_000 - hours(second) * 5_000);
        assert_eq!(said.last().unwrap(), &(20, "! out of inodes in 9 h, as the last 5 h went".to_owned()));
    }
}
