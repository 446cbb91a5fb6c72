//! Listed files and folders: whether they are there, who may read and write them, whose they are, how large.
//! A list of paths, not a rule for a tree.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::common::{FILE_REASONS, LANE_REASONS};
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome};
use crate::clean;
use crate::facts::{Facts, Finding, MAX_TEXT_BYTES, Subject, Unread, Value, Weight};
use crate::host::accounts::Accounts;
use crate::host::files::{self, Stat};
use crate::redact::Clean;
use crate::settings::{PathGlob, Size};
use crate::words;

/// Paths that one glob may match; what is beyond is left out, and that is said.
const MAX_MATCHES: usize = 1_000;
/// Entries of `paths` looked at side by side, so that one on a share that hangs does not hold up the others.
const AT_ONCE: usize = 8;

/// Read, write and enter for everybody.
const OTHERS: u32 = 0o007;

/// The kind.
pub struct Files;

/// Settings of `files`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The files or folders: paths or globs, `~/` allowed.
    pub paths: Vec<PathGlob>,
    /// Whether each has to be there. Of a glob: whether it has to match something.
    #[serde(default)]
    pub exists: Presence,
    /// What each has to be; by default either will do.
    #[serde(default, rename = "type")]
    pub thing: Option<Thing>,
    /// The most that the permission bits may allow, in octal (`"0600"`): any other bit is trouble.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Whether every bit beyond `mode` is a fail. By default it is one only where everybody may read, write or enter;
    /// a bit of the group's or the owner's is a warn.
    #[serde(default)]
    pub strict: bool,
    /// Who has to own each: a name in `/etc/passwd` or a number.
    #[serde(default)]
    pub user: Option<String>,
    /// The group each has to have: a name in `/etc/group` or a number.
    #[serde(default)]
    pub group: Option<String>,
    /// The least size of a file.
    #[serde(default)]
    pub min_size: Option<Size>,
    /// The greatest size of a file.
    #[serde(default)]
    pub max_size: Option<Size>,
    /// Whether it is said, once, that something of what the globs match came or went (crash reports, uploads).
    #[serde(default)]
    pub watch_names: bool,
    /// Whether a path may be a symbolic link, which is then followed.
    #[serde(default = "yes")]
    pub symlinks: bool,
}

const fn yes() -> bool {
    true
}

/// Whether something has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It has to be there.
    #[default]
    Required,
    /// It is looked at when it is there.
    Optional,
    /// It must not be there.
    Absent,
}

/// What something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    /// A regular file.
    File,
    /// A folder.
    Folder,
}

impl Thing {
    const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Folder => "folder",
        }
    }
}

/// Permission bits, written in octal as text: a bare `0600` is no number in TOML, and `600` would be read as decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        octal.then(|| u32::from_str_radix(&text, 8).ok()).flatten().map(Self).ok_or_else(|| {
            D::Error::custom(format!("`{text}` is no mode (three or four octal digits as text, like \"0600\")"))
        })
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> Cow<'static, str> {
        "Mode".into()
    }
    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-7]{3,4}$",
            "description": "Permission bits in octal.",
            "examples": ["0600"]
        })
    }
}

const REASONS: &[ReasonDoc] = &[
    fail("missing", false, "nothing is there", "see what removed it or should have written it"),
    fail("present", false, "something is there that must not be", "see who made it, and remove it"),
    fail(
        "wrong_type",
        true,
        "it is a folder instead of a file, or the other way round",
        "correct the path or put it right",
    ),
    fail(
        "symlink",
        true,
        "it is a symbolic link and may not be one",
        "see who made the link, and put the file in its place",
    ),
    fail("open_to_others", true, "others may do more with it than they should", "take the rights away with chmod"),
    warn(
        "too_open",
        true,
        "its owner or group may do more with it than they should",
        "take the rights away with chmod",
    ),
    fail("wrong_owner", true, "somebody else owns it", "see who changed it, and give it back with chown"),
    warn("wrong_group", true, "another group has it", "see who changed it, and give it back with chgrp"),
    fail("too_small", false, "it is smaller than it may be", "see what wrote it last"),
    warn("too_large", false, "it is larger than it may be", "see what writes it, and rotate or trim it"),
    warn(
        "unknown_account",
        true,
        "a user or group of the config is not known here",
        "correct the name or give its number",
    ),
];

const fn fail(code: &'static str, settled: bool, about: &'static str, action: &'static str) -> ReasonDoc {
    ReasonDoc { code, outcome: ReasonOutcome::Fail, settled, about, action, needs_human: false }
}
const fn warn(code: &'static str, settled: bool, about: &'static str, action: &'static str) -> ReasonDoc {
    ReasonDoc { code, outcome: ReasonOutcome::Warn, settled, about, action, needs_human: false }
}

impl Kind for Files {
    const DOC: KindDoc = KindDoc {
        name: "files",
        about: "Looks at listed files and folders: existence, permission bits, owner, group, size.",
        subjects: "the paths",
        facts: &[
            FactDoc { name: "exists", class: "info", about: "whether something is there" },
            FactDoc { name: "type", class: "state", about: "`file`, `folder` or `other`" },
            FactDoc { name: "mode", class: "state", about: "the permission bits, in octal" },
            FactDoc { name: "owner", class: "state", about: "who owns it: a name, or a number without one" },
            FactDoc { name: "group", class: "state", about: "its group: a name, or a number without one" },
            FactDoc { name: "uid", class: "info", about: "the number of who owns it" },
            FactDoc { name: "gid", class: "info", about: "the number of its group" },
            FactDoc { name: "symlink", class: "state", about: "whether the path is a symbolic link" },
            FactDoc { name: "size_bytes", class: "info", about: "a file's size" },
            FactDoc { name: "modified", class: "info", about: "when it was last written" },
            FactDoc { name: "user_id", class: "info", about: "the number of the user that the config asks for" },
            FactDoc { name: "group_id", class: "info", about: "the number of the group that the config asks for" },
            FactDoc { name: "names", class: "set", about: "the paths that are there, foreign; with `watch_names`" },
            FactDoc { name: "unmatched", class: "info", about: "globs of the config that match nothing" },
            FactDoc { name: "unknown_account", class: "info", about: "users and groups of the config not known here" },
            FactDoc { name: "cut", class: "info", about: "globs that match more than are looked at (1,000 each)" },
        ],
        reasons: &[REASONS, FILE_REASONS, LANE_REASONS],
        example: r#"
[check.secrets]
kind = "files"
paths = ["~/.openclaw/openclaw.json", "~/.ssh/id_*"]
exists = "optional"
mode = "0600"
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        if settings.paths.is_empty() {
            report("paths", "no path is listed".to_owned());
        }
        if settings.exists == Presence::Absent {
            for (key, set) in [
                ("type", settings.thing.is_some()),
                ("mode", settings.mode.is_some()),
                ("user", settings.user.is_some()),
                ("group", settings.group.is_some()),
                ("min_size", settings.min_size.is_some()),
                ("max_size", settings.max_size.is_some()),
            ] {
                if set {
                    report(key, format!("`{key}` says nothing about what must be absent (leave one of the two out)"));
                }
            }
        }
        if settings.strict && settings.mode.is_none() {
            report("strict", "`strict` is about `mode`, which is not set".to_owned());
        }
        if let (Some(min), Some(max)) = (settings.min_size, settings.max_size)
            && min.0 > max.0
        {
            report("min_size", "`min_size` is larger than `max_size`".to_owned());
        }
        if settings.thing == Some(Thing::Folder) {
            for (key, set) in [("min_size", settings.min_size.is_some()), ("max_size", settings.max_size.is_some())] {
                if set {
                    report(key, format!("`{key}` is about files, and `type` is `folder`"));
                }
            }
        }
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let accounts = cx.host.accounts(cx.deadline).await?;
        let none = Subject::none();
        let mut fetched = Fetched::default();
        let mut unknown = Vec::new();
        if let Some(user) = &settings.user {
            match accounts.uid(user) {
                Some(uid) => fetched.facts.info(&none, "user_id", uid),
                None => unknown.push(format!("user `{user}`")),
            }
        }
        if let Some(group) = &settings.group {
            match accounts.gid(group) {
                Some(gid) => fetched.facts.info(&none, "group_id", gid),
                None => unknown.push(format!("group `{group}`")),
            }
        }

        // Collected first: a stream over a closure that borrows is not `Send` for every lifetime.
        let looks: Vec<_> = settings.paths.iter().map(|glob| look_through(glob, cx)).collect();
        let looked: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;

        let (mut unmatched, mut cut) = (Vec::new(), Vec::new());
        let mut names = BTreeSet::new();
        for (glob, looked) in settings.paths.iter().zip(looked) {
            match looked {
                Ok(looked) => {
                    if looked.cut {
                        cut.push(format!("`{}`", glob.as_str()));
                    }
                    if looked.seen.is_empty() {
                        unmatched.push(format!("`{}`", glob.as_str()));
                    }
                    for (path, seen) in looked.seen {
                        let subject = Subject::new(&path.display().to_string());
                        if !matches!(seen, Ok(None)) {
                            names.insert(Clean::line(subject.as_str(), MAX_TEXT_BYTES));
                        }
                        match seen {
                            Ok(seen) => put(&mut fetched.facts, &subject, seen.as_ref(), &accounts),
                            Err(unread) => {
                                fetched.unread.insert(subject, unread);
                            }
                        }
                    }
                }
                Err(unread) => {
                    fetched.unread.insert(Subject::new(&cx.host.expand(glob.as_str()).display().to_string()), unread);
                }
            }
        }
        // A glob that could not be gone through, or not to its end, would look as if something went.
        if settings.watch_names && fetched.unread.is_empty() && cut.is_empty() {
            fetched.facts.set(&none, "names", names, true);
        }
        for (name, list) in [("unmatched", unmatched), ("cut", cut), ("unknown_account", unknown)] {
            if !list.is_empty() {
                fetched.facts.info(&none, name, list.join(", "));
            }
        }
        Ok(fetched)
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        let none = Subject::none();
        let mut findings = Vec::new();
        if let Some(globs) = facts.text(&none, "unmatched")
            && settings.exists == Presence::Required
        {
            findings.push(Finding::new("missing", Weight::Fail, false, clean!("nothing matches {globs}")));
        }
        if let Some(accounts) = facts.text(&none, "unknown_account") {
            let said = clean!("this machine knows no {accounts}");
            findings.push(Finding::new("unknown_account", Weight::Warn, true, said));
        }
        for subject in facts.subjects() {
            let there = facts.flag(&subject, "exists");
            match (there, settings.exists) {
                (Some(true), Presence::Absent) => {
                    findings.push(
                        Finding::new("present", Weight::Fail, false, clean!("is there and must not be")).on(&subject),
                    );
                }
                (Some(false), Presence::Required) => {
                    findings.push(Finding::new("missing", Weight::Fail, false, clean!("is not there")).on(&subject));
                }
                (Some(true), _) => judge_one(settings, facts, &subject, &mut findings),
                (Some(false) | None, _) => {}
            }
        }
        findings
    }
}

/// What was found at one path.
#[derive(Debug)]
struct Seen {
    stat: Stat,
    symlink: bool,
}

/// What one entry of `paths` came to.
#[derive(Debug)]
struct Looked {
    /// Every path, and what is there, if anything.
    seen: BTreeMap<PathBuf, Result<Option<Seen>, Unread>>,
    /// Whether the glob matches more.
    cut: bool,
}

async fn look_through(glob: &PathGlob, cx: &Cx) -> Result<Looked, Unread> {
    let pattern = cx.host.expand(glob.as_str());
    let about = pattern.display().to_string();
    cx.host.lane(&about, cx.deadline, move || look(&pattern)).await?
}

fn look(pattern: &Path) -> Result<Looked, Unread> {
    let (paths, cut) = files::glob(pattern, MAX_MATCHES)?;
    Ok(Looked { seen: paths.into_iter().map(|path| (path.clone(), look_at(&path))).collect(), cut })
}

fn look_at(path: &Path) -> Result<Option<Seen>, Unread> {
    let symlink = std::fs::symlink_metadata(path).is_ok_and(|link| link.is_symlink());
    Ok(files::stat(path)?.map(|stat| Seen { stat, symlink }))
}

fn put(facts: &mut Facts, subject: &Subject, seen: Option<&Seen>, accounts: &Accounts) {
    facts.info(subject, "exists", seen.is_some());
    let Some(Seen { stat, symlink }) = seen else { return };
    let thing = match (stat.is_file, stat.is_dir) {
        (true, _) => Thing::File.as_str(),
        (_, true) => Thing::Folder.as_str(),
        _ => "other",
    };
    facts.state(subject, "type", thing);
    facts.state(subject, "mode", format!("{:04o}", stat.mode));
    facts.state(subject, "owner", accounts.user(stat.uid));
    facts.state(subject, "group", accounts.group(stat.gid));
    facts.state(subject, "symlink", *symlink);
    facts.info(subject, "uid", stat.uid);
    facts.info(subject, "gid", stat.gid);
    facts.info(subject, "modified", stat.modified);
    if stat.is_file {
        facts.info(subject, "size_bytes", stat.size_bytes);
    }
}

/// Judges one thing that is there.
fn judge_one(settings: &Settings, facts: &Facts, subject: &Subject, findings: &mut Vec<Finding>) {
    let mut find = |code, weight, settled, said| findings.push(Finding::new(code, weight, settled, said).on(subject));
    let thing = facts.text(subject, "type").map_or("", Clean::as_str);

    if let Some(wanted) = settings.thing
        && thing != wanted.as_str()
    {
        let seen = match thing {
            "other" => "is neither a file nor a folder,",
            "folder" => "is a folder",
            _ => "is a file",
        };
        find("wrong_type", Weight::Fail, true, clean!("{seen} and has to be a {}", wanted.as_str()));
    }
    if !settings.symlinks && facts.flag(subject, "symlink") == Some(true) {
        find("symlink", Weight::Fail, true, clean!("is a symbolic link"));
    }
    let mode = facts.text(subject, "mode").and_then(|mode| u32::from_str_radix(mode.as_str(), 8).ok());
    if let (Some(Mode(most)), Some(mode)) = (settings.mode, mode)
        // The sticky bit takes rights away.
        && let beyond = mode & !most & !0o1000
        && beyond != 0
    {
        let said = clean!("mode {mode:04o} where {most:04o} is the most: {}", rights(beyond));
        if beyond & OTHERS != 0 || settings.strict {
            find("open_to_others", Weight::Fail, true, said);
        } else {
            find("too_open", Weight::Warn, true, said);
        }
    }
    for (code, weight, key, wanted, name) in [
        ("wrong_owner", Weight::Fail, "uid", "user_id", ("owner", &settings.user)),
        ("wrong_group", Weight::Warn, "gid", "group_id", ("group", &settings.group)),
    ] {
        let (fact, asked) = name;
        if let (Some(wanted), Some(id)) = (facts.number(&Subject::none(), wanted), facts.number(subject, key))
            && (wanted - id).abs() > 0.5
        {
            let is = facts.text(subject, fact).map_or("", Clean::as_str);
            let asked = asked.as_deref().unwrap_or_default();
            find(code, weight, true, clean!("{fact} is {is} instead of {asked}"));
        }
    }
    if let Some(Value::Int(size)) = facts.get(subject, "size_bytes").map(|fact| &fact.value)
        && let Ok(size) = u64::try_from(*size)
    {
        let said = |limit: Size, which: &str| {
            clean!("{} where {} is the {which}", words::size(size), words::size(limit.bytes()))
        };
        if let Some(min) = settings.min_size.filter(|min| size < min.bytes()) {
            find("too_small", Weight::Fail, false, said(min, "least"));
        }
        if let Some(max) = settings.max_size.filter(|max| size > max.bytes()) {
            find("too_large", Weight::Warn, false, said(max, "most"));
        }
    }
}

/// Permission bits in words, by who has them.
fn rights(bits: u32) -> String {
    let mut parts = Vec::new();
    for (who, shift) in [("everybody", 0), ("its group", 3), ("its owner", 6)] {
        let may: Vec<_> = [(0o4, "read"), (0o2, "write"), (0o1, "run or enter")]
            .into_iter()
            .filter(|(bit, _)| (bits >> shift) & bit != 0)
            .map(|(_, verb)| verb)
            .collect();
        if !may.is_empty() {
            parts.push(format!("{who} may {}", may.join(", ")));
        }
    }
    for (bit, name) in [(0o4000, "setuid"), (0o2000, "setgid")] {
        if bits & bit != 0 {
            parts.push(format!("it is {name}"));
        }
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;
    use crate::kinds::testing::{Trial, problems, settings};

    fn write(path: &Path, bytes: &[u8], mode: u32) {
        files::replace(path, bytes, mode).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn bad_settings_are_refused() {
        for (toml, said) in [
            ("paths = []", "paths: no path is listed"),
            ("paths = ['etc']", "expected a path that begins with `/` or `~/`, found `etc`"),
            ("paths = ['/a']\nmode = '0800'", "`0800` is no mode (three or four octal digits as text, like \"0600\")"),
            ("paths = ['/a']\nmode = 600", "invalid type: integer `600`, expected a string"),
            (
                "paths = ['/a']\nexists = 'absent'\nmode = '0600'",
                "mode: `mode` says nothing about what must be absent (leave one of the two out)",
            ),
            ("paths = ['/a']\nstrict = true", "strict: `strict` is about `mode`, which is not set"),
            ("paths = ['/a']\nmin_size = '2kB'\nmax_size = '1kB'", "min_size: `min_size` is larger than `max_size`"),
            (
                "paths = ['/a']\ntype = 'folder'\nmin_size = 1",
                "min_size: `min_size` is about files, and `type` is `folder`",
            ),
            ("paths = ['/a']\nowner = 'ann'", "unknown field `owner`"),
        ] {
            let found = problems::<Files>(toml);
            assert!(found.len() == 1 && found[0].starts_with(said), "{toml}: {found:?}");
        }
    }

    #[test]
    fn what_a_glob_matches_can_be_watched() {
        let dir = tempfile::tempdir().unwrap();
        let glob = dir.path().join("crash-*");
        let mut trial = Trial::new(dir.path());
        let mut names = |more: &str| {
            let toml = format!("paths = ['{}']\nexists = 'optional'\n{more}", glob.display());
            let look = trial.look::<Files>(&settings::<Files>(&toml)).unwrap();
            assert_eq!(look.codes(), [""; 0]);
            match look.facts.get(&Subject::none(), "names").map(|fact| (fact.foreign, fact.value.clone())) {
                Some((true, Value::Set(names))) => Some(names.len()),
                None => None,
                other => panic!("{other:?}"),
            }
        };
        // None at all is a set too: the first that comes is a change.
        assert_eq!((names(""), names("watch_names = true")), (None, Some(0)));
        write(&dir.path().join("crash-1"), b"1", 0o600);
        assert_eq!(names("watch_names = true"), Some(1));
    }

    #[test]
    fn each_thing_is_held_to_the_settings() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for (name, mode) in [("all", 0o666), ("group", 0o640), ("mine", 0o600), ("run", 0o700), ("sticky", 0o1600)] {
            write(&root.join(name), b"12345", mode);
        }
        symlink("mine", root.join("link")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        fs::create_dir(root.join("folder")).unwrap();
        let meta = fs::metadata(root.join("mine")).unwrap();
        let (uid, gid) = (meta.uid(), meta.gid());
        for (path, more, codes) in [
            ("mine", "mode = '0600'\ntype = 'file'", vec![]),
            ("sticky", "mode = '0600'", vec![]),
            ("group", "mode = '0600'", vec!["too_open"]),
            ("run", "mode = '0600'", vec!["too_open"]),
            ("group", "mode = '0600'\nstrict = true", vec!["open_to_others"]),
            ("all", "mode = '0600'", vec!["open_to_others"]),
            ("all", "mode = '0666'", vec![]),
            ("folder", "mode = '0755'\ntype = 'folder'", vec![]),
            ("folder", "type = 'file'", vec!["wrong_type"]),
            ("mine", "type = 'folder'", vec!["wrong_type"]),
            ("link", "mode = '0600'", vec![]),
            ("link", "symlinks = false", vec!["symlink"]),
            ("mine", "symlinks = false", vec![]),
            ("dangling", "", vec!["missing"]),
            ("none", "", vec!["missing"]),
            ("none", "exists = 'optional'\nmode = '0600'", vec![]),
            ("none", "exists = 'absent'", vec![]),
            ("mine", "exists = 'absent'", vec!["present"]),
            ("mine", "min_size = 5\nmax_size = 5", vec![]),
            ("mine", "min_size = 6", vec!["too_small"]),
            ("mine", "max_size = 4", vec!["too_large"]),
            ("mine", &format!("user = '{uid}'\ngroup = '{gid}'"), vec![]),
            ("mine", "user = '4242'\ngroup = '4243'", vec!["wrong_owner", "wrong_group"]),
        ] {
            let path = root.join(path).display().to_string();
            let settings = settings::<Files>(&format!("paths = ['{path}']\n{more}"));
            let look = Trial::new(root).look::<Files>(&settings).unwrap();
            let wanted: Vec<_> = codes.iter().map(|code| format!("{path}: {code}")).collect();
            assert_eq!(look.codes(), wanted, "{path} with {more}");
            for finding in &look.findings {
                assert_eq!(Files::DOC.reason(finding.code.as_str()).unwrap().settled, finding.settled, "{finding:?}");
            }
        }
    }

    #[test]
    fn what_is_said_names_the_trouble() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        write(&file, &[0; 2048], 0o4646);
        for (more, said) in [
            (
                "mode = '0600'",
                "mode 4646 where 0600 is the most: everybody may read, write; its group may read; it is setuid",
            ),
            ("min_size = '3KiB'", "2.0 KiB where 3.0 KiB is the least"),
            ("max_size = '1KiB'", "2.0 KiB where 1.0 KiB is the most"),
            ("type = 'folder'", "is a file and has to be a folder"),
        ] {
            let settings = settings::<Files>(&format!("paths = ['{}']\n{more}", file.display()));
            assert_eq!(Trial::new(dir.path()).look::<Files>(&settings).unwrap().said(), said);
        }
    }

    #[test]
    fn globs_match_many_or_are_missing() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.key", "b.key", "c.pem"] {
            write(&dir.path().join(name), b"x", 0o644);
        }
        let mut trial = Trial::new(dir.path());
        let look = trial.look::<Files>(&settings::<Files>("paths = ['~/*.key', '~/*.crt']\nmode = '0600'")).unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        assert_eq!(
            look.codes(),
            [
                "missing".to_owned(),
                format!("{}: open_to_others", at("a.key")),
                format!("{}: open_to_others", at("b.key"))
            ]
        );
        assert_eq!(look.said(), "nothing matches `~/*.crt`");
        let look = trial.look::<Files>(&settings::<Files>("paths = ['~/*.crt']\nexists = 'optional'")).unwrap();
        assert_eq!(look.codes(), [""; 0]);
    }

    #[test]
    fn names_of_accounts_are_those_of_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        write(&file, b"x", 0o640);
        let meta = fs::metadata(&file).unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        write(&dir.path().join("etc/passwd"), format!("ann:x:{}:1::/:/bin/sh\n", meta.uid()).as_bytes(), 0o644);
        write(&dir.path().join("etc/group"), b"team:x:4242:\n", 0o644);
        let mut trial = Trial::new(dir.path());
        trial.host().paths.proc = dir.path().join("proc");
        let path = file.display().to_string();
        let look = |trial: &mut Trial, more: &str| {
            trial.look::<Files>(&settings::<Files>(&format!("paths = ['{path}']\n{more}"))).unwrap()
        };
        let seen = look(&mut trial, "user = 'ann'\ngroup = 'team'");
        assert_eq!(seen.codes(), [format!("{path}: wrong_group")]);
        assert_eq!(seen.said(), format!("group is {} instead of team", meta.gid()));
        assert_eq!((seen.text(&path, "owner"), seen.text(&path, "mode")), (Some("ann"), Some("0640")));
        let seen = look(&mut trial, "user = 'bob'\ngroup = 'gang'");
        assert_eq!(seen.codes(), ["unknown_account"]);
        assert_eq!(seen.said(), "this machine knows no user `bob`, group `gang`");
    }
}
