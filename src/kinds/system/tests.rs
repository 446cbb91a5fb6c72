use std::path::Path;
use std::time::Duration;

use super::*;
use crate::clock::Now;
use crate::facts::Class;
use crate::kinds::testing::at;
use crate::kinds::testing::{Trial, problems, settings};

const MEMINFO: &str = "\
MemTotal:       16384000 kB
MemFree:          500000 kB
MemAvailable:    8192000 kB
Buffers:          100000 kB
Cached:          1000000 kB
SwapTotal:       2048000 kB
SwapFree:        1024000 kB
HugePages_Total:       0
";
const STAT: &str = "cpu  1 2 3\ncpu0 1 2 3\ncpu1 1 2 3\nintr 1 2\nctxt 5\nbtime 1760000000\n";

/// A machine whose tables are these.
fn machine(root: &Path) {
    let proc = root.join("proc");
    std::fs::create_dir_all(proc.join("self")).unwrap();
    std::fs::create_dir_all(proc.join("sys/kernel/random")).unwrap();
    let disk = root.join("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let mounts = format!("/dev/sda1 {} ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n", disk.display());
    for (name, text) in [
        ("self/mounts", mounts.as_str()),
        ("meminfo", MEMINFO),
        ("loadavg", "1.00 9.00 3.00 2/94 17166\n"),
        ("stat", STAT),
        ("sys/kernel/random/boot_id", "0bcbbc9d-3b04-4d3c-bb1b-f92e2f2e192f\n"),
    ] {
        files::replace(&proc.join(name), text.as_bytes(), 0o644).unwrap();
    }
}

fn now(second: i64, up: u64) -> Now {
    Now { wall: at(second), boot: Duration::from_secs(up) }
}

fn trial(root: &Path) -> Trial {
    let mut trial = Trial::new(root);
    trial.host().paths.proc = root.join("proc");
    trial
}

fn says(facts: &Facts, subject: &str, name: &'static str) -> (String, Option<f64>, Option<f64>) {
    match &facts.get(&Subject::new(subject), name).unwrap().class {
        Class::Gauge(scale) => {
            let at = |edge: &Option<Edge>| edge.as_ref().map(|edge| edge.at);
            (scale.says.to_string(), at(&scale.warn), at(&scale.fail))
        }
        class => panic!("{name} is {class:?}"),
    }
}

#[test]
fn a_canned_machine_is_read() {
    let dir = tempfile::tempdir().unwrap();
    machine(dir.path());
    std::fs::create_dir_all(dir.path().join("run/systemd/timesync")).unwrap();
    let look = trial(dir.path()).look_at::<System>(&settings::<System>(""), now(1_760_090_000, 90_000)).unwrap();
    assert_eq!(look.codes(), [""; 0]);
    assert_eq!(
        says(&look.facts, "memory", "available_bytes"),
        ("7.8 GiB of 15.6 GiB memory are available".to_owned(), Some(1_677_721_600.0), Some(536_870_912.0))
    );
    assert_eq!(look.number("swap", "free_percent"), Some(50.0));
    assert_eq!(says(&look.facts, "swap", "free_percent").1, None);
    assert_eq!(look.number("load", "load5_per_core"), Some(4.5));
    assert_eq!(
        says(&look.facts, "load", "load5_per_core"),
        ("the load of the last 5 minutes is 9.0 on 2 cores".to_owned(), Some(4.0), None)
    );
    assert_eq!(look.number("host", "uptime_s"), Some(90_000.0));
    assert_eq!(look.number("host", "booted_at"), Some(1_760_000_000.0));
    assert_eq!(look.facts.flag(&Subject::new("host"), "clock_synchronised"), Some(false));
    let disk = dir.path().join("disk").display().to_string();
    assert!(look.number(&disk, "total_bytes").unwrap() > 0.0);
    assert!(look.number("/run", "total_bytes").is_none());
}

#[test]
fn this_machine_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let look = Trial::new(dir.path()).look::<System>(&settings::<System>("")).unwrap();
    assert!(look.unread.is_empty(), "{look:?}");
    assert!(look.number("memory", "available_bytes").unwrap() > 0.0);
    assert!(look.number("/", "free_bytes").is_some(), "{look:?}");
}

#[test]
fn the_time_of_a_boot_stays_when_the_clock_moves() {
    let dir = tempfile::tempdir().unwrap();
    machine(dir.path());
    let (mut trial, settings) = (trial(dir.path()), settings::<System>("disks = []"));
    let mut booted =
        |second, up| trial.look_at::<System>(&settings, now(second, up)).unwrap().number("host", "booted_at").unwrap();
    assert_eq!(booted(1_000, 100).to_string(), "900");
    // Suspended or set: the same boot.
    assert_eq!(booted(9_000, 200).to_string(), "900");
    let id = dir.path().join("proc/sys/kernel/random/boot_id");
    files::replace(&id, b"another\n", 0o644).unwrap();
    assert_eq!(booted(10_000, 50).to_string(), "9950");
}

#[test]
fn listed_disks_have_to_be_mounted_and_stay_writable() {
    let dir = tempfile::tempdir().unwrap();
    machine(dir.path());
    let disk = dir.path().join("disk").display().to_string();
    let (mut trial, settings) = (trial(dir.path()), settings::<System>(&format!("disks = ['{disk}', '/mnt/none']")));
    assert_eq!(trial.look::<System>(&settings).unwrap().codes(), ["/mnt/none: not_mounted"]);
    let mounts = dir.path().join("proc/self/mounts");
    files::replace(&mounts, format!("/dev/sda1 {disk} ext4 ro 0 0\n").as_bytes(), 0o644).unwrap();
    for _ in 0..2 {
        let look = trial.look::<System>(&settings).unwrap();
        let wanted = ["/mnt/none: not_mounted".to_owned(), format!("{disk}: read_only")];
        assert_eq!(look.codes().into_iter().collect::<std::collections::BTreeSet<_>>(), wanted.into());
    }
}

#[test]
fn a_disk_that_can_only_be_read_is_no_trouble_when_it_always_was() {
    let dir = tempfile::tempdir().unwrap();
    machine(dir.path());
    let disk = dir.path().join("disk").display().to_string();
    let mounts = dir.path().join("proc/self/mounts");
    files::replace(&mounts, format!("/dev/sda1 {disk} ext4 ro 0 0\n").as_bytes(), 0o644).unwrap();
    let mut trial = trial(dir.path());
    let look = trial.look::<System>(&settings::<System>(&format!("disks = ['{disk}']"))).unwrap();
    assert_eq!(look.codes(), [""; 0]);
    assert_eq!(look.facts.flag(&Subject::new(&disk), "read_only"), Some(true));
    let look = trial.look::<System>(&settings::<System>("")).unwrap();
    assert!(look.facts.of(&Subject::new(&disk)).next().is_none());
}

#[test]
fn what_is_not_there_is_unknown_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    machine(dir.path());
    for (name, text) in [("meminfo", "nothing\n"), ("loadavg", "\n")] {
        files::replace(&dir.path().join("proc").join(name), text.as_bytes(), 0o644).unwrap();
    }
    let mut trial = trial(dir.path());
    let look = trial.look::<System>(&settings::<System>("disks = []")).unwrap();
    assert_eq!(look.codes(), ["load: unreadable", "memory: unreadable"]);
    assert!(look.number("host", "booted_at").is_some());
    std::fs::remove_file(dir.path().join("proc/self/mounts")).unwrap();
    let look = trial.look::<System>(&settings::<System>("disks = []")).unwrap();
    assert_eq!(look.codes(), ["load: unreadable", "memory: unreadable"]);
    assert_eq!(trial.look::<System>(&settings::<System>("")).unwrap_err().code.as_str(), "missing");
}

#[test]
fn a_leak_is_said_before_memory_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    machine(dir.path());
    let (mut trial, settings) = (trial(dir.path()), settings::<System>("disks = []\nfull_within = '6h'"));
    let mut said = Vec::new();
    for quarter in 0..=16_u64 {
        // 1,000,000 kB an hour.
        let text = MEMINFO.replace("8192000", &(8_192_000 - quarter * 250_000).to_string());
        files::replace(&dir.path().join("proc/meminfo"), text.as_bytes(), 0o644).unwrap();
        let second = i64::try_from(quarter * 900).unwrap();
        let look = trial.look_at::<System>(&settings, now(second, 100_000)).unwrap();
        if look.number("memory", "out_in_s").is_some() {
            said.push((quarter, says(&look.facts, "memory", "out_in_s")));
        }
    }
    assert_eq!(said[0], (8, ("out of memory in 6 h 11 min, as the last 2 h went".to_owned(), Some(21_600.0), None)));
    assert_eq!(said.last().unwrap().1.0, "out of memory in 4 h 11 min, as the last 4 h went");
}

#[test]
fn old_kernels_do_not_say_what_is_available() {
    let mut fetched = Fetched::default();
    let text = "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 20 kB\nCached: 3 kB\n".to_owned();
    memory(&settings::<System>(""), Ok(text), &mut fetched);
    assert_eq!(fetched.facts.number(&Subject::new("memory"), "available_bytes"), Some(123.0 * 1_024.0));
    assert!(fetched.facts.of(&Subject::new("swap")).next().is_none());
}

#[test]
fn limits_can_be_taken_away() {
    let toml = "disk_warn = {}\ndisk_fail = { percent = 1 }\nmemory_warn = { size = '1GiB' }\nload = {}\ninodes = {}";
    let settings = settings::<System>(toml);
    assert_eq!(settings.disk_warn.of(1_000), None);
    assert_eq!(settings.disk_fail.of(1_000), Some(10.0));
    assert_eq!(settings.memory_warn.of(1), Some(1_073_741_824.0));
    assert_eq!((settings.load.warn, settings.inodes.fail), (None, None));
}

#[test]
fn bad_settings_are_refused() {
    for (toml, said) in [
        ("disks = ['data']", "disks: `data` is no mount point (one begins with `/`)"),
        ("disk_warn = { percent = 101 }", "disk_warn: 101 is no percentage (it goes from 0 to 100)"),
        ("memory_fail = { percent = nan }", "memory_fail: NaN is no percentage (it goes from 0 to 100)"),
        ("inodes = { warn = 5, fail = 10 }", "inodes: it is a fail below 10 % before it is a warn below 5 %"),
        ("load = { warn = 4, fail = 2 }", "load: it is a fail above 2 before it is a warn above 4"),
        ("load = { warn = 0 }", "load: 0 is no limit (it is a number above 0)"),
        ("disk_warn = { bytes = 1 }", "unknown field `bytes`, expected `percent` or `size`"),
    ] {
        assert_eq!(problems::<System>(toml), [said], "{toml}");
    }
}
