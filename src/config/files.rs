//! Where the config is, and its text: the main file, what it includes, and the packs inside the binary. A file that
//! somebody else on the machine can change decides nothing here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::nearest::nearest;
use super::problems::Problems;
use super::table::list;
use crate::host::{Host, files, trust};
use crate::settings::Problem;

/// Bytes that one file may have.
pub const MAX_BYTES: usize = 1 << 20;
/// Files that one config may include.
pub const MAX_INCLUDES: usize = 64;

/// The config of the whole machine.
const SYSTEM: &str = "/etc/pulsecheck/pulsecheck.toml";

/// Packs inside the binary, by name: `include = ["pack:host"]`.
pub static PACKS: &[(&str, &str)] = &[("host", include_str!("../../checks/host.toml"))];

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
    let places = user_file(host).into_iter().chain([PathBuf::from(SYSTEM)]);
    Ok(places.into_iter().find(|path| !matches!(files::stat(path), Ok(None))).map_or(Found::Nowhere, Found::File))
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
    let including = role == Role::Included;
    let named = |said: String| {
        let said = if including { format!("{}: {said}", path.display()) } else { said };
        Problem { said, ..at.clone() }
    };
    if let Some(why) = trust::others_can_write(path) {
        out.push(named(format!("not trusted, since others could change what runs: {why}")));
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
        out.push(named("larger than 1 MiB (split it into files to include)".to_owned()));
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(Source { name: path.to_path_buf(), text: Arc::from(text), role }),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes().iter().take(valid).filter(|b| **b == b'\n').count() + 1;
            out.push(named(format!("not UTF-8 at byte {valid}, in line {line}")));
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
        let source = match name.strip_prefix("pack:") {
            Some(pack) => match PACKS.iter().find(|(known, _)| *known == pack) {
                Some((_, text)) => {
                    Some(Source { name: PathBuf::from(name), text: Arc::from(*text), role: Role::Included })
                }
                None => {
                    out.push(no_such_pack(pack, problem.clone()));
                    None
                }
            },
            None => {
                let path = host.expand(name);
                let folder = main.name.parent().unwrap_or(Path::new(""));
                read(&folder.join(path), Role::Included, Some(problem.clone()), out)
            }
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
    let names = PACKS.iter().map(|(name, _)| *name);
    let problem = Problem { said: "no such pack in this build".to_owned(), ..problem };
    match nearest(pack, names.clone()) {
        Some(meant) => problem.hint(format!("did you mean `pack:{meant}`?")),
        None => problem.hint(format!("there are: {}", list(names))),
    }
}
