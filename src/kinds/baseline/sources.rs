//! What the sources of a baseline hold, as members: files, keys, sudoers, crontabs, packages, a command's lines. Blocking,
//! but for what a command prints.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::compare::IS;
use crate::clean;
use crate::facts::Unread;
use crate::host::Paths;
use crate::host::files::{self, Stat};
use crate::read::Hashing;
use crate::words::{count, size};

/// Bytes of one text (a crontab, a list of keys) that are read.
const MAX_TEXT: usize = 1 << 20;
/// Bytes of the list of packages.
const MAX_STATUS: usize = 32 << 20;
/// Files that one glob or folder may have; beyond them the rest can't be told.
const MAX_FILES: usize = 5_000;
/// Bytes between two looks at the time.
const PIECE: usize = 256 << 10;

/// What was read of a source.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Its members, each `name` or `name is value`.
    pub members: Vec<String>,
    /// Parts that could not be read, by what members of theirs begin with.
    pub unread: BTreeMap<String, Unread>,
    /// Whether a hash over all members says something: not where values come and go.
    pub hashed: bool,
    /// Whether there are more than were looked at.
    pub cut: bool,
}

impl Seen {
    /// Nothing yet, of a source whose members stay as they are.
    pub(super) fn whole() -> Self {
        Self { hashed: true, ..Self::default() }
    }

    /// All parts that could not be read as one.
    pub(super) fn unread_as_one(&self) -> Option<Unread> {
        let first = self.unread.values().next()?;
        let more = u64::try_from(self.unread.len() - 1).unwrap_or(u64::MAX);
        let said = match more {
            0 => first.said.clone(),
            more => clean!("{}, and {} like it", first.said, count(more, "part", "parts")),
        };
        Some(Unread { said, ..first.clone() })
    }
}

/// Where to look and within which bounds.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub paths: Paths,
    /// Users with their homes.
    pub homes: Vec<(String, PathBuf)>,
    /// Files whose content is hashed are at most this large.
    pub max_file: u64,
    /// When to stop reading.
    pub until: Instant,
}

impl Look {
    /// Listed files and globs: what each is, who owns it, its hash.
    pub fn files(&self, pattern: &Path) -> Result<Seen, Unread> {
        let mut seen = Seen::whole();
        for path in listed(pattern, &mut seen)? {
            self.file(&path, &mut seen);
        }
        Ok(seen)
    }

    fn file(&self, path: &Path, seen: &mut Seen) {
        let name = path.display().to_string();
        match self.is(path) {
            Ok(is) => seen.members.push(format!("{name}{IS}{is}")),
            Err(unread) => drop(seen.unread.insert(name, unread)),
        }
    }

    /// What lies at a path.
    fn is(&self, path: &Path) -> Result<String, Unread> {
        let link = match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.is_symlink() => {
                let target = std::fs::read_link(path).map_err(|error| files::unread(path, &error))?;
                Some(target.display().to_string())
            }
            _ => None,
        };
        let before = link.map(|target| format!("a link to {target}, ")).unwrap_or_default();
        let Some(Stat { is_file, is_dir, mode, uid, gid, size_bytes, .. }) = files::stat(path)? else {
            return Ok(format!("{before}not there"));
        };
        let rights = format!("{mode:04o} {uid}:{gid}");
        if !is_file {
            return Ok(format!("{before}{} {rights}", if is_dir { "a folder" } else { "no regular file" }));
        }
        Ok(format!("{before}{rights} sha256:{}", self.hash(path, size_bytes)?))
    }

    fn hash(&self, path: &Path, size_bytes: u64) -> Result<String, Unread> {
        let too_large = || {
            let said = clean!("{} is larger than {}, so it is not hashed", files::shown(path), size(self.max_file));
            Unread::blind("too_large", said)
        };
        if size_bytes > self.max_file {
            return Err(too_large());
        }
        let mut reader = Hashing::new(files::open(path)?);
        let mut piece = vec![0; PIECE];
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return Ok(reader.finish()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(files::unread(path, &error)),
                // It may grow while it is read.
                Ok(_) if reader.seen_bytes() > self.max_file => return Err(too_large()),
                Ok(_) if Instant::now() >= self.until => {
                    let said = clean!("{} could not be hashed in the time there was", files::shown(path));
                    return Err(Unread::target("no_answer", said));
                }
                Ok(_) => {}
            }
        }
    }

    /// The keys that may log in: of each home, and of further files.
    pub fn keys(&self, further: &[PathBuf]) -> Result<Seen, Unread> {
        let mut seen = Seen::whole();
        for (user, home) in &self.homes {
            for name in ["authorized_keys", "authorized_keys2"] {
                keys_of(user, &home.join(".ssh").join(name), &mut seen);
            }
        }
        for pattern in further {
            for path in listed(pattern, &mut seen)? {
                keys_of(&path.display().to_string(), &path, &mut seen);
            }
        }
        Ok(seen)
    }

    /// `sudoers` and what lies in `sudoers.d`: each file, and its lines.
    pub fn sudoers(&self) -> Seen {
        let mut seen = Seen::whole();
        let etc = self.paths.etc();
        self.lines(&etc.join("sudoers"), is_sudoers_comment, &mut seen);
        self.folder(&etc.join("sudoers.d"), is_sudoers_comment, &mut seen);
        seen
    }

    /// The tables of cron, of the system and of users, and the scripts that it runs by the hour, day, week and month.
    pub fn crontabs(&self) -> Seen {
        let mut seen = Seen::whole();
        let (etc, var) = (self.paths.etc(), self.paths.var());
        for name in ["crontab", "anacrontab"] {
            self.lines(&etc.join(name), is_comment, &mut seen);
        }
        for folder in [etc.join("cron.d"), var.join("spool/cron/crontabs"), var.join("spool/cron")] {
            self.folder(&folder, is_comment, &mut seen);
        }
        for period in ["hourly", "daily", "weekly", "monthly"] {
            for path in in_folder(&etc.join(format!("cron.{period}")), &mut seen) {
                self.file(&path, &mut seen);
            }
        }
        seen
    }

    fn folder(&self, folder: &Path, is_comment: fn(&str) -> bool, seen: &mut Seen) {
        for path in in_folder(folder, seen) {
            if !files::stat(&path).is_ok_and(|stat| stat.is_some_and(|stat| stat.is_dir)) {
                self.lines(&path, is_comment, seen);
            }
        }
    }

    /// A file that is there, and its lines: joined where they go on, without comments, blanks made one.
    fn lines(&self, path: &Path, is_comment: fn(&str) -> bool, seen: &mut Seen) {
        let name = path.display().to_string();
        match text(path) {
            Ok(None) => {}
            Ok(Some(text)) => {
                self.file(path, seen);
                let joined = text.replace("\\\n", " ");
                let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty() && !is_comment(line));
                seen.members.extend(
                    lines.map(|line| format!("{name}: {}", line.split_whitespace().collect::<Vec<_>>().join(" "))),
                );
            }
            Err(unread) => drop(seen.unread.insert(name, unread)),
        }
    }

    /// The packages that dpkg has installed; none where it keeps no list here.
    pub fn dpkg(&self) -> Result<Option<Seen>, Unread> {
        let path = self.paths.var().join("lib/dpkg/status");
        if files::stat(&path)?.is_none() {
            return Ok(None);
        }
        let (bytes, cut) = files::read(&path, MAX_STATUS)?;
        let mut seen = Seen { members: installed(&String::from_utf8_lossy(&bytes)), ..Seen::whole() };
        if cut {
            let said = clean!("{} is longer than {}", files::shown(&path), size(MAX_STATUS as u64));
            seen.unread.insert("dpkg".to_owned(), Unread::blind("too_large", said));
        }
        Ok(Some(seen))
    }

    /// Whether rpm keeps a database here.
    pub fn has_rpm(&self) -> bool {
        let usr = self.paths.proc.with_file_name("usr");
        let there = |path: PathBuf| matches!(files::stat(&path), Ok(Some(_)));
        there(self.paths.var().join("lib/rpm")) || there(usr.join("lib/sysimage/rpm"))
    }
}

/// The paths of a glob; that there are more than are looked at is a part that can't be told.
fn listed(pattern: &Path, seen: &mut Seen) -> Result<Vec<PathBuf>, Unread> {
    let (paths, cut) = files::glob(pattern, MAX_FILES)?;
    if cut {
        seen.cut = true;
        let said = clean!("{} matches more than the {MAX_FILES} files that are looked at", files::shown(pattern));
        seen.unread.insert(format!("{} beyond", pattern.display()), Unread::blind("too_many_files", said));
    }
    Ok(paths)
}

/// What lies in a folder, sorted; nothing where there is no such folder.
fn in_folder(folder: &Path, seen: &mut Seen) -> Vec<PathBuf> {
    match listed(&folder.join("*"), seen) {
        Ok(paths) => paths,
        Err(unread) => {
            seen.unread.insert(folder.display().to_string(), unread);
            Vec::new()
        }
    }
}

/// A text that is there.
fn text(path: &Path) -> Result<Option<String>, Unread> {
    if files::stat(path)?.is_none() {
        return Ok(None);
    }
    let (bytes, cut) = files::read(path, MAX_TEXT)?;
    if cut {
        let said = clean!("{} is longer than {}", files::shown(path), size(MAX_TEXT as u64));
        return Err(Unread::blind("too_large", said));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn is_comment(line: &str) -> bool {
    line.starts_with('#')
}

/// In sudoers `#include`, `#includedir` and `#1000` are none.
fn is_sudoers_comment(line: &str) -> bool {
    line.strip_prefix('#')
        .is_some_and(|rest| !rest.starts_with("include") && !rest.starts_with(|first: char| first.is_ascii_digit()))
}

fn keys_of(owner: &str, path: &Path, seen: &mut Seen) {
    match text(path) {
        Ok(None) => {}
        Ok(Some(text)) => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_comment(line));
            seen.members.extend(lines.map(|line| {
                if let Some((fingerprint, is)) = key(line) {
                    return format!("{owner} {fingerprint}{IS}{is}");
                }
                // Whatever it is, a change of it is one; a key must not be shown.
                let hash = crate::read::sha256(line.as_bytes());
                format!("{owner}: a line that is no key, sha256:{}", hash.get(..16).unwrap_or_default())
            }));
        }
        Err(unread) => drop(seen.unread.insert(owner.to_owned(), unread)),
    }
}

/// A line of authorised keys (`sshd(8)`): the fingerprint as `ssh-keygen -l` prints it, and its type, comment and options.
fn key(line: &str) -> Option<(String, String)> {
    let fields = fields(line);
    let at = fields.iter().position(|field| is_key_type(field))?;
    let blob = fields.get(at + 1)?.trim_end_matches('=');
    let blob = STANDARD_NO_PAD.decode(blob).or_else(|_| STANDARD.decode(blob)).ok()?;
    let fingerprint = format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob)));
    let mut is = fields.get(at)?.trim_start_matches("ssh-").to_owned();
    let comment = fields.get(at + 2..).unwrap_or_default().join(" ");
    if !comment.is_empty() {
        is = format!("{is} {comment}");
    }
    let options = fields.get(..at).unwrap_or_default().join(" ");
    if !options.is_empty() {
        is = format!("{is}, only {options}");
    }
    Some((fingerprint, is))
}

fn is_key_type(field: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "rsa-sha2-"].iter().any(|begin| field.starts_with(begin))
}

/// The fields of a line; blanks within double quotes divide nothing.
fn fields(line: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    line.split(|c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            c if c.is_ascii_whitespace() && !quoted => return true,
            _ => {}
        }
        false
    })
    .filter(|field| !field.is_empty())
    .collect()
}

/// What dpkg's list says is installed.
fn installed(status: &str) -> Vec<String> {
    let mut members = Vec::new();
    for package in status.split("\n\n") {
        let field = |name: &str| package.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let is_installed = field("Status:").is_some_and(|status| status.ends_with(" installed"));
        if let (true, Some(name), Some(version)) = (is_installed, field("Package:"), field("Version:")) {
            let arch = field("Architecture:").map(|arch| format!(" {arch}")).unwrap_or_default();
            members.push(format!("dpkg {name}{arch}{IS}{version}"));
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

    #[test]
    fn a_key_is_known_by_its_fingerprint_and_never_shown() {
        let (fingerprint, is) = key(&format!("ssh-ed25519 {KEY} anna@laptop two")).unwrap();
        assert_eq!(is, "ed25519 anna@laptop two");
        assert_eq!(fingerprint, "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA");
        let options = "command=\"/bin/echo \\\"ssh-rsa x\\\" y\",no-pty";
        let (same, is) = key(&format!("{options}   ssh-ed25519\t{KEY}")).unwrap();
        assert_eq!((same, is), (fingerprint, format!("ed25519, only {options}")));
        for none in ["ssh-ed25519", "ssh-ed25519 not!base64", "AAAA", "hello ssh world"] {
            assert_eq!(key(none), None, "{none}");
        }
    }

    #[test]
    fn comments_of_sudoers_are_not_all_that_begin_like_one() {
        for (line, comment) in
            [("# x", true), ("#x", true), ("#includedir /etc/sudoers.d", false), ("#1000 ALL=ALL", false), ("a", false)]
        {
            assert_eq!(is_sudoers_comment(line), comment, "{line}");
        }
    }

    #[test]
    fn packages_are_those_that_are_installed() {
        let status = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2.15-2+b7\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n\
                      Package: half\nStatus: install ok half-installed\nVersion: 2\n\n\
                      Package: passwd\nStatus: hold ok installed\nVersion: 1:4.13\n";
        let members = installed(status);
        assert_eq!(members, ["dpkg bash amd64 is 5.2.15-2+b7", "dpkg passwd is 1:4.13"]);
        for member in members {
            assert_eq!(crate::redact::Clean::new(&member).as_str(), member, "a version is no secret");
        }
    }
}
