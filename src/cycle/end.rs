//! The end of a cycle: judge inside the transaction, commit, deliver, and hand back what is to be printed. Where the store
//! can't commit, what is red is said all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::deliver::Deliver;
use super::fetch::{Looked, any_could_look};
use super::route::{Addressed, Route};
use super::{CannotRun, Ran, clock_moved};
use crate::clean;
use crate::clock::Now;
use crate::config::Config;
use crate::facts::CheckName;
use crate::host::Host;
use crate::host::sqlite::Trouble;
use crate::jobs::spool;
use crate::judge::{self, Before, Judged, Level, Policy, Turn, Word};
use crate::kinds::pulsecheck::{self, Own};
use crate::redact::Clean;
use crate::report::{self, Frame, Report};
use crate::steps::{Step, reached};
use crate::store::incidents::Filter;
use crate::store::outbox::REFUSALS;
use crate::store::{self, Counts, CycleRow, Known, Lease, LogRow, OutboxRow, Store};

/// What the end of a cycle rests on.
pub(super) struct End<'a> {
    pub config: &'a Config,
    pub host: &'a Arc<Host>,
    pub now: Now,
    pub id: String,
    pub policies: BTreeMap<CheckName, Policy>,
    pub deadline: Instant,
    pub looked: Looked,
    pub taken: spool::Taken,
    pub spool_unread: Option<Clean>,
}

/// A judged cycle and the words for it.
struct Worded {
    judged: Judged,
    notices: Vec<Addressed>,
    report: Report,
    json: String,
}

impl End<'_> {
    /// Commits, delivers, and hands back what is to be printed.
    pub async fn committed(
        mut self,
        mut store: Box<Store>,
        lease: &Lease,
        said: Vec<(&'static str, Clean)>,
        known: Known,
    ) -> Result<Ran, CannotRun> {
        let worded = match self.commit(&mut store, lease, &said, known) {
            Ok(done) => done,
            Err(error @ (store::Error::LostLease | store::Error::Held(_))) => return Err(CannotRun::Store(error)),
            Err(error) => {
                let before = before_of(&store, &self.id, self.now.wall);
                let replaced = matches!(error, store::Error::Db(Trouble::Corrupt { .. }));
                let mut why = clean!("{error}");
                if replaced && let store::Error::Db(found) = &error {
                    // The next run begins with a sound one; this one says what it saw.
                    if let Err(worse) = store.replace(&self.host.paths.state, found, self.now.wall) {
                        why = clean!("{why}; {worse}");
                    }
                }
                return Ok(self.away(before, why).await);
            }
        };
        reached(self.host, Step::Committed);
        let done: Vec<_> = self.taken.events.iter().map(|(path, _)| path.clone()).collect();
        // What stays behind is taken again and merged: told twice is told once.
        let _again = spool::done(&done);
        if let Some((mark, _)) = &self.taken.lost {
            let _again = spool::done(std::slice::from_ref(mark));
        }
        let end = (Instant::now() + self.config.limits.delivery.get()).min(self.deadline);
        let deliver =
            Deliver { config: self.config, host: self.host, deadline: end, report: Some((&worded.json, &self.id)) };
        // What is not written down as delivered is delivered again: at worst twice, under the same dedup key.
        let undelivered = match deliver.outbox(&mut store).await {
            Ok(said) => said.undelivered,
            Err(error) => vec![clean!("the outbox can't be written: {error}")],
        };
        reached(self.host, Step::Delivered);
        // A lease that can't be given back runs out by itself.
        let _runs_out = store.release(lease);
        Ok(Ran { store: Some(store), ..ran(worded, None, undelivered) })
    }

    /// Judges and writes down, in one transaction.
    fn commit(
        &mut self,
        store: &mut Store,
        lease: &Lease,
        said: &[(&'static str, Clean)],
        known: Known,
    ) -> Result<Worded, store::Error> {
        let mut own = self.own(said.to_vec());
        self.outbox_trouble(store, &mut own)?;
        let reachable = self.reachable(store)?;
        let rare = self.rare(store)?;
        let mut tx = store.begin(lease)?;
        own.clock_moved = clock_moved(&tx, self.host, self.now)?;
        own.rare = rare;
        if let Some(before) = tx.dropped_early()? {
            let said = clean!("history before {before:.0} was dropped early to stay under `store.max_size`");
            own.store.push(("history_dropped", said));
        }
        for (name, policy) in &self.policies {
            if let Some(was) = policy.was.as_ref().filter(|was| !self.policies.contains_key(*was)) {
                tx.rename(was, name)?;
            }
        }
        let events: Vec<_> = self.taken.events.iter().map(|(_, event)| event.clone()).collect();
        tx.take_executions(&events)?;
        tx.take_baselines(&self.looked.baselines, self.now.wall)?;
        let mut before = tx.before(&self.id, self.now.wall, known)?;
        // A dead letter was no announcement: that channel hears nothing of the end.
        for incident in &mut before.incidents {
            if !incident.announced.is_empty() {
                let told = tx.told(&incident.id)?;
                incident.announced.retain(|channel, _| told.contains(channel));
            }
        }
        own.any_could_look = any_could_look(&self.looked.seen, &before.snapshot, self.looked.not_due);
        let worded = self.word(before, &own, None, &reachable);
        reached(self.host, Step::Judged);
        let row = self.row(&worded);
        let notices = outbox_rows(&worded);
        // What was folded or cut while writing stands in the log, written in the same transaction.
        tx.commit_cycle(&row, &worded.judged, &self.looked.remember, &notices, &self.log(&own))?;
        Ok(worded)
    }

    /// The store can't commit: what was seen is judged by what is known, and what is red is said, at most hourly.
    pub async fn away(self, mut before: Before, why: Clean) -> Ran {
        before.cycle.clone_from(&self.id);
        before.unrecorded = true;
        let mut own = self.own(vec![("store_away", why.clone())]);
        own.any_could_look = any_could_look(&self.looked.seen, &before.snapshot, self.looked.not_due);
        let head = clean!("nothing could be committed: {why}");
        let worded = self.word(before, &own, Some(head.clone()), &BTreeSet::new());
        let reds: Vec<_> = worded
            .notices
            .iter()
            .filter(|addressed| addressed.notice.level == Level::Red && addressed.notice.turn != Turn::Resolve)
            .map(|addressed| (addressed.channel.clone(), addressed.notice.clone()))
            .collect();
        let mut undelivered = Vec::new();
        if !reds.is_empty() && self.may_say_unrecorded() {
            let end = (Instant::now() + self.config.limits.delivery.get()).min(self.deadline);
            let report = Some((worded.json.as_str(), self.id.as_str()));
            let deliver = Deliver { config: self.config, host: self.host, deadline: end, report };
            undelivered = deliver.unrecorded(&reds, &head).await.undelivered;
        }
        ran(worded, Some(why), undelivered)
    }

    /// Judges by what is known and keeps nothing.
    pub fn dry(self, mut before: Before) -> Ran {
        before.cycle.clone_from(&self.id);
        let mut own = self.own(Vec::new());
        own.any_could_look = any_could_look(&self.looked.seen, &before.snapshot, self.looked.not_due);
        let worded = self.word(before, &own, None, &BTreeSet::new());
        ran(worded, None, Vec::new())
    }

    /// What the cycle knows of its own side.
    fn own(&self, store: Vec<(&'static str, Clean)>) -> Own {
        Own {
            checks: self.config.checks.len(),
            fetch_ms: self.looked.took_ms,
            store,
            panicked: self.looked.panicked.clone(),
            spool_bad: self.taken.bad,
            spool_unread: self.spool_unread.clone(),
            spool_lost: self.taken.lost.as_ref().map(|(_, at)| *at),
            ..Own::default()
        }
    }

    /// How far apart runs are, when the last two came too late for anything to be counted: then no streak would ever grow.
    fn rare(&self, store: &Store) -> Result<Option<SignedDuration>, store::Error> {
        let last = store.cycles(&Filter { limit: 2, ..Filter::default() })?;
        let times: Vec<Timestamp> =
            std::iter::once(self.now.wall).chain(last.iter().map(|cycle| cycle.row.started)).collect();
        let gaps = times.windows(2).filter_map(|pair| Some(pair.first()?.duration_since(*pair.last()?)));
        let shortest = gaps.min().filter(|_| times.len() == 3);
        let cycle = SignedDuration::try_from(self.config.interval).unwrap_or_default();
        Ok(shortest.filter(|gap| *gap >= cycle.saturating_mul(judge::GAP_INTERVALS)))
    }

    /// Channels that take what they are sent: those that gave nothing up in the last day, or took something since.
    fn reachable(&self, store: &Store) -> Result<BTreeSet<String>, store::Error> {
        let views = store.channels(self.now.wall)?;
        let takes = |name: &&String| views.get(*name).is_none_or(|view| view.dead == 0 || view.accepted > view.refused);
        Ok(self.config.channels.keys().filter(takes).cloned().collect())
    }

    /// Channels that refuse, and notices that were given up or dropped.
    fn outbox_trouble(&self, store: &Store, own: &mut Own) -> Result<(), store::Error> {
        own.dropped = store.dropped_since_last_cycle(self.now.wall)?;
        for (name, view) in store.channels(self.now.wall)? {
            if !self.config.channels.contains_key(&name) {
                continue;
            }
            let why = view.why.unwrap_or_else(|| Clean::new("no reason is known"));
            if view.dead > 0 {
                own.dead.insert(name, clean!("{} given up in the last day: {why}", view.dead));
            } else if view.waiting > 0 && view.refused_in_a_row >= REFUSALS {
                // With nothing left to be tried, no success could ever end it.
                own.failing.insert(name, why);
            }
        }
        Ok(())
    }

    fn word(&self, mut before: Before, own: &Own, head: Option<Clean>, reachable: &BTreeSet<String>) -> Worded {
        let at = self.now.wall;
        let mut seen = self.looked.seen.clone();
        seen.push(pulsecheck::observe(own, &self.looked.seen, at));
        before.skipped = self.looked.skipped.clone();
        let mut judged = judge::judge(before, seen, &self.policies, at);
        let route = Route {
            channels: &self.config.channels,
            policies: &self.policies,
            instance: &self.config.instance,
            cycle: &self.id,
            now: at,
            quiet_until: self.config.quiet_hours.as_ref().and_then(|hours| hours.ends_after(at)),
            reachable,
        };
        let notices = route.address(&mut judged);
        let frame = Frame {
            at,
            zone: &self.config.zone,
            cycle: &self.id,
            host: &self.config.instance,
            escalation: Err(Clean::new("no frontier model is configured")),
            head,
            remarks: self.remarks(),
        };
        let report = report::write(&judged, &self.policies, &frame);
        let (report, json) = valid(report, &judged, &frame);
        Worded { judged, notices, report, json }
    }

    fn remarks(&self) -> Vec<Clean> {
        let skipped = self.looked.skipped.len();
        let mut remarks = Vec::new();
        if skipped > 0 {
            let names: Vec<&str> = self.looked.skipped.keys().map(CheckName::as_str).take(4).collect();
            remarks.push(clean!("{skipped} left out by `when`: {}", names.join(", ")));
        }
        remarks
    }

    fn row(&self, worded: &Worded) -> CycleRow {
        let mut counts = Counts {
            checks: count(self.config.checks.len()),
            looked: count(self.looked.seen.len()),
            held: count(worded.judged.held.values().map(Vec::len).sum()),
            ..Counts::default()
        };
        for mark in worded.judged.after.values().flat_map(|standing| standing.marks.values()) {
            *match mark.outcome.word {
                Word::Pass => &mut counts.pass,
                Word::Warn => &mut counts.warn,
                Word::Fail => &mut counts.fail,
                Word::Unknown(_) => &mut counts.unknown,
            } += 1;
        }
        let status = worded.judged.status();
        let quiet = status < Level::Yellow && worded.judged.changes.is_empty();
        CycleRow {
            id: self.id.clone(),
            started: self.now.wall,
            ended: self.host.now().wall,
            status,
            surfaced: !worded.judged.changes.is_empty(),
            counts,
            report_json: (!quiet).then(|| worded.json.clone()),
        }
    }

    fn log(&self, own: &Own) -> Vec<LogRow> {
        let skipped = self.looked.skipped.iter().map(|(check, why)| LogRow {
            what: "when",
            key: Some(crate::facts::Key::new(check, &crate::facts::Subject::none())),
            said: why.clone(),
        });
        let store = own.store.iter().map(|(_, said)| LogRow { what: "store", key: None, said: said.clone() });
        skipped.chain(store).collect()
    }

    /// At most hourly, although nothing can be written down: the time of a file that is there already can be set even on a
    /// full disk. Where not even that can be done, the first cycle of each hour speaks.
    fn may_say_unrecorded(&self) -> bool {
        let hour = SignedDuration::from_hours(1);
        let now = self.now.wall;
        if let Some(last) = super::touch_unrecorded(self.host, now, hour) {
            return last;
        }
        let cycle = SignedDuration::try_from(self.config.interval).unwrap_or(hour);
        let hours = |at: Timestamp| at.as_second().div_euclid(3_600);
        hours(now) != hours(now - cycle)
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// What can be read of a store that could not commit.
fn before_of(store: &Store, cycle: &str, now: Timestamp) -> Before {
    Before {
        cycle: cycle.to_owned(),
        snapshot: store.snapshot().unwrap_or_default(),
        incidents: store.open_incidents().unwrap_or_default(),
        silences: store.silences(now).unwrap_or_default(),
        ..Before::default()
    }
}

/// The outbox rows of what was addressed.
fn outbox_rows(worded: &Worded) -> Vec<OutboxRow> {
    let judged = &worded.judged;
    let incident = |addressed: &Addressed| {
        let event = matches!(addressed.notice.turn, Turn::Event | Turn::FollowUp);
        let key = &addressed.notice.key;
        let open = judged.incidents.iter().find(|incident| incident.key == *key);
        let closed = judged.closed.iter().map(|(incident, _)| incident).find(|incident| incident.key == *key);
        let resolve = addressed.notice.turn == Turn::Resolve;
        let found = if resolve { closed.or(open) } else { open.or(closed) };
        found.filter(|_| !event).map(|incident| incident.id.clone())
    };
    worded
        .notices
        .iter()
        .map(|addressed| OutboxRow {
            incident: incident(addressed),
            channel: addressed.channel.clone(),
            notice: addressed.notice.clone(),
        })
        .collect()
}

/// The report as one line of JSON, its texts redacted once more and held to its schema; one that fails is replaced by the
/// least one that names the reds.
fn valid(report: Report, judged: &Judged, frame: &Frame<'_>) -> (Report, String) {
    let quiet = judged.status() < Level::Yellow && judged.changes.is_empty() && frame.head.is_none();
    if quiet {
        // Nobody sees it: the token is printed, nothing is stored.
        return (report, String::new());
    }
    let report = report.clean_again();
    match held_to_schema(&report) {
        Ok(json) => (report, json),
        Err(why) => {
            let least = report::minimal(judged, frame, &why).clean_again();
            let json = held_to_schema(&least).unwrap_or_else(|_| report::LAST_RESORT.to_owned());
            (least, json)
        }
    }
}

fn held_to_schema(report: &Report) -> Result<String, String> {
    let value = serde_json::to_value(report).map_err(|error| error.to_string())?;
    if let Some(problem) = report::problems(&value).into_iter().next() {
        return Err(problem);
    }
    serde_json::to_string(report).map_err(|error| error.to_string())
}

/// What a cycle came to, for who asked for it.
fn ran(worded: Worded, away: Option<Clean>, undelivered: Vec<Clean>) -> Ran {
    let Worded { judged, report, json, .. } = worded;
    let status = judged.status();
    Ran {
        status,
        quiet: status < Level::Yellow && judged.changes.is_empty() && away.is_none(),
        news: !judged.changes.is_empty() || !judged.reminders.is_empty() || away.is_some(),
        logged: judged.logged,
        changes: judged.changes,
        report,
        json,
        away,
        undelivered,
        store: None,
    }
}
