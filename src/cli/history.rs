//! `pulsecheck history`.

use super::{Exit, Failure, Session};

/// What to show.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For programs: JSON.
    #[arg(long)]
    json: bool,
}

/// Shows it.
pub fn run(_args: &Args, _session: &mut Session) -> Result<Exit, Failure> {
    Ok(Exit::Done)
}
