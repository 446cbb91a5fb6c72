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
    /// What `baseline show --json` prints.
    Baseline,
}

/// Prints it.
pub fn run(args: &Args, session: &mut Session) -> Result<Exit, Failure> {
    // Of our own making: an example in it must not be taken for a secret.
    let text = match args.of {
        Of::Config => serde_json::to_string_pretty(&config::schema())? + "\n",
        Of::Report => report::SCHEMA.to_owned(),
        Of::Notice => notify::body::SCHEMA.to_owned(),
        Of::Status => super::status::SCHEMA.to_owned(),
        Of::History => super::history::SCHEMA.to_owned(),
        Of::Explain => super::explain::SCHEMA.to_owned(),
        Of::Baseline => super::baseline::SCHEMA.to_owned(),
    };
    session.out.bytes(text.as_bytes());
    Ok(Exit::Done)
}
