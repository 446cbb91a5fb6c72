//! Blocking work on few threads of our own, which a stuck read can hold but the process never waits for.

use tokio::time::Instant;

use super::Host;
use crate::facts::Unread;

impl Host {
    /// Runs blocking work on a lane. `about` names what it touches (a path, a database, a name): while an earlier call
    /// about the same still hangs, no second thread is given to it. Past the deadline the answer is an unread of blame
    /// `target` (`no_answer`); when no lane came free in time it is `ours` (`lanes_busy`); a panic is `ours` (`panicked`).
    pub async fn lane<T: Send + 'static>(
        &self,
        _about: &str,
        _deadline: Instant,
        _work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unread> {
        unimplemented!()
    }
}
