//! Secrets, read from where they are kept.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::{Host, files, trust};
use crate::clean;
use crate::facts::Unread;
use crate::redact::Secret;
use crate::settings::SecretRef;

/// Bytes of a secret's file.
const MAX_BYTES: usize = 64 * 1024;
/// A secret on a disk that hangs is given up on.
const PATIENCE: Duration = Duration::from_secs(5);

impl Host {
    /// Reads a secret from where it is kept. A missing or unreadable one is `blind` with the code `secret_unreadable`,
    /// naming the reference, never the value. A file that others can read or change is refused.
    pub async fn secret(&self, at: &SecretRef) -> Result<Secret, Unread> {
        let bad = |why: &str| Unread::blind("secret_unreadable", clean!("the secret `{at}` {why}"));
        let value = match at {
            SecretRef::Env(name) => match self.var(name) {
                Some(value) => value.to_str().map(str::to_owned).ok_or_else(|| bad("is not UTF-8"))?,
                None => return Err(bad("is not set in the environment")),
            },
            SecretRef::File(path) => self.secret_file(self.expand(path), true).await.map_err(|why| bad(&why))?,
            SecretRef::Cred(name) => {
                let folder = self.var("CREDENTIALS_DIRECTORY").map(PathBuf::from);
                let folder = folder.ok_or_else(|| bad("needs systemd's $CREDENTIALS_DIRECTORY, which is not set"))?;
                let mut parts = Path::new(name).components();
                if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                    return Err(bad("is not the name of a credential"));
                }
                self.secret_file(folder.join(name), false).await.map_err(|why| bad(&why))?
            }
        };
        if value.is_empty() {
            return Err(bad("is empty"));
        }
        Ok(Secret::new(&value))
    }

    /// Lets the gate know these secrets before anything is read that may hold them: what one check prints may be another's
    /// token. One that can't be read is the trouble of whoever needs it.
    pub async fn learn(&self, secrets: &BTreeSet<SecretRef>) {
        let _known = futures_util::future::join_all(secrets.iter().map(|at| self.secret(at))).await;
    }

    /// A secret's file without its last line break, or why not. systemd guards the folder of credentials itself.
    async fn secret_file(&self, path: PathBuf, guarded_by_mode: bool) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        let about = path.to_string_lossy().into_owned();
        let read = move || {
            if guarded_by_mode {
                let stat = files::stat(&path).map_err(|unread| unread.said.to_string())?;
                let open = stat.filter(|stat| stat.is_file).and_then(|stat| trust::others_can_read(&path, &stat));
                if let Some(why) = open.or_else(|| trust::others_can_write(&path)) {
                    return Err(format!("is not safe: {why}"));
                }
            }
            let (mut bytes, more) =
                files::read(&path, MAX_BYTES).map_err(|unread| format!("can't be read: {}", unread.said))?;
            if more {
                return Err("is longer than 64 KiB".to_owned());
            }
            if bytes.ends_with(b"\n") {
                bytes.pop();
            }
            if bytes.ends_with(b"\r") {
                bytes.pop();
            }
            String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
        };
        self.lane(&about, deadline, read).await.map_err(|unread| format!("can't be read: {}", unread.said))?
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[tokio::test]
    async fn secrets_come_from_env_file_and_credentials_and_say_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Host::for_tests(dir.path());
        let creds = dir.path().join("creds");
        std::fs::create_dir(&creds).unwrap();
        host.env.insert(OsString::from("KEY"), OsString::from("from-env"));
        host.env.insert(OsString::from("EMPTY"), OsString::new());
        host.env.insert(OsString::from("CREDENTIALS_DIRECTORY"), creds.clone().into_os_string());
        files::replace(&dir.path().join("key"), b"from-file\n", 0o600).unwrap();
        files::replace(&dir.path().join("lines"), b"a\nb\n\n", 0o600).unwrap();
        files::replace(&dir.path().join("open"), b"value-of-open", 0o644).unwrap();
        files::replace(&dir.path().join("long"), &vec![b'x'; MAX_BYTES + 1], 0o600).unwrap();
        files::replace(&dir.path().join("bytes"), b"\xff\xfe", 0o600).unwrap();
        files::replace(&creds.join("key"), b"from-cred", 0o444).unwrap();

        for (at, expected) in [
            ("env:KEY", "from-env"),
            ("file:~/key", "from-file"),
            ("file:~/lines", "a\nb\n"),
            ("cred:key", "from-cred"),
        ] {
            assert_eq!(host.secret(&SecretRef::parse(at).unwrap()).await.unwrap().expose(), expected, "{at}");
        }
        for (at, why) in [
            ("env:NONE", "the secret `env:NONE` is not set in the environment"),
            ("env:EMPTY", "is empty"),
            ("file:~/none", "is not there"),
            ("file:~/open", "can be read or written by others (chmod 600 it)"),
            ("file:~/long", "is longer than 64 KiB"),
            ("file:~/bytes", "is not UTF-8"),
            ("file:~/", "is a folder"),
            ("cred:none", "is not there"),
        ] {
            let unread = host.secret(&SecretRef::parse(at).unwrap()).await.unwrap_err();
            assert_eq!((unread.blame, unread.code.as_str()), (crate::facts::Blame::Blind, "secret_unreadable"), "{at}");
            assert!(unread.said.as_str().contains(why), "{at}: {}", unread.said);
            assert!(!unread.said.as_str().contains("value-of-open"), "{at}");
        }
    }
}
