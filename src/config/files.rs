//! Where the config is, and its text: the main file, what it includes, and the packs inside the binary. A file that
//! somebody else on the machine can change decides nothing here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::nearest::nearest;
use super::packs::{self, PACKS};
use super::problems::Problems;
use super::table::list;
use crate::host::{Host, files, trust};
use crate::settings::Problem;

/// Bytes that one file may have.
pub const MAX_BYTES: usize = 1 << 20;
/// Files that one config may include.
pub const MAX_INCLUDES: usize = 64;

/// Where a config was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// In this file.
    File(PathBuf),
    /// Nowhere: the checks of this host are made up in memory.
    Nowhere,
}

/// Looks for the config: what was asked for on the command line, `$PULSECHECK_CONFIG`, the user's, the machine's. The
/// first that is there counts, whether it can be read or not. One that was asked for must be there.
pub fn find(asked_for: Option<&Path>, host: &Host) -> Result<Found, Problems> {
    let named = asked_for.map(|path| (path.to_path_buf(), "--config"));
    let variable = || {
        let path = host.var("PULSECHECK_CONFIG").filter(|path| !path.is_empty())?;
        Some((PathBuf::from(path), "$PULSECHECK_CONFIG"))
    };
    if let Some((path, by)) = named.or_else(variable) {
        return match files::stat(&path) {
            Ok(None) => Err(Problems::one(Problem::new(path, 0..0, "", format!("no such file (named by {by})")))),
            _ => Ok(Found::File(path)),
        };
    }
    let places = user_file(host).into_iter().chain([host.paths.etc().join("pulsecheck/pulsecheck.toml")]);
    // A link that leads nowhere is a config that is missing (dotfiles that are not mounted), not the wish for none.
    let there = |path: &PathBuf| !matches!(files::stat(path), Ok(None)) || path.symlink_metadata().is_ok();
    Ok(places.into_iter().find(there).map_or(Found::Nowhere, Found::File))
}

/// Where the user's config is, or would be: `$XDG_CONFIG_HOME/pulsecheck/pulsecheck.toml`, by default under
/// `~/.config`. None without a home.
#[must_use]
pub fn user_file(host: &Host) -> Option<PathBuf> {
    let set = host.var("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = set.or_else(|| Some(host.paths.home.as_ref()?.join(".config")))?;
    Some(folder.join("pulsecheck/pulsecheck.toml"))
}

/// What a file is to the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The file that was found: it may have every key.
    Main,
    /// A file or pack that the main one includes: checks and channels only.
    Included,
}

/// One file's text.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The file, as the user named it; `pack:NAME` for one inside the binary.
    pub name: PathBuf,
    pub text: Arc<str>,
    pub role: Role,
}

/// Reads one file. `None` when it can't be used; why is in `out`, at `at` when another file named it.
pub(super) fn read(path: &Path, role: Role, at: Option<Problem>, out: &mut Problems) -> Option<Source> {
    let at = at.unwrap_or_else(|| Problem::new(path, 0..0, "", ""));
    let named = |said: String| Problem { said, ..at.clone() };
    let it = format!("`{}`", path.display());
    if let Some(why) = trust::others_can_write(path) {
        out.push(named(format!("others could change what runs: {why}")));
        return None;
    }
    let (bytes, cut) = match files::read(path, MAX_BYTES) {
        Ok(read) => read,
        Err(unread) => {
            out.push(named(unread.said.as_str().to_owned()));
            return None;
        }
    };
    if cut {
        out.push(named(format!("{it} is larger than 1 MiB (split it into files to include)")));
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(Source { name: path.to_path_buf(), text: Arc::from(text), role }),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes().iter().take(valid).filter(|b| **b == b'\n').count() + 1;
            out.push(named(format!("{it} is not UTF-8 in line {line}")));
            None
        }
    }
}

/// Reads what a main file includes. Paths are relative to its folder.
pub(super) fn included(main: &Source, root: &DeTable<'_>, host: &Host, out: &mut Problems) -> Vec<Source> {
    let Some(DeValue::Array(wanted)) = root.get("include").map(toml::Spanned::get_ref) else { return Vec::new() };
    let mut sources: Vec<Source> = Vec::new();
    for (i, entry) in wanted.iter().enumerate() {
        // What is no string is said where the key itself is read.
        let Some(name) = entry.get_ref().as_str() else { continue };
        let problem = Problem::new(&main.name, entry.span(), format!("include[{i}]"), "");
        if i >= MAX_INCLUDES {
            out.push(Problem { said: format!("expected at most {MAX_INCLUDES} files"), ..problem });
            break;
        }
        let source = if let Some(pack) = name.strip_prefix("pack:") {
            let text = packs::find(pack).map(|pack| Arc::from(pack.text));
            if text.is_none() {
                out.push(no_such_pack(pack, problem.clone()));
            }
            text.map(|text| Source { name: PathBuf::from(name), text, role: Role::Included })
        } else {
            let folder = main.name.parent().unwrap_or(Path::new(""));
            read(&folder.join(host.expand(name)), Role::Included, Some(problem.clone()), out)
        };
        let Some(source) = source else { continue };
        if source.name == main.name || sources.iter().any(|known| known.name == source.name) {
            out.push(Problem { said: "included twice".to_owned(), ..problem });
        } else {
            sources.push(source);
        }
    }
    sources
}

fn no_such_pack(pack: &str, problem: Problem) -> Problem {
    let names = PACKS.iter().map(|pack| pack.name);
    let problem = Problem { said: "no such pack in this build".to_owned(), ..problem };
    match nearest(pack, names.clone()) {
        Some(meant) => problem.hint(format!("did you mean `pack:{meant}`?")),
        None => problem.hint(format!("there are: {}", list(names))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::Config;
    use crate::host::Paths;

    /// A host whose home and `/etc` are in a test's folder.
    fn host(dir: &Path, env: &[(&str, &str)]) -> Host {
        let env = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let paths = Paths { home: Some(dir.join("home")), state: dir.join("state"), proc: dir.join("proc") };
        Host::new(crate::clock::Clock::machine(), env, paths)
    }

    fn write(path: &Path, text: impl AsRef<[u8]>) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        files::replace(path, text.as_ref(), 0o600).unwrap();
    }

    #[test]
    fn the_first_that_is_there_counts() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let (system, home) = (at("etc/pulsecheck/pulsecheck.toml"), at("home/.config/pulsecheck/pulsecheck.toml"));
        let (xdg, named) = (at("xdg/pulsecheck/pulsecheck.toml"), at("named.toml"));
        let xdg_home = at("xdg");
        let with_xdg = [("XDG_CONFIG_HOME", xdg_home.to_str().unwrap())];
        let by_name = [("PULSECHECK_CONFIG", named.to_str().unwrap())];
        let look = |env: &[(&str, &str)]| find(None, &host(dir.path(), env));

        assert_eq!(look(&[]).unwrap(), Found::Nowhere);
        write(&system, "");
        assert_eq!(look(&[]).unwrap(), Found::File(system.clone()));
        write(&home, "");
        assert_eq!(look(&[]).unwrap(), Found::File(home.clone()));
        assert_eq!(look(&[("PULSECHECK_CONFIG", ""), ("XDG_CONFIG_HOME", "relative")]).unwrap(), Found::File(home));
        assert_eq!(look(&with_xdg).unwrap(), Found::File(system));
        write(&xdg, "");
        assert_eq!(look(&with_xdg).unwrap(), Found::File(xdg));

        let said = look(&by_name).unwrap_err().to_string();
        assert_eq!(said, format!("{}: no such file (named by $PULSECHECK_CONFIG)", named.display()));
        let said = find(Some(&named), &host(dir.path(), &[])).unwrap_err().to_string();
        assert_eq!(said, format!("{}: no such file (named by --config)", named.display()));
        write(&named, "");
        assert_eq!(look(&by_name).unwrap(), Found::File(named));
    }

    #[test]
    fn includes_are_relative_to_their_file_and_each_is_said_once() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("main.toml");
        let check = |name: &str| format!("[check.{name}]\nkind = 'system'\n");
        write(&dir.path().join("checks/one.toml"), check("one"));
        write(&dir.path().join("home/two.toml"), check("two"));
        write(&main, "include = ['checks/one.toml', '~/two.toml', 'pack:host']\n");
        let load = || Config::load(&Found::File(main.clone()), &host(dir.path(), &[]));
        let config = load().unwrap();
        let names: Vec<_> = config.checks.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["host", "one", "two"]);
        assert_eq!(config.files[1], dir.path().join("checks/one.toml"));
        assert_eq!(config.files[3], PathBuf::from("pack:host"));
        assert_eq!(config.source, Found::File(main.clone()));

        let open = dir.path().join("open.toml");
        write(&open, "");
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o666)).unwrap();
        write(&dir.path().join("big.toml"), vec![b'#'; MAX_BYTES + 1]);
        write(&dir.path().join("bytes.toml"), b"# fine\n# \xff\n");
        write(
            &main,
            "include = [\n'none.toml',\n'open.toml',\n'big.toml',\n'bytes.toml',\n'checks',\n'pack:hots',\n'pack:zzz',\n\
             'checks/one.toml',\n'checks/one.toml',\n'main.toml']\n[check.x]\nkind = 'system'\ndepends_on = ['in-big']\n",
        );
        let said = load().unwrap_err().to_string().replace(&format!("{}/", dir.path().display()), "");
        let there_are = format!("  (there are: {})", list(PACKS.iter().map(|pack| pack.name)));
        let want = [
            "main.toml:2:1: include[0]: `none.toml` is not there",
            "main.toml:3:1: include[1]: others could change what runs: `open.toml` can be written by every user (chmod o-w it)",
            "main.toml:4:1: include[2]: `big.toml` is larger than 1 MiB (split it into files to include)",
            "main.toml:5:1: include[3]: `bytes.toml` is not UTF-8 in line 2",
            "main.toml:6:1: include[4]: `checks` is a folder, not a file",
            "main.toml:7:1: include[5]: no such pack in this build",
            "  (did you mean `pack:host`?)",
            "main.toml:8:1: include[6]: no such pack in this build",
            &there_are,
            "main.toml:10:1: include[8]: included twice",
            "main.toml:11:1: include[9]: included twice",
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), want, "\n{said}");
    }

    #[test]
    fn a_main_file_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("main.toml");
        write(&main, "");
        let load = || Config::load(&Found::File(main.clone()), &host(dir.path(), &[]));
        load().unwrap();
        std::fs::set_permissions(&main, std::fs::Permissions::from_mode(0o602)).unwrap();
        let said = load().unwrap_err().to_string();
        assert!(said.contains("others could change what runs") && said.contains("(chmod o-w it)"), "{said}");
    }
}
