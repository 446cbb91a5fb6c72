//! The mount table as the kernel writes it in `/proc/self/mounts`.

use std::path::Path;

use super::files;
use crate::facts::Unread;

/// Bytes read of the table: some thousands of mounts.
const MAX_BYTES: usize = 1 << 20;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted: a device, a share, or a word where there is neither.
    pub source: String,
    /// Where.
    pub point: String,
    /// The type of file system.
    pub fs: String,
    /// The options, in order.
    pub options: Vec<String>,
}

impl Mount {
    /// Whether nothing can be written to it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }
}

/// The mounts of this machine, in the order in which they were made: a later one covers an earlier one on the same
/// point. Blocking: call on a lane. Codes: those of [`files::read`].
pub fn read(proc: &Path) -> Result<Vec<Mount>, Unread> {
    let (bytes, _more) = files::read(&proc.join("self/mounts"), MAX_BYTES)?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

/// Reads a mount table; lines of another form are left out.
#[must_use]
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            Some(Mount {
                source: plain(fields.next()?),
                point: plain(fields.next()?),
                fs: fields.next()?.to_owned(),
                options: fields.next()?.split(',').map(str::to_owned).collect(),
            })
        })
        .collect()
}

/// Blanks, line breaks and backslashes stand in the table as a backslash and three octal digits.
fn plain(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.split_at_checked(3)).flatten().and_then(|(digits, after)| {
            let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| (b'0'..=b'7').contains(&b)))?;
            u8::from_str_radix(digits, 8).ok().map(|byte| (byte, after))
        });
        let (byte, after) = octal.unwrap_or((first, tail));
        out.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_with_its_escapes() {
        let mounts = parse(concat!(
            "/dev/sda2 / ext4 rw,relatime,errors=remount-ro 0 0\n",
            "nas:/vol\\0401 /mnt/my\\040photos\\134x nfs4 ro,vers=4.2 0 0\n",
            "odd\\9 /odd\\ ext4 rw 0 0\n",
            "half a\n\n",
        ));
        let seen: Vec<_> =
            mounts.iter().map(|m| (m.source.as_str(), m.point.as_str(), m.fs.as_str(), m.is_read_only())).collect();
        assert_eq!(
            seen,
            [
                ("/dev/sda2", "/", "ext4", false),
                ("nas:/vol 1", "/mnt/my photos\\x", "nfs4", true),
                ("odd\\9", "/odd\\", "ext4", false),
            ]
        );
    }
}
