//! Lines of somebody's own, by a map of fields.

use serde_json::Value;

use super::News;
use crate::kinds::moment::moment;
use crate::kinds::spend::ledger::{Call, CallKey, hash};
use crate::kinds::spend::prices::Tokens;
use crate::kinds::spend::settings::Fields;
use crate::read::MAX_JSON_DEPTH;
use crate::read::json::parse;
use crate::settings::JsonPath;

pub(super) fn line(line: &[u8], job: &str, fields: &Fields, tell: &mut dyn FnMut(News<'_>)) {
    if line.iter().all(u8::is_ascii_whitespace) {
        return;
    }
    let Ok(value) = parse(line, MAX_JSON_DEPTH) else { return tell(News::Bad) };
    let first = |path: Option<&JsonPath>| {
        path.and_then(|path| path.all(&value).first().copied()).filter(|found| !found.is_null())
    };
    let Some(at) = first(Some(&fields.time)).and_then(moment) else { return tell(News::Other) };
    let tokens = |path: Option<&JsonPath>| first(path).and_then(count).unwrap_or(0);
    let text = |path: Option<&JsonPath>| {
        first(path).and_then(|found| match found {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    let usd = first(fields.cost.as_ref()).and_then(Value::as_f64);
    let counted = [&fields.input, &fields.output, &fields.cache_read, &fields.cache_write];
    if usd.is_none() && counted.iter().all(|path| first(path.as_ref()).is_none()) {
        return tell(News::Other);
    }
    let (named, model) = (text(fields.job.as_ref()), text(fields.model.as_ref()).unwrap_or_default());
    let key = text(fields.id.as_ref()).filter(|id| !id.is_empty()).map(|id| CallKey {
        message: hash(&[b"jsonl", id.as_bytes()]),
        request: 0,
        aside: false,
    });
    tell(News::Call(Call {
        at,
        job: named.as_deref().filter(|job| !job.is_empty()).unwrap_or(job),
        model: &model,
        tokens: Tokens {
            input: tokens(fields.input.as_ref()),
            cache_read: tokens(fields.cache_read.as_ref()),
            cache_write: tokens(fields.cache_write.as_ref()),
            cache_write_1h: 0,
            output: tokens(fields.output.as_ref()),
            reasoning: tokens(fields.reasoning.as_ref()),
        },
        usd,
        fast: false,
        key,
    }));
}

fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be within the range")]
fn whole(number: f64) -> Option<u64> {
    (number.is_finite() && (0.0..1e15).contains(&number)).then_some(number as u64)
}
