//! The environment, read once, and what it says about where things are.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::Paths;

/// The environment as captured by [`capture`] or made up by a test.
pub type Env = BTreeMap<OsString, OsString>;

/// Reads the environment. Called once, in `main`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
pub fn capture() -> Env {
    std::env::vars_os().collect()
}

impl Paths {
    /// Where things are, by the environment. The state folder is the first of `$PULSECHECK_STATE`,
    /// `$STATE_DIRECTORY` (systemd's), `$XDG_STATE_HOME/pulsecheck`, `~/.local/state/pulsecheck`; without a home
    /// `/var/lib/pulsecheck`. Ours goes before systemd's: under `exec` the latter may be the job's own folder.
    /// A relative `$XDG_STATE_HOME` is ignored, as its specification asks.
    #[must_use]
    pub fn discover(env: &Env) -> Self {
        let var = |name: &str| env.get(OsStr::new(name)).filter(|value| !value.is_empty()).map(PathBuf::from);
        let absolute = |name: &str| var(name).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let state = var("PULSECHECK_STATE")
            .map(|path| std::path::absolute(&path).unwrap_or(path))
            .or_else(|| absolute("STATE_DIRECTORY").map(|list| first_of_list(&list)))
            .or_else(|| absolute("XDG_STATE_HOME").map(|path| path.join("pulsecheck")))
            .or_else(|| home.as_ref().map(|home| home.join(".local/state/pulsecheck")))
            .unwrap_or_else(|| PathBuf::from("/var/lib/pulsecheck"));
        Self { home, state, proc: PathBuf::from("/proc") }
    }
}

/// systemd gives several folders, divided by colons, when a unit asks for several.
fn first_of_list(list: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = list.as_os_str().as_bytes();
    let first = bytes.split(|&b| b == b':').next().unwrap_or(bytes);
    PathBuf::from(OsStr::from_bytes(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(vars: &[(&str, &str)]) -> String {
        let env = vars.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect();
        Paths::discover(&env).state.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_state_folder_is_where_the_environment_says() {
        let table: [(&[(&str, &str)], &str); 8] = [
            (&[("STATE_DIRECTORY", "/a:/b"), ("PULSECHECK_STATE", "/c"), ("HOME", "/h")], "/c"),
            (&[("STATE_DIRECTORY", "/a:/b"), ("XDG_STATE_HOME", "/x"), ("HOME", "/h")], "/a"),
            (&[("PULSECHECK_STATE", "/c"), ("XDG_STATE_HOME", "/x"), ("HOME", "/h")], "/c"),
            (&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")], "/x/pulsecheck"),
            (&[("XDG_STATE_HOME", "x"), ("HOME", "/h")], "/h/.local/state/pulsecheck"),
            (&[("PULSECHECK_STATE", ""), ("HOME", "/h")], "/h/.local/state/pulsecheck"),
            (&[("HOME", "h")], "/var/lib/pulsecheck"),
            (&[], "/var/lib/pulsecheck"),
        ];
        for (vars, expected) in table {
            assert_eq!(state(vars), expected, "{vars:?}");
        }
    }
}
