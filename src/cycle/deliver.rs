//! Saying what was committed: each channel by itself, in order, with a few tries now and more in later cycles. Whether it
//! was taken is written down at once, so that a kill costs at most a second delivery under the same dedup key.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::clean;
use crate::config::{Channel, Config};
use crate::host::Host;
use crate::judge::{Level, Notice, Turn};
use crate::notify::{LONGEST_WAIT, MAX_NOTICES, Message, Per, Receipt, Undelivered, back_off, message_id};
use crate::redact::Clean;
use crate::steps::{Step, reached};
use crate::store::outbox::{Due, Failure, Which};
use crate::store::{Error, Store};

/// Tries of one message in one run.
const TRIES: u32 = 3;
/// The wait before the second try of a run; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Rows that one run delivers at most.
const MAX_ROWS: usize = 1_000;

/// What a run says with.
pub struct Deliver<'a> {
    /// The config: its channels, its name.
    pub config: &'a Config,
    /// The way to the outside.
    pub host: &'a Arc<Host>,
    /// When saying must be done.
    pub deadline: Instant,
    /// The report of this cycle, as it is printed, and the cycle's id.
    pub report: Option<(&'a str, &'a str)>,
}

/// What came of saying.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Messages that were taken.
    pub delivered: usize,
    /// Messages that were not, and why; the rows stay and are tried again, or are dead letters.
    pub undelivered: Vec<Clean>,
}

/// Rows that go in one message.
#[derive(Clone)]
struct Batch {
    rows: Vec<Due>,
    tries: u32,
    /// Whether one of the tries may have arrived.
    maybe: bool,
    not_before: Option<Instant>,
}

/// What is to become of a batch after a try.
enum Next {
    /// It is done, one way or another.
    Done,
    /// It is tried again in this run.
    Again(Batch),
    /// Its channel is left alone for the rest of this run.
    Leave,
}

impl Deliver<'_> {
    /// Delivers what is due in the outbox.
    pub async fn outbox(&self, store: &mut Store) -> Result<Said, Error> {
        let mut said = Said::default();
        let now = self.host.now().wall;
        let margin = SignedDuration::from_secs(30);
        let left = self.deadline.saturating_duration_since(Instant::now());
        let claim_until = now + SignedDuration::try_from(left).unwrap_or(margin) + margin;
        let claimed = store.claim(Which::All, now, claim_until, MAX_ROWS)?;
        let mut queues: BTreeMap<String, VecDeque<Batch>> = BTreeMap::new();
        for due in claimed.due {
            let Some(channel) = self.config.channels.get(&due.channel) else {
                store.dead(&due, &Clean::new("the channel is no longer configured"), now)?;
                continue;
            };
            let queue = queues.entry(due.channel.clone()).or_default();
            let with = queue.iter_mut().find(|batch| {
                channel.policy.per == Per::Cycle
                    && batch.rows.len() < MAX_NOTICES
                    && batch.rows.first().is_some_and(|first| first.cycle == due.cycle)
            });
            match with {
                Some(batch) => batch.rows.push(due),
                None => queue.push_back(Batch { rows: vec![due], tries: 0, maybe: false, not_before: None }),
            }
        }
        // They come the most urgent first; within a message they stand as the cycle ordered them.
        for batch in queues.values_mut().flatten() {
            batch.rows.sort_by_key(|row| row.id);
        }
        let reports = self.reports(store, &queues)?;
        let mut running = FuturesUnordered::new();
        for (name, queue) in &mut queues {
            if let Some(batch) = self.next(store, name, queue)? {
                running.push(self.attempt(batch, &reports));
            }
        }
        while let Some((batch, outcome)) = running.next().await {
            let Some(name) = batch.rows.first().map(|row| row.channel.clone()) else { continue };
            if outcome.is_ok() {
                reached(self.host, Step::Delivering);
            }
            let after = self.settle(store, batch, outcome, &mut said)?;
            let Some(queue) = queues.get_mut(&name) else { continue };
            match after {
                Next::Done => {}
                Next::Again(batch) => queue.push_front(batch),
                Next::Leave => {
                    let now = self.host.now().wall;
                    for row in queue.drain(..).flat_map(|batch| batch.rows) {
                        store.put_back(&row, now)?;
                    }
                }
            }
            if let Some(batch) = self.next(store, &name, queue)? {
                running.push(self.attempt(batch, &reports));
            }
        }
        drop(running);
        let now = self.host.now().wall;
        for batch in queues.into_values().flatten() {
            for row in &batch.rows {
                if batch.tries == 0 {
                    store.put_back(row, now)?;
                } else {
                    // Its next try did not come about; the one before was one.
                    let why = Clean::new("there was no time for another try");
                    store.failed(row, &Failure { again_at: now, why, maybe_arrived: batch.maybe }, now)?;
                }
            }
        }
        Ok(said)
    }

    /// Says notices that could not be committed, once each, without a record: only reds, headed by why. All channels at
    /// once, so that one that hangs takes nobody's time.
    pub async fn unrecorded(&self, notices: &[(String, Notice)], head: &Clean) -> Said {
        let mut by_channel: BTreeMap<&str, Vec<Notice>> = BTreeMap::new();
        for (channel, notice) in notices {
            by_channel.entry(channel).or_default().push(notice.clone());
        }
        let speaking: FuturesUnordered<_> =
            by_channel.iter().map(|(name, notices)| self.unrecorded_to(name, notices, head)).collect();
        let mut said = Said::default();
        for one in speaking.collect::<Vec<Said>>().await {
            said.delivered += one.delivered;
            said.undelivered.extend(one.undelivered);
        }
        said.undelivered.sort();
        said
    }

    async fn unrecorded_to(&self, name: &str, notices: &[Notice], head: &Clean) -> Said {
        let mut said = Said::default();
        let Some(channel) = self.config.channels.get(name) else { return said };
        let groups = match channel.policy.per {
            Per::Cycle => notices.chunks(MAX_NOTICES),
            Per::Incident => notices.chunks(1),
        };
        for group in groups {
            // An id for each message: by one for all, the service would take the second for a repeat of the first.
            let id = message_id(self.config.instance.as_str(), group.iter().map(|notice| (0, notice)));
            let message = self.message(&id, group, self.report, None, Some(head));
            match self.hand_over(channel, &message).await {
                Ok(_) => said.delivered += 1,
                Err(undelivered) => said.undelivered.push(clean!("{name}: {}", undelivered.said())),
            }
        }
        said
    }

    fn message<'m>(
        &'m self,
        id: &'m str,
        notices: &'m [Notice],
        report: Option<(&'m str, &'m str)>,
        prior: Option<&'m Receipt>,
        head: Option<&'m Clean>,
    ) -> Message<'m> {
        Message {
            id,
            notices,
            report: report.map(|(report, _)| report),
            instance: self.config.instance.as_str(),
            cycle: report.map(|(_, cycle)| cycle),
            at: self.host.now().wall,
            prior,
            head,
            test: false,
        }
    }

    /// The reports of the cycles that the rows come from.
    fn reports(
        &self,
        store: &Store,
        queues: &BTreeMap<String, VecDeque<Batch>>,
    ) -> Result<BTreeMap<String, String>, Error> {
        let mut reports = BTreeMap::new();
        for row in queues.values().flatten().flat_map(|batch| &batch.rows) {
            if reports.contains_key(&row.cycle) {
                continue;
            }
            let known = match self.report {
                Some((report, cycle)) if cycle == row.cycle => Some(report.to_owned()),
                _ => store.cycle(&row.cycle)?.and_then(|cycle| cycle.row.report_json),
            };
            reports.insert(row.cycle.clone(), known.unwrap_or_default());
        }
        Ok(reports)
    }

    /// The next batch of a channel, if it may go now: not beyond the channel's messages an hour, a new red excepted.
    fn next(&self, store: &Store, name: &str, queue: &mut VecDeque<Batch>) -> Result<Option<Batch>, Error> {
        let Some(channel) = self.config.channels.get(name) else { return Ok(None) };
        let ready = queue.front().is_some_and(|batch| batch.not_before.unwrap_or_else(Instant::now) < self.deadline);
        if !ready || Instant::now() >= self.deadline {
            return Ok(None);
        }
        let now = self.host.now().wall;
        let (rows, cycles) = store.delivered_since(name, now - SignedDuration::from_hours(1), now)?;
        let sent = if channel.policy.per == Per::Cycle { cycles } else { rows };
        if sent < i64::from(channel.policy.max_per_hour) {
            return Ok(queue.pop_front());
        }
        let new_red = |batch: &Batch| {
            batch
                .rows
                .iter()
                .any(|row| row.notice.level == Level::Red && matches!(row.notice.turn, Turn::Open | Turn::Raise))
        };
        Ok(queue.iter().position(new_red).and_then(|at| queue.remove(at)))
    }

    async fn attempt(
        &self,
        mut batch: Batch,
        reports: &BTreeMap<String, String>,
    ) -> (Batch, Result<Receipt, Undelivered>) {
        if let Some(not_before) = batch.not_before.take() {
            tokio::time::sleep_until(not_before).await;
        }
        batch.tries += 1;
        let Some((channel, first)) =
            batch.rows.first().and_then(|first| Some((self.config.channels.get(&first.channel)?, first)))
        else {
            return (batch, Err(Undelivered::not_sent(Clean::new("the channel is gone"))));
        };
        let id = message_id(self.config.instance.as_str(), batch.rows.iter().map(|row| (row.id, &row.notice)));
        let notices: Vec<Notice> = batch.rows.iter().map(|row| row.notice.clone()).collect();
        let report = reports.get(&first.cycle).map(|report| (report.as_str(), first.cycle.as_str()));
        let report = report.filter(|(report, _)| !report.is_empty());
        let prior = first.prior.as_deref().and_then(|prior| serde_json::from_str(prior).ok());
        let message = self.message(&id, &notices, report, prior.as_ref(), None);
        let outcome = self.hand_over(channel, &message).await;
        (batch, outcome)
    }

    async fn hand_over(&self, channel: &Channel, message: &Message<'_>) -> Result<Receipt, Undelivered> {
        let outgoing = channel.channel.render(message);
        let delivering = channel.channel.deliver(&outgoing, self.host, self.deadline);
        // A notifier that does not keep the deadline by itself is dropped a little later.
        tokio::time::timeout_at(self.deadline + Duration::from_millis(200), delivering)
            .await
            .unwrap_or_else(|_| Err(Undelivered::later(Clean::new("no answer in time"))))
    }

    /// Writes down what came of a try of a batch.
    fn settle(
        &self,
        store: &mut Store,
        mut batch: Batch,
        outcome: Result<Receipt, Undelivered>,
        said: &mut Said,
    ) -> Result<Next, Error> {
        let now = self.host.now().wall;
        match outcome {
            Ok(receipt) => {
                let receipt = serde_json::to_string(&receipt).ok();
                for row in &batch.rows {
                    store.delivered(row, receipt.as_deref(), now)?;
                }
                said.delivered += 1;
            }
            Err(Undelivered::Never { said: why }) => {
                for row in &batch.rows {
                    store.dead(row, &why, now)?;
                }
                said.undelivered.push(named(&batch, &why));
            }
            Err(Undelivered::Later { after, maybe_arrived, said: why }) => {
                batch.maybe |= maybe_arrived;
                let wait = after.unwrap_or(FIRST_WAIT * (1 << (batch.tries.saturating_sub(1)).min(8)));
                let again = Instant::now() + wait;
                if batch.tries < TRIES && again < self.deadline {
                    batch.not_before = Some(again);
                    return Ok(Next::Again(batch));
                }
                for row in &batch.rows {
                    let attempts = u32::try_from(row.attempt).unwrap_or(u32::MAX);
                    let wait = after.unwrap_or(Duration::ZERO).max(back_off(attempts)).min(LONGEST_WAIT);
                    let again_at = later(now, wait);
                    let failure = Failure { again_at, why: why.clone(), maybe_arrived: batch.maybe };
                    store.failed(row, &failure, now)?;
                }
                if let (Some(after), Some(row)) = (after, batch.rows.first()) {
                    store.hold_channel(&row.channel, later(now, after.min(LONGEST_WAIT)))?;
                }
                said.undelivered.push(named(&batch, &why));
                return Ok(Next::Leave);
            }
        }
        Ok(Next::Done)
    }
}

fn named(batch: &Batch, why: &Clean) -> Clean {
    let channel = batch.rows.first().map_or("", |row| row.channel.as_str());
    clean!("{channel}: {why}")
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use super::*;
    use crate::config::{ChannelPolicy, Found};
    use crate::judge::Judged;
    use crate::notify::{AnyChannel, Boxed, NotifierDoc, Outgoing};
    use crate::store::incidents::Filter;
    use crate::store::testing::{Home, incident, notice, run};

    const DOC: NotifierDoc = NotifierDoc { name: "none", about: "", per: Per::Incident, example: "" };

    /// What a channel does with each message.
    #[derive(Debug, Clone)]
    enum Does {
        Take,
        Hang,
        Answer(Undelivered),
    }

    #[derive(Debug)]
    struct Scripted {
        does: Does,
        got: Mutex<Vec<(String, usize)>>,
    }

    impl AnyChannel for Scripted {
        fn doc(&self) -> &'static NotifierDoc {
            &DOC
        }
        fn render(&self, message: &Message<'_>) -> Outgoing {
            self.got.lock().unwrap().push((message.id.to_owned(), message.notices.len()));
            Outgoing::default()
        }
        fn deliver<'a>(
            &'a self,
            _outgoing: &'a Outgoing,
            _host: &'a Host,
            deadline: Instant,
        ) -> Boxed<'a, Result<Receipt, Undelivered>> {
            Box::pin(async move {
                match &self.does {
                    Does::Hang => std::future::pending().await,
                    Does::Answer(undelivered) => Err(undelivered.clone()),
                    Does::Take if Instant::now() >= deadline => Err(Undelivered::not_sent(Clean::new("too late"))),
                    Does::Take => Ok(Receipt::default()),
                }
            })
        }
    }

    struct Stage {
        home: Home,
        host: Arc<Host>,
        config: Config,
        scripted: BTreeMap<String, Arc<Scripted>>,
    }

    impl Stage {
        fn new(channels: &[(&str, Per, Does)]) -> Self {
            let home = Home::made();
            let host = Arc::new(Host::for_tests(&home.folder));
            let mut config = Config::load(&Found::Nowhere, &host).unwrap();
            let mut scripted = BTreeMap::new();
            for (name, per, does) in channels {
                let channel = Arc::new(Scripted { does: does.clone(), got: Mutex::default() });
                let policy = ChannelPolicy {
                    from: Level::Yellow,
                    checks: BTreeSet::new(),
                    tags: BTreeSet::new(),
                    owners: BTreeSet::new(),
                    requires_human: false,
                    per: *per,
                    max_per_hour: 12,
                };
                let name = (*name).to_owned();
                scripted.insert(name.clone(), Arc::clone(&channel));
                config.channels.insert(name.clone(), Channel { name, channel, policy });
            }
            Self { home, host, config, scripted }
        }

        fn deliver(&self, within: Duration) -> Deliver<'_> {
            Deliver { config: &self.config, host: &self.host, deadline: Instant::now() + within, report: None }
        }

        fn got(&self, channel: &str) -> Vec<(String, usize)> {
            self.scripted[channel].got.lock().unwrap().clone()
        }
    }

    fn states(store: &Store) -> Vec<(String, String)> {
        let all = Filter { limit: 100, ..Filter::default() };
        let mut rows: Vec<_> = store.notices(&all).unwrap();
        rows.reverse();
        rows.into_iter().map(|row| (format!("{} {}", row.channel, row.notice.key), row.state)).collect()
    }

    fn expect(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        rows.iter().map(|(row, state)| ((*row).to_owned(), (*state).to_owned())).collect()
    }

    #[tokio::test]
    async fn without_a_record_each_message_has_its_id_and_a_channel_that_hangs_stops_no_other() {
        let stage = Stage::new(&[
            ("a", Per::Incident, Does::Hang),
            ("b", Per::Incident, Does::Take),
            ("c", Per::Cycle, Does::Take),
        ]);
        let notices: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .flat_map(|channel| ["disk", "site"].map(|name| notice(channel, None, name, Turn::Open, Level::Red)))
            .map(|row| (row.channel, row.notice))
            .collect();
        let deliver = stage.deliver(Duration::from_millis(300));
        let said = deliver.unrecorded(&notices, &Clean::new("nothing could be committed")).await;
        assert_eq!((said.delivered, said.undelivered), (3, vec![Clean::new("a: no answer in time"); 2]));
        let ids: BTreeSet<String> = ["b", "c"].into_iter().flat_map(|name| stage.got(name)).map(|(id, _)| id).collect();
        assert_eq!((ids.len(), stage.got("c")[0].1), (3, 2));
    }

    #[tokio::test]
    async fn a_channel_that_asks_for_patience_is_left_alone_at_once() {
        let after = Some(Duration::from_mins(10));
        let busy = Undelivered::Later { after, maybe_arrived: false, said: Clean::new("429") };
        let stage = Stage::new(&[("busy", Per::Incident, Does::Answer(busy)), ("chat", Per::Cycle, Does::Take)]);
        let now = stage.host.now().wall;
        let mut store = stage.home.open(now);
        let of = |channel, name, turn| notice(channel, Some("i1"), name, turn, Level::Red);
        let judged = Judged { incidents: vec![incident("i1", "site", Level::Red, now)], ..Judged::default() };
        let rows = [
            of("busy", "site", Turn::Open),
            of("busy", "disk", Turn::Open),
            of("chat", "site", Turn::Open),
            of("chat", "disk", Turn::Open),
        ];
        run(&mut store, "c0", now, &judged, &rows).unwrap();
        let said = stage.deliver(Duration::from_secs(5)).outbox(&mut store).await.unwrap();
        assert_eq!((said.delivered, said.undelivered), (1, vec![Clean::new("busy: 429")]));
        assert_eq!((stage.got("busy").len(), stage.got("chat")[0].1), (1, 2));
        assert_eq!(
            states(&store),
            expect(&[
                ("busy site", "due"),
                ("busy disk", "due"),
                ("chat site", "delivered"),
                ("chat disk", "delivered")
            ])
        );
        let resolves = [of("busy", "site", Turn::Resolve), of("chat", "site", Turn::Resolve)];
        run(&mut store, "c1", now, &judged, &resolves).unwrap();
        let folded = expect(&[("busy site", "folded"), ("busy site", "folded")]);
        let busy: Vec<_> = states(&store).into_iter().filter(|(row, _)| row == "busy site").collect();
        assert_eq!(busy, folded, "it never arrived: there is nothing to resolve");
    }

    #[tokio::test]
    async fn one_message_a_cycle_holds_its_notices_in_their_order_and_the_one_with_a_red_goes_first() {
        let stage = Stage::new(&[("chat", Per::Cycle, Does::Take)]);
        let now = stage.host.now().wall;
        let mut store = stage.home.open(now);
        let of = |id, name, level| notice("chat", Some(id), name, Turn::Open, level);
        run(&mut store, "c0", now, &Judged::default(), &[of("i0", "cpu", Level::Yellow)]).unwrap();
        let rows = [of("i1", "disk", Level::Yellow), of("i2", "site", Level::Red), of("i3", "net", Level::Yellow)];
        run(&mut store, "c1", now, &Judged::default(), &rows).unwrap();
        let said = stage.deliver(Duration::from_secs(5)).outbox(&mut store).await.unwrap();
        assert_eq!((said.delivered, said.undelivered.len()), (2, 0));
        let sizes: Vec<usize> = stage.got("chat").into_iter().map(|(_, notices)| notices).collect();
        assert_eq!(sizes, [3, 1]);
    }
}
