//! `pulsecheck exec`: a job, and the record of how it went. The wrapper ends as the job ends.

use std::ffi::OsString;
use std::io::Write as _;

use super::{Exit, Failure, Session};
use crate::facts::{BadName, is_name};
use crate::jobs::exec::{ExecRequest, exec};
use crate::schedule::Schedule;

/// What to run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The job's name: 1 to 64 of a-z 0-9 . _ -
    #[arg(long, value_name = "NAME", value_parser = name)]
    job: String,
    /// The schedule that it runs on: five cron fields, or `every 15m`. Without one, a run that never comes is not missed.
    #[arg(long, value_name = "WHEN", value_parser = schedule)]
    schedule: Option<String>,
    /// Keep the end of its output even where stdout is a terminal (a job that looks at its terminal will see a pipe).
    #[arg(long, overrides_with = "no_capture")]
    capture: bool,
    /// Keep none of its output.
    #[arg(long)]
    no_capture: bool,
    /// The program and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    argv: Vec<OsString>,
}

fn name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(BadName(text.to_owned()).to_string()) }
}

fn schedule(text: &str) -> Result<String, String> {
    Schedule::parse(text).map(|_| text.to_owned())
}

/// Runs the job; does not come back.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let capture = match (args.capture, args.no_capture) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let request = ExecRequest { job: args.job, schedule: args.schedule, capture, argv: args.argv };
    let outcome = exec(request, &session.host).await;
    if let Some(said) = outcome.said {
        session.out.error(said.as_str());
    }
    let _closed = std::io::stdout().flush();
    outcome.leaving.leave()
}
