//! The process table, read once a cycle.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Host;
use crate::facts::Unread;

/// One process.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: Option<u32>,
    /// Its short name.
    pub name: String,
    /// Program and arguments; empty for kernel threads and where it may not be read.
    pub argv: Vec<String>,
    /// Who runs it.
    pub uid: Option<u32>,
    /// When it was started; with the pid it tells a process from a later one of the same number.
    pub started: Timestamp,
    /// Running, sleeping, stopped, zombie …
    pub state: ProcessState,
    /// Resident memory.
    pub rss_bytes: u64,
}

/// The states that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// Running or waiting for something.
    Alive,
    /// Waiting for the disk without being interruptible.
    DiskWait,
    /// Stopped by a signal or a debugger.
    Stopped,
    /// Dead, not yet collected by its parent.
    Zombie,
}

impl Host {
    /// All processes of this machine, read at most once a cycle.
    pub async fn processes(&self, _deadline: Instant) -> Result<Arc<[Process]>, Unread> {
        unimplemented!()
    }
}
