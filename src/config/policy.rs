//! What checks and channels say of each other, and the policy that judging works by. What contradicts another thing is
//! found here, each at its place.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::common::{ChannelKeys, ChannelPolicy, CheckKeys, Limits, Name, Needed, OwnKeys, Top, shortened};
use super::dispatch::{Written, WrittenChannel, WrittenCheck};
use super::nearest::nearest;
use super::problems::Problems;
use super::table::{At, list, member, place};
use crate::expr::Expr;
use crate::facts::{CheckName, Code};
use crate::judge::{Advice, Policy};
use crate::kinds::{AnyKind, KindDoc, pulsecheck};
use crate::notify::NotifierDoc;
use crate::redact::Clean;
use crate::settings::{Dur, Problem};

/// Checks that one config may have.
pub const MAX_CHECKS: usize = 10_000;
/// Cycles can't follow each other more closely, and a streak can't be longer than a person remembers.
const INTERVAL: (Dur, Dur) = (Dur::secs(1), Dur::days(7));
/// Owners that always exist.
const ALWAYS: [&str; 2] = ["agent", "human"];

/// Finds what contradicts itself across the whole config.
pub(super) fn cross_check(written: &Written<'_>, main: &At<'_>, root: &toml::de::DeTable<'_>, out: &mut Problems) {
    // What is wrong with the file's own keys can't be held against what checks say.
    let top = written.top.as_ref();
    let whole = top.filter(|top| top.whole).map(|top| &top.value);
    if let Some(top) = top {
        check_top(&top.value, top.whole, main, root, out);
    }
    if written.names.len() > MAX_CHECKS {
        let said = format!("expected at most {MAX_CHECKS} checks, found {}", written.names.len());
        out.push(main.problem(0..0, "check", said));
    }
    let owners = whole.map(|top| top.owners.iter().map(|owner| owner.0.as_str()).chain(ALWAYS).collect());
    let owners: Option<&BTreeSet<&str>> = owners.as_ref();
    let mut formerly: BTreeMap<&str, &CheckName> = BTreeMap::new();
    for check in &written.checks {
        check_times(check, whole.map(|top| top.limits.fetch), out);
        check_streak(check, out);
        check_parents(check, written, out);
        check_was(check, written, &mut formerly, out);
        if let (Some(owner), Some(owners)) = (&check.keys.owner, owners) {
            check_owner(owner, &check.at, place(check.table, "owner"), owners, out);
        }
        let when = check.keys.when.iter().flat_map(Expr::checks_read).map(|name| ("when", name));
        let own = check.check.iter().flat_map(|(_, check)| check.checks_read());
        for (key, name) in when.chain(own) {
            check_read(&name, check, key, written, out);
        }
    }
    if let Some((keys, at, table)) = &written.own
        && let (Some(owner), Some(owners)) = (&keys.owner, owners)
    {
        check_owner(owner, at, place(table, "owner"), owners, out);
    }
    for channel in &written.channels {
        check_channel(channel, written, owners, out);
    }
    check_circles(written, out);
}

fn check_top(top: &Top, whole: bool, at: &At<'_>, root: &toml::de::DeTable<'_>, out: &mut Problems) {
    let span = |key: &str| place(root, key).unwrap_or(0..0);
    let mut bounds = |key: &str, value: Dur, (least, most): (Dur, Dur)| {
        if value < least || value > most {
            let said = format!("expected {least} to {most}, found {value}");
            out.push(at.problem(span(key), key, said));
        }
    };
    bounds("interval", top.interval, INTERVAL);
    let Limits { deadline, fetch, check, delivery } = top.limits;
    let time = (Dur::millis(100), Dur::hours(1));
    bounds("limits.deadline", deadline, time);
    bounds("limits.fetch", fetch, time);
    bounds("limits.check", check, time);
    bounds("limits.delivery", delivery, time);
    bounds("store.retention", top.store.retention, (Dur::days(1), Dur::days(3_650)));
    if top.store.max_size.bytes() < 1 << 20 {
        let said = format!("expected at least 1MiB, found {}", top.store.max_size);
        out.push(at.problem(span("store.max_size"), "store.max_size", said));
    }
    // Points at the key that was written; a default contradicts nothing by itself.
    let mut order = |small: &str, a: Dur, large: &str, b: Dur| {
        let written = [small, large].into_iter().find(|key| place(root, key).is_some());
        if let Some(key) = written.filter(|_| whole && a > b) {
            out.push(at.problem(span(key), key, format!("`{small}` of {a} is beyond `{large}` of {b}")));
        }
    };
    order("limits.check", check, "limits.fetch", fetch);
    order("limits.fetch", fetch, "limits.deadline", deadline);
    order("limits.delivery", delivery, "limits.deadline", deadline);
}

fn check_times(check: &WrittenCheck<'_>, fetch: Option<Dur>, out: &mut Problems) {
    let span = |key: &str| place(check.table, key).unwrap_or_else(|| check.at.span.clone());
    if let Some(timeout) = check.keys.timeout {
        if timeout.is_zero() {
            out.push(check.at.problem(span("timeout"), "timeout", "expected more than 0s"));
        } else if let Some(fetch) = fetch.filter(|fetch| timeout > *fetch) {
            let said = format!("{timeout} is beyond `limits.fetch` of {fetch}, when looking ends for all checks");
            let hint = "shorten it, or raise `limits.fetch`";
            out.push(check.at.problem(span("timeout"), "timeout", said).hint(hint));
        }
    }
    if check.keys.every.is_some_and(Dur::is_zero) {
        out.push(check.at.problem(span("every"), "every", "expected more than 0s (leave it out for each cycle)"));
    }
}

fn check_streak(check: &WrittenCheck<'_>, out: &mut Problems) {
    let streak = check.keys.streak;
    if let Some(red) = streak.red.0.filter(|red| *red < streak.yellow.0) {
        let said = format!("red after {red} would come before yellow after {}", streak.yellow.0);
        let span = place(check.table, "streak").unwrap_or_else(|| check.at.span.clone());
        out.push(check.at.problem(span, "streak", said));
    }
}

fn check_parents(check: &WrittenCheck<'_>, written: &Written<'_>, out: &mut Problems) {
    for Needed { parent, text } in &check.keys.depends_on {
        let parent = &parent.check;
        if !written.names.contains_key(parent) && parent.as_str() != CheckName::OWN {
            let names = written.names.keys().map(CheckName::as_str).filter(|name| *name != check.name.as_str());
            let problem =
                at_member(&check.at, check.table, "depends_on", text, format!("no check is called `{parent}`"));
            out.push(match nearest(parent.as_str(), names) {
                Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                None => problem,
            });
        }
    }
}

/// A problem with a member of a list.
fn at_member(at: &At<'_>, table: &toml::de::DeTable<'_>, key: &str, text: &str, said: String) -> Problem {
    let (span, key) = member(table, key, text).unwrap_or_else(|| (at.span.clone(), key.to_owned()));
    at.problem(span, &key, said)
}

/// What an expression reads must be another check that is looked at.
fn check_read(name: &str, check: &WrittenCheck<'_>, key: &str, written: &Written<'_>, out: &mut Problems) {
    let span = place(check.table, key).unwrap_or_else(|| check.at.span.clone());
    let bad = |said: String| check.at.problem(span, key, said);
    let switched_on = CheckName::try_from(name).ok().and_then(|name| written.names.get(&name).copied());
    out.push(match switched_on {
        _ if name == CheckName::OWN => return,
        _ if name == check.name.as_str() => bad("a check can't wait for itself".to_owned()),
        Some(true) => return,
        Some(false) => bad(format!("it reads the check `{name}`, which is switched off")),
        None => {
            let problem = bad(format!("it reads the check `{}`, which doesn't exist", shortened(name)));
            match nearest(name, written.names.keys().map(CheckName::as_str)) {
                Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                None => problem,
            }
        }
    });
}

fn check_was<'w>(
    check: &'w WrittenCheck<'_>,
    written: &Written<'_>,
    formerly: &mut BTreeMap<&'w str, &'w CheckName>,
    out: &mut Problems,
) {
    let Some(Name(was)) = &check.keys.was else { return };
    let mut bad = |said: String| {
        let span = place(check.table, "was").unwrap_or_else(|| check.at.span.clone());
        out.push(check.at.problem(span, "was", said));
    };
    if was == check.name.as_str() {
        bad("it has that name now".to_owned());
    } else if was == CheckName::OWN
        || CheckName::try_from(was.as_str()).is_ok_and(|was| written.names.contains_key(&was))
    {
        bad(format!("there is a check called `{was}`, so this one can't have been it"));
    } else if let Some(other) = formerly.insert(was, &check.name) {
        bad(format!("`{other}` was called `{was}` as well"));
    }
}

fn check_owner(owner: &Name, at: &At<'_>, span: Option<Range<usize>>, owners: &BTreeSet<&str>, out: &mut Problems) {
    if !owners.contains(owner.0.as_str()) {
        let said = format!("no owner is called `{}` (expected one of {})", owner.0, list(owners.iter().copied()));
        let problem = at.problem(span.unwrap_or_else(|| at.span.clone()), "owner", said);
        out.push(problem.hint("new ones go into `owners` of the main file"));
    }
}

fn check_channel(
    channel: &WrittenChannel<'_>,
    written: &Written<'_>,
    owners: Option<&BTreeSet<&str>>,
    out: &mut Problems,
) {
    let checks: BTreeSet<&str> = written.names.keys().map(CheckName::as_str).chain([CheckName::OWN]).collect();
    let tags: BTreeSet<&str> = written
        .checks
        .iter()
        .flat_map(|check| &check.keys.tags)
        .chain(written.own.iter().flat_map(|(keys, ..)| &keys.tags))
        .map(|tag| tag.0.as_str())
        .collect();
    let ChannelKeys { checks: wanted_checks, tags: wanted_tags, owners: wanted_owners, .. } = &channel.keys;
    let lists = [
        ("checks", wanted_checks, Some(&checks)),
        ("tags", wanted_tags, Some(&tags)),
        ("owners", wanted_owners, owners),
    ];
    for (key, wanted, there) in lists {
        let Some(there) = there else { continue };
        for name in wanted.iter().filter(|name| !there.contains(name.0.as_str())) {
            let said = format!("there is no {} `{}`", key.trim_end_matches('s'), name.0);
            let problem = at_member(&channel.at, channel.table, key, &name.0, said);
            out.push(match nearest(&name.0, there.iter().copied()) {
                Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                None => problem,
            });
        }
    }
}

/// Checks that need each other: each would wait for the other for ever.
fn check_circles(written: &Written<'_>, out: &mut Problems) {
    let by_name: BTreeMap<&CheckName, &WrittenCheck<'_>> = written.checks.iter().map(|c| (&c.name, c)).collect();
    let mut done: BTreeSet<&CheckName> = BTreeSet::new();
    for start in &written.checks {
        // The way from `start` down, with the next parent to look at in each: depth is not bounded by the stack.
        let mut way: Vec<(&WrittenCheck<'_>, usize)> = Vec::new();
        let mut on_way: BTreeSet<&CheckName> = BTreeSet::new();
        if !done.contains(&start.name) {
            way.push((start, 0));
            on_way.insert(&start.name);
        }
        while let Some((check, next)) = way.last_mut() {
            let (check, i) = (*check, *next);
            *next += 1;
            let Some(Needed { parent, text }) = check.keys.depends_on.get(i) else {
                done.insert(&check.name);
                on_way.remove(&check.name);
                way.pop();
                continue;
            };
            let parent = &parent.check;
            if on_way.contains(parent) {
                let from = way.iter().position(|(check, _)| check.name == *parent).unwrap_or(0);
                let names = way.iter().skip(from).map(|(check, _)| check.name.as_str());
                let circle: Vec<_> = names.chain([parent.as_str()]).collect();
                let said = format!("goes round in a circle: {}", circle.join(" → "));
                out.push(at_member(&check.at, check.table, "depends_on", text, said));
            } else if let Some(parent) = by_name.get(parent).filter(|parent| !done.contains(&parent.name)) {
                way.push((parent, 0));
                on_way.insert(&parent.name);
            }
        }
    }
}

/// What each kind advises, by its name: made once, however many checks are of it.
pub(super) type Advised = BTreeMap<&'static str, Arc<BTreeMap<Code, Advice>>>;

/// A check's policy.
pub(super) fn policy(
    keys: &CheckKeys,
    kind: &'static dyn AnyKind,
    interval: Dur,
    on: &BTreeMap<CheckName, bool>,
    advised: &mut Advised,
) -> Policy {
    let cycle = interval.signed();
    let doc = kind.doc();
    Policy {
        every: keys.every.map_or(cycle, Dur::signed).max(cycle),
        yellow: keys.streak.yellow.0,
        red: keys.streak.red.0,
        recover_after: keys.recover_after.0,
        impact: keys.impact,
        owner: keys.owner.as_ref().map(Name::clean),
        action: keys.action.as_ref().map(|action| Clean::new(&action.0)),
        advice: Arc::clone(advised.entry(doc.name).or_insert_with(|| advice(doc))),
        // A parent that is switched off is never seen, so it holds nothing.
        depends_on: keys
            .depends_on
            .iter()
            .map(|n| &n.parent)
            .filter(|p| on.get(&p.check) != Some(&false))
            .cloned()
            .collect(),
        tags: keys.tags.iter().map(Name::clean).collect(),
        was: keys.was.as_ref().and_then(|was| CheckName::try_from(was.0.as_str()).ok()),
        reminds: !doc.thresholds_remind,
        ..Policy::plain(cycle)
    }
}

/// The policy of the check that Pulsecheck runs on itself.
pub(super) fn own_policy(keys: &OwnKeys, interval: Dur) -> Policy {
    Policy {
        impact: keys.impact,
        owner: keys.owner.as_ref().map(Name::clean),
        action: keys.action.as_ref().map(|action| Clean::new(&action.0)),
        advice: advice(&pulsecheck::DOC),
        tags: keys.tags.iter().map(Name::clean).collect(),
        ..Policy::plain(interval.signed())
    }
}

fn advice(doc: &KindDoc) -> Arc<BTreeMap<Code, Advice>> {
    let advice = doc
        .all_reasons()
        .map(|reason| {
            let advice = Advice { action: Clean::new(reason.action), needs_human: reason.needs_human };
            (Code::from(reason.code), advice)
        })
        .collect();
    Arc::new(advice)
}

/// Who gets what on a channel.
pub(super) fn channel_policy(keys: &ChannelKeys, doc: &NotifierDoc) -> ChannelPolicy {
    ChannelPolicy {
        from: keys.from.level(),
        checks: keys.checks.iter().filter_map(|name| CheckName::try_from(name.0.as_str()).ok()).collect(),
        tags: keys.tags.iter().map(Name::clean).collect(),
        owners: keys.owners.iter().map(Name::clean).collect(),
        requires_human: keys.requires_human,
        per: keys.per.unwrap_or(doc.per),
        max_per_hour: keys.max_per_hour.0,
    }
}

/// How long one look at a check may take.
pub(super) fn timeout(keys: &CheckKeys, limits: &Limits) -> Duration {
    keys.timeout.unwrap_or(limits.check).min(limits.fetch).get()
}
