//! The state folder: made for its owner alone, and refused where the database could not be trusted. Blocking.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::mounts::Mount;
use super::{files, mounts};
use crate::redact::Clean;

/// Why a folder can't hold the state.
#[derive(Debug, thiserror::Error)]
pub enum BadState {
    /// It can't be made or looked at.
    #[error("the state folder {} can't be used: {} (set $PULSECHECK_STATE to one that can be written)", files::shown(.0), files::plain(.1))]
    Io(PathBuf, #[source] io::Error),
    /// It is no folder.
    #[error("the state folder {} is not a folder", files::shown(.0))]
    NotAFolder(PathBuf),
    /// Somebody else owns it.
    #[error("the state folder {} belongs to user {} (chown it to the user that runs Pulsecheck)", files::shown(.0), .1)]
    OtherOwner(PathBuf, u32),
    /// Others can write in it.
    #[error("the state folder {} can be written by others (chmod 700 it)", files::shown(.0))]
    OthersCanWrite(PathBuf),
    /// It is on a network file system, whose locks and shared memory the database can't rely on.
    #[error("the state folder {} is on a network file system ({}), where a database is not safe (set $PULSECHECK_STATE to a local folder)", files::shown(.0), .1)]
    Network(PathBuf, Clean),
}

/// Makes the state folder, 0700, if it is not there, and refuses it on a network file system, when somebody else owns it
/// or when others can write in it. `proc` is where FUSE's names are looked up.
pub fn prepare(folder: &Path, proc: &Path) -> Result<(), BadState> {
    let failed = |error| BadState::Io(folder.to_owned(), error);
    match std::fs::metadata(folder) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = folder.parent() {
                std::fs::create_dir_all(parent).map_err(failed)?;
            }
            match std::fs::DirBuilder::new().mode(0o700).create(folder) {
                // Another run may have been quicker.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                _ => {}
            }
        }
        Err(error) => return Err(failed(error)),
    }
    let meta = std::fs::metadata(folder).map_err(failed)?;
    if !meta.is_dir() {
        return Err(BadState::NotAFolder(folder.to_owned()));
    }
    if meta.uid() != geteuid().as_raw() {
        return Err(BadState::OtherOwner(folder.to_owned(), meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(BadState::OthersCanWrite(folder.to_owned()));
    }
    match network_name(folder, proc).map_err(failed)? {
        Some(name) => Err(BadState::Network(folder.to_owned(), name)),
        None => Ok(()),
    }
}

/// The name of the network file system that a path is on, if it is on one.
fn network_name(path: &Path, proc: &Path) -> io::Result<Option<Clean>> {
    let magic = u64::try_from(rustix::fs::statfs(path)?.f_type).unwrap_or_default() & 0xFFFF_FFFF;
    if magic != FUSE {
        return Ok(network(magic).map(Clean::new));
    }
    // FUSE is both: only the mount's type tells an encrypted local folder from one behind SSH.
    let real = std::fs::canonicalize(path)?;
    let mounts = mounts::read(proc).unwrap_or_default();
    let kind = mount_of(&mounts, &real).and_then(|mount| mount.fs.strip_prefix("fuse."));
    Ok(kind.filter(|kind| NETWORK_FUSE.contains(kind)).map(|kind| Clean::line(kind, 64)))
}

/// From `linux/magic.h` and the file systems' own headers.
const FUSE: u64 = 0x6573_5546;

fn network(magic: u64) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517B => "SMB",
        0xFF53_4D42 => "CIFS",
        0xFE53_4D42 => "SMB2",
        0x0102_1997 => "9P",
        0x00C3_6400 => "Ceph",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x564C => "NCP",
        0x0BD0_0BD0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x7461_636F => "OCFS2",
        0x0116_1970 => "GFS2",
        0x786F_4256 => "VirtualBox shared folder",
        _ => return None,
    })
}

const NETWORK_FUSE: [&str; 12] = [
    "sshfs",
    "rclone",
    "s3fs",
    "glusterfs",
    "davfs",
    "davfs2",
    "gvfsd-fuse",
    "curlftpfs",
    "ceph-fuse",
    "juicefs",
    "gcsfuse",
    "mount.goofys",
];

/// The mount that a path is on: the longest mount point above it, the last one of equals.
fn mount_of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts.iter().filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.len())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_new_folder_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b/state");
        prepare(&folder, Path::new("/proc")).unwrap();
        assert_eq!(files::stat(&folder).unwrap().unwrap().mode, 0o700);
        prepare(&folder, Path::new("/proc")).unwrap();
    }

    #[test]
    fn a_folder_that_can_not_be_trusted_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state");
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o775)).unwrap();
        let said = prepare(&folder, Path::new("/proc")).unwrap_err().to_string();
        assert!(said.ends_with("state` can be written by others (chmod 700 it)"), "{said}");
        let file = dir.path().join("file");
        files::replace(&file, b"", 0o600).unwrap();
        assert!(matches!(prepare(&file, Path::new("/proc")), Err(BadState::NotAFolder(_))));
        assert!(matches!(prepare(&file.join("x"), Path::new("/proc")), Err(BadState::Io(..))));
        if geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(12_345), None).unwrap();
            assert!(matches!(prepare(&folder, Path::new("/proc")), Err(BadState::OtherOwner(_, 12_345))));
        }
    }

    #[test]
    fn network_file_systems_are_known_by_number_or_mount() {
        for (magic, expected) in
            [(0x6969, Some("NFS")), (0xFF53_4D42, Some("CIFS")), (0xEF53, None), (0x0102_1994, None)]
        {
            assert_eq!(network(magic), expected, "{magic:x}");
        }
        let mounts = mounts::parse(concat!(
            "/dev/sda1 / ext4 rw 0 0\n",
            "host:/ /home/a\\040b fuse.sshfs rw 0 0\n",
            "x /home fuse.gocryptfs rw 0 0\n",
        ));
        for (path, expected) in [("/home/a b/state", "fuse.sshfs"), ("/home/c", "fuse.gocryptfs"), ("/var", "ext4")] {
            assert_eq!(mount_of(&mounts, Path::new(path)).unwrap().fs, expected, "{path}");
        }
    }
}
