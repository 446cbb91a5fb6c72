//! The state can't be written: what is red is printed and sent all the same, headed by that, and the run says that it failed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{BINARY, Http, Lab, Ran};

struct Watched {
    lab: Lab,
    target: Http,
    sink: Http,
}

/// A check that failed twice.
fn nearly_red(lab: Lab) -> Watched {
    let (target, sink) = (Http::ok("fine"), Http::ok("taken"));
    lab.config(&format!("instance = \"lab\"\n{}{}", target.check("api"), sink.hook()));
    let mut watched = Watched { lab, target, sink };
    watched.lab.cycle().quiet();
    watched.target.status(503);
    watched.lab.next().quiet();
    watched.lab.next().expect("yellow", true, &["api"]);
    assert_eq!(watched.sink.heard(), ["open yellow lab/api"]);
    watched
}

impl Watched {
    /// A cycle that can't commit.
    fn without_a_record(&mut self, run: impl Fn(&Lab) -> Ran) {
        // A little late each time, as schedulers are: four cycles are more than an hour.
        let ran = run(self.lab.pass(16));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let said = ran.stderr.strip_prefix("pulsecheck: nothing could be committed: ");
        assert!(said.is_some_and(|why| why.lines().count() <= 2), "one clear error: {ran:?}");
        let report = ran.report();
        assert_eq!(
            (report["status"].as_str(), report["requires_human"].as_bool()),
            (Some("red"), Some(true)),
            "{report:#}"
        );
        assert_eq!(report["top_3"][0]["check"], "api", "{report:#}");
        assert!(report["notes"].as_str().unwrap().starts_with("nothing could be committed: "), "{report:#}");
    }

    /// The channel heard of the red, headed by why there is no record of it.
    fn the_red_was_sent(&self) {
        let [message] = self.sink.take().try_into().unwrap();
        assert_eq!(message.events(), ["raise red lab/api"]);
        let head = message.json()["head"].as_str().unwrap().to_owned();
        assert!(head.starts_with("nothing could be committed: "), "{head}");
    }

    /// With room again nothing of it is lost: the red is committed and said, under the same key.
    fn recovers(&mut self) {
        self.lab.next().expect("red", true, &["api"]);
        assert_eq!(self.sink.heard(), ["raise red lab/api"]);
        self.target.status(200);
        self.lab.next().expect("green", true, &["api"]);
        assert_eq!(self.sink.heard(), ["resolve red lab/api"]);
        self.lab.next().quiet();
    }
}

/// A file system in memory, gone with this.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// None where this user may not mount one.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs"]).arg(at).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }

    /// Leaves no byte free.
    fn fill(&self) {
        use std::io::Write as _;
        let mut filler = std::fs::File::create(self.0.join("filler")).unwrap();
        for size in [4096, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A check that failed twice, on a disk of its own that is full now.
fn on_a_full_disk() -> Option<(Watched, Tmpfs)> {
    let lab = Lab::new();
    let Some(disk) = Tmpfs::mount(&lab.state()) else {
        eprintln!(
            "not shown on a disk that is really full: this user may not mount one (a limit on file sizes shows most)"
        );
        return None;
    };
    let watched = nearly_red(lab);
    disk.fill();
    Some((watched, disk))
}

#[test]
fn on_a_full_disk_the_red_is_printed_and_sent() {
    let Some((mut watched, disk)) = on_a_full_disk() else { return };
    watched.without_a_record(|lab| lab.run(&["run"]));
    watched.the_red_was_sent();
    disk.make_room();
    watched.recovers();
}

#[test]
fn on_a_disk_that_stays_full_the_red_is_printed_each_time_and_sent_hourly() {
    let Some((mut watched, disk)) = on_a_full_disk() else { return };
    for cycle in 0..9 {
        watched.without_a_record(|lab| lab.run(&["run"]));
        if cycle % 4 == 0 {
            watched.the_red_was_sent();
        } else {
            assert_eq!(watched.sink.heard(), Vec::<String>::new(), "cycle {cycle}");
        }
    }
    // For the store there was a gap of hours, so it counts anew.
    disk.make_room();
    watched.lab.next().expect("yellow", false, &["api"]);
    watched.lab.next().expect("yellow", false, &["api"]);
    watched.recovers();
}

#[test]
fn where_no_file_may_grow_the_red_is_printed_and_sent() {
    let mut watched = nearly_red(Lab::new());
    watched.without_a_record(|lab| {
        let as_usual = lab.command(&[]);
        let shell = "trap '' XFSZ; ulimit -f 0; exec \"$0\" run";
        let mut command = Command::new("sh");
        command.args(["-c", shell, BINARY]).env_clear().stdin(Stdio::null()).current_dir(lab.home());
        command.envs(as_usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ran::from(command.output().unwrap())
    });
    watched.the_red_was_sent();
    watched.recovers();
}
