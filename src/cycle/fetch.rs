//! Looking: all checks that are due, at once, under one deadline. Each look is isolated; what goes wrong in one is its own
//! observation. Nothing outside changes here.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use tokio::time::Instant;

use crate::clean;
use crate::clock::Now;
use crate::config::{Check, When};
use crate::expr::{Expr, checks_val};
use crate::facts::{Blame, CheckName, Class, Fact, Facts, Finding, Key, Observation, Subject, Unread, Weight, Worse};
use crate::host::Host;
use crate::judge::{self, Incident, Level, Snapshot, Standing};
use crate::kinds::{Baselines, Cx, Fetched, Memory, Past, Records};
use crate::records::{CheckView, OutcomeWord};
use crate::redact::Clean;

/// How long after a settled fail the second look is taken.
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(250);
/// A fetch that does not keep its deadline by itself is dropped this much later.
const GRACE: Duration = Duration::from_millis(100);
/// Looks at the same time: twice the connections that there are at most. A check's own time begins with its look, so those
/// beyond wait outside it, and hold no memory meanwhile.
const AT_ONCE: usize = 1_024;
/// Turns that there are, one after the other: a rule over a rule over a condition has the fifth.
const MOST_WAVES: usize = 8;
/// Subjects of a check that are told apart; the rest is one.
const MAX_SUBJECTS: usize = 200;

/// What a kind left for itself to be kept: the check, the key, and the value (none forgets).
pub type Remember = (CheckName, String, Option<Vec<u8>>);

/// What an observation leaves behind beside itself: what to remember, and first baselines.
type Left = (Vec<(String, Option<Vec<u8>>)>, Facts);

/// What came of looking.
#[derive(Debug, Default)]
pub struct Looked {
    /// The observations, in the order of their checks.
    pub seen: Vec<Observation>,
    /// What the kinds leave for themselves.
    pub remember: Vec<Remember>,
    /// First baselines, to be taken where there is none.
    pub baselines: Vec<(CheckName, Facts)>,
    /// Checks that `when` left out, and why.
    pub skipped: BTreeMap<CheckName, Clean>,
    /// Checks that were not due.
    pub not_due: usize,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Checks whose code panicked, and what it said.
    pub panicked: BTreeMap<CheckName, Clean>,
}

/// Where a cycle's looking starts from.
pub struct Look<'a> {
    /// The checks.
    pub checks: &'a BTreeMap<CheckName, Check>,
    /// What was known of them.
    pub snapshot: &'a Snapshot,
    /// The open incidents.
    pub incidents: &'a [Incident],
    /// The way to the outside.
    pub host: &'a Arc<Host>,
    /// The checks' own memory.
    pub memory: &'a dyn Fn(&Check) -> Arc<dyn Memory>,
    /// What other parts recorded, beside what other checks saw by now.
    pub records: &'a dyn Fn(Views) -> Arc<dyn Records>,
    /// What a check is compared with.
    pub baselines: &'a dyn Fn(&Check) -> Result<Baselines, Unread>,
    /// The cycle's time.
    pub now: Now,
    /// When all looking must be done.
    pub deadline: Instant,
    /// Told after each look: how many are done, and of how many.
    pub progress: &'a dyn Fn(usize, usize),
}

/// What every check saw by now.
pub type Views = Arc<BTreeMap<CheckName, CheckView>>;

/// Looks at everything that is due: first what stands alone, then what has a condition over the others, then what looks at
/// the others.
pub async fn look(from: &Look<'_>) -> Looked {
    let mut looked = Looked::default();
    let begun = Instant::now();
    let (due, rest): (Vec<&Check>, Vec<&Check>) = from.checks.values().partition(|check| from.is_due(check));
    looked.not_due = rest.len();
    let waves = waves(from.checks);
    let wave = |check: &&Check| waves.get(&check.name).copied().unwrap_or(0);
    // What all checks saw is put together only where somebody looks at it.
    let viewed = due.iter().any(|check| wave(check) > 0);
    let mut views: BTreeMap<CheckName, CheckView> = from
        .snapshot
        .values()
        .filter(|_| viewed)
        .map(|standing| (standing.last.check.clone(), judge::view(standing)))
        .collect();
    let total = due.len();
    let mut done = 0;
    for number in 0..=MOST_WAVES {
        let checks: Vec<&Check> = due.iter().copied().filter(|check| wave(check) == number).collect();
        if checks.is_empty() {
            continue;
        }
        let port = (from.records)(Arc::new(views.clone()));
        let looks: Vec<_> = checks.into_iter().map(|check| from.one(check, &port)).collect();
        let mut running = stream::iter(looks).buffer_unordered(AT_ONCE);
        while let Some(one) = running.next().await {
            done += 1;
            (from.progress)(done, total);
            match one {
                One::Seen { observation, left: (remember, baseline) } => {
                    if viewed {
                        let standing = from.snapshot.get(&observation.check);
                        views.insert(observation.check.clone(), judge::view_of(&observation, standing));
                    }
                    let check = observation.check.clone();
                    looked.remember.extend(remember.into_iter().map(|(key, value)| (check.clone(), key, value)));
                    if !baseline.is_empty() {
                        looked.baselines.push((check, baseline));
                    }
                    looked.seen.push(observation);
                }
                One::Skipped(check, why) => {
                    views.remove(&check);
                    looked.skipped.insert(check, why);
                }
                One::Panicked(observation, why) => {
                    looked.panicked.insert(observation.check.clone(), why);
                    looked.seen.push(observation);
                }
            }
        }
    }
    looked.seen.sort_by(|a, b| a.check.cmp(&b.check));
    looked.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    looked
}

/// The checks that a check reads.
fn reads(check: &Check) -> BTreeSet<CheckName> {
    let conditions = check.when.iter().flat_map(Expr::checks_read);
    let own = check.check.checks_read().into_iter().map(|(_, name)| name);
    conditions.chain(own).filter_map(|name| CheckName::try_from(name.as_str()).ok()).collect()
}

/// The checks that don't stand alone, and when their turn is: after all that stand alone, and after what they read. Those
/// that read each other in a circle see what the others saw the last time.
fn waves(checks: &BTreeMap<CheckName, Check>) -> BTreeMap<&CheckName, usize> {
    let mut waves: BTreeMap<&CheckName, usize> = checks
        .iter()
        .filter_map(|(name, check)| match (check.kind.after_others(), &check.when) {
            (true, _) => Some((name, 2)),
            (false, Some(_)) => Some((name, 1)),
            (false, None) => None,
        })
        .collect();
    let reads: Vec<(&CheckName, BTreeSet<CheckName>)> =
        waves.keys().filter_map(|name| Some((*name, reads(checks.get(*name)?)))).collect();
    for _ in 0..MOST_WAVES {
        let mut moved = false;
        for (name, reads) in &reads {
            let after = reads.iter().filter_map(|read| waves.get(read)).max().map_or(0, |wave| wave + 1);
            if let Some(wave) = waves.get_mut(name).filter(|wave| **wave < after.min(MOST_WAVES)) {
                *wave = after.min(MOST_WAVES);
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    waves
}

enum One {
    Seen { observation: Observation, left: Left },
    Skipped(CheckName, Clean),
    Panicked(Observation, Clean),
}

impl Look<'_> {
    fn is_due(&self, check: &Check) -> bool {
        let Some(standing) = self.snapshot.get(&check.name) else { return true };
        let open = |subject: &Subject| {
            let key = Key::new(&check.name, subject);
            self.incidents.iter().find(|incident| incident.key == key).map(|incident| incident.level)
        };
        // What does not pass, could not be looked at through our own fault, or is still open, is looked at each cycle
        // until it is red.
        let restless = standing.marks.iter().any(|(subject, mark)| match open(subject) {
            Some(level) => level < Level::Red,
            None => mark.since.is_some() || mark.blind,
        });
        judge::is_due(Some(standing.last.at), restless, &check.policy, self.now.wall)
    }

    async fn one(&self, check: &Check, port: &Arc<dyn Records>) -> One {
        if let Some(when) = &check.when {
            match self.holds(check, when, port).await {
                Ok(true) => {}
                Ok(false) => {
                    return One::Skipped(check.name.clone(), clean!("`when` is false: {}", when.source()));
                }
                Err(unread) => return self.unread(check, unread, Duration::ZERO),
            }
        }
        let standing = self.snapshot.get(&check.name);
        let past = Arc::new(past(standing, (self.baselines)(check)));
        let first = match self.attempt(check, port, &past).await {
            Ok(first) => first,
            Err(why) => return self.panicked(check, why),
        };
        let asked = self.settled(&first.0, standing);
        let wait = Instant::now() + SECOND_LOOK_AFTER;
        if asked.is_empty() || wait >= self.deadline {
            let (observation, left) = first;
            return One::Seen { observation, left };
        }
        tokio::time::sleep_until(wait).await;
        match self.attempt(check, port, &past).await {
            Ok((mut second, left)) => {
                let again = self.settled(&second, standing);
                if again.is_empty() && !second.unread.is_empty() {
                    // The second look saw nothing, so it takes nothing back.
                    let (observation, left) = first;
                    return One::Seen { observation, left };
                }
                second.confirmed = asked.intersection(&again).cloned().collect();
                second.at = first.0.at;
                second.took_ms = second.took_ms.max(first.0.took_ms);
                One::Seen { observation: second, left }
            }
            Err(why) => self.panicked(check, why),
        }
    }

    fn settled(
        &self,
        observation: &Observation,
        standing: Option<&Standing>,
    ) -> BTreeSet<(Subject, crate::facts::Code)> {
        judge::settled_fails(observation, standing, |subject| {
            let key = Key::new(&observation.check, subject);
            self.incidents.iter().any(|incident| incident.level == Level::Red && incident.key == key)
        })
    }

    async fn attempt(
        &self,
        check: &Check,
        port: &Arc<dyn Records>,
        past: &Arc<Past>,
    ) -> Result<(Observation, Left), Clean> {
        let begun = Instant::now();
        if begun >= self.deadline {
            // It was others that used up the time: nothing is known of this one, and it is not its fault.
            let mut observation = Observation::empty(&check.name, self.now.wall);
            let said = Clean::new("the time for looking was over before its turn came");
            observation.unread.insert(Subject::none(), Unread::ours("out_of_time", said));
            return Ok((observation, Left::default()));
        }
        let deadline = (begun + check.timeout).min(self.deadline);
        let cx = Cx::new(
            check.name.clone(),
            self.now,
            deadline,
            Arc::clone(past),
            (self.memory)(check),
            Arc::clone(port),
            Arc::clone(self.host),
        );
        let fetch = AssertUnwindSafe(check.check.fetch(&cx)).catch_unwind();
        let fetched = match tokio::time::timeout_at(deadline + GRACE, fetch).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(panic)) => return Err(said(panic.as_ref())),
            Err(_) => {
                let limit = deadline.duration_since(begun).as_secs_f64();
                Err(Unread::target("no_answer", clean!("no answer within {limit:.1} s")))
            }
        };
        let mut observation = Observation::empty(&check.name, self.now.wall);
        observation.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        observation.remotes = cx.remotes();
        let mut left = Left::default();
        match fetched {
            Ok(fetched) => {
                let Fetched { facts, unread, remember, baseline } = fetched;
                observation.findings =
                    std::panic::catch_unwind(AssertUnwindSafe(|| check.check.assess(&facts, past, self.now.wall)))
                        .map_err(|panic| said(panic.as_ref()))?;
                observation.facts = facts;
                observation.unread = unread;
                left = (remember, baseline);
                bound(&mut observation);
            }
            Err(unread) => {
                observation.unread.insert(Subject::none(), unread);
            }
        }
        Ok((observation, left))
    }

    async fn holds(&self, check: &Check, when: &Expr<When>, port: &Arc<dyn Records>) -> Result<bool, Unread> {
        let (when, checks, now) = (when.clone(), port.checks(), self.now.wall);
        let about = format!("`when` of {}", check.name);
        self.host
            .lane(&about, self.deadline, move || when.holds(&BTreeMap::from([("checks", checks_val(&checks, now))])))
            .await?
            .map_err(|error| Unread::blind("when_failed", clean!("`when` gave no answer: {error}")))
    }

    fn unread(&self, check: &Check, unread: Unread, took: Duration) -> One {
        let mut observation = Observation::empty(&check.name, self.now.wall);
        observation.took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        observation.unread.insert(Subject::none(), unread);
        One::Seen { observation, left: Left::default() }
    }

    fn panicked(&self, check: &Check, why: Clean) -> One {
        let mut observation = Observation::empty(&check.name, self.now.wall);
        observation.unread.insert(Subject::none(), Unread::ours("panicked", why.clone()));
        One::Panicked(observation, why)
    }
}

fn past(standing: Option<&Standing>, baselines: Result<Baselines, Unread>) -> Past {
    Past {
        read: standing.map(|standing| (standing.read, standing.last.facts.clone())),
        first_seen: standing.map(|standing| standing.first_seen),
        baselines,
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> Clean {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Clean::line(text, 200)
}

/// Holds an observation to its limits: subjects beyond 200 become one, facts beyond 256 a subject are cut; both are said.
fn bound(observation: &mut Observation) {
    let most = observation.facts.len() + observation.unread.len() + observation.findings.len();
    if most <= MAX_SUBJECTS.min(crate::facts::MAX_FACTS) {
        return;
    }
    let mut subjects = observation.facts.subjects();
    subjects.extend(observation.unread.keys().cloned());
    subjects.extend(observation.findings.iter().map(|finding| finding.subject.clone()));
    subjects.remove(&Subject::none());
    if subjects.len() > MAX_SUBJECTS {
        // What is in trouble keeps its name before what is well.
        let troubled = |subject: &Subject| {
            observation.unread.contains_key(subject)
                || observation.findings.iter().any(|f| f.subject == *subject)
                || observation.facts.of(subject).any(|(_, fact)| beyond_an_edge(fact))
        };
        let mut order: Vec<Subject> = subjects.into_iter().collect();
        order.sort_by_key(|subject| !troubled(subject));
        let rest: BTreeSet<Subject> = order.split_off(MAX_SUBJECTS).into_iter().collect();
        let bad = rest.iter().filter(|subject| troubled(subject)).count();
        let folded = Subject::new("(the rest)");
        observation.facts.retain(|subject, _, _| !rest.contains(subject));
        observation.unread.retain(|subject, _| !rest.contains(subject));
        let worst = observation.findings.iter().filter(|f| rest.contains(&f.subject)).max_by_key(|f| f.weight).cloned();
        observation.findings.retain(|finding| !rest.contains(&finding.subject));
        observation.facts.info(&folded, "subjects", rest.len());
        if bad > 0 {
            let said = clean!("{bad} of the {} subjects beyond the first {MAX_SUBJECTS} are not well", rest.len());
            let (weight, settled) = worst.map_or((Weight::Fail, false), |worst| (worst.weight, worst.settled));
            observation.findings.push(Finding::new("subjects_beyond_limit", weight, settled, said).on(&folded));
        }
    }
    let (mut last, mut count, mut cut) = (Subject::none(), 0_usize, 0_usize);
    observation.facts.retain(|subject, _, _| {
        if *subject != last {
            (last, count) = (subject.clone(), 0);
        }
        count += 1;
        let keep = count <= crate::facts::MAX_FACTS;
        cut += usize::from(!keep);
        keep
    });
    if cut > 0 {
        observation.facts.info(&Subject::none(), "facts_cut", cut);
    }
}

/// Whether a gauge is outside its ok band; the way back is left to judging.
fn beyond_an_edge(fact: &Fact) -> bool {
    let (Class::Gauge(scale), Some(value)) = (&fact.class, fact.value.number()) else { return false };
    [&scale.warn, &scale.fail].into_iter().flatten().any(|edge| match scale.worse {
        Worse::Above => value > edge.at,
        Worse::Below => value < edge.at,
    })
}

/// Whether at least one check could look: what none could look at is never called all right. A target that gave no answer
/// was looked at, unless it is our own network that is down.
#[must_use]
pub fn any_could_look(seen: &[Observation], snapshot: &Snapshot, not_due: usize) -> bool {
    let network_down = judge::network_down(seen).is_some();
    let read = |observation: &Observation| {
        let looked = match observation.unread.get(&Subject::none()).map(|unread| unread.blame) {
            None => true,
            Some(Blame::Target) => !network_down || observation.remotes.is_empty(),
            Some(Blame::Blind | Blame::Ours) => false,
        };
        looked && observation.check.as_str() != CheckName::OWN
    };
    seen.iter().any(read)
        || (not_due > 0
            && snapshot.values().any(|standing| {
                read(&standing.last) && standing.marks.values().any(|m| m.outcome.word.plain() == OutcomeWord::Pass)
            }))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn unread(check: &str, remote: Option<&str>, unread: Unread) -> Observation {
        let mut seen = Observation::empty(&CheckName::try_from(check).unwrap(), Timestamp::UNIX_EPOCH);
        seen.remotes.extend(remote.map(|host| (Clean::new(host), false)));
        seen.unread.insert(Subject::none(), unread);
        seen
    }

    #[test]
    fn a_target_that_is_silent_was_looked_at_unless_the_network_is_ours() {
        let said = || Clean::new("why");
        let silent = |check, remote| unread(check, remote, Unread::target("no_answer", said()));
        let blind = || unread("a", None, Unread::blind("permission_denied", said()));
        let ours = || unread("a", None, Unread::ours("lanes_busy", said()));
        let own = Observation::empty(&CheckName::own(), Timestamp::UNIX_EPOCH);
        let remote = || vec![silent("a", Some("a.net")), silent("b", Some("b.net")), silent("c", Some("c.net"))];
        for (seen, looked, why) in [
            (vec![], false, "no checks"),
            (vec![own, blind(), ours()], false, "none could"),
            (vec![blind(), silent("b", None)], true, "one is silent"),
            (vec![silent("b", Some("b.net"))], true, "one is silent far away"),
            (remote(), false, "all of three hosts are: our network"),
            (remote().into_iter().chain([silent("d", None)]).collect(), true, "and one on this machine"),
        ] {
            assert_eq!(any_could_look(&seen, &Snapshot::new(), 0), looked, "{why}");
        }
    }
}
