//! The named steps of a cycle. In debug builds a test can have the process killed at one of them, so that "killed at each
//! step" is a loop over a list; in release builds nothing is left of it.

use std::ffi::OsStr;

use crate::host::Host;

/// The variable that names a step, in debug builds.
pub const KILL_AT: &str = "PULSECHECK_TEST_KILL_AT";

/// The steps, in order.
pub const STEPS: &[Step] = &[
    Step::Begun,
    Step::Leased,
    Step::Fetched,
    Step::Judged,
    Step::Committed,
    Step::Delivering,
    Step::Delivered,
    Step::Printed,
];

/// A step of a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The config is read, nothing is open.
    Begun,
    /// The run lock is held.
    Leased,
    /// All checks were looked at.
    Fetched,
    /// Judged inside the transaction, nothing is committed.
    Judged,
    /// The transaction is committed, nothing is said.
    Committed,
    /// A message was handed over, its acceptance is not yet written down.
    Delivering,
    /// What could be delivered was, and that is written down.
    Delivered,
    /// The report or the quiet token is on stdout.
    Printed,
}

impl Step {
    /// The word for tests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Leased => "leased",
            Self::Fetched => "fetched",
            Self::Judged => "judged",
            Self::Committed => "committed",
            Self::Delivering => "delivering",
            Self::Delivered => "delivered",
            Self::Printed => "printed",
        }
    }
}

/// Says that a step was reached.
pub fn reached(host: &Host, step: Step) {
    if cfg!(debug_assertions) && host.var(KILL_AT) == Some(OsStr::new(step.name())) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
