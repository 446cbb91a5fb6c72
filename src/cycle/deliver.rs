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
    not_before: Option<Instant>,
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
            match queue.back_mut() {
                Some(last)
                    if channel.policy.per == Per::Cycle
                        && last.rows.len() < MAX_NOTICES
                        && last.rows.first().is_some_and(|first| first.cycle == due.cycle) =>
                {
                    last.rows.push(due);
                }
                _ => queue.push_back(Batch { rows: vec![due], tries: 0, not_before: None }),
            }
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
            let again = self.settle(store, batch, outcome, &mut said)?;
            let Some(queue) = queues.get_mut(&name) else { continue };
            if let Some(batch) = again {
                queue.push_front(batch);
            }
            if let Some(batch) = self.next(store, &name, queue)? {
                running.push(self.attempt(batch, &reports));
            }
        }
        drop(running);
        let now = self.host.now().wall;
        for row in queues.into_values().flatten().flat_map(|batch| batch.rows) {
            store.put_back(&row, now)?;
        }
        Ok(said)
    }

    /// Says notices that could not be committed, once each, without a record: only reds, headed by why.
    pub async fn unrecorded(&self, notices: &[(String, Notice)], head: &Clean) -> Said {
        let mut said = Said::default();
        let mut by_channel: BTreeMap<&str, Vec<Notice>> = BTreeMap::new();
        for (channel, notice) in notices {
            by_channel.entry(channel).or_default().push(notice.clone());
        }
        for (name, notices) in by_channel {
            let Some(channel) = self.config.channels.get(name) else { continue };
            let id = message_id(self.config.instance.as_str(), notices.iter().map(|notice| (0, notice)));
            let groups: Vec<&[Notice]> = match channel.policy.per {
                Per::Cycle => notices.chunks(MAX_NOTICES).collect(),
                Per::Incident => notices.chunks(1).collect(),
            };
            for group in groups {
                let message = self.message(&id, group, self.report, None, Some(head));
                let outgoing = channel.channel.render(&message);
                match channel.channel.deliver(&outgoing, self.host, self.deadline).await {
                    Ok(_) => said.delivered += 1,
                    Err(undelivered) => said.undelivered.push(clean!("{name}: {}", undelivered.said())),
                }
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
        let since = self.host.now().wall - SignedDuration::from_hours(1);
        let (rows, cycles) = store.delivered_since(name, since)?;
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
            return (batch, Err(Undelivered::later(Clean::new("the channel is gone"))));
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

    /// Writes down what came of a batch; gives it back when it is to be tried again in this run.
    fn settle(
        &self,
        store: &mut Store,
        mut batch: Batch,
        outcome: Result<Receipt, Undelivered>,
        said: &mut Said,
    ) -> Result<Option<Batch>, Error> {
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
            Err(Undelivered::Later { after, said: why }) => {
                let wait = after.unwrap_or(FIRST_WAIT * (1 << (batch.tries.saturating_sub(1)).min(8)));
                let again = Instant::now() + wait;
                if batch.tries < TRIES && again < self.deadline {
                    batch.not_before = Some(again);
                    return Ok(Some(batch));
                }
                for row in &batch.rows {
                    let attempts = u32::try_from(row.attempt).unwrap_or(u32::MAX);
                    let wait = after.unwrap_or(Duration::ZERO).max(back_off(attempts)).min(LONGEST_WAIT);
                    let again_at = later(now, wait);
                    store.failed(row, &Failure { again_at, why: why.clone(), maybe_arrived: true }, now)?;
                }
                if let (Some(after), Some(row)) = (after, batch.rows.first()) {
                    store.hold_channel(&row.channel, later(now, after.min(LONGEST_WAIT)))?;
                }
                said.undelivered.push(named(&batch, &why));
            }
        }
        Ok(None)
    }
}

fn named(batch: &Batch, why: &Clean) -> Clean {
    let channel = batch.rows.first().map_or("", |row| row.channel.as_str());
    clean!("{channel}: {why}")
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok()).unwrap_or(now)
}
