//! `pulsecheck validate`: the config, and all that is wrong with it.

use super::{Exit, Failure, Session};
use crate::config::Found;
use crate::words::count;

/// Nothing but the config.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Reads the config and says what it amounts to.
pub fn run(_args: &Args, session: &mut Session) -> Result<Exit, Failure> {
    let config = session.config()?;
    let source = match &config.source {
        Found::File(path) => path.display().to_string(),
        Found::Nowhere => "no config file: built-in checks of this host".to_owned(),
    };
    session.out.line(&format!(
        "{source}: good ({}, {})",
        count(config.checks.len() as u64, "check", "checks"),
        count(config.channels.len() as u64, "channel", "channels")
    ));
    Ok(Exit::Done)
}
