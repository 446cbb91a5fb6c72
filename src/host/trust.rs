//! Whether somebody else on this machine can change a file that decides what runs. Blocking: call on a lane or at start.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::geteuid;

use super::files;
use crate::clean;
use crate::redact::Clean;

/// Why a config, pack, prompt or secret is not to be trusted, in words with the way out; none when it is, or when
/// nothing is there.
///
/// Neither the file nor the folder it is in (of a link: the link's folder as well) may be owned by somebody other than
/// this user and root, or be writable by others or by a group that has other members. A sticky folder of root's
/// (`/tmp`) protects the names in it.
#[must_use]
pub fn others_can_write(path: &Path) -> Option<Clean> {
    let us = geteuid().as_raw();
    let real = match std::fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(clean!("{} can't be looked at: {}", files::shown(path), files::plain(&error))),
    };
    let linked_from = std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_owned));
    let places = [Some(real.as_path()), real.parent(), linked_from.as_deref()];
    places.into_iter().flatten().find_map(|place| {
        let meta = match std::fs::metadata(place) {
            Ok(meta) => meta,
            Err(error) => return Some(clean!("{} can't be looked at: {}", files::shown(place), files::plain(&error))),
        };
        distrust(place, &meta, us)
    })
}

fn distrust(place: &Path, meta: &Metadata, us: u32) -> Option<Clean> {
    let (owner, mode) = (meta.uid(), meta.mode());
    if owner != us && owner != 0 {
        return Some(clean!(
            "{} belongs to user {owner} (chown it to the user that runs Pulsecheck)",
            files::shown(place)
        ));
    }
    let sticky = meta.is_dir() && owner == 0 && mode & 0o1000 != 0;
    let by_others = mode & 0o002 != 0;
    let by_group = mode & 0o020 != 0 && meta.gid() != 0 && !private_group(meta.gid(), us);
    if sticky || !(by_others || by_group) {
        return None;
    }
    let (who, fix) = if by_others { ("every user", "o-w") } else { ("its group", "g-w") };
    Some(clean!("{} can be written by {who} (chmod {fix} it)", files::shown(place)))
}

/// Whether a group is the user's own and has nobody else in it, as most distributions make one for every user (and then
/// files are group-writable by default).
fn private_group(gid: u32, us: u32) -> bool {
    gid == us
        && gid == rustix::process::getegid().as_raw()
        && files::read(Path::new("/etc/group"), 1 << 20).is_ok_and(|(groups, cut)| !cut && has_no_members(&groups, gid))
}

/// `name:x:gid:member,member`; the user whose primary group it is need not be listed.
fn has_no_members(groups: &[u8], gid: u32) -> bool {
    String::from_utf8_lossy(groups).lines().all(|line| {
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or_default();
        let this = fields.nth(1) == Some(gid.to_string().as_str());
        let members = fields.next().unwrap_or_default().trim();
        !this || members.is_empty() || members == name
    })
}

/// Why a secret's file is open to others, in words with the way out; none when it isn't. A file of root's that only a
/// group may read is how a service of another user is given one, and passes.
#[must_use]
pub fn others_can_read(path: &Path, stat: &files::Stat) -> Option<Clean> {
    let given_by_root = stat.uid == 0 && !geteuid().is_root();
    let closed = if given_by_root { 0o037 } else { 0o077 };
    if stat.mode & closed == 0 {
        return None;
    }
    Some(clean!("{} can be read or written by others (chmod 600 it)", files::shown(path)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_can_write_is_said_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("conf");
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("pulsecheck.toml");
        files::replace(&file, b"", 0o600).unwrap();
        let said = |folder_mode, file_mode| {
            mode(&folder, folder_mode);
            mode(&file, file_mode);
            others_can_write(&file).map(|said| said.as_str().to_owned())
        };
        assert_eq!(said(0o700, 0o600), None);
        assert_eq!(said(0o755, 0o644), None);
        assert!(said(0o755, 0o646).unwrap().contains("pulsecheck.toml` can be written by every user (chmod o-w it)"));
        assert!(said(0o757, 0o644).unwrap().contains("conf` can be written by every user"));
        assert_eq!(others_can_write(&folder.join("none")), None);

        mode(&folder, 0o777);
        let link = dir.path().join("link.toml");
        symlink(&file, &link).unwrap();
        assert!(others_can_write(&link).unwrap().as_str().contains("conf` can be written"));
    }

    #[test]
    fn a_file_of_another_user_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        files::replace(&file, b"", 0o600).unwrap();
        let meta = std::fs::metadata(&file).unwrap();
        let other = meta.uid() + 1;
        // Seen from another user, our file is somebody else's (root's is trusted, so it can't be the example).
        if meta.uid() == 0 {
            std::os::unix::fs::chown(&file, Some(12_345), None).unwrap();
            assert!(others_can_write(&file).unwrap().as_str().contains("belongs to user 12345"));
        } else {
            assert!(distrust(&file, &meta, other).unwrap().as_str().contains("belongs to user"));
        }
    }

    #[test]
    fn roots_sticky_folder_protects_its_names() {
        let tmp = std::fs::metadata("/tmp").unwrap();
        if tmp.uid() == 0 && tmp.mode() & 0o1000 != 0 {
            assert_eq!(distrust(Path::new("/tmp"), &tmp, geteuid().as_raw()), None);
        }
        let dir = tempfile::tempdir().unwrap();
        let meta = std::fs::metadata(dir.path()).unwrap();
        assert_eq!(distrust(dir.path(), &meta, meta.uid()), None);
    }

    #[test]
    fn a_group_is_private_when_nobody_else_is_in_it() {
        let groups = b"root:x:0:\nanna:x:1000:\nben:x:1001:ben\ncarl:x:1002:anna\n";
        for (gid, private) in [(1000, true), (1001, true), (1002, false)] {
            assert_eq!(has_no_members(groups, gid), private, "{gid}");
        }
    }

    #[test]
    fn secrets_are_for_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        for (bits, open) in [(0o600, false), (0o400, false), (0o604, true), (0o620, true), (0o644, true)] {
            files::replace(&file, b"x", bits).unwrap();
            let stat = files::stat(&file).unwrap().unwrap();
            assert_eq!(others_can_read(&file, &stat).is_some(), open, "{bits:o}");
        }
    }
}
