//! Room on disks: which mounts to look at, what they say, and when they will be full.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::super::{Cx, Fetched};
use super::{Settings, below, edge};
use crate::clean;
use crate::facts::{Facts, Subject, Unit, Unread};
use crate::host::files;
use crate::host::mounts::Mount;
use crate::words::{bytes, span};

/// Disks looked at side by side.
const AT_ONCE: usize = 8;
/// Disks looked at when none is listed; what is beyond is said.
const MAX_DISKS: usize = 100;
/// Samples of free space are taken this far apart and kept for a day: what the trend is computed from.
const SAMPLE_EVERY: SignedDuration = SignedDuration::from_mins(30);
const SAMPLES_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// A trend over less than this says nothing.
const TREND_FROM: SignedDuration = SignedDuration::from_hours(2);

/// File systems that hold people's data on this machine; all others are looked at only where they are listed.
const LOCAL: [&str; 21] = [
    "apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "hfs", "hfsplus", "jfs", "msdos",
    "nilfs2", "ntfs", "ntfs3", "reiserfs", "ufs", "vfat", "xfs", "zfs",
];

/// What `statvfs` says of a disk, in bytes and counts.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Room {
    total: f64,
    free: f64,
    used: f64,
    inodes: f64,
    inodes_free: f64,
}

#[expect(clippy::cast_precision_loss, reason = "shares and sizes in three digits")]
fn room(point: &Path) -> Result<Room, Unread> {
    let seen = rustix::fs::statvfs(point).map_err(|error| {
        let said = clean!("it can't be asked for its room: {}", std::io::Error::from(error));
        match error {
            rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => Unread::blind("permission_denied", said),
            rustix::io::Errno::NOENT => Unread::target("missing", said),
            _ => Unread::blind("unreadable", said),
        }
    })?;
    let block = if seen.f_frsize > 0 { seen.f_frsize } else { seen.f_bsize } as f64;
    Ok(Room {
        total: seen.f_blocks as f64 * block,
        free: seen.f_bavail as f64 * block,
        used: seen.f_blocks.saturating_sub(seen.f_bfree) as f64 * block,
        inodes: seen.f_files as f64,
        inodes_free: seen.f_favail as f64,
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
    /// Free bytes at times, oldest first.
    samples: Vec<(Timestamp, f64)>,
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
    // What is gone for longer than samples are kept is forgotten.
    let until = cx.now.wall.checked_sub(SAMPLES_KEPT).unwrap_or(Timestamp::MIN);
    for (point, old) in kept {
        let gone = old.samples.last().is_none_or(|(at, _)| *at < until);
        if gone && !chosen.iter().any(|disk| disk.point == point) {
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
    Ok(looked.await??.filter(|room| room.total > 0.0))
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
    let usable = room.used + room.free;
    let free_percent = if usable > 0.0 { room.free / usable * 100.0 } else { 0.0 };
    let says = format!("{} of {} are free ({free_percent:.1} %)", bytes(room.free), bytes(room.total));
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
    if room.inodes > 0.0 {
        let scale = below(
            Unit::Percent,
            edge(limit(settings.inodes.warn), "inodes_low", true),
            edge(limit(settings.inodes.fail), "inodes_out", true),
            format!("{:.0} of {:.0} inodes are free", room.inodes_free, room.inodes),
        );
        facts.gauge(subject, "inodes_free_percent", room.inodes_free / room.inodes * 100.0, scale);
    }

    let changed = (judged && !kept.writable) | sample(&mut kept.samples, now, room.free);
    kept.writable |= judged;
    if judged && let Some(left) = full_in(&kept.samples, now, room.free) {
        let scale = below(
            Unit::Seconds,
            edge(settings.full_within.map(|within| within.0.as_secs_f64()), "disk_filling", false),
            None,
            format!("full in {}, as the last day went", span(left)),
        );
        facts.gauge(subject, "full_in_s", left, scale);
    }
    changed.then_some(kept)
}

/// Adds a sample when the last one is old enough; samples from another clock's future go.
fn sample(samples: &mut Vec<(Timestamp, f64)>, now: Timestamp, free: f64) -> bool {
    let before = samples.len();
    samples.retain(|(at, free)| *at <= now && now.duration_since(*at) <= SAMPLES_KEPT && free.is_finite());
    let due = samples.last().is_none_or(|(at, _)| now.duration_since(*at) >= SAMPLE_EVERY);
    if due {
        samples.push((now, free));
    }
    due || samples.len() != before
}

/// Seconds until nothing is free, by the line through the samples (least squares); none while it does not fill, or
/// when the samples span too little time.
fn full_in(samples: &[(Timestamp, f64)], now: Timestamp, free: f64) -> Option<u64> {
    let (first, _) = samples.first()?;
    if now.duration_since(*first) < TREND_FROM || samples.len() < 4 {
        return None;
    }
    let points: Vec<(f64, f64)> =
        samples.iter().map(|(at, free)| (at.duration_since(*first).as_secs_f64(), *free)).collect();
    let n = f64::from(u32::try_from(points.len()).ok()?);
    let (mean_t, mean_free) =
        (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let spread: f64 = points.iter().map(|(t, _)| (t - mean_t).powi(2)).sum();
    let slope = points.iter().map(|(t, free)| (t - mean_t) * (free - mean_free)).sum::<f64>() / spread;
    let left = free / -slope;
    // Beyond ten years it is no forecast.
    if slope < 0.0 && left < 315_360_000.0 {
        Duration::try_from_secs_f64(left).ok().map(|left| left.as_secs())
    } else {
        None
    }
}
