//! Users and groups by name, from `passwd` and `group` alone. The system's name services may ask the network and hang,
//! so accounts that only they know are numbers here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::time::Instant;

use super::{Host, PerCycle, files};
use crate::facts::Unread;

/// Bytes read of either file; the accounts beyond are numbers.
const MAX_BYTES: usize = 1 << 20;

/// The accounts of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
    homes: Vec<(String, PathBuf)>,
}

/// The cycle's accounts.
pub(super) type Cache = PerCycle<Arc<Accounts>>;

impl Host {
    /// The accounts of this machine, read at most once a cycle. Codes: those of [`Accounts::read`] and of a lane.
    pub async fn accounts(&self, deadline: Instant) -> Result<Arc<Accounts>, Unread> {
        let cell = self.accounts.of_this_cycle();
        let read = cell.get_or_try_init(|| async {
            let etc = self.paths.etc();
            self.lane(&etc.display().to_string(), deadline, move || Accounts::read(&etc).map(Arc::new)).await?
        });
        read.await.cloned()
    }
}

impl Accounts {
    /// Reads `passwd` and `group` in `etc`; one that is not there has no accounts. Blocking: call on a lane. Codes:
    /// `permission_denied`, `not_a_file`, `unreadable` (blind).
    pub fn read(etc: &Path) -> Result<Self, Unread> {
        let (passwd, group) = (text(&etc.join("passwd"))?, text(&etc.join("group"))?);
        Ok(Self { users: parse(&passwd), groups: parse(&group), homes: homes(&passwd) })
    }

    /// The users with their homes, in the order of the file.
    #[must_use]
    pub fn homes(&self) -> &[(String, PathBuf)] {
        &self.homes
    }
    /// A user's number, by name or written as a number.
    #[must_use]
    pub fn uid(&self, user: &str) -> Option<u32> {
        user.parse().ok().or_else(|| self.users.get(user).copied())
    }
    /// A group's number, by name or written as a number.
    #[must_use]
    pub fn gid(&self, group: &str) -> Option<u32> {
        group.parse().ok().or_else(|| self.groups.get(group).copied())
    }
    /// A user's name, or the number where it has none.
    #[must_use]
    pub fn user(&self, uid: u32) -> String {
        name_of(&self.users, uid)
    }
    /// A group's name, or the number where it has none.
    #[must_use]
    pub fn group(&self, gid: u32) -> String {
        name_of(&self.groups, gid)
    }
}

fn name_of(table: &BTreeMap<String, u32>, id: u32) -> String {
    table.iter().find(|(_, n)| **n == id).map_or_else(|| id.to_string(), |(name, _)| name.clone())
}

fn text(path: &Path) -> Result<String, Unread> {
    if files::stat(path)?.is_none() {
        return Ok(String::new());
    }
    let (bytes, _more) = files::read(path, MAX_BYTES)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The sixth field of `passwd(5)`.
fn homes(passwd: &str) -> Vec<(String, PathBuf)> {
    let mut homes: Vec<(String, PathBuf)> = Vec::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(home)) = (fields.next(), fields.nth(4)) else { continue };
        let home = PathBuf::from(home);
        if home.is_absolute() && !name.is_empty() {
            homes.push((name.to_owned(), home));
        }
    }
    homes
}

/// Both files have the name first and the number third; the first line of a name counts, as in the C library.
fn parse(text: &str) -> BTreeMap<String, u32> {
    let mut table = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(id)) = (fields.next(), fields.nth(1)) else { continue };
        if let Ok(id) = id.parse()
            && !name.is_empty()
        {
            table.entry(name.to_owned()).or_insert(id);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found_either_way() {
        let accounts = Accounts {
            users: parse("root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nann:x:7:7:::\n"),
            groups: parse("wheel:x:10:ann\n+nis\nbroken:x:many:\n:x:5:\n"),
            homes: homes(
                "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/root:\nann:x:1000:1000::/home/ann:/bin/sh\nx:x:1:1::\n",
            ),
        };
        let homes: Vec<String> = accounts.homes().iter().map(|(name, at)| format!("{name} {}", at.display())).collect();
        assert_eq!(homes, ["root /root", "toor /root", "ann /home/ann"]);
        assert_eq!(accounts.uid("ann"), Some(1000));
        assert_eq!(accounts.uid("4242"), Some(4242));
        assert_eq!(accounts.uid("bob"), None);
        assert_eq!(accounts.gid("wheel"), Some(10));
        assert_eq!(accounts.gid("broken"), None);
        assert_eq!((accounts.user(0).as_str(), accounts.user(33).as_str()), ("root", "33"));
        assert_eq!((accounts.group(10).as_str(), accounts.group(5).as_str()), ("wheel", "5"));
    }
}
