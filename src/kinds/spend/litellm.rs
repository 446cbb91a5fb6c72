//! What a LiteLLM proxy wrote down: `/spend/logs`, row by row. Never its `/health`, which calls every model.

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::Value;
use tokio::time::Instant;

use super::kept::Kept;
use super::ledger::{Call, CallKey, Ledger, hash};
use super::prices::Tokens;
use super::settings::Source;
use crate::clean;
use crate::facts::Unread;
use crate::host::Host;
use crate::host::http::Request;
use crate::kinds::moment::from_text;
use crate::redact::Secret;

/// Bytes of an answer.
const MAX_BODY: usize = 24 << 20;
/// Rows that the proxy gives at most, the newest first.
const MOST_ROWS: usize = 10_000;
/// Rows that are written late are asked for again this long.
const LATE: SignedDuration = SignedDuration::from_hours(1);
/// How far the first look goes back.
const FIRST: SignedDuration = SignedDuration::from_hours(24);

/// An answer, not yet read.
#[derive(Debug)]
pub(super) struct Answer {
    body: Vec<u8>,
    cut: bool,
}

/// What became of the proxy's rows in one look.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub bytes: u64,
    pub calls: u64,
    /// Whether there are more than were given.
    pub cut: bool,
    /// Rows that could not be read.
    pub bad: u64,
}

/// Asks for the rows since the last look.
pub(super) async fn ask(
    source: &Source,
    host: &Host,
    last: Option<Timestamp>,
    now: Timestamp,
    deadline: Instant,
) -> Result<Answer, Unread> {
    let mut headers = Vec::new();
    if let Some(key) = &source.key {
        let key = host.secret(key).await?;
        headers.push(("Authorization".to_owned(), Secret::new(&format!("Bearer {}", key.expose()))));
    }
    let day = |at: Timestamp| at.to_zoned(TimeZone::UTC).date();
    let from = last.map_or_else(|| now - FIRST, |last| last - LATE);
    // Days of UTC; the last one is where it begins, so it is the one after today's.
    let to = now + SignedDuration::from_hours(24);
    let url = source.url.as_deref().unwrap_or_default().trim_end_matches('/');
    let request = Request {
        method: "GET".to_owned(),
        url: format!("{url}/spend/logs?start_date={}&end_date={}&summarize=false", day(from), day(to)),
        headers,
        body: None,
        redirects: 0,
        max_body_bytes: MAX_BODY,
        extra_roots: None,
    };
    let answer = host.http(&request, deadline).await?;
    match answer.status {
        200 => Ok(Answer { body: answer.body, cut: answer.cut }),
        401 | 403 => {
            let said = clean!("the proxy answers {} to the key: it may not read spend", answer.status);
            Err(Unread::blind("key_refused", said))
        }
        status => Err(Unread::target("bad_status", clean!("the proxy answers {status} instead of its spend"))),
    }
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, default)]
    request_id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "startTime", default)]
    start_time: Option<Cow<'a, str>>,
    #[serde(default)]
    spend: Option<f64>,
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    custom_llm_provider: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    cache_hit: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    status: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    end_user: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    team_id: Option<Cow<'a, str>>,
    #[serde(default)]
    request_tags: Value,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    user_api_key_alias: Option<String>,
    #[serde(default)]
    usage_object: Option<UsageObject>,
}

#[derive(Default, Deserialize)]
struct UsageObject {
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
}

/// Takes in the rows of an answer.
pub(super) fn read(kept: &mut Kept, ledger: &mut Ledger, source: &str, answer: &Answer) -> Result<Rows, Unread> {
    let mut rows = Rows { bytes: u64::try_from(answer.body.len()).unwrap_or(u64::MAX), ..Rows::default() };
    let failed = RefCell::new(None);
    let mut seen = 0_usize;
    let whole = each(&answer.body, &mut |row: &Value| {
        seen += 1;
        match Row::deserialize(row).ok().and_then(|row| Some((at(&row)?, row))) {
            Some((at, row)) => {
                rows.calls += 1;
                if let Err(unread) = take(kept, ledger, source, at, &row) {
                    failed.borrow_mut().get_or_insert(unread);
                }
            }
            None => rows.bad += 1,
        }
    });
    if let Some(unread) = failed.into_inner() {
        return Err(unread);
    }
    rows.cut = answer.cut || seen >= MOST_ROWS;
    match whole {
        Ok(()) => Ok(rows),
        // What was cut ends in the middle of a row.
        Err(_) if answer.cut && seen > 0 => Ok(rows),
        Err(_) => Err(Unread::target("not_usage", clean!("the proxy's answer is no list of calls"))),
    }
}

fn at(row: &Row<'_>) -> Option<Timestamp> {
    from_text(row.start_time.as_deref()?.trim())
}

fn take(kept: &mut Kept, ledger: &mut Ledger, source: &str, at: Timestamp, row: &Row<'_>) -> Result<bool, Unread> {
    let told = |text: &Option<Cow<'_, str>>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    let tag = row.request_tags.as_array().and_then(|tags| tags.first()?.as_str());
    // A tag that clients set by themselves tells nothing of the job.
    let tag = tag.filter(|tag| !tag.starts_with("User-Agent:")).map(str::to_owned);
    let alias = row.metadata.as_ref().and_then(|metadata| metadata.user_api_key_alias.clone());
    let alias = alias.filter(|alias| !alias.is_empty());
    let job = tag.or(alias).or_else(|| told(&row.end_user)).or_else(|| told(&row.user)).or_else(|| told(&row.team_id));
    let usage = row.metadata.as_ref().and_then(|metadata| metadata.usage_object.as_ref());
    let cache_read = usage.and_then(|usage| usage.cache_read_input_tokens).unwrap_or(0);
    let cache_write = usage.and_then(|usage| usage.cache_creation_input_tokens).unwrap_or(0);
    let model = row.model.as_deref().unwrap_or_default();
    let named = match told(&row.custom_llm_provider) {
        Some(provider) if !model.contains('/') => format!("{provider}/{model}"),
        _ => model.to_owned(),
    };
    let free = row.cache_hit.as_deref().is_some_and(|hit| hit.eq_ignore_ascii_case("true"))
        || row.status.as_deref() == Some("failure");
    let call = Call {
        at,
        job: job.as_deref().unwrap_or("(no name)"),
        model: &named,
        tokens: Tokens {
            input: row.prompt_tokens.unwrap_or(0).saturating_sub(cache_read.saturating_add(cache_write)),
            cache_read,
            cache_write,
            output: row.completion_tokens.unwrap_or(0),
            ..Tokens::default()
        },
        // Nothing is also what stands there for a model without a price.
        usd: row.spend.filter(|usd| *usd > 0.0 || free),
        fast: false,
        key: told(&row.request_id).map(|id| CallKey {
            message: hash(&[b"litellm", source.as_bytes(), id.as_bytes()]),
            request: 0,
            aside: false,
        }),
    };
    ledger.take(kept, source, &call)
}

/// Gives each element of a list; an error where the list breaks off or is none.
fn each(body: &[u8], give: &mut dyn FnMut(&Value)) -> Result<(), serde_json::Error> {
    struct Elements<'g>(&'g mut dyn FnMut(&Value));
    impl<'de> Visitor<'de> for Elements<'_> {
        type Value = ();
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of calls")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
            while let Some(element) = list.next_element()? {
                (self.0)(&element);
            }
            Ok(())
        }
    }
    let mut from = serde_json::Deserializer::from_slice(body);
    from.deserialize_seq(Elements(give))
}

/// The part of a look's time that the proxy gets.
pub(super) fn patience(left: Duration) -> Duration {
    left.mul_f64(0.4)
}
