//! The command line: what was asked, who does it, and with which exit status it ends.

mod baseline;
mod exec;
mod explain;
mod history;
mod init;
mod kinds;
mod notify;
mod out;
mod people;
mod run;
mod schema;
mod status;
mod table;
mod validate;
mod view;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::clock::Clock;
use crate::config::{self, Config, Found};
use crate::host::{Host, Paths, env};
use crate::redact::Clean;

pub use out::Out;

/// How a command ends. `run` is 0 whatever it found, unless it is asked for more with `--exit-status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; for `run`: the cycle ran, whatever it found. With `--exit-status`: green.
    Done,
    /// It could not be done: one clear error is on stderr.
    Failed,
    /// The command line could not be understood.
    Usage,
    /// `run --exit-status`: yellow.
    Yellow,
    /// `run --exit-status`: red.
    Red,
    /// `run --exit-status`: could not run.
    CouldNotRun,
    /// `exec`: what the job ended with.
    Job(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed | Exit::Yellow => Self::from(1),
            Exit::Usage | Exit::Red => Self::from(2),
            Exit::CouldNotRun => Self::from(3),
            Exit::Job(status) => Self::from(status),
        }
    }
}

/// Knows whether AI agents that run unattended are all right.
#[derive(Debug, Parser)]
#[expect(clippy::doc_markdown, reason = "it is the help, which a terminal shows as it stands")]
#[command(name = "pulsecheck", version, about, long_about = None, max_term_width = 100)]
struct Cli {
    /// The config file [default: $PULSECHECK_CONFIG, else pulsecheck/pulsecheck.toml in $XDG_CONFIG_HOME or ~/.config,
    /// else /etc/pulsecheck/pulsecheck.toml; without any, built-in checks of this host].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one cycle: look, compare, judge, commit, tell, print.
    Run(run::Args),
    /// Write a commented config for what is on this host.
    Init(init::Args),
    /// Read the config and say all that is wrong with it.
    Validate(validate::Args),
    /// Show how every check stands.
    Status(status::Args),
    /// Show past cycles, incidents and notices.
    History(history::Args),
    /// Show everything that is known of one check, and what to do.
    Explain(explain::Args),
    /// Acknowledge open trouble at its level.
    Ack(people::AckArgs),
    /// Hold notices back for a while.
    Silence(people::SilenceArgs),
    /// Show, compare or accept what checks are compared with: keys, ports, packages, files.
    Baseline(baseline::Args),
    /// Try a channel.
    Notify(notify::Args),
    /// Run a job and record how it went.
    Exec(exec::Args),
    /// Show what can be looked at, or all that one kind of check can be told.
    Kinds(kinds::Args),
    /// Print a JSON Schema: of the config, the report, the notices, or what a `--json` prints.
    Schema(schema::Args),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// The folder within the state folder for the store of the built-in checks.
const BUILT_IN: &str = "built-in";

/// What every command is given.
pub(crate) struct Session {
    /// The way to the outside.
    pub host: Arc<Host>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// Where output goes.
    pub out: Out,
}

/// Why a command did not do what was asked: a sentence, without a full stop, and the way out below it.
pub(crate) struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl Session {
    /// Finds and reads the config; says all that is wrong with it. The built-in checks that stand in for a missing one
    /// get a store of their own, so that a config that comes later does not seem to remove them.
    pub fn config(&mut self) -> Result<Config, Failure> {
        let found = config::find(self.config.as_deref(), &self.host).map_err(|problems| self.said(&problems))?;
        let config = Config::load(&found, &self.host).map_err(|problems| self.said(&problems))?;
        if config.source == Found::Nowhere && !self.host.paths.state.ends_with(BUILT_IN) {
            let Host { clock, env, paths, .. } = self.host.as_ref();
            let paths = Paths { state: paths.state.join(BUILT_IN), ..paths.clone() };
            self.host = Arc::new(Host::new(*clock, env.clone(), paths));
        }
        Ok(config)
    }

    fn said(&self, problems: &config::Problems) -> Failure {
        Failure(problems.render(self.out.err_is_terminal(), self.out.width()).trim_end().to_owned())
    }
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    crate::redact::install_panic_hook();
    let env = env::capture();
    let mut out = Out::new(&env);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return usage(&said, &mut out).into(),
    };
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "pulsecheck", &mut script);
        out.bytes(&script);
        return Exit::Done.into();
    }
    let clock = clock(&env);
    let paths = paths(&env);
    let host = Arc::new(Host::new(clock, env, paths));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            out.error(&format!("could not start: {error}"));
            return Exit::Failed.into();
        }
    };
    let session = Session { host, config: cli.config, out };
    let exit = runtime.block_on(dispatch(cli.command, session));
    // A stuck read or a silent name server must not keep the process.
    runtime.shutdown_timeout(Duration::ZERO);
    exit.into()
}

async fn dispatch(command: Command, mut session: Session) -> Exit {
    let could_not = match &command {
        Command::Run(args) if args.exit_status => Exit::CouldNotRun,
        _ => Exit::Failed,
    };
    let done = match command {
        Command::Run(args) => run::run(args, &mut session).await,
        Command::Init(args) => init::run(&args, &mut session).await,
        Command::Validate(args) => validate::run(&args, &mut session),
        Command::Status(args) => status::run(&args, &mut session),
        Command::History(args) => history::run(&args, &mut session),
        Command::Explain(args) => explain::run(&args, &mut session),
        Command::Ack(args) => people::ack(&args, &mut session),
        Command::Silence(args) => people::silence(&args, &mut session),
        Command::Baseline(args) => baseline::run(&args, &mut session),
        Command::Notify(args) => notify::run(args, &mut session).await,
        Command::Exec(args) => exec::run(args, &mut session).await,
        Command::Kinds(args) => kinds::run(&args, &mut session),
        Command::Schema(args) => schema::run(&args, &mut session),
        Command::Completions { .. } => Ok(Exit::Done),
    };
    let exit = done.unwrap_or_else(|Failure(said)| {
        session.out.error(&said);
        could_not
    });
    if session.out.failed() {
        session.out.error("stdout can't be written: what was to be printed is lost (pulsecheck status)");
        return could_not;
    }
    exit
}

fn usage(said: &clap::Error, out: &mut Out) -> Exit {
    use clap::error::ErrorKind;
    if matches!(said.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        out.text(&said.render().to_string());
        return Exit::Done;
    }
    out.error_raw(&said.render().to_string());
    Exit::Usage
}

/// The machine's clock; in debug builds a test can begin at another time.
fn clock(env: &BTreeMap<OsString, OsString>) -> Clock {
    let told = env.get(std::ffi::OsStr::new("PULSECHECK_TEST_NOW")).filter(|_| cfg!(debug_assertions));
    told.and_then(|told| told.to_str()?.parse().ok()).map_or_else(Clock::machine, Clock::starting_at)
}

/// Where things are; in debug builds a test can have another `/proc`, `/etc` and `/var`.
fn paths(env: &BTreeMap<OsString, OsString>) -> Paths {
    let paths = Paths::discover(env);
    let told = env.get(std::ffi::OsStr::new("PULSECHECK_TEST_ROOT")).filter(|_| cfg!(debug_assertions));
    told.map_or_else(|| paths.clone(), |root| Paths { proc: PathBuf::from(root).join("proc"), ..paths.clone() })
}

/// Who gave a command: user, terminal and parent command. The watched agent often runs as the same user, so a name alone
/// tells little.
pub(crate) fn who(host: &Host) -> Clean {
    let user = host.var("SUDO_USER").or_else(|| host.var("USER")).or_else(|| host.var("LOGNAME")).map_or_else(
        || format!("uid {}", rustix::process::getuid().as_raw()),
        |user| user.to_string_lossy().into_owned(),
    );
    let terminal = if std::io::stdin().is_terminal() {
        rustix::termios::ttyname(std::io::stdin(), Vec::new())
            .map_or_else(|_| "a terminal".to_owned(), |name| name.to_string_lossy().into_owned())
    } else {
        "no terminal".to_owned()
    };
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let command = crate::host::files::read(&host.paths.proc.join(parent.to_string()).join("comm"), 64)
        .map(|(bytes, _)| String::from_utf8_lossy(&bytes).trim().to_owned())
        .unwrap_or_default();
    Clean::line(&format!("{user} ({terminal}, from {command})"), 160)
}
