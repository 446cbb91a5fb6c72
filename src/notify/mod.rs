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
    /// Worth another try, whenever it suits.
    #[must_use]
    pub fn later(said: Clean) -> Self {
        Self::Later { after: None, said }
    }
    /// Why, a fragment.
    #[must_use]
    pub fn said(&self) -> &Clean {
        match self {
            Self::Later { said, .. } | Self::Never { said } => said,
        }
    }
}

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
