//! `pulsecheck init`: a commented config for this host.

use std::path::PathBuf;

use super::{Exit, Failure, Session};
use crate::config::{self, PACKS, Pack, Presence};
use crate::host::files;

/// Where to write it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print it instead of writing it.
    #[arg(long)]
    print: bool,
    /// List the packs that are shipped inside the binary.
    #[arg(long, conflicts_with = "print")]
    list: bool,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
}

/// Writes the config, where there is none.
pub async fn run(args: &Args, session: &mut Session) -> Result<Exit, Failure> {
    if args.list {
        for pack in PACKS {
            let about = pack.text.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']);
            session.out.line(&format!("{:<12}{about}", pack.name));
        }
        return Ok(Exit::Done);
    }
    let found = config::presences(&session.host, &config::answering(&session.host).await);
    let text = config::render_init(&found, &session.host);
    if args.print {
        // As it would be written: nothing in it is a secret, and it must stay the same config.
        session.out.bytes(text.as_bytes());
        return Ok(Exit::Done);
    }
    let path: PathBuf = match &session.config {
        Some(path) => path.clone(),
        None => config::user_file(&session.host)
            .ok_or_else(|| Failure("there is no home to write a config to (name a file with --config)".to_owned()))?,
    };
    if !args.force && files::stat(&path).is_ok_and(|stat| stat.is_some()) {
        return Err(Failure(format!(
            "`{}` is there already (--force replaces it, --print only shows it)",
            path.display()
        )));
    }
    let written = path
        .parent()
        .map_or(Ok(()), files::make_private_folder)
        .and_then(|()| files::replace(&path, text.as_bytes(), 0o600));
    written.map_err(|error| Failure(format!("`{}` can't be written: {error}", path.display())))?;
    session.out.line(&format!("wrote {}", path.display()));
    say(&found, session);
    session.out.line("next: pulsecheck validate, then pulsecheck run");
    Ok(Exit::Done)
}

/// What was found, what was not, and how to take it all the same.
fn say(found: &[(&'static Pack, Presence)], session: &mut Session) {
    let mut lines = Vec::new();
    let mut absent = Vec::new();
    for (Pack { name, .. }, presence) in found {
        match presence {
            Presence::Always => lines.push(format!("  {name:<14}for every host")),
            Presence::Here(because) => lines.push(format!("  {name:<14}{because}")),
            Presence::Installed(because) => {
                lines.push(format!("  {name:<14}not taken: {because}, but nothing shows that it is used"));
            }
            Presence::Absent => absent.push(*name),
            Presence::OnRequest => lines.push(format!("  {name:<14}not taken: only on request")),
        }
    }
    if !found.iter().any(|(_, presence)| matches!(presence, Presence::Here(_))) {
        lines.push(
            "none of the systems that have a pack was found on this host: it looks at the host itself".to_owned(),
        );
    }
    if !absent.is_empty() {
        lines.push(format!(
            "not found here: {} (`include = [\"pack:NAME\"]` takes one all the same)",
            absent.join(", ")
        ));
    }
    for line in lines {
        session.out.line(&line);
    }
}
