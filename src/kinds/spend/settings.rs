//! The settings of the kind `spend`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::expr::Expr;
use crate::kinds::rule::RulePlace;
use crate::settings::{JsonPath, Money, PathGlob, SecretRef};

/// Sources of one check.
const MAX_SOURCES: usize = 50;

/// The settings of the kind `spend`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where usage is written down.
    pub sources: Vec<Source>,
    /// What a day of this machine's zone may cost. Over it is a fail; a day that is on its way there a warn.
    #[serde(default)]
    pub daily_limit: Option<Money>,
    /// By how many points of a hundred a job's share of the day may be above its usual share.
    #[serde(default = "share_warn")]
    pub share_warn: f64,
    /// A job that spent less today is left alone.
    #[serde(default = "share_floor")]
    pub share_floor: Money,
    /// How many times its usual busy hour a job, or all of them, may spend in an hour.
    #[serde(default = "rate_warn")]
    pub rate_warn: f64,
    /// A rate below this, an hour, is left alone.
    #[serde(default = "rate_floor")]
    pub rate_floor: Money,
    /// How much of a provider's quota may be used, in percent.
    #[serde(default)]
    pub quota: Quotas,
    /// CEL over `checks` and `now`: whether work advances. What is spent while it doesn't is counted.
    #[serde(default)]
    pub advances: Option<Expr<RulePlace>>,
    /// What may be spent while nothing advances.
    #[serde(default = "idle_limit")]
    pub idle_limit: Money,
    /// A JSON file of prices that go before the shipped ones: `{"models": {"NAME": {"input": 3, "output": 15}}}` in US
    /// dollars per million tokens, with `cache_read`, `cache_write`, `cache_write_1h`, `reasoning` and `fast` where they
    /// differ; a name that ends in `*` stands for all that begin so. A model that costs nothing is one at 0.
    #[serde(default)]
    pub prices: Option<PathGlob>,
}

/// One place where usage is written down.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Who writes there.
    pub kind: SourceKind,
    /// What it is called in subjects; its kind by default. Two sources of a kind need names.
    #[serde(default)]
    pub name: Option<String>,
    /// The folder of the tool (`~/.claude`, `~/.codex`, `~/.openclaw`, `~/.hermes`), where it is not the one that the tool
    /// uses by itself; for `jsonl` the files, as a glob.
    #[serde(default)]
    pub path: Option<PathGlob>,
    /// Where the `litellm` proxy listens.
    #[serde(default)]
    pub url: Option<String>,
    /// The `litellm` proxy's key: it must be allowed to read spend.
    #[serde(default)]
    pub key: Option<SecretRef>,
    /// Where in a line of `jsonl` things stand.
    #[serde(default)]
    pub fields: Option<Fields>,
}

/// Who writes usage down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// Claude Code's sessions.
    ClaudeCode,
    /// Codex' sessions.
    Codex,
    /// OpenClaw's databases, or the files of its older versions.
    Openclaw,
    /// Hermes' database.
    Hermes,
    /// A LiteLLM proxy.
    Litellm,
    /// Lines of JSON of your own.
    Jsonl,
}

impl SourceKind {
    fn word(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::Openclaw => "openclaw",
            Self::Hermes => "hermes",
            Self::Litellm => "litellm",
            Self::Jsonl => "jsonl",
        }
    }
}

impl Source {
    /// What it is called in subjects.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.kind.word())
    }
}

/// Where in a line things stand, as JSON paths. A line needs its time, and either its cost or its tokens.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// When: RFC 3339, or seconds or milliseconds since 1970.
    pub time: JsonPath,
    /// Which model.
    #[serde(default)]
    pub model: Option<JsonPath>,
    /// Tokens read anew, those of a cache not among them.
    #[serde(default)]
    pub input: Option<JsonPath>,
    /// Tokens written, thinking included.
    #[serde(default)]
    pub output: Option<JsonPath>,
    /// Tokens read from a cache.
    #[serde(default)]
    pub cache_read: Option<JsonPath>,
    /// Tokens written to a cache.
    #[serde(default)]
    pub cache_write: Option<JsonPath>,
    /// Tokens of the output that were thinking.
    #[serde(default)]
    pub reasoning: Option<JsonPath>,
    /// What it cost in US dollars; where it stands, no table is asked.
    #[serde(default)]
    pub cost: Option<JsonPath>,
    /// Which job; without it the file's name.
    #[serde(default)]
    pub job: Option<JsonPath>,
    /// What tells the call from all others: a line with the same one is the same call.
    #[serde(default)]
    pub id: Option<JsonPath>,
}

/// How much of a quota may be used.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Above this percentage it is a warn.
    #[serde(default = "quota_warn")]
    pub warn: f64,
    /// Above this percentage it is a fail.
    #[serde(default = "quota_fail")]
    pub fail: f64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { warn: quota_warn(), fail: quota_fail() }
    }
}

fn share_warn() -> f64 {
    30.0
}
fn share_floor() -> Money {
    Money(5.0)
}
fn rate_warn() -> f64 {
    4.0
}
fn rate_floor() -> Money {
    Money(5.0)
}
fn idle_limit() -> Money {
    Money(2.0)
}
fn quota_warn() -> f64 {
    80.0
}
fn quota_fail() -> f64 {
    95.0
}

/// What deserialising can't see.
pub(super) fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
    if settings.sources.is_empty() {
        report("sources", "expected a source, like `{ kind = \"claude-code\" }`".into());
    }
    if settings.sources.len() > MAX_SOURCES {
        report("sources", format!("expected at most {MAX_SOURCES} sources, found {}", settings.sources.len()));
    }
    for (at, source) in settings.sources.iter().enumerate() {
        if let Some(why) = wrong(source) {
            report("sources", why);
        }
        if settings.sources.iter().take(at).any(|other| other.name() == source.name()) {
            let name = source.name();
            report("sources", format!("two sources are called `{name}` (give each a `name` of its own)"));
        }
    }
    if settings.daily_limit.is_some_and(|limit| limit.usd() <= 0.0) {
        report("daily_limit", "expected more than $0".into());
    }
    if !(settings.share_warn > 0.0 && settings.share_warn <= 100.0) {
        report("share_warn", "expected points above 0 and up to 100".into());
    }
    if !(settings.rate_warn > 1.0 && settings.rate_warn.is_finite()) {
        report("rate_warn", "expected a number above 1, how many times the usual rate is too much".into());
    }
    let Quotas { warn, fail } = settings.quota;
    if !(warn > 0.0 && fail <= 100.0 && warn <= fail) {
        report("quota", "expected percentages above 0 and up to 100, `warn` not above `fail`".into());
    }
    if settings.prices.as_ref().is_some_and(PathGlob::is_glob) {
        report("prices", "expected the path of one file, found wildcards".into());
    }
}

fn wrong(source: &Source) -> Option<String> {
    let word = source.kind.word();
    let named = |name: &str| {
        !name.is_empty() && name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    if source.name.as_deref().is_some_and(|name| !named(name)) {
        return Some("expected a `name` of letters, digits, `.`, `_` and `-`, at most 64".into());
    }
    let own = source.kind == SourceKind::Jsonl;
    let proxy = source.kind == SourceKind::Litellm;
    for (key, there, allowed) in [
        ("path", source.path.is_some(), !proxy),
        ("url", source.url.is_some(), proxy),
        ("key", source.key.is_some(), proxy),
        ("fields", source.fields.is_some(), own),
    ] {
        if there && !allowed {
            return Some(format!("`{key}` says nothing to a source of kind `{word}`"));
        }
    }
    if own && (source.path.is_none() || source.fields.is_none()) {
        return Some("a source of kind `jsonl` needs `path` and `fields`".into());
    }
    if proxy && !source.url.as_deref().is_some_and(|url| url.starts_with("http://") || url.starts_with("https://")) {
        return Some("a source of kind `litellm` needs a `url` like `http://127.0.0.1:4000`".into());
    }
    if !own && source.path.as_ref().is_some_and(PathGlob::is_glob) {
        return Some(format!("a source of kind `{word}` needs the `path` of one folder, found wildcards"));
    }
    let fields = source.fields.as_ref()?;
    let counted = [&fields.input, &fields.output, &fields.cache_read, &fields.cache_write];
    if fields.cost.is_none() && (fields.model.is_none() || counted.iter().all(|path| path.is_none())) {
        return Some("`fields` needs `cost`, or `model` and tokens (`input`, `output` …)".into());
    }
    None
}
