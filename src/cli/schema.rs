//! `pulsecheck schema`: the public contracts as JSON Schema.

use super::{Exit, Failure, Session};
use crate::{config, notify, report};

/// Of what.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which one.
    #[arg(value_enum)]
    of: Of,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Of {
    /// The config file, for editors.
    Config,
    /// What `run` prints.
    Report,
    /// What webhooks and commands are sent.
    Notice,
    /// What `status --json` prints.
    Status,
    /// What `history --json` prints.
    History,
    /// What `explain --json` prints.
    Explain,
}

/// Prints it.
pub fn run(args: &Args, session: &mut Session) -> Result<Exit, Failure> {
    match args.of {
        Of::Config => {
            let text = serde_json::to_string_pretty(&config::schema())?;
            session.out.line(&text);
        }
        Of::Report => session.out.text(report::SCHEMA),
        Of::Notice => session.out.text(notify::body::SCHEMA),
        Of::Status => session.out.text(super::status::SCHEMA),
        Of::History => session.out.text(super::history::SCHEMA),
        Of::Explain => session.out.text(super::explain::SCHEMA),
    }
    Ok(Exit::Done)
}
