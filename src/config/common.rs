//! The keys that every check and every channel may have, beside those of its kind; and the file's own keys.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use crate::expr::{Expr, Place};
use crate::facts::{BadName, CheckName, Key, Subject, is_name};
use crate::judge::{Dependency, Impact, Level};
use crate::notify::Per;
use crate::redact::Clean;
use crate::schedule::Window;
use crate::settings::{Dur, Size};

/// Where `when` stands: it may look at the other checks.
#[derive(Debug, Clone, Copy)]
pub struct When;

impl Place for When {
    const NAMES: &'static [&'static str] = &["checks"];
}

/// What the main file may say beside its checks and channels.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Top {
    /// The name under which this installation speaks; by default the host's name.
    pub instance: Option<Instance>,
    /// The time zone of `active_hours`, `quiet_hours` and of times that people read, as in `Europe/Berlin`; by default the
    /// system's.
    pub zone: Option<Zone>,
    /// How often a cycle runs. Schedulers outside must be set to the same.
    pub interval: Dur,
    /// When cycles run at all, as in `07:00-23:00` or `mon-fri 08:00-18:00`; by default round the clock.
    pub active_hours: Option<Window>,
    /// When what is below red waits until they are over, as in `22:00-07:00`; cycles go on. By default never.
    pub quiet_hours: Option<Window>,
    /// What `run` prints when all is well and nothing is new; agent runtimes differ in what they swallow. May be empty.
    pub quiet_token: QuietToken,
    /// Who may own a check, beside `agent` and `human`, which always exist.
    pub owners: BTreeSet<Name>,
    /// Files with more checks and channels, relative to this one, and packs inside the binary (`pack:host`). Included
    /// files include none.
    pub include: Vec<String>,
    /// How long things may take.
    pub limits: Limits,
    /// What is kept, and for how long.
    pub store: Kept,
}

impl Default for Top {
    fn default() -> Self {
        Self {
            instance: None,
            zone: None,
            interval: Dur::mins(15),
            active_hours: None,
            quiet_hours: None,
            quiet_token: QuietToken("HEARTBEAT_OK".to_owned()),
            owners: BTreeSet::new(),
            include: Vec::new(),
            limits: Limits::default(),
            store: Kept::default(),
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// A whole run, deliveries included.
    pub deadline: Dur,
    /// Looking at all checks together.
    pub fetch: Dur,
    /// Looking at one check, unless it has a `timeout` of its own.
    pub check: Dur,
    /// Delivering what a run has to say.
    pub delivery: Dur,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deadline: Dur::secs(120), fetch: Dur::secs(30), check: Dur::secs(10), delivery: Dur::secs(20) }
    }
}

/// What the store keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kept {
    /// How long history is kept.
    pub retention: Dur,
    /// How large the database may become; beyond it the oldest history is dropped early, which is said.
    pub max_size: Size,
}

impl Default for Kept {
    fn default() -> Self {
        Self { retention: Dur::days(30), max_size: Size::mib(200) }
    }
}

/// Keys of every `[check.NAME]`, beside `kind`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CheckKeys {
    /// `false` switches it off; what it had open is withdrawn.
    pub enabled: bool,
    /// How often it is looked at; by default in each cycle.
    pub every: Option<Dur>,
    /// How long one look may take; by default `limits.check`, at most `limits.fetch`.
    pub timeout: Option<Dur>,
    /// How many observations in a row it takes.
    pub streak: Streak,
    /// Passes in a row that close an incident.
    pub recover_after: Count,
    /// The least impact that its changes have.
    pub impact: Option<Impact>,
    /// Who owns its trouble; by default `agent` at yellow and `human` at red.
    pub owner: Option<Name>,
    /// What the report advises, whatever the reason: an imperative.
    pub action: Option<Action>,
    /// Checks that this one needs, as `NAME` or `NAME/SUBJECT`: while one of them is down, what may be due to it is held.
    pub depends_on: Vec<Needed>,
    /// A CEL expression over `checks`; while it is false the check is left out, and that is said.
    pub when: Option<Expr<When>>,
    /// Words to route and silence by.
    pub tags: BTreeSet<Name>,
    /// The name that it had before: its history and open incidents go on under the new one.
    pub was: Option<Name>,
}

impl Default for CheckKeys {
    fn default() -> Self {
        Self {
            enabled: true,
            every: None,
            timeout: None,
            streak: Streak::default(),
            recover_after: Count(1),
            impact: None,
            owner: None,
            action: None,
            depends_on: Vec::new(),
            when: None,
            tags: BTreeSet::new(),
            was: None,
        }
    }
}

/// The common keys of a check by name; a test holds them to [`CheckKeys`].
pub(super) const CHECK_KEYS: &[&str] = &[
    "enabled",
    "every",
    "timeout",
    "streak",
    "recover_after",
    "impact",
    "owner",
    "action",
    "depends_on",
    "when",
    "tags",
    "was",
];

/// Keys of `[check.pulsecheck]`, the check that Pulsecheck runs on itself: it can't be removed or switched off.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OwnKeys {
    /// The least impact that its changes have.
    pub impact: Option<Impact>,
    /// Who owns its trouble; by default `agent` at yellow and `human` at red.
    pub owner: Option<Name>,
    /// What the report advises, whatever the reason: an imperative.
    pub action: Option<Action>,
    /// Words to route and silence by.
    pub tags: BTreeSet<Name>,
}

/// How many observations in a row it takes.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Streak {
    /// Observations in a row that do not pass before it is yellow.
    pub yellow: Count,
    /// Fails in a row before it is red; `"never"` keeps it below.
    pub red: Red,
}

impl Default for Streak {
    fn default() -> Self {
        Self { yellow: Count(2), red: Red(Some(3)) }
    }
}

/// Keys of every `[notify.NAME]`, beside `kind`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ChannelKeys {
    /// `false` switches it off.
    pub enabled: bool,
    /// The least level that it is told of.
    pub from: From,
    /// Only these checks; by default all.
    pub checks: BTreeSet<Name>,
    /// Only checks with one of these tags; by default all.
    pub tags: BTreeSet<Name>,
    /// Only what is owned by one of these; by default whoever owns it.
    pub owners: BTreeSet<Name>,
    /// Only what a person must act on.
    pub requires_human: bool,
    /// One message for each incident, or one for a cycle; by default what suits the service.
    pub per: Option<Per>,
    /// Messages in an hour; a new red goes out beyond that.
    pub max_per_hour: Count,
}

impl Default for ChannelKeys {
    fn default() -> Self {
        Self {
            enabled: true,
            from: From::Yellow,
            checks: BTreeSet::new(),
            tags: BTreeSet::new(),
            owners: BTreeSet::new(),
            requires_human: false,
            per: None,
            max_per_hour: Count(12),
        }
    }
}

/// The common keys of a channel by name; a test holds them to [`ChannelKeys`].
pub(super) const CHANNEL_KEYS: &[&str] =
    &["enabled", "from", "checks", "tags", "owners", "requires_human", "per", "max_per_hour"];

/// The least level that a channel is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum From {
    /// All that surfaces.
    Yellow,
    /// Alerts only.
    Red,
}

impl From {
    pub fn level(self) -> Level {
        match self {
            Self::Yellow => Level::Yellow,
            Self::Red => Level::Red,
        }
    }
}

/// Who gets what on a channel.
#[derive(Debug, Clone)]
pub struct ChannelPolicy {
    /// The least level that it is told of.
    pub from: Level,
    /// Only these checks; empty means all.
    pub checks: BTreeSet<CheckName>,
    /// Only checks with one of these tags; empty means all.
    pub tags: BTreeSet<Clean>,
    /// Only what is owned by one of these; empty means whoever owns it.
    pub owners: BTreeSet<Clean>,
    /// Only what a person must act on.
    pub requires_human: bool,
    /// How notices are put into messages.
    pub per: Per,
    /// Messages in an hour; a new red goes out beyond that.
    pub max_per_hour: u32,
}

impl ChannelPolicy {
    /// Whether the channel wants to hear of a finding: what it was never told of it need not resolve either. What opens no
    /// incident (level ok: an event) goes where yellow goes.
    #[must_use]
    pub fn wants(&self, key: &Key, level: Level, tags: &BTreeSet<Clean>, owner: &Clean, requires_human: bool) -> bool {
        let any = |wanted: &BTreeSet<Clean>, there: &BTreeSet<Clean>| wanted.is_empty() || !wanted.is_disjoint(there);
        level.max(Level::Yellow) >= self.from
            && (self.checks.is_empty() || self.checks.contains(&key.check))
            && any(&self.tags, tags)
            && (self.owners.is_empty() || self.owners.contains(owner))
            && (requires_human || !self.requires_human)
    }
}

/// Reads a type from a string by its `parse`.
macro_rules! from_text {
    ($type:ty, $name:literal, $expecting:literal, $schema:tt) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: Error>(self, text: &str) -> Result<$type, E> {
                        <$type>::parse(text).map_err(E::custom)
                    }
                }
                from.deserialize_str(Text)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn schema_id() -> Cow<'static, str> {
                concat!(module_path!(), "::", $name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

/// A name as [`is_name`] has it: of a check, a tag, an owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(pub String);

impl Name {
    fn parse(text: &str) -> Result<Self, BadName> {
        if is_name(text) { Ok(Self(text.to_owned())) } else { Err(BadName(shortened(text))) }
    }
    pub fn clean(&self) -> Clean {
        Clean::new(&self.0)
    }
}
from_text!(Name, "Name", "a name", {
    "type": "string",
    "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$",
});

/// A parent: a check's name, or `NAME/SUBJECT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needed {
    pub parent: Dependency,
    /// As it was written, to find its place again.
    pub text: String,
}

impl Needed {
    fn parse(text: &str) -> Result<Self, String> {
        let (check, subject) = match text.split_once('/') {
            Some((_, "")) => return Err("expected `NAME` or `NAME/SUBJECT`, found no subject after the `/`".to_owned()),
            Some((check, subject)) => (check, Some(Subject::new(subject))),
            None => (text, None),
        };
        let check = CheckName::try_from(shortened(check)).map_err(|bad| bad.to_string())?;
        Ok(Self { parent: Dependency { check, subject }, text: text.to_owned() })
    }
}
from_text!(Needed, "Dependency", "the name of a check", {
    "type": "string",
    "pattern": "^[a-z0-9][a-z0-9._-]{0,63}(/.+)?$",
});

/// The name that an installation speaks under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instance(pub String);

impl Instance {
    fn parse(text: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("expected 1 to 64 of A-Z a-z 0-9 . _ -, found `{}`", shortened(text)))
        }
    }
}
from_text!(Instance, "Instance", "a name", { "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" });

/// What to advise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Action(pub String);

impl Action {
    fn parse(text: &str) -> Result<Self, String> {
        one_line(text)?;
        if text.trim().is_empty() {
            return Err("expected a line of text, found none".to_owned());
        }
        Ok(Self(text.trim().to_owned()))
    }
}
from_text!(Action, "Action", "a line of text", { "type": "string", "minLength": 1, "maxLength": 160 });

/// What is printed when there is nothing to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QuietToken(pub String);

impl QuietToken {
    fn parse(text: &str) -> Result<Self, String> {
        one_line(text)?;
        Ok(Self(text.to_owned()))
    }
}
from_text!(QuietToken, "QuietToken", "a line of text", { "type": "string", "maxLength": 160 });

/// A time zone of the IANA database.
#[derive(Debug, Clone)]
pub(super) struct Zone(pub TimeZone);

impl Zone {
    fn parse(text: &str) -> Result<Self, String> {
        TimeZone::get(text)
            .map(Self)
            .map_err(|_| format!("expected a time zone like `Europe/Berlin` or `UTC`, found `{}`", shortened(text)))
    }
}
from_text!(Zone, "TimeZone", "a time zone like `Europe/Berlin`", {
    "type": "string",
    "examples": ["Europe/Berlin", "America/Los_Angeles", "UTC"],
});

/// How many in a row: 1 to 1,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count(pub u32);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 1 to 1000")
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<Count, E> {
                let count = u32::try_from(n).ok().filter(|n| (1..=1_000).contains(n));
                count.map(Count).ok_or_else(|| E::custom(format!("expected a whole number from 1 to 1000, found {n}")))
            }
        }
        from.deserialize_i64(Number)
    }
}
impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }
    fn schema_id() -> Cow<'static, str> {
        concat!(module_path!(), "::Count").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 1000 })
    }
}

/// How many in a row, or `"never"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Red(pub Option<u32>);

impl<'de> Deserialize<'de> for Red {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        const WANTED: &str = "a whole number from 1 to 1000 or \"never\"";
        struct NumberOrNever;
        impl Visitor<'_> for NumberOrNever {
            type Value = Red;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(WANTED)
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<Red, E> {
                let count = u32::try_from(n).ok().filter(|n| (1..=1_000).contains(n));
                count.map(|n| Red(Some(n))).ok_or_else(|| E::custom(format!("expected {WANTED}, found {n}")))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Red, E> {
                let found = || E::custom(format!("expected {WANTED}, found `{}`", shortened(text)));
                if text == "never" { Ok(Red(None)) } else { Err(found()) }
            }
        }
        from.deserialize_any(NumberOrNever)
    }
}
impl JsonSchema for Red {
    fn schema_name() -> Cow<'static, str> {
        "CountOrNever".into()
    }
    fn schema_id() -> Cow<'static, str> {
        concat!(module_path!(), "::Red").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 1000 }, { "const": "never" }] })
    }
}

fn one_line(text: &str) -> Result<(), String> {
    let letters = text.chars().count();
    if letters > 160 {
        return Err(format!("expected at most 160 characters, found {letters}"));
    }
    if text.contains(char::is_control) {
        return Err("expected one line, found a line break or another control character".to_owned());
    }
    Ok(())
}

/// Text as it may stand in an error: one line, at most 60 characters.
pub(super) fn shortened(text: &str) -> String {
    let clean = Clean::line(text, 4 * 60);
    let mut letters = clean.as_str().chars();
    let short: String = letters.by_ref().take(60).collect();
    if letters.next().is_some() { short + "…" } else { short }
}
