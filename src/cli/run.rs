//! `pulsecheck run`: one cycle, and what is printed of it.

use std::cell::RefCell;

use super::{Exit, Failure, Session};
use crate::cycle::{self, Options, Ran};
use crate::judge::Level;
use crate::report;
use crate::schedule::Window;
use crate::settings::Dur;
use crate::steps::{Step, reached};

/// How to run.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub struct Args {
    /// Commit nothing, move no offset, tell nobody: only print what a cycle would say.
    #[arg(long)]
    dry_run: bool,
    /// End with 0, 1, 2 or 3 for green, yellow, red and could-not-run, in the manner of a Nagios plugin.
    #[arg(long)]
    pub exit_status: bool,
    /// Print for people: words on a terminal, indented JSON elsewhere.
    #[arg(long)]
    pretty: bool,
    /// What to print: `state` always says how things are, `changes` is silent while nothing is new.
    #[arg(long, value_enum, default_value_t = Print::State, value_name = "WHAT")]
    print: Print,
    /// Started by a scheduler: outside `active_hours` it leaves at once, without a word.
    #[arg(long)]
    scheduled: bool,
    /// Wait for another run to end instead of leaving at once; at most this long.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "2m", value_parser = duration)]
    wait: Option<Dur>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Print {
    State,
    Changes,
}

pub(super) fn duration(text: &str) -> Result<Dur, String> {
    Dur::parse(text)
}

/// Runs one cycle and prints it.
pub async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let config = session.config()?;
    let host = session.host.clone();
    let asleep = |hours: &Window| !hours.contains(host.now().wall);
    if args.scheduled && config.active_hours.as_ref().is_some_and(asleep) {
        return Ok(Exit::Done);
    }
    let options = Options { dry: args.dry_run, wait: args.wait.map(Dur::get) };
    let mut ran = {
        let out = RefCell::new(&mut session.out);
        let progress = |done, of| out.borrow_mut().progress(&format!("looked at {done} of {of}"));
        cycle::run(&config, &host, options, &progress).await?
    };
    let printed = printed(&ran, &args, &config.quiet_token, session);
    // Every text in it passed the gate; as a whole it must not, or a secret called `status` would take a key away.
    session.out.bytes(printed.as_bytes());
    reached(&host, Step::Printed);
    remarks(&ran, session);
    if let Some(store) = ran.store.take() {
        cycle::tidy(&config, &host, *store);
    }
    if let Some(why) = &ran.away {
        session.out.error(&format!("nothing could be committed: {why}"));
        return Ok(if args.exit_status { Exit::CouldNotRun } else { Exit::Failed });
    }
    Ok(match ran.status {
        _ if !args.exit_status => Exit::Done,
        Level::Ok | Level::Logged => Exit::Done,
        Level::Yellow => Exit::Yellow,
        Level::Red => Exit::Red,
    })
}

fn printed(ran: &Ran, args: &Args, quiet_token: &str, session: &Session) -> String {
    if ran.quiet {
        // An empty token prints nothing at all, not an empty line: some runtimes send that.
        return if quiet_token.is_empty() { String::new() } else { format!("{quiet_token}\n") };
    }
    if args.print == Print::Changes && !ran.news {
        return String::new();
    }
    if args.pretty && session.out.is_terminal() {
        return report::lines(&ran.report).join("\n") + "\n";
    }
    if args.pretty {
        let pretty = serde_json::to_string_pretty(&ran.report).unwrap_or_else(|_| ran.json.clone());
        return pretty + "\n";
    }
    format!("{}\n", ran.json)
}

/// What a person at the terminal should know beside the report.
fn remarks(ran: &Ran, session: &mut Session) {
    for (key, outcome) in &ran.logged {
        session.out.remark(&format!("logged, not yet a pattern: {key}: {}", outcome.said));
    }
    for said in &ran.undelivered {
        session.out.remark(&format!("not delivered, and tried again: {said}"));
    }
}
