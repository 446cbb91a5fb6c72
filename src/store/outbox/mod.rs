//! What is to be said: rows written in the cycle's transaction, claimed and delivered afterwards by whoever delivers.
//! A row is claimed by one process at a time, and an attempt is on record before it is made, so that a kill leads to at
//! most one delivery more, under the same dedup key.

mod fold;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;

use super::{Error, Reader, Store, json, moment, ms, page, parse, turn_of, turn_word};
use crate::clean;
use crate::facts::CheckName;
use crate::judge::{Notice, Turn};
use crate::redact::Clean;
use fold::{Step, Waiting};

/// Undelivered rows that are kept.
pub const MAX_WAITING: i64 = 1_000;
/// A channel that refused this often in a row is in trouble.
pub const REFUSALS: i64 = 3;
/// How old a notice gets before it is dropped; a resolve is not.
pub const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);
/// Bytes of a receipt or of a reason.
const MAX_SAID_BYTES: usize = 4_096;

/// A notice for one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    /// The incident that it is about; none for an event.
    pub incident: Option<String>,
    /// To whom.
    pub channel: String,
    /// What.
    pub notice: Notice,
}

/// A notice that was folded away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// Its row.
    pub id: i64,
    /// To whom it would have gone.
    pub channel: String,
    /// About what.
    pub dedup: String,
    /// Why it need not be sent.
    pub why: &'static str,
}

/// A row to deliver now, claimed by the caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// The row.
    pub id: i64,
    /// To whom.
    pub channel: String,
    /// The cycle that wrote it: chats get one message a cycle.
    pub cycle: String,
    /// The incident that it is about; none for an event.
    pub incident: Option<String>,
    /// How many notices there were about it on this channel, this one included.
    pub revision: i64,
    /// How many attempts there were, this one included.
    pub attempt: i64,
    /// What the service answered to the last notice about the same incident: to edit, to thread, to resolve.
    pub prior: Option<String>,
    /// What to say. Its turn is what is news to this channel.
    pub notice: Notice,
}

/// How an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When to try again.
    pub again_at: Timestamp,
    /// Why it failed.
    pub why: Clean,
    /// Whether the service may have taken it all the same (no answer after sending). When in doubt: yes.
    pub maybe_arrived: bool,
}

/// What stands in the outbox of one channel, and how delivering goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ChannelView {
    /// Rows that wait.
    pub waiting: i64,
    /// Since when the oldest of them could have been delivered.
    pub oldest: Option<Timestamp>,
    /// Rows that were given up in the last day.
    pub dead: i64,
    /// When the service last took one.
    pub accepted: Option<Timestamp>,
    /// When it last refused one.
    pub refused: Option<Timestamp>,
    /// Refusals in a row.
    pub refused_in_a_row: i64,
    /// Nothing is sent before.
    pub wait_until: Option<Timestamp>,
    /// The last refusal in words; none since it took one.
    pub why: Option<Clean>,
}

/// A notice as the history shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct NoticeView {
    /// The row.
    pub id: i64,
    /// To whom.
    pub channel: String,
    /// due, delivered, folded, dropped or dead.
    pub state: String,
    /// When it was written.
    pub created: Timestamp,
    /// When it was delivered or given up.
    pub ended: Option<Timestamp>,
    /// Attempts so far.
    pub attempts: i64,
    /// Why it was not delivered, where that is known.
    pub why: Option<Clean>,
    /// What it says.
    pub notice: Notice,
}

/// Adds a cycle's notices, folds what waits, and holds the outbox to its size. Also says what was dropped.
pub(crate) fn add(
    conn: &Connection,
    cycle: &str,
    now: Timestamp,
    rows: &[OutboxRow],
) -> rusqlite::Result<(Vec<Folded>, Vec<Clean>)> {
    let mut put = conn.prepare_cached(
        "INSERT INTO outbox (channel, dedup, incident, turn, level, revision, cycle, check_name, notice, created_ms,
         not_before_ms, next_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, (SELECT count(*) + 1 FROM outbox WHERE channel = ?1 AND dedup = ?2 AND incident IS ?3),
         ?6, ?7, ?8, ?9, ?10, 0)",
    )?;
    let mut queues = BTreeSet::new();
    for row in rows {
        let notice = &row.notice;
        put.execute(params![
            row.channel,
            notice.dedup,
            row.incident,
            turn_word(notice.turn),
            super::level_word(notice.level),
            cycle,
            notice.key.check.as_str(),
            json(notice)?,
            ms(now),
            ms(notice.not_before)
        ])?;
        queues.insert((row.channel.as_str(), notice.dedup.as_str()));
    }
    let mut folded = Vec::new();
    for (channel, dedup) in queues {
        folded.extend(fold_queue(conn, channel, dedup, now)?);
    }
    let mut said = Vec::new();
    if !rows.is_empty() {
        said.extend(hold_to_size(conn, now)?);
    }
    Ok((folded, said))
}

fn end(conn: &Connection, id: i64, state: &str, now: Timestamp, why: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE outbox SET state = ?2, ended_ms = ?3, why = ?4, claimed_until_ms = NULL WHERE id = ?1 AND state = 'due'",
    )?
    .execute(params![id, state, ms(now), why])
    .map(drop)
}

fn fold_queue(conn: &Connection, channel: &str, dedup: &str, now: Timestamp) -> rusqlite::Result<Vec<Folded>> {
    let waiting: Vec<Waiting> = conn
        .prepare_cached(
            "SELECT id, incident, turn, maybe > 0, coalesce(claimed_until_ms > ?3, false) FROM outbox
             WHERE channel = ?1 AND dedup = ?2 AND state = 'due' ORDER BY id",
        )?
        .query_map(params![channel, dedup, ms(now)], |row| {
            Ok(Waiting {
                id: row.get(0)?,
                incident: row.get(1)?,
                turn: turn_of(&row.get::<_, String>(2)?),
                maybe: row.get(3)?,
                claimed: row.get(4)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    let mut heard = BTreeSet::new();
    for incident in waiting.iter().filter_map(|row| row.incident.as_ref()).collect::<BTreeSet<_>>() {
        let told: bool = conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM outbox WHERE incident = ?1 AND channel = ?2 AND turn <> 'resolve'
                 AND (state = 'delivered' OR (state <> 'due' AND maybe > 0)))",
            )?
            .query_row([incident.as_str(), channel], |row| row.get(0))?;
        if told {
            heard.insert(incident.clone());
        }
    }
    let mut folded = Vec::new();
    for step in fold::fold(&waiting, &heard) {
        match step {
            Step::Fold { id, why } => {
                end(conn, id, "folded", now, why)?;
                folded.push(Folded { id, channel: channel.to_owned(), dedup: dedup.to_owned(), why });
            }
            Step::Become { id, turn } => {
                conn.prepare_cached("UPDATE outbox SET turn = ?2 WHERE id = ?1")?
                    .execute(params![id, turn_word(turn)])?;
            }
        }
    }
    Ok(folded)
}

/// The order in which notices are dropped when there are too many: resolves last, so that what was announced is resolved;
/// before a channel that takes its notices one that has long refused them; the lowest level first, the oldest of it first.
/// A word for a level that this build does not know counts as the highest.
const LEAST_FIRST: &str = "turn = 'resolve',
    channel IN (SELECT name FROM channels WHERE refused_in_a_row >= ?3) DESC,
    CASE level WHEN 'ok' THEN 0 WHEN 'logged' THEN 1 WHEN 'yellow' THEN 2 ELSE 3 END, id";

/// Drops what is too old or too much, the least of it first ([`LEAST_FIRST`]). What was dropped is said, and resolves of
/// what was never said go too.
fn hold_to_size(conn: &Connection, now: Timestamp) -> rusqlite::Result<Vec<Clean>> {
    let free = "state = 'due' AND coalesce(claimed_until_ms <= ?1, true)";
    let ids = |rest: &str, params: &[i64]| -> rusqlite::Result<Vec<(i64, String, String)>> {
        conn.prepare_cached(&format!("SELECT id, channel, dedup FROM outbox WHERE {free} {rest}"))?
            .query_map(rusqlite::params_from_iter(params), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect()
    };
    let oldest = ms(now.checked_sub(MAX_AGE).unwrap_or(now));
    let old = ids("AND turn <> 'resolve' AND max(created_ms, not_before_ms) < ?2 ORDER BY id", &[ms(now), oldest])?;
    let mut said = drop_rows(conn, &old, now, &format!("older than {} hours", MAX_AGE.as_hours()))?;
    let waiting: i64 =
        conn.prepare_cached("SELECT count(*) FROM outbox WHERE state = 'due'")?.query_row([], |row| row.get(0))?;
    if waiting > MAX_WAITING {
        let much = ids(&format!("ORDER BY {LEAST_FIRST} LIMIT ?2"), &[ms(now), waiting - MAX_WAITING, REFUSALS])?;
        said.extend(drop_rows(conn, &much, now, &format!("more than {MAX_WAITING} waited"))?);
    }
    Ok(said)
}

fn drop_rows(
    conn: &Connection,
    rows: &[(i64, String, String)],
    now: Timestamp,
    why: &str,
) -> rusqlite::Result<Vec<Clean>> {
    let mut by_channel: BTreeMap<&str, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for (id, channel, dedup) in rows {
        end(conn, *id, "dropped", now, why)?;
        let (count, queues) = by_channel.entry(channel).or_default();
        *count += 1;
        queues.insert(dedup);
    }
    let mut said = Vec::new();
    for (channel, (count, queues)) in by_channel {
        for dedup in queues {
            fold_queue(conn, channel, dedup, now)?;
        }
        let notices = if count == 1 { "notice" } else { "notices" };
        said.push(clean!("{count} {notices} for the channel `{channel}` dropped undelivered: {why}"));
    }
    Ok(said)
}

/// Which rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All that are due.
    All,
    /// New reds, with what has to go before them on the same key and channel.
    NewReds,
}

/// What a claim brings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claimed {
    /// The rows, in the order in which they are to go.
    pub due: Vec<Due>,
    /// What was dropped on the way, a sentence each.
    pub said: Vec<Clean>,
}

/// The first row of each key and channel, when anything of that queue may go now: channel by channel in turn, so that none
/// hides another one's; of each the queues with a new red first, then what was not tried yet. A time more than a day ahead
/// was set by a clock that has been set back since, and so was all of a row that was written two minutes ahead: nothing
/// waits for that.
const READY: &str = "
    WITH ready AS (
        SELECT o.*, EXISTS (SELECT 1 FROM outbox AS q WHERE q.state = 'due' AND q.channel = o.channel AND q.dedup = o.dedup
                            AND (q.not_before_ms <= ?1 OR q.created_ms > ?1 + 120000)
                            AND q.level = 'red' AND q.turn IN ('open', 'raise')) AS new_red
        FROM outbox AS o
        WHERE state = 'due' AND next_ms NOT BETWEEN ?1 + 1 AND ?1 + 86400000
        AND coalesce(claimed_until_ms NOT BETWEEN ?1 + 1 AND ?1 + 86400000, true)
        AND NOT EXISTS (SELECT 1 FROM outbox AS p WHERE p.state = 'due' AND p.channel = o.channel AND p.dedup = o.dedup
                        AND p.id < o.id)
        AND EXISTS (SELECT 1 FROM outbox AS q WHERE q.state = 'due' AND q.channel = o.channel AND q.dedup = o.dedup
                    AND (q.not_before_ms <= ?1 OR q.created_ms > ?1 + 120000))
        AND NOT EXISTS (SELECT 1 FROM channels AS c WHERE c.name = o.channel
                        AND c.wait_until_ms BETWEEN ?1 + 1 AND ?1 + 86400000))
    SELECT id, channel, cycle, incident, revision, attempts + 1, turn, notice, dedup FROM ready WHERE new_red OR NOT ?3
    ORDER BY row_number() OVER (PARTITION BY channel ORDER BY new_red DESC, next_ms, id), id LIMIT ?2";

impl Store {
    /// Claims rows to deliver until `claim_until`, at most 1,000, and puts the attempt on record. Every claimed row must
    /// end in [`Store::delivered`], [`Store::failed`], [`Store::dead`] or [`Store::put_back`]; one whose process dies is
    /// free again after `claim_until`. A row behind another one of its key and channel comes only after that.
    pub fn claim(
        &mut self,
        which: Which,
        now: Timestamp,
        claim_until: Timestamp,
        limit: usize,
    ) -> Result<Claimed, Error> {
        if !self.read(waits)? {
            return Ok(Claimed::default());
        }
        self.write(|tx| {
            let said = hold_to_size(tx, now)?;
            if !said.is_empty() {
                let cycle: Option<String> = tx
                    .prepare_cached("SELECT id FROM cycles ORDER BY seq DESC LIMIT 1")?
                    .query_row([], |row| row.get(0))
                    .optional()?;
                for line in &said {
                    super::incidents::log(tx, cycle.as_deref().unwrap_or(""), now, "outbox", None, None, None, line)?;
                }
            }
            // A claim that ran out leaves rows that can be folded now.
            let orphaned: Vec<(String, String)> = tx
                .prepare_cached(
                    "SELECT DISTINCT channel, dedup FROM outbox WHERE state = 'due' AND claimed_until_ms <= ?1",
                )?
                .query_map([ms(now)], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            for (channel, dedup) in orphaned {
                fold_queue(tx, &channel, &dedup, now)?;
            }
            let new_reds = which == Which::NewReds;
            let found: Vec<(Due, String)> = tx
                .prepare_cached(READY)?
                .query_map(params![ms(now), page(limit), new_reds], |row| Ok((due(row)?, row.get(8)?)))?
                .collect::<Result<_, _>>()?;
            let mut claimed = Claimed { due: Vec::with_capacity(found.len()), said };
            for (mut row, dedup) in found {
                tx.prepare_cached(
                    "UPDATE outbox SET claimed_until_ms = ?2, attempts = attempts + 1, maybe = maybe + 1 WHERE id = ?1",
                )?
                .execute([row.id, ms(claim_until)])?;
                row.prior = tx
                    .prepare_cached(
                        "SELECT receipt FROM outbox WHERE channel = ?1 AND dedup = ?2 AND incident IS ?3
                         AND state = 'delivered' AND receipt IS NOT NULL ORDER BY id DESC LIMIT 1",
                    )?
                    .query_row(params![row.channel, dedup, row.incident], |row| row.get(0))
                    .optional()?;
                claimed.due.push(row);
            }
            Ok(claimed)
        })
    }

    /// The service took it. `receipt` is what it answered, to be handed to the next notice about the same incident.
    pub fn delivered(&mut self, row: &Due, receipt: Option<&str>, now: Timestamp) -> Result<(), Error> {
        let receipt = receipt.filter(|receipt| receipt.len() <= MAX_SAID_BYTES);
        self.write(|tx| {
            // Whatever became of the row meanwhile: it was delivered.
            tx.prepare_cached(
                "UPDATE outbox SET state = 'delivered', ended_ms = ?2, receipt = ?3, why = NULL, claimed_until_ms = NULL
                 WHERE id = ?1",
            )?
            .execute(params![row.id, ms(now), receipt])?;
            tx.prepare_cached(
                "INSERT INTO channels (name, accepted_ms) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE
                 SET accepted_ms = ?2, refused_in_a_row = 0, why = NULL",
            )?
            .execute(params![row.channel, ms(now)])?;
            Ok(())
        })
    }

    /// It was not taken and is tried again. Of no effect when somebody else claimed it meanwhile.
    pub fn failed(&mut self, row: &Due, failure: &Failure, now: Timestamp) -> Result<(), Error> {
        self.write(|tx| {
            tx.prepare_cached(
                "UPDATE outbox SET claimed_until_ms = NULL, next_ms = ?3, why = ?4, maybe = maybe - ?5
                 WHERE id = ?1 AND attempts = ?2 AND state = 'due'",
            )?
            .execute(params![
                row.id,
                row.attempt,
                ms(failure.again_at),
                Clean::line(failure.why.as_str(), MAX_SAID_BYTES).as_str(),
                !failure.maybe_arrived
            ])?;
            refused(tx, &row.channel, &failure.why, now)?;
            // What waits behind it may be folded with it now.
            fold_queue(tx, &row.channel, &row.notice.dedup, now)?;
            Ok(())
        })
    }

    /// It will never be taken: a dead letter. A resolve of what the channel was never told of goes with it.
    pub fn dead(&mut self, row: &Due, why: &Clean, now: Timestamp) -> Result<(), Error> {
        self.write(|tx| {
            let why = Clean::line(why.as_str(), MAX_SAID_BYTES);
            tx.prepare_cached("UPDATE outbox SET maybe = maybe - 1 WHERE id = ?1 AND attempts = ?2 AND state = 'due'")?
                .execute([row.id, row.attempt])?;
            end(tx, row.id, "dead", now, why.as_str())?;
            refused(tx, &row.channel, &why, now)?;
            fold_queue(tx, &row.channel, &row.notice.dedup, now)?;
            Ok(())
        })
    }

    /// It was not tried after all: the claim is taken back.
    pub fn put_back(&mut self, row: &Due, now: Timestamp) -> Result<(), Error> {
        self.write(|tx| {
            tx.prepare_cached(
                "UPDATE outbox SET claimed_until_ms = NULL, attempts = attempts - 1, maybe = maybe - 1
                 WHERE id = ?1 AND attempts = ?2 AND state = 'due'",
            )?
            .execute([row.id, row.attempt])?;
            fold_queue(tx, &row.channel, &row.notice.dedup, now)?;
            Ok(())
        })
    }

    /// A service asked for patience: nothing is sent to this channel before.
    pub fn hold_channel(&mut self, channel: &str, until: Timestamp) -> Result<(), Error> {
        self.write(|tx| {
            tx.prepare_cached(
                "INSERT INTO channels (name, wait_until_ms) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE
                 SET wait_until_ms = ?2",
            )?
            .execute(params![channel, ms(until)])?;
            Ok(())
        })
    }
}

fn waits(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM outbox WHERE state = 'due')")?.query_row([], |row| row.get(0))
}

fn refused(conn: &Connection, channel: &str, why: &Clean, now: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO channels (name, refused_ms, refused_in_a_row, why) VALUES (?1, ?2, 1, ?3) ON CONFLICT (name)
         DO UPDATE SET refused_ms = ?2, refused_in_a_row = refused_in_a_row + 1, why = ?3",
    )?
    .execute(params![channel, ms(now), Clean::line(why.as_str(), MAX_SAID_BYTES).as_str()])
    .map(drop)
}

fn due(row: &Row<'_>) -> rusqlite::Result<Due> {
    let turn = turn_of(&row.get::<_, String>(6)?);
    Ok(Due {
        id: row.get(0)?,
        channel: row.get(1)?,
        cycle: row.get(2)?,
        incident: row.get(3)?,
        revision: row.get(4)?,
        attempt: row.get(5)?,
        prior: None,
        notice: Notice { turn, ..parse(&row.get::<_, String>(7)?)? },
    })
}

/// The channels that were told of an incident or still will be: those that get its resolve. One that never took a notice
/// of it (dead, dropped) does not.
pub(crate) fn told(conn: &Connection, incident: &str) -> rusqlite::Result<BTreeSet<String>> {
    conn.prepare_cached(
        "SELECT DISTINCT channel FROM outbox WHERE incident = ?1 AND turn NOT IN ('resolve', 'follow_up')
         AND (state IN ('due', 'delivered') OR maybe > 0)",
    )?
    .query_map([incident], |row| row.get(0))?
    .collect()
}

impl super::CycleTx<'_> {
    /// The channels that get the resolve of an incident; see [`Reader::told`].
    pub fn told(&self, incident: &str) -> Result<BTreeSet<String>, Error> {
        self.edge(told(self.conn(), incident))
    }
}

impl Reader {
    /// The channels that were told of an incident or still will be: those that get its resolve. One that never took a
    /// notice of it (dead, dropped) does not.
    pub fn told(&self, incident: &str) -> Result<BTreeSet<String>, Error> {
        self.read(|conn| told(conn, incident))
    }

    /// Rows and cycles delivered to a channel since then, up to now: a chat gets one message a cycle, an event service one
    /// a row. What a clock that was ahead wrote down counts for nothing.
    pub fn delivered_since(&self, channel: &str, since: Timestamp, now: Timestamp) -> Result<(i64, i64), Error> {
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT count(*), count(DISTINCT cycle) FROM outbox
                 WHERE ended_ms BETWEEN ?2 AND ?3 AND state = 'delivered' AND channel = ?1",
            )?
            .query_row(params![channel, ms(since), ms(now)], |row| Ok((row.get(0)?, row.get(1)?)))
        })
    }

    /// Notices that were dropped undelivered since the last committed cycle was judged.
    pub fn dropped_since_last_cycle(&self, now: Timestamp) -> Result<usize, Error> {
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT count(*) FROM outbox WHERE state = 'dropped'
                 AND ended_ms BETWEEN (SELECT ended_ms FROM cycles ORDER BY seq DESC LIMIT 1) AND ?1",
            )?
            .query_row([ms(now)], |row| row.get::<_, i64>(0))
            .map(|count| usize::try_from(count).unwrap_or(0))
        })
    }

    /// Every channel that ever had something to say.
    pub fn channels(&self, now: Timestamp) -> Result<BTreeMap<String, ChannelView>, Error> {
        self.read(|conn| {
            let mut all: BTreeMap<String, ChannelView> = BTreeMap::new();
            let mut query = conn.prepare_cached(
                "SELECT name, wait_until_ms, accepted_ms, refused_ms, refused_in_a_row, why FROM channels",
            )?;
            let mut rows = query.query([])?;
            let time = |ms: Option<i64>| ms.map(moment);
            while let Some(row) = rows.next()? {
                let view = ChannelView {
                    wait_until: time(row.get(1)?).filter(|until| *until > now),
                    accepted: time(row.get(2)?),
                    refused: time(row.get(3)?),
                    refused_in_a_row: row.get(4)?,
                    why: row.get::<_, Option<String>>(5)?.as_deref().map(Clean::new),
                    ..ChannelView::default()
                };
                all.insert(row.get(0)?, view);
            }
            let mut query = conn.prepare_cached(
                "SELECT channel, count(*), min(max(created_ms, not_before_ms)) FROM outbox WHERE state = 'due'
                 GROUP BY channel",
            )?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let view = all.entry(row.get(0)?).or_default();
                view.waiting = row.get(1)?;
                view.oldest = time(row.get(2)?).filter(|oldest| *oldest <= now);
            }
            let day = ms(now.checked_sub(MAX_AGE).unwrap_or(now));
            let mut query = conn.prepare_cached(
                "SELECT channel, count(*) FROM outbox WHERE ended_ms BETWEEN ?1 AND ?2 AND state = 'dead' GROUP BY channel",
            )?;
            let mut rows = query.query([day, ms(now)])?;
            while let Some(row) = rows.next()? {
                all.entry(row.get(0)?).or_default().dead = row.get(1)?;
            }
            Ok(all)
        })
    }

    /// Notices, newest first: of one check, or all.
    pub fn notices(&self, filter: &super::incidents::Filter) -> Result<Vec<NoticeView>, Error> {
        self.read(|conn| {
            let mut query = conn.prepare_cached(
                "SELECT id, channel, state, created_ms, ended_ms, attempts, why, turn, notice FROM outbox
                 WHERE (?1 IS NULL OR check_name = ?1) AND created_ms >= ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4",
            )?;
            let check = filter.check.as_ref().map(CheckName::as_str);
            let (since, before) = (filter.since.map_or(i64::MIN, ms), filter.before.unwrap_or(i64::MAX));
            let rows = query.query_map(params![check, since, before, page(filter.limit)], |row| {
                let turn: Turn = turn_of(&row.get::<_, String>(7)?);
                Ok(NoticeView {
                    id: row.get(0)?,
                    channel: row.get(1)?,
                    state: row.get(2)?,
                    created: moment(row.get(3)?),
                    ended: row.get::<_, Option<i64>>(4)?.map(moment),
                    attempts: row.get(5)?,
                    why: row.get::<_, Option<String>>(6)?.as_deref().map(Clean::new),
                    notice: Notice { turn, ..parse(&row.get::<_, String>(8)?)? },
                })
            })?;
            rows.collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{Level, Limits};
    use super::*;
    use crate::judge::{Closing, Judged};

    const RED: Level = Level::Red;
    const YELLOW: Level = Level::Yellow;

    /// Commits notices, with the incident `i1` of `site` open.
    fn say(store: &mut Store, now: Timestamp, notices: &[OutboxRow]) -> super::super::Committed {
        let id = format!("c{}", store.last_cycle().unwrap().map_or(0, |last| last.seq));
        let judged = Judged { incidents: vec![incident("i1", "site", RED, at(0))], ..Judged::default() };
        run(store, &id, now, &judged, notices).unwrap()
    }

    fn site(channel: &str, turn: Turn, level: Level) -> OutboxRow {
        notice(channel, Some("i1"), "site", turn, level)
    }

    fn claim(store: &mut Store, now: Timestamp) -> Vec<Due> {
        store.claim(Which::All, now, now + SignedDuration::from_secs(30), 100).unwrap().due
    }

    fn turns(due: &[Due]) -> Vec<(&str, Turn)> {
        due.iter().map(|row| (row.channel.as_str(), row.notice.turn)).collect()
    }

    fn states(store: &Store) -> Vec<(i64, String)> {
        let all = super::super::incidents::Filter { limit: 1_000, ..Default::default() };
        let mut states: Vec<_> = store.notices(&all).unwrap().into_iter().map(|row| (row.id, row.state)).collect();
        states.sort();
        states
    }

    fn later(minutes: i64) -> Failure {
        Failure { again_at: at(minutes), why: Clean::new("no answer within 5 s"), maybe_arrived: true }
    }

    fn never_arrived(minutes: i64) -> Failure {
        Failure { maybe_arrived: false, ..later(minutes) }
    }

    #[test]
    fn a_notice_is_claimed_delivered_and_followed_under_its_receipt() {
        let home = Home::new();
        let (mut store, mut other) = (home.open(at(0)), home.open(at(0)));
        say(&mut store, at(0), &[site("chat", Turn::Open, YELLOW), site("pager", Turn::Open, YELLOW)]);
        let due = claim(&mut store, at(0));
        assert_eq!(turns(&due), [("chat", Turn::Open), ("pager", Turn::Open)]);
        assert_eq!((due[0].revision, due[0].attempt, due[0].prior.as_deref()), (1, 1, None));
        assert_eq!(claim(&mut other, at(0)), [], "nobody else gets them meanwhile");
        store.delivered(&due[0], Some("message 7"), at(0)).unwrap();
        store.failed(&due[1], &later(5), at(0)).unwrap();
        assert_eq!(claim(&mut other, at(4)), [], "not before its time");

        say(&mut store, at(4), &[site("chat", Turn::Raise, RED)]);
        let due = claim(&mut other, at(5));
        assert_eq!(turns(&due), [("pager", Turn::Open), ("chat", Turn::Raise)]);
        assert_eq!((due[0].attempt, due[1].revision, due[1].prior.as_deref()), (2, 2, Some("message 7")));
        let channels = store.channels(at(5)).unwrap();
        assert_eq!((channels["chat"].waiting, channels["chat"].accepted), (1, Some(at(0))));
        let pager = &channels["pager"];
        assert_eq!((pager.refused_in_a_row, pager.oldest), (1, Some(at(0) + SignedDuration::from_secs(1))));
        assert_eq!(pager.why.as_ref().map(Clean::as_str), Some("no answer within 5 s"));
        assert_eq!(store.delivered_since("chat", at(0), at(5)).unwrap(), (1, 1));
    }

    #[test]
    fn a_killed_delivery_is_tried_once_more() {
        let home = Home::new();
        let mut store = home.open(at(0));
        say(&mut store, at(0), &[site("chat", Turn::Open, RED)]);
        let first = claim(&mut store, at(0));
        drop(store);
        let mut store = home.open(at(15));
        let second = claim(&mut store, at(15));
        assert_eq!((second[0].id, second[0].attempt), (first[0].id, 2));
        assert_eq!(second[0].notice.dedup, first[0].notice.dedup);
        store.delivered(&second[0], None, at(15)).unwrap();
        assert_eq!(claim(&mut store, at(30)), []);
        // The first process was only slow: what it says now changes nothing.
        store.failed(&first[0], &later(20), at(15)).unwrap();
        assert_eq!(states(&store), [(1, "delivered".to_owned())]);
    }

    #[test]
    fn a_failure_that_comes_late_does_not_end_another_process_claim() {
        let home = Home::new();
        let mut store = home.open(at(0));
        say(&mut store, at(0), &[site("chat", Turn::Open, RED)]);
        let slow = claim(&mut store, at(0));
        let quick = claim(&mut store, at(1));
        assert_eq!(quick.len(), 1, "the first claim ran out");
        store.failed(&slow[0], &later(2), at(1)).unwrap();
        store.put_back(&slow[0], at(1)).unwrap();
        assert_eq!(claim(&mut store, at(1)), [], "the second one holds");
        store.put_back(&quick[0], at(1)).unwrap();
        assert_eq!(claim(&mut store, at(1))[0].attempt, 2, "what was put back was no attempt");
    }

    #[test]
    fn rows_of_one_key_and_channel_go_in_order() {
        let home = Home::new();
        let mut store = home.open(at(0));
        say(&mut store, at(0), &[site("chat", Turn::Open, YELLOW)]);
        let first = claim(&mut store, at(0));
        say(
            &mut store,
            at(0),
            &[site("chat", Turn::Resolve, YELLOW), notice("chat", Some("i2"), "disk", Turn::Open, RED)],
        );
        let due = claim(&mut store, at(0));
        assert_eq!(due[0].notice.key, key("disk"), "the resolve waits for its trigger, another key does not");
        assert_eq!(due.len(), 1);
        store.delivered(&first[0], None, at(0)).unwrap();
        assert_eq!(turns(&claim(&mut store, at(0))), [("chat", Turn::Resolve)]);
    }

    #[test]
    fn what_nobody_saw_is_folded() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let held_back = |turn, level| {
            let mut row = site("chat", turn, level);
            row.notice.not_before = at(600);
            row
        };
        say(&mut store, at(0), &[held_back(Turn::Open, YELLOW)]);
        assert_eq!(claim(&mut store, at(0)), [], "quiet hours");
        let committed = say(&mut store, at(15), &[site("chat", Turn::Raise, RED)]);
        assert_eq!(
            committed.folded.iter().map(|row| (row.id, row.why)).collect::<Vec<_>>(),
            [(1, "a newer notice says it")]
        );
        let due = claim(&mut store, at(15));
        assert_eq!(turns(&due), [("chat", Turn::Open)], "a red goes at once, and is news to the channel");
        assert_eq!(due[0].notice.level, RED);
        store.failed(&due[0], &never_arrived(20), at(15)).unwrap();
        let committed = say(&mut store, at(16), &[site("chat", Turn::Resolve, RED)]);
        assert_eq!(committed.folded.len(), 2);
        assert_eq!(claim(&mut store, at(30)), []);
        assert_eq!(states(&store), [(1, "folded".to_owned()), (2, "folded".to_owned()), (3, "folded".to_owned())]);
        assert!(store.told("i1").unwrap().is_empty());
    }

    #[test]
    fn what_may_have_arrived_is_resolved() {
        let home = Home::new();
        let mut store = home.open(at(0));
        say(&mut store, at(0), &[site("chat", Turn::Open, RED)]);
        let due = claim(&mut store, at(0));
        store.failed(&due[0], &later(20), at(0)).unwrap();
        assert_eq!(store.told("i1").unwrap().into_iter().collect::<Vec<_>>(), ["chat"]);
        say(&mut store, at(15), &[site("chat", Turn::Resolve, RED)]);
        assert_eq!(turns(&claim(&mut store, at(15))), [("chat", Turn::Resolve)], "at once, and not after the trigger");
    }

    #[test]
    fn a_resolve_that_came_while_the_trigger_was_being_sent_goes_with_it_when_that_died() {
        let home = Home::new();
        let mut store = home.open(at(0));
        say(&mut store, at(0), &[site("chat", Turn::Open, RED)]);
        let due = claim(&mut store, at(0));
        assert_eq!(say(&mut store, at(0), &[site("chat", Turn::Resolve, RED)]).folded, []);
        store.dead(&due[0], &Clean::new("HTTP 404"), at(0)).unwrap();
        assert_eq!(claim(&mut store, at(5)), []);
        assert_eq!(states(&store), [(1, "dead".to_owned()), (2, "folded".to_owned())]);
        assert_eq!(store.channels(at(5)).unwrap()["chat"].dead, 1);
        assert!(store.told("i1").unwrap().is_empty(), "a dead letter's channel gets no resolve");
    }

    #[test]
    fn new_reds_can_be_claimed_alone_with_what_must_go_before_them() {
        let home = Home::new();
        let mut store = home.open(at(0));
        say(&mut store, at(0), &[site("chat", Turn::Open, YELLOW)]);
        let first = claim(&mut store, at(0));
        store.delivered(&first[0], None, at(0)).unwrap();
        let mut resolve = site("chat", Turn::Resolve, YELLOW);
        resolve.notice.not_before = at(600);
        say(
            &mut store,
            at(15),
            &[
                resolve,
                notice("chat", Some("i2"), "site", Turn::Open, RED),
                notice("chat", Some("i3"), "disk", Turn::Open, YELLOW),
                notice("chat", Some("i4"), "cpu", Turn::Remind, RED),
            ],
        );
        let mut reds = |which, count| {
            let due = store.claim(which, at(15), at(16), 100).unwrap().due;
            assert_eq!(due.len(), count, "{due:#?}");
            for row in &due {
                store.delivered(row, None, at(15)).unwrap();
            }
            due.iter().map(|row| (row.notice.key.to_string(), row.notice.turn)).collect::<Vec<_>>()
        };
        assert_eq!(reds(Which::NewReds, 1), [("site".to_owned(), Turn::Resolve)]);
        assert_eq!(reds(Which::NewReds, 1), [("site".to_owned(), Turn::Open)]);
        assert_eq!(reds(Which::NewReds, 0), []);
        reds(Which::All, 2);
    }

    #[test]
    fn a_channel_that_asks_for_patience_gets_it() {
        let home = Home::new();
        let mut store = home.open(at(0));
        say(&mut store, at(0), &[site("chat", Turn::Open, RED), site("pager", Turn::Open, RED)]);
        store.hold_channel("chat", at(10)).unwrap();
        assert_eq!(turns(&claim(&mut store, at(9))), [("pager", Turn::Open)]);
        assert_eq!(store.channels(at(9)).unwrap()["chat"].wait_until, Some(at(10)));
        assert_eq!(turns(&claim(&mut store, at(10))), [("chat", Turn::Open), ("pager", Turn::Open)]);
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nothing_up() {
        let home = Home::new();
        let mut store = home.open(at(0));
        say(&mut store, at(0), &[site("chat", Turn::Open, RED), notice("chat", Some("i2"), "disk", Turn::Open, RED)]);
        let due = claim(&mut store, at(0));
        store.failed(&due[0], &later(5), at(0)).unwrap();
        store.hold_channel("chat", at(1)).unwrap();
        let year_before = at(-60 * 24 * 365);
        assert_eq!(claim(&mut store, year_before).len(), 2);
    }

    #[test]
    fn what_a_clock_wrote_that_was_ahead_holds_nothing_up_and_counts_for_nothing() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let mut morning = notice("chat", Some("i3"), "cpu", Turn::Open, YELLOW);
        morning.notice.not_before = at(600);
        say(&mut store, at(0), &[site("chat", Turn::Open, RED), site("pager", Turn::Open, RED), morning]);
        let due = claim(&mut store, at(0));
        store.delivered(&due[0], None, at(0)).unwrap();
        store.dead(&due[1], &Clean::new("HTTP 404"), at(0)).unwrap();
        let since =
            |store: &Store, now| store.delivered_since("chat", now - SignedDuration::from_hours(1), now).unwrap();
        assert_eq!((since(&store, at(0)), store.channels(at(0)).unwrap()["pager"].dead), ((1, 1), 1));
        assert_eq!(claim(&mut store, at(-1)), [], "a minute is no clock that was set");
        let hour_before = at(-60);
        assert_eq!((since(&store, hour_before), store.channels(hour_before).unwrap()["pager"].dead), ((0, 0), 0));
        assert_eq!(turns(&claim(&mut store, hour_before)), [("chat", Turn::Open)]);
    }

    #[test]
    fn a_channel_in_a_queue_does_not_hide_another_ones_red() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let mut rows: Vec<_> =
            (0..20).map(|n| notice("gone", Some("i9"), &format!("n{n}"), Turn::Open, YELLOW)).collect();
        rows.extend([
            notice("gone", Some("i8"), "late", Turn::Open, RED),
            notice("chat", Some("i7"), "cpu", Turn::Open, YELLOW),
            notice("chat", Some("i6"), "disk", Turn::Raise, RED),
        ]);
        say(&mut store, at(0), &rows);
        let mut names = |limit| -> Vec<String> {
            let due = store.claim(Which::All, at(1), at(2), limit).unwrap().due;
            due.iter().map(|row| format!("{} {}", row.channel, row.notice.key)).collect()
        };
        assert_eq!(names(4), ["gone late", "chat disk", "gone n0", "chat cpu"]);
        assert_eq!(names(2), ["gone n1", "gone n2"]);
    }

    #[test]
    fn what_failed_before_goes_after_what_was_not_tried() {
        let home = Home::new();
        let mut store = home.open(at(0));
        say(&mut store, at(0), &[notice("chat", Some("i1"), "bad", Turn::Open, YELLOW)]);
        let due = claim(&mut store, at(0));
        store.failed(&due[0], &later(1), at(0)).unwrap();
        say(&mut store, at(1), &[notice("chat", Some("i2"), "good", Turn::Open, YELLOW)]);
        let names: Vec<_> = claim(&mut store, at(1)).iter().map(|row| row.notice.key.to_string()).collect();
        assert_eq!(names, ["good", "bad"]);
    }

    #[test]
    fn what_was_dropped_is_counted_once_and_logged() {
        let home = Home::new();
        let mut store = home.open(at(0));
        assert_eq!(store.dropped_since_last_cycle(at(0)).unwrap(), 0, "no cycle yet");
        say(&mut store, at(0), &[notice("chat", Some("i2"), "disk", Turn::Open, RED)]);
        assert_eq!(claim(&mut store, at(60 * 25)), []);
        assert_eq!(store.dropped_since_last_cycle(at(60 * 25)).unwrap(), 1);
        let all = super::super::incidents::Filter { limit: 9, ..Default::default() };
        let logged: Vec<_> = store.log(&all).unwrap().into_iter().map(|row| row.said).collect();
        assert_eq!(logged, [clean!("1 notice for the channel `chat` dropped undelivered: older than 24 hours")]);
        assert_eq!(store.dropped_since_last_cycle(at(60 * 24)).unwrap(), 0, "by a clock that was ahead");
        say(&mut store, at(60 * 26), &[]);
        assert_eq!(store.dropped_since_last_cycle(at(60 * 27)).unwrap(), 0);
        // What a cycle's own commit drops is the next one's to say.
        say(&mut store, at(60 * 28), &[notice("chat", Some("i2"), "cpu", Turn::Open, RED)]);
        say(&mut store, at(60 * 53), &[notice("chat", Some("i2"), "net", Turn::Open, RED)]);
        assert_eq!(store.dropped_since_last_cycle(at(60 * 54)).unwrap(), 1);
    }

    #[test]
    fn old_notices_are_dropped_and_said_and_resolves_are_not() {
        let home = Home::new();
        let mut store = home.open(at(0));
        say(&mut store, at(0), &[site("chat", Turn::Open, RED)]);
        let due = claim(&mut store, at(0));
        store.delivered(&due[0], None, at(0)).unwrap();
        let mut morning = notice("chat", Some("i3"), "cpu", Turn::Open, YELLOW);
        morning.notice.not_before = at(60 * 8);
        say(
            &mut store,
            at(0),
            &[site("chat", Turn::Resolve, RED), notice("chat", Some("i2"), "disk", Turn::Open, RED), morning],
        );
        let claimed = store.claim(Which::All, at(60 * 25), at(60 * 25 + 1), 100).unwrap();
        assert_eq!(claimed.said, [clean!("1 notice for the channel `chat` dropped undelivered: older than 24 hours")]);
        assert_eq!(
            claimed.due.iter().map(|row| row.notice.key.to_string()).collect::<Vec<_>>(),
            ["site", "cpu"],
            "a notice that had to wait for the morning is counted from then"
        );
        let said = say(&mut store, at(60 * 40), &[site("pager", Turn::Open, RED)]).said;
        assert_eq!(said, [clean!("1 notice for the channel `chat` dropped undelivered: older than 24 hours")]);
    }

    #[test]
    fn the_outbox_stays_within_its_size_and_keeps_resolves_longest() {
        let home = Home::new();
        let mut store = home.open(at(0));
        say(&mut store, at(0), &[site("chat", Turn::Open, RED)]);
        let due = claim(&mut store, at(0));
        store.delivered(&due[0], None, at(0)).unwrap();
        let many: Vec<OutboxRow> = std::iter::once(site("chat", Turn::Resolve, RED))
            .chain((0..1_004).map(|n| notice("chat", Some("i9"), &format!("n{n}"), Turn::Open, YELLOW)))
            .collect();
        let committed = say(&mut store, at(1), &many);
        assert_eq!(
            committed.said,
            [clean!("5 notices for the channel `chat` dropped undelivered: more than 1000 waited")]
        );
        assert_eq!(store.channels(at(2)).unwrap()["chat"].waiting, 1_000);
        let due = store.claim(Which::All, at(2), at(3), 2_000).unwrap().due;
        assert_eq!((due.len(), due[0].notice.turn, due[1].notice.key.to_string()), (1_000, Turn::Resolve, "n5".into()));
    }

    #[test]
    fn too_many_drop_the_least_first_and_a_channel_that_refuses_before_one_that_takes() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let of = |channel: &str, name: &str, level| notice(channel, Some("i9"), name, Turn::Open, level);
        say(&mut store, at(0), &[of("gone", "red", RED), of("gone", "yellow", YELLOW), of("chat", "red", RED)]);
        for minute in 0..REFUSALS {
            let refusal = Failure { again_at: at(minute + 1), ..later(0) };
            for row in claim(&mut store, at(minute)) {
                if row.channel == "gone" {
                    store.failed(&row, &refusal, at(minute)).unwrap();
                } else {
                    store.put_back(&row, at(minute)).unwrap();
                }
            }
        }
        let waiting = |store: &Store| {
            let named = |row: &Row<'_>| row.get::<_, String>(0);
            let due =
                "SELECT channel || ' ' || check_name FROM outbox WHERE state = 'due' AND check_name NOT LIKE 'n%'";
            store.read(|conn| conn.prepare(due)?.query_map([], named)?.collect::<Result<BTreeSet<_>, _>>()).unwrap()
        };
        let mut next = 0;
        let mut fill = |store: &mut Store, count: i64| {
            let rows: Vec<_> = (next..next + count).map(|n| of("chat", &format!("n{n}"), YELLOW)).collect();
            next += count;
            say(store, at(5), &rows);
        };
        let rows = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        fill(&mut store, MAX_WAITING - 3);
        assert_eq!(waiting(&store), rows(&["gone red", "gone yellow", "chat red"]));
        fill(&mut store, 1);
        assert_eq!(waiting(&store), rows(&["gone red", "chat red"]));
        fill(&mut store, 1);
        assert_eq!(waiting(&store), rows(&["chat red"]));
        fill(&mut store, 50);
        assert_eq!(waiting(&store), rows(&["chat red"]), "older than all the yellows that went");
    }

    #[test]
    fn who_was_told_outlives_the_history_while_the_incident_is_open() {
        let home = Home::new();
        let mut store = home.open(at(0));
        say(&mut store, at(0), &[site("chat", Turn::Open, RED)]);
        let due = claim(&mut store, at(0));
        store.delivered(&due[0], Some("message 7"), at(0)).unwrap();
        let far = at(60 * 24 * 90);
        store.trim(far, &Limits::default()).unwrap();
        assert_eq!(store.told("i1").unwrap().len(), 1);
        let closed = vec![(incident("i1", "site", RED, at(0)), Closing::Passed)];
        let judged = Judged { closed, ..Judged::default() };
        run(&mut store, "end", far, &judged, &[site("chat", Turn::Resolve, RED)]).unwrap();
        store.trim(far, &Limits::default()).unwrap();
        let due = claim(&mut store, far);
        assert_eq!((turns(&due), due[0].prior.as_deref()), (vec![("chat", Turn::Resolve)], Some("message 7")));
        store.delivered(&due[0], None, far).unwrap();
        let after = at(60 * 24 * 180);
        store.trim(after, &Limits::default()).unwrap();
        assert_eq!(states(&store), []);
    }
}
