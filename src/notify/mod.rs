//! What can be spoken through. A notifier is one file that carries its settings, its pure `render`, its `deliver`, its
//! documentation and its tests; it stands in [`NOTIFIERS`] with one line. Who gets what, how often and when it is tried
//! again is left to the cycle.

pub mod body;
pub mod command;
pub mod webhook;

use std::fmt::Debug;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::facts::Code;
use crate::host::Host;
use crate::judge::notice::Notice;
use crate::redact::Clean;

/// Every notifier this build knows, by name. One line a notifier.
pub static NOTIFIERS: &[&dyn AnyNotifier] = &[&Entry::<command::Command>::NEW, &Entry::<webhook::Webhook>::NEW];

/// Notices that one message may carry; what is beyond waits for the next message, so that no resolve is cut away.
pub const MAX_NOTICES: usize = 50;

/// The notifier called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn AnyNotifier> {
    NOTIFIERS.iter().copied().find(|notifier| notifier.doc().name == name)
}

/// What a notifier's file implements.
pub trait Notifier: Send + Sync + 'static {
    /// Name, habits, example: everything that documentation, `init` and `validate` need.
    const DOC: NotifierDoc;
    /// The keys of its table beside the common ones. Derive `Deserialize`, `JsonSchema`, `Debug`, with
    /// `#[serde(deny_unknown_fields)]` and a doc comment on every field.
    type Settings: DeserializeOwned + JsonSchema + Debug + Send + Sync;

    /// What deserialising can't see: settings that contradict each other. `report(key, message)` points at a key.
    fn validate(_settings: &Self::Settings, _report: &mut dyn FnMut(&str, String)) {}

    /// Puts a message into the service's form. Pure: limits, escaping, cutting (which is said).
    fn render(settings: &Self::Settings, message: &Message<'_>) -> Outgoing;

    /// Hands it over, once. It may be dropped at any `await` and be called again with the same [`Outgoing::id`]; all I/O
    /// goes through `host`. Accepted means that the service said so.
    fn deliver(
        settings: &Self::Settings,
        outgoing: &Outgoing,
        host: &Host,
        deadline: Instant,
    ) -> impl Future<Output = Result<Receipt, Undelivered>> + Send;
}

/// A notifier's documentation.
#[derive(Debug, Clone, Copy)]
pub struct NotifierDoc {
    /// The word in `kind = "…"`.
    pub name: &'static str,
    /// One or two sentences.
    pub about: &'static str,
    /// How notices are put into messages unless the channel says otherwise.
    pub per: Per,
    /// A `[notify.NAME]` table that parses.
    pub example: &'static str,
}

/// How notices are put into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// One message for each incident's notice.
    Incident,
    /// One message for everything that a cycle has to say.
    Cycle,
}

/// What one delivery says.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The same at each try: see [`message_id`].
    pub id: &'a str,
    /// What is to be said, most important first; one with [`Per::Incident`], at most [`MAX_NOTICES`] with [`Per::Cycle`],
    /// none in a test.
    pub notices: &'a [Notice],
    /// The cycle's report as it is printed: one JSON object. None where there is none (a canary, a test).
    pub report: Option<&'a str>,
    /// Who speaks: the configured name, else the host's.
    pub instance: &'a str,
    /// The cycle that it comes from.
    pub cycle: Option<&'a str>,
    /// When the message was made.
    pub at: Timestamp,
    /// What the service answered when this incident (or the last cycle) was last told, for those that edit or thread.
    pub prior: Option<&'a Receipt>,
    /// What must be read before everything else (`the store can't commit: disk full`).
    pub head: Option<&'a Clean>,
    /// Whether this is `pulsecheck notify test`: it says so, wakes nobody, and opens nothing.
    pub test: bool,
}

impl Message<'_> {
    /// The notice that decides how loud the message is: the highest level that is still trouble, else the first.
    #[must_use]
    pub fn worst(&self) -> Option<&Notice> {
        use crate::judge::notice::Turn;
        let over = |notice: &Notice| matches!(notice.turn, Turn::Resolve | Turn::Event | Turn::FollowUp);
        // `max_by_key` keeps the last of equals; reversed, that is the first.
        self.notices.iter().rev().max_by_key(|notice| (!over(notice), notice.level))
    }
}

/// A message in a service's form, ready to be handed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// [`Message::id`].
    pub id: String,
    /// The body.
    pub body: Vec<u8>,
    /// What the body is (`application/json`).
    pub content_type: &'static str,
    /// What goes beside the body: variables of a command, a thread to answer in, a title.
    pub beside: Vec<(&'static str, String)>,
}

/// What the service answered when it accepted a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// How the service knows the message, to edit it, answer in its thread or resolve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What it said, for `history`.
    #[serde(default)]
    pub said: Clean,
}

/// Why a message was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undelivered {
    /// Trying again may help.
    Later {
        /// Not before this time has passed, if the service said so; at most [`LONGEST_WAIT`].
        after: Option<Duration>,
        /// Whether the service may have taken it all the same (no answer after sending). When in doubt: yes.
        maybe_arrived: bool,
        /// Why, a fragment.
        said: Clean,
    },
    /// It will never be accepted like this.
    Never {
        /// Why, a fragment.
        said: Clean,
    },
}

impl Undelivered {
    /// Worth another try, whenever it suits; this one may have arrived.
    #[must_use]
    pub fn later(said: Clean) -> Self {
        Self::Later { after: None, maybe_arrived: true, said }
    }
    /// Worth another try, whenever it suits; this one was never sent.
    #[must_use]
    pub fn not_sent(said: Clean) -> Self {
        Self::Later { after: None, maybe_arrived: false, said }
    }
    /// Worth another try; whether this one may have arrived follows from why the host gave up.
    #[must_use]
    pub fn unread(code: &Code, said: Clean) -> Self {
        Self::Later { after: None, maybe_arrived: !NEVER_SENT.contains(&code.as_str()), said }
    }
    /// Why, a fragment.
    #[must_use]
    pub fn said(&self) -> &Clean {
        match self {
            Self::Later { said, .. } | Self::Never { said } => said,
        }
    }
}

/// The host's reasons for which nothing can have reached anybody: it never got as far as sending.
const NEVER_SENT: &[&str] = &[
    "bad_request",
    "client_failed",
    "commands_busy",
    "connect_timeout",
    "connection_refused",
    "connections_busy",
    "dns_failed",
    "dns_timeout",
    "folder_not_found",
    "lanes_busy",
    "out_of_descriptors",
    "program_not_executable",
    "program_not_found",
    "roots_unreadable",
    "secret_unreadable",
    "unreachable",
];

/// The longest that a service may ask us to wait, and the longest between two tries.
pub const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// How long to wait after so many failed tries: 30 s, doubling to [`LONGEST_WAIT`]. Without jitter: one sender has
/// nobody to fall into step with.
#[must_use]
pub fn back_off(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    Duration::from_secs(30).saturating_mul(1 << doublings).min(LONGEST_WAIT)
}

/// The id of a message about these outbox rows: the same at each try, another one for the same row numbers in a store that
/// was started anew.
pub fn message_id<'a>(instance: &str, rows: impl IntoIterator<Item = (i64, &'a Notice)>) -> String {
    let mut hash = Sha256::new();
    hash.update(instance.as_bytes());
    for (row, notice) in rows {
        hash.update([0]);
        hash.update(row.to_be_bytes());
        hash.update(notice.dedup.as_bytes());
        hash.update(notice.since.as_nanosecond().to_be_bytes());
    }
    let digest = hash.finalize();
    let half = digest.get(..16).unwrap_or_default();
    half.iter().fold(String::from("msg_"), |id, byte| id + &format!("{byte:02x}"))
}

/// A boxed future, for the traits that stand in slices.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A notifier without its types, for the registry.
pub trait AnyNotifier: Send + Sync {
    /// Its documentation.
    fn doc(&self) -> &'static NotifierDoc;
    /// The JSON Schema of its own settings.
    fn schema(&self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema;
    /// Reads its settings from what is left of the table once the common keys are taken out; problems that
    /// deserialising can't see go to `report(key, message)`.
    fn configure(
        &self,
        table: toml::de::ValueDeserializer<'_>,
        report: &mut dyn FnMut(&str, String),
    ) -> Result<Arc<dyn AnyChannel>, toml::de::Error>;
}

/// One configured channel without its types.
pub trait AnyChannel: Debug + Send + Sync {
    /// The documentation of its notifier.
    fn doc(&self) -> &'static NotifierDoc;
    /// See [`Notifier::render`].
    fn render(&self, message: &Message<'_>) -> Outgoing;
    /// See [`Notifier::deliver`].
    fn deliver<'a>(
        &'a self,
        outgoing: &'a Outgoing,
        host: &'a Host,
        deadline: Instant,
    ) -> Boxed<'a, Result<Receipt, Undelivered>>;
}

/// A notifier's place in the registry.
pub struct Entry<N>(PhantomData<fn() -> N>);

impl<N: Notifier> Entry<N> {
    /// The only value there is.
    pub const NEW: Self = Self(PhantomData);
}

struct Configured<N: Notifier>(N::Settings);

impl<N: Notifier> Debug for Configured<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<N: Notifier> AnyNotifier for Entry<N> {
    fn doc(&self) -> &'static NotifierDoc {
        &N::DOC
    }
    fn schema(&self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<N::Settings>()
    }
    fn configure(
        &self,
        table: toml::de::ValueDeserializer<'_>,
        report: &mut dyn FnMut(&str, String),
    ) -> Result<Arc<dyn AnyChannel>, toml::de::Error> {
        let settings = N::Settings::deserialize(table)?;
        N::validate(&settings, report);
        Ok(Arc::new(Configured::<N>(settings)))
    }
}

impl<N: Notifier> AnyChannel for Configured<N> {
    fn doc(&self) -> &'static NotifierDoc {
        &N::DOC
    }
    fn render(&self, message: &Message<'_>) -> Outgoing {
        N::render(&self.0, message)
    }
    fn deliver<'a>(
        &'a self,
        outgoing: &'a Outgoing,
        host: &'a Host,
        deadline: Instant,
    ) -> Boxed<'a, Result<Receipt, Undelivered>> {
        Box::pin(N::deliver(&self.0, outgoing, host, deadline))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use super::*;
    use crate::clean;
    use crate::facts::{CheckName, Key, Subject};
    use crate::judge::notice::Turn;
    use crate::judge::policy::{Impact, Level};

    /// A channel from the keys of its own table.
    pub(crate) fn channel(name: &str, table: &str) -> Result<(Arc<dyn AnyChannel>, Vec<String>), String> {
        let mut problems = Vec::new();
        let table = toml::de::DeTable::parse(table).map_err(|error| error.to_string())?;
        let span = table.span();
        let table = toml::Spanned::new(span, toml::de::DeValue::Table(table.into_inner()));
        let channel = find(name)
            .unwrap()
            .configure(table.into(), &mut |key, said| problems.push(format!("{key}: {said}")))
            .map_err(|error| error.message().to_owned())?;
        Ok((channel, problems))
    }

    pub(crate) fn notice(turn: Turn, level: Level, check: &str, subject: &str, title: &str) -> Notice {
        let key = Key::new(&CheckName::try_from(check).unwrap(), &Subject::new(subject));
        Notice {
            dedup: format!("attic/{key}"),
            turn,
            level,
            impact: if level == Level::Red { Impact::High } else { Impact::Med },
            key,
            title: Clean::new(title),
            lines: vec![Clean::new("restart the job"), clean!("pulsecheck explain {check}")],
            owner: Clean::new("agent"),
            requires_human: level == Level::Red,
            since: "2026-03-20T14:30:00Z".parse().unwrap(),
            not_before: "2026-03-20T14:30:00Z".parse().unwrap(),
        }
    }

    /// A message of every sort: several notices with a report and a head, one notice, a test.
    pub(crate) fn messages(tell: &mut dyn FnMut(&str, &Message<'_>)) {
        let notices = [
            notice(Turn::Open, Level::Red, "nightly", "backup", "red: nightly/backup failed 3 times in a row"),
            notice(Turn::Raise, Level::Yellow, "disk", "", "yellow: disk is \"90 %\" full <@everyone>\nred: forged"),
            notice(Turn::Resolve, Level::Red, "site", "", "resolved: site answers again"),
        ];
        let report = r#"{"timestamp_pt":"2026-03-20 07:30 PT","status":"red","top_3":[]}"#;
        let head = Clean::new("the store can't commit: no space left on device");
        let all = Message {
            id: "msg_0123456789abcdef",
            notices: &notices,
            report: Some(report),
            instance: "attic",
            cycle: Some("20260320T143000Z-7f3a"),
            at: "2026-03-20T14:30:05Z".parse().unwrap(),
            prior: None,
            head: Some(&head),
            test: false,
        };
        tell("several", &all);
        tell("one", &Message { notices: &notices[..1], head: None, ..all });
        tell("test", &Message { notices: &[], report: None, cycle: None, head: None, test: true, ..all });
    }

    #[test]
    fn every_notifier_is_whole() {
        let mut names = BTreeSet::new();
        for notifier in NOTIFIERS {
            let doc = notifier.doc();
            assert!(names.insert(doc.name), "two notifiers are called {}", doc.name);
            assert!(crate::facts::is_name(doc.name) && !doc.about.is_empty(), "{doc:?}");
            assert!(std::ptr::eq(find(doc.name).unwrap().doc(), doc));

            let example: toml::Table = doc.example.parse().unwrap();
            let (_, table) = example["notify"].as_table().unwrap().iter().next().unwrap();
            let mut table = table.as_table().unwrap().clone();
            assert_eq!(table.remove("kind").unwrap().as_str(), Some(doc.name));
            let (_, problems) = channel(doc.name, &table.to_string()).unwrap();
            assert_eq!(problems, Vec::<String>::new(), "{}", doc.name);

            let mut generator = schemars::SchemaGenerator::default();
            let _reference = notifier.schema(&mut generator);
            let schema = generator.definitions()["Settings"].clone();
            assert_eq!(schema["additionalProperties"], false, "{}", doc.name);
            for (key, property) in schema["properties"].as_object().unwrap() {
                assert!(property["description"].is_string(), "{}: `{key}` has no description", doc.name);
            }
        }
    }

    #[test]
    fn every_notifier_renders_as_its_fixture() {
        for notifier in NOTIFIERS {
            let name = notifier.doc().name;
            let example: toml::Table = notifier.doc().example.parse().unwrap();
            let mut table = example["notify"].as_table().unwrap().values().next().unwrap().as_table().unwrap().clone();
            table.remove("kind");
            let (channel, _) = channel(name, &table.to_string()).unwrap();
            let mut shown = String::new();
            messages(&mut |sort, message| {
                let outgoing = channel.render(message);
                assert_eq!(outgoing.id, message.id);
                assert_eq!(outgoing, channel.render(message), "{name}: rendering is pure");
                writeln!(shown, "== {sort}\n{}", outgoing.content_type).unwrap();
                for (key, value) in &outgoing.beside {
                    writeln!(shown, "{key}={value}").unwrap();
                }
                writeln!(shown, "\n{}", String::from_utf8(outgoing.body).unwrap()).unwrap();
            });
            insta::with_settings!({
                snapshot_path => "../../tests/fixtures/notify",
                prepend_module_to_snapshot => false,
                omit_expression => true,
            }, { insta::assert_snapshot!(name, shown) });
        }
    }

    #[test]
    fn what_was_never_sent_can_not_have_arrived() {
        for (code, expected) in [
            ("dns_failed", false),
            ("connection_refused", false),
            ("connect_timeout", false),
            ("commands_busy", false),
            ("no_answer", true),
            ("connection_reset", true),
            ("tls_failed", true),
            ("spawn_failed", true),
        ] {
            let undelivered = Undelivered::unread(&Code::from(code), Clean::new("why"));
            let said = Clean::new("why");
            assert_eq!(undelivered, Undelivered::Later { after: None, maybe_arrived: expected, said }, "{code}");
        }
    }

    #[test]
    fn waits_double_from_half_a_minute_to_an_hour() {
        let seconds: Vec<u64> = (0..10).map(|attempts| back_off(attempts).as_secs()).collect();
        assert_eq!(seconds, [30, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(back_off(u32::MAX), LONGEST_WAIT);
    }

    #[test]
    fn a_messages_id_stays_and_tells_rows_apart() {
        let one = notice(Turn::Open, Level::Red, "a", "", "red");
        let again = Notice { since: "2026-03-21T14:30:00Z".parse().unwrap(), ..one.clone() };
        let id = message_id("attic", [(7, &one)]);
        assert_eq!(id, message_id("attic", [(7, &one)]));
        assert_eq!((id.len(), id.get(..4)), (36, Some("msg_")));
        let others = [
            message_id("attic", [(8, &one)]),
            message_id("attic", [(7, &again)]),
            message_id("cellar", [(7, &one)]),
            message_id("attic", [(7, &one), (8, &one)]),
            message_id("attic", []),
        ];
        assert!(!others.contains(&id), "{others:?}");
    }

    #[test]
    fn the_worst_is_trouble_before_what_is_over() {
        let resolved = notice(Turn::Resolve, Level::Red, "a", "", "over");
        let first = notice(Turn::Open, Level::Yellow, "b", "", "first");
        let second = notice(Turn::Open, Level::Yellow, "c", "", "second");
        let notices = [resolved, first, second];
        messages(&mut |_, message| {
            let worst = |notices| Message { notices, ..*message }.worst().map(|notice| notice.title.to_string());
            assert_eq!(worst(&notices), Some("first".to_owned()));
            assert_eq!(worst(&notices[..1]), Some("over".to_owned()));
            assert_eq!(worst(&[]), None);
        });
    }
}
