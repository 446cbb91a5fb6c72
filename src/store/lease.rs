//! The run lock: a lease that ends with the run's deadline. Whoever lost it can't commit.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Error, Halt, Reader, Store, moment, ms};
use crate::redact::Clean;

/// A lease that begins this far ahead of the clock was taken by a clock that has since been set back: it binds nobody.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(2);

/// Who holds a lease: enough to tell a process from a later one of the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// When it was started, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
    /// The boot that it runs in (`/proc/sys/kernel/random/boot_id`), and the process namespace: ids of another one mean
    /// nothing here.
    pub boot_id: String,
    /// The host's name.
    pub host: String,
    /// What it does: `run`, `daemon`.
    pub what: Clean,
}

/// The right to commit cycles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    token: String,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// Somebody else has the lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("another run is at work: {} since {since:.0}, until {until:.0} at most", self.who())]
pub struct Held {
    /// Who.
    pub holder: Holder,
    /// Since when.
    pub since: Timestamp,
    /// Until when at most.
    pub until: Timestamp,
}

impl Held {
    /// The holder in words.
    #[must_use]
    pub fn who(&self) -> String {
        let Holder { pid, host, what, .. } = &self.holder;
        format!("`pulsecheck {what}` (process {pid} on {host})")
    }
}

pub(crate) fn holder(conn: &Connection) -> rusqlite::Result<Option<Held>> {
    conn.prepare_cached("SELECT pid, start_ticks, boot_id, host, what, taken_ms, expires_ms FROM lease")?
        .query_row([], |row| {
            Ok(Held {
                holder: Holder {
                    pid: row.get(0)?,
                    start_ticks: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
                    boot_id: row.get(2)?,
                    host: row.get(3)?,
                    what: Clean::line(&row.get::<_, String>(4)?, 64),
                },
                since: moment(row.get(5)?),
                until: moment(row.get(6)?),
            })
        })
        .optional()
}

/// Whether the lease is still this one.
pub(crate) fn check(conn: &Connection, lease: &Lease) -> Result<(), Halt> {
    let token: Option<String> =
        conn.prepare_cached("SELECT token FROM lease")?.query_row([], |row| row.get(0)).optional()?;
    if token.as_deref() == Some(&lease.token) { Ok(()) } else { Err(Error::LostLease.into()) }
}

impl Reader {
    /// Who runs a cycle now, if anybody; the lease may have run out.
    pub fn lease(&self) -> Result<Option<Held>, Error> {
        self.read(holder)
    }
}

impl Store {
    /// Takes the lease until the run's deadline and a margin. One that ran out, or whose holder is gone, is taken over.
    /// `alive` says `false` only of a holder that is provably gone: same boot, same host, and no such process.
    pub fn take_lease(
        &mut self,
        me: &Holder,
        now: Timestamp,
        until: Timestamp,
        alive: impl FnOnce(&Holder) -> bool,
    ) -> Result<Lease, Error> {
        self.write_lightly(|tx| {
            if let Some(held) = holder(tx)? {
                let ahead = held.since.duration_since(now) > CLOCK_SLACK;
                if held.until > now && !ahead && alive(&held.holder) {
                    return Err(Error::from(Box::new(held)).into());
                }
            }
            let token: String = tx.query_row("SELECT lower(hex(randomblob(16)))", [], |row| row.get(0))?;
            tx.execute(
                "INSERT OR REPLACE INTO lease (one, token, pid, start_ticks, boot_id, host, what, taken_ms, expires_ms)
                 VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    token,
                    me.pid,
                    i64::try_from(me.start_ticks).unwrap_or(i64::MAX),
                    me.boot_id,
                    me.host,
                    me.what.as_str(),
                    ms(now),
                    ms(until)
                ],
            )?;
            Ok(Lease { token, until })
        })
    }

    /// Gives the lease back. One that was lost is not an error: it is no longer ours to give.
    pub fn release(&mut self, lease: &Lease) -> Result<(), Error> {
        self.write_lightly(|tx| {
            tx.execute("DELETE FROM lease WHERE token = ?1", [&lease.token])?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn one_run_at_a_time() {
        let home = Home::new();
        let (mut one, mut two) = (home.open(at(0)), home.open(at(0)));
        let first = one.take_lease(&me(10), at(0), at(3), |_| true).unwrap();
        let refused = two.take_lease(&me(11), at(1), at(4), |holder| {
            assert_eq!(*holder, me(10));
            true
        });
        let held = Held { holder: me(10), since: at(0), until: at(3) };
        assert_eq!(refused, Err(Error::Held(Box::new(held.clone()))));
        assert_eq!(
            held.to_string(),
            "another run is at work: `pulsecheck run` (process 10 on h1) since 2026-03-20T12:00:00Z, until 2026-03-20T12:03:00Z at most"
        );
        assert_eq!(two.lease().unwrap(), Some(held));
        one.release(&first).unwrap();
        assert_eq!(two.lease().unwrap(), None);
        two.take_lease(&me(11), at(1), at(4), |_| unreachable!()).unwrap();
    }

    #[test]
    fn a_lease_is_taken_over_when_it_ran_out_or_its_holder_is_gone_or_the_clock_was_set_back() {
        for (why, now, alive, taken) in [
            ("it holds", at(2), true, false),
            ("it ran out", at(3), true, true),
            ("its holder is gone", at(2), false, true),
            ("the clock was set back a little", at(-1), true, false),
            ("the clock was set back a lot", at(-60 * 24), true, true),
        ] {
            let home = Home::new();
            let mut store = home.open(at(0));
            let old = store.take_lease(&me(10), at(0), at(3), |_| true).unwrap();
            let new = store.take_lease(&me(11), now, now + SignedDuration::from_mins(3), |_| alive);
            assert_eq!(new.is_ok(), taken, "{why}");
            assert_eq!(store.begin(&old).is_err(), taken, "{why}: the old one can't commit any more");
            if let Ok(new) = new {
                store.release(&old).unwrap();
                store.begin(&new).map(drop).unwrap();
            }
        }
    }

    #[test]
    fn a_lease_that_was_lost_commits_nothing() {
        let home = Home::new();
        let (mut slow, mut quick) = (home.open(at(0)), home.open(at(0)));
        let old = slow.take_lease(&me(10), at(0), at(3), |_| true).unwrap();
        let new = quick.take_lease(&me(11), at(5), at(8), |_| true).unwrap();
        assert_eq!(slow.begin(&old).err(), Some(Error::LostLease));
        slow.release(&old).unwrap();
        assert_eq!(quick.lease().unwrap().unwrap().holder, me(11), "the old holder gave back nothing that is not his");
        quick.begin(&new).map(drop).unwrap();
    }
}
