//! What a source held when its baseline was accepted, against what it holds now. Pure: the check and the commands that show
//! and accept rest on the same comparison.

use std::collections::{BTreeMap, BTreeSet};

use crate::facts::{Class, FactName, Facts, MAX_SET_MEMBERS, Subject, Value};
use crate::read;
use crate::redact::Clean;

/// What stands between the name of a member and what it is. No name before `:` or `=` that would make a secret of a version.
pub(super) const IS: &str = " is ";
/// What stands for a program that could not be told.
pub(super) const UNTOLD: &str = "?";
/// Values that are shown whole when they change.
const SHORT: usize = 24;
/// Members that a sentence names.
const NAMED: usize = 3;

const MEMBERS: &str = "members";
const UNREAD: &str = "unread_parts";
const SHA256: &str = "sha256";
const LEFT_OUT: &str = "left_out";
/// The facts that a baseline is made of.
const KEPT: [&str; 4] = [MEMBERS, UNREAD, SHA256, LEFT_OUT];

/// What a source holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Its members, each `name` or `name is value`.
    pub members: BTreeSet<Clean>,
    /// Parts that could not be read: what members of theirs begin with.
    pub unread: BTreeSet<Clean>,
    /// Over all members as they were read, also those that are not shown; none where their values come and go.
    pub sha256: Option<Clean>,
    /// Members beyond what is kept.
    pub left_out: u64,
}

impl Held {
    /// From what was read; members are cleaned and cut to what is kept.
    pub(super) fn new(mut raw: Vec<String>, unread: BTreeSet<Clean>, hashed: bool) -> Self {
        raw.sort_unstable();
        raw.dedup();
        let sha256 = hashed.then(|| Clean::new(&read::sha256(raw.join("\n").as_bytes())));
        // Cleaning costs more than all the rest. Twice what is kept, for clean members may stand in another order.
        let beyond = raw.len().saturating_sub(2 * MAX_SET_MEMBERS);
        raw.truncate(2 * MAX_SET_MEMBERS);
        let mut members: BTreeSet<Clean> = raw.iter().map(|member| Clean::line(member, 300)).collect();
        let left_out = members.len().saturating_sub(MAX_SET_MEMBERS) + beyond;
        if let Some(first_out) = members.iter().nth(MAX_SET_MEMBERS).cloned() {
            let _beyond = members.split_off(&first_out);
        }
        Self { members, unread, sha256, left_out: u64::try_from(left_out).unwrap_or(u64::MAX) }
    }

    /// From facts; none where the subject was not read.
    #[must_use]
    pub fn of(facts: &Facts, subject: &Subject) -> Option<Self> {
        let members = set(facts, subject, MEMBERS)?;
        let left_out = facts.get(subject, LEFT_OUT).and_then(|fact| match fact.value {
            Value::Int(n) => u64::try_from(n).ok(),
            _ => None,
        });
        Some(Self {
            members,
            unread: set(facts, subject, UNREAD).unwrap_or_default(),
            sha256: facts.text(subject, SHA256).cloned(),
            left_out: left_out.unwrap_or_default(),
        })
    }

    /// Puts it as facts. They are info: what they are compared with is the accepted baseline, and the finding tells the
    /// difference. As sets the middle would tell the same difference once more when it has been accepted and passes.
    pub(super) fn put(&self, subject: &Subject, facts: &mut Facts) {
        facts.info(
            subject,
            "count",
            u64::try_from(self.members.len()).unwrap_or(u64::MAX).saturating_add(self.left_out),
        );
        put_set(facts, subject, MEMBERS, self.members.clone());
        if !self.unread.is_empty() {
            put_set(facts, subject, UNREAD, self.unread.clone());
        }
        if let Some(sha256) = &self.sha256 {
            facts.info(subject, SHA256, sha256.clone());
        }
        if self.left_out > 0 {
            facts.info(subject, LEFT_OUT, self.left_out);
        }
    }
}

/// What of an observation's facts a baseline of this subject is made of; none where it was not read.
#[must_use]
pub fn to_keep(facts: &Facts, subject: &Subject) -> Option<Facts> {
    Held::of(facts, subject)?;
    let mut kept = facts.clone();
    kept.retain(|of, name, _| of == subject && KEPT.contains(&name.as_str()));
    Some(kept)
}

/// What tells a look from another one that saw something else.
#[must_use]
pub fn seen_id(facts: &Facts) -> String {
    let kept: Vec<Option<Facts>> = facts.subjects().iter().map(|subject| to_keep(facts, subject)).collect();
    let hash = read::sha256(format!("{kept:?}").as_bytes());
    hash.get(..12).unwrap_or_default().to_owned()
}

fn set(facts: &Facts, subject: &Subject, name: &'static str) -> Option<BTreeSet<Clean>> {
    match &facts.get(subject, name)?.value {
        Value::Set(members) => Some(members.clone()),
        _ => None,
    }
}

fn put_set(facts: &mut Facts, subject: &Subject, name: impl Into<FactName>, members: BTreeSet<Clean>) {
    facts.put_foreign(subject, name, Value::Set(members), Class::Info);
}

/// What differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Members that were not there.
    pub added: BTreeSet<Clean>,
    /// Members that are there no longer.
    pub removed: BTreeSet<Clean>,
    /// Members that are something else now: the name, what it was, what it is.
    pub changed: BTreeSet<(Clean, Clean, Clean)>,
    /// Parts that could not be read when the baseline was taken.
    pub newly_read: BTreeSet<Clean>,
    /// Whether something differs that is not shown: a secret that was taken out, a text that was cut.
    pub hidden: bool,
}

/// The difference between two states of a source. What could not be read in either is not compared.
#[must_use]
pub fn between(before: &Held, now: &Held) -> Difference {
    let newly_read: BTreeSet<Clean> = before.unread.difference(&now.unread).cloned().collect();
    let unread = |member: &Clean| before.unread.iter().chain(&now.unread).any(|part| belongs(member, part));
    // Beyond the last member that is kept on both sides nothing is known by name.
    let last = [before, now].into_iter().filter(|held| held.left_out > 0).filter_map(|held| held.members.last()).min();
    let compared = |member: &&Clean| !unread(member) && last.is_none_or(|last| *member <= last);
    let mut added: BTreeSet<Clean> = now.members.difference(&before.members).filter(compared).cloned().collect();
    let mut removed: BTreeSet<Clean> = before.members.difference(&now.members).filter(compared).cloned().collect();
    let mut changed = BTreeSet::new();
    // Where a name is there several times on a side (two versions of a kernel), its members come and go instead.
    let (ups, downs) = (by_name(&added), by_name(&removed));
    for (name, news) in &ups {
        let ([new], Some([old])) = (news.as_slice(), downs.get(name).map(Vec::as_slice)) else { continue };
        added.remove(new);
        removed.remove(old);
        let (was, is) = (value_of(old), value_of(new));
        // Whose a port is can be told only at times, by what this user may see.
        if was != UNTOLD && is != UNTOLD {
            changed.insert((Clean::new(name), Clean::new(was), Clean::new(is)));
        }
    }
    let shown = !(added.is_empty() && removed.is_empty() && changed.is_empty());
    let same_parts = before.unread == now.unread;
    let hidden =
        !shown && same_parts && matches!((&before.sha256, &now.sha256), (Some(before), Some(now)) if before != now);
    Difference { added, removed, changed, newly_read, hidden }
}

fn by_name(members: &BTreeSet<Clean>) -> BTreeMap<String, Vec<Clean>> {
    let mut names: BTreeMap<String, Vec<Clean>> = BTreeMap::new();
    for member in members {
        if let Some((name, _)) = member.as_str().split_once(IS) {
            names.entry(name.to_owned()).or_default().push(member.clone());
        }
    }
    names
}

fn value_of(member: &Clean) -> &str {
    member.as_str().split_once(IS).map_or("", |(_, value)| value)
}

/// Whether a member is one of a part: `root SHA256:…` of `root`, `/etc/cron.d/x: …` of `/etc/cron.d`.
fn belongs(member: &Clean, part: &Clean) -> bool {
    let rest = member.as_str().strip_prefix(part.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ':', '/']))
}

impl Difference {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.removed.is_empty()
            && self.changed.is_empty()
            && self.newly_read.is_empty()
            && !self.hidden
    }

    /// Puts it as facts, for `assess` and for whoever asks; nothing where nothing differs.
    pub(super) fn put(&self, subject: &Subject, facts: &mut Facts) {
        let changed = self.changed.iter().map(|(name, was, is)| crate::clean!("{name}{IS}{is}{WAS}{was}")).collect();
        for (name, members) in [
            ("added", self.added.clone()),
            ("removed", self.removed.clone()),
            ("changed", changed),
            ("newly_read", self.newly_read.clone()),
        ] {
            if !members.is_empty() {
                put_set(facts, subject, name, members);
            }
        }
        if self.hidden {
            facts.info(subject, "hidden", true);
        }
    }

    /// From facts.
    pub(super) fn of(facts: &Facts, subject: &Subject) -> Self {
        let get = |name| set(facts, subject, name).unwrap_or_default();
        let parts = |member: &Clean| {
            let (name, values) = member.as_str().split_once(IS)?;
            let (is, was) = values.rsplit_once(WAS)?;
            Some((Clean::new(name), Clean::new(was), Clean::new(is)))
        };
        Self {
            added: get("added"),
            removed: get("removed"),
            changed: get("changed").iter().filter_map(parts).collect(),
            newly_read: get("newly_read"),
            hidden: facts.flag(subject, "hidden") == Some(true),
        }
    }

    /// In words: the members by name, quoted, the first ones of each sort.
    #[must_use]
    pub fn words(&self) -> String {
        // A file's mode and hash go without saying where its lines are named.
        let told = |name: &str| {
            self.added
                .iter()
                .chain(&self.removed)
                .any(|line| line.as_str().strip_prefix(name).is_some_and(|rest| rest.starts_with(": ")))
        };
        let changed = self.changed.iter().filter(|(name, _, _)| !told(name.as_str())).map(|(name, was, is)| {
            if was.as_str().len() <= SHORT && is.as_str().len() <= SHORT {
                format!("{} from {} to {}", name.quoted(), was.quoted(), is.quoted())
            } else {
                name.quoted().to_string()
            }
        });
        let is_told = |member: &Clean| member.as_str().split_once(IS).is_some_and(|(name, _)| told(name));
        let quoted = |members: &BTreeSet<Clean>| {
            members.iter().filter(|one| !is_told(one)).map(|one| one.quoted().to_string()).collect()
        };
        let mut parts = Vec::new();
        for (word, members) in [
            ("added", quoted(&self.added)),
            ("removed", quoted(&self.removed)),
            ("changed", changed.collect()),
            ("could not be read before:", quoted(&self.newly_read)),
        ] {
            let members: Vec<String> = members;
            if let Some(more) = members.len().checked_sub(NAMED).filter(|more| *more > 0) {
                parts.push(format!(
                    "{word} {}, +{more} more",
                    members.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ")
                ));
            } else if !members.is_empty() {
                parts.push(format!("{word} {}", members.join(", ")));
            }
        }
        if self.hidden {
            parts.push("differs in what is not shown (a secret in it, or beyond what is kept)".to_owned());
        }
        parts.join("; ")
    }

    /// What this difference is about: another one is said anew.
    pub(super) fn episode(&self) -> Clean {
        let hash = read::sha256(format!("{self:?}").as_bytes());
        Clean::new(hash.get(..16).unwrap_or_default())
    }
}

/// What stands between what a changed member is and what it was, in a fact.
const WAS: &str = ", was ";

#[cfg(test)]
mod tests {
    use super::*;

    fn held(members: &[&str], unread: &[&str]) -> Held {
        let unread = unread.iter().map(|part| Clean::new(part)).collect();
        Held::new(members.iter().map(|&member| member.to_owned()).collect(), unread, true)
    }

    #[test]
    fn differences_are_told_by_name() {
        let long = "sha256:".to_owned() + &"a".repeat(64);
        let file = format!("/etc/sudoers is 0440 0:0 {long}");
        let other = format!("/etc/sudoers is 0440 0:0 {long}b");
        for (before, now, words) in [
            (held(&["a", "b"], &[]), held(&["b", "a"], &[]), ""),
            (held(&["a"], &[]), held(&["a", "b"], &[]), "added \"b\""),
            (held(&["a", "b"], &[]), held(&["b"], &[]), "removed \"a\""),
            (held(&["a is 1"], &[]), held(&["a is 2"], &[]), "changed \"a\" from \"1\" to \"2\""),
            (held(&[&file], &[]), held(&[&other], &[]), "changed \"/etc/sudoers\""),
            (
                held(&[&file], &[]),
                held(&[&other, "/etc/sudoers: eve ALL=(ALL) ALL"], &[]),
                "added \"/etc/sudoers: eve ALL=(ALL) ALL\"",
            ),
            (held(&[], &[]), held(&[&file, "/etc/sudoers: a"], &[]), "added \"/etc/sudoers: a\""),
            (held(&["k is 1", "k is 2"], &[]), held(&["k is 2", "k is 3"], &[]), "changed \"k\" from \"1\" to \"3\""),
            (
                held(&["k is 1", "k is 2"], &[]),
                held(&["k is 3", "k is 4"], &[]),
                "added \"k is 3\", \"k is 4\"; removed \"k is 1\", \"k is 2\"",
            ),
            (held(&[], &[]), held(&["a", "b", "c", "d", "e"], &[]), "added \"a\", \"b\", \"c\", +2 more"),
            (held(&["tcp *:22 is ?"], &[]), held(&["tcp *:22 is sshd"], &[]), ""),
            (
                held(&["tcp *:22 is sshd"], &[]),
                held(&["tcp *:22 is nc"], &[]),
                "changed \"tcp *:22\" from \"sshd\" to \"nc\"",
            ),
        ] {
            // Ports have no hash over all: whose they are is told only at times.
            let loose =
                |held: &Held| Held { sha256: held.sha256.clone().filter(|_| !words.is_empty()), ..held.clone() };
            let difference = between(&loose(&before), &loose(&now));
            assert_eq!(difference.words(), words);
            assert_eq!(difference.is_empty(), words.is_empty());
            let mut facts = Facts::new();
            difference.put(&Subject::new("s"), &mut facts);
            assert_eq!(Difference::of(&facts, &Subject::new("s")), difference, "{words}");
        }
    }

    #[test]
    fn what_could_not_be_read_is_not_compared_and_its_return_is_said() {
        let whole = held(&["root A", "roots B", "/etc/cron.d/x: c", "/etc/crontab: d"], &[]);
        let partly = held(&["roots B", "/etc/crontab: d"], &["root", "/etc/cron.d"]);
        assert!(between(&whole, &partly).is_empty(), "unknown is not gone");
        let back = between(&partly, &whole);
        assert_eq!(back.words(), "could not be read before: \"/etc/cron.d\", \"root\"");
        assert!(between(&partly, &held(&["/etc/crontab: d"], &["root", "/etc/cron.d"])).removed.len() == 1);
    }

    #[test]
    fn what_is_not_shown_differs_by_its_hash() {
        let secret = |value: &str| held(&[&format!("x: * * * * * API_TOKEN={value} run")], &[]);
        let (one, other) = (secret("abcdef123456"), secret("abcdef123457"));
        assert_eq!(one.members, other.members, "the value is taken out");
        assert!(between(&one, &other).words().starts_with("differs in what is not shown"));
    }

    #[test]
    fn beyond_what_is_kept_the_hash_alone_tells() {
        let many = |from: usize| {
            held(
                &(from..from + 6_000)
                    .map(|n| format!("m{n:05}"))
                    .collect::<Vec<_>>()
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>(),
                &[],
            )
        };
        let longer: Vec<String> = (0..12_345).map(|n| format!("m{n:05}")).collect();
        let longer = Held::new(longer, BTreeSet::new(), true);
        assert_eq!((longer.members.len(), longer.left_out), (5_000, 7_345));
        assert_eq!(between(&many(0), &longer).words(), Difference { hidden: true, ..Difference::default() }.words());
        let (all, shifted) = (many(0), many(1));
        assert_eq!((all.members.len(), all.left_out), (5_000, 1_000));
        let difference = between(&all, &shifted);
        assert_eq!((difference.added.len(), difference.words().as_str()), (0, "removed \"m00000\""));
    }

    #[test]
    fn a_baseline_is_made_of_what_was_read_alone() {
        let mut facts = Facts::new();
        let subject = Subject::new("s");
        held(&["a"], &["p"]).put(&subject, &mut facts);
        between(&held(&[], &["p"]), &held(&["a"], &["p"])).put(&subject, &mut facts);
        held(&["b"], &[]).put(&Subject::new("t"), &mut facts);
        let kept = to_keep(&facts, &subject).unwrap();
        let names: Vec<&str> = kept.iter().map(|(_, name, _)| name.as_str()).collect();
        assert_eq!(names, ["members", "sha256", "unread_parts"]);
        assert_eq!(Held::of(&kept, &subject), Some(held(&["a"], &["p"])));
        assert_eq!(to_keep(&facts, &Subject::new("none")), None);
    }
}
