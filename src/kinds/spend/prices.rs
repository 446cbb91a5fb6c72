//! What tokens cost: a table shipped as data, the user's own over it, and how a model's name is found in it. A name that
//! is not found has no price; it is never taken as free, nor as that of a model that is called alike.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// The table inside the binary.
const SHIPPED: &str = include_str!("../../../config/prices.json");

/// What is in front of a first party's name when somebody else passes its models on, at the same list price.
const PASSED_ON: &[&str] = &[
    "openrouter/",
    "litellm_proxy/",
    "anthropic/",
    "openai/",
    "openai-codex/",
    "claude-cli/",
    "codex-cli/",
    "azure/",
    "vertex_ai/",
    "google/",
    "gemini/",
    "deepseek/",
];
/// First parties whose names stand under a provider in the table, and how others write that provider.
const UNDER: &[(&str, &str)] = &[
    ("mistralai/", "mistral/"),
    ("x-ai/", "xai/"),
    ("moonshotai/", "moonshot/"),
    ("z-ai/", "zai/"),
    ("z.ai/", "zai/"),
    ("zhipu/", "zai/"),
    ("qwen/", "dashscope/"),
    ("alibaba/", "dashscope/"),
];
/// What is appended to a name without changing the price.
const APPENDED: &[&str] = &["[1m]", ":beta", ":thinking", ":extended", "-latest"];

/// Names that one name is tried under.
const MAX_SPELLINGS: usize = 64;
/// Names whose prices are kept at hand.
const MAX_FOUND: usize = 1_000;

/// What a call was made of. `output` includes `reasoning`; no other two overlap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    /// Read anew.
    pub input: u64,
    /// Read from a cache.
    pub cache_read: u64,
    /// Written to a cache that holds for five minutes.
    pub cache_write: u64,
    /// Written to a cache that holds for an hour.
    pub cache_write_1h: u64,
    /// Written.
    pub output: u64,
    /// The part of the output that was thinking.
    pub reasoning: u64,
}

impl Tokens {
    /// All of them.
    pub fn total(&self) -> u64 {
        [self.cache_read, self.cache_write, self.cache_write_1h, self.output]
            .into_iter()
            .fold(self.input, u64::saturating_add)
    }
}

/// One model's prices, in US dollars per million tokens.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Price {
    input: f64,
    output: f64,
    reasoning: Option<f64>,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    cache_write_1h: Option<f64>,
    above: Option<Above>,
    /// What all of it is multiplied by when the call asked for speed.
    fast: Option<f64>,
}

/// What tokens beyond a number cost, those up to it staying at the base price.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Above {
    tokens: u64,
    input: Option<f64>,
    output: Option<f64>,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
}

/// A file of prices: the shipped one, or a user's.
#[derive(Debug, Clone, Default, Deserialize)]
struct File {
    #[serde(default)]
    date: String,
    models: BTreeMap<String, Price>,
}

/// The tables that are priced by.
#[derive(Debug, Clone)]
pub(super) struct Prices {
    own: BTreeMap<String, Price>,
    /// Names that were looked for, with what was found: logs name the same few models over and over.
    found: RefCell<BTreeMap<String, Option<Price>>>,
}

static TABLE: LazyLock<File> = LazyLock::new(|| {
    // A test reads it; a table that were broken would leave every model unpriced, which is said.
    serde_json::from_str(SHIPPED).unwrap_or_default()
});

impl Prices {
    /// The shipped table alone.
    pub fn shipped() -> Self {
        Self { own: BTreeMap::new(), found: RefCell::default() }
    }

    /// The same with a user's table over it.
    pub fn with(file: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(file).map_err(|error| error.to_string())?;
        let bad = |price: &Price| {
            let all = [Some(price.input), Some(price.output), price.reasoning, price.cache_read, price.cache_write];
            let more = [price.cache_write_1h, price.fast];
            all.into_iter().chain(more).flatten().any(|usd| !usd.is_finite() || usd < 0.0)
        };
        if let Some((name, _)) = file.models.iter().find(|(_, price)| bad(price)) {
            return Err(format!("a price of `{name}` is negative"));
        }
        Ok(Self { own: file.models, found: RefCell::default() })
    }

    /// The day that the shipped table is of.
    pub fn date() -> &'static str {
        &TABLE.date
    }

    /// What a call cost, in billionths of a US dollar; none when the model has no price.
    pub fn cost(&self, model: &str, tokens: &Tokens, fast: bool) -> Option<i64> {
        let mut found = self.found.borrow_mut();
        if !found.contains_key(model) {
            // A log can name any number of models.
            if found.len() >= MAX_FOUND {
                found.clear();
            }
            found.insert(model.to_owned(), self.find(model).cloned());
        }
        let price = found.get(model)?.as_ref()?;
        // A factor that is not known is left out: then the sum is a lower bound.
        let speed = if fast { price.fast.unwrap_or(1.0) } else { 1.0 };
        Some(nano(price.of(tokens) * speed))
    }

    /// Whether a model has a price.
    pub fn knows(&self, model: &str) -> bool {
        self.find(model).is_some()
    }

    fn find(&self, model: &str) -> Option<&Price> {
        let exact = |name: &str| self.own.get(name).or_else(|| TABLE.models.get(name));
        if let Some(price) = exact(model).or_else(|| self.family(model)) {
            return Some(price);
        }
        let lower = model.trim().to_ascii_lowercase();
        spellings(&lower).iter().find_map(|name| exact(name))
    }

    /// The user's price for all names that begin alike (`ollama/*`); the longest such beginning counts.
    fn family(&self, model: &str) -> Option<&Price> {
        let begins = |name: &str| name.strip_suffix('*').is_some_and(|begin| model.starts_with(begin));
        self.own.iter().filter(|(name, _)| begins(name)).max_by_key(|(name, _)| name.len()).map(|(_, price)| price)
    }
}

/// Dollars per million tokens times tokens are millionths of a dollar; a thousand times that are billionths.
#[expect(clippy::cast_possible_truncation, reason = "a float cast saturates; a call of 9 billion dollars is none")]
fn nano(micro: f64) -> i64 {
    (micro * 1_000.0).round() as i64
}

/// What somebody else's sum comes to in billionths of a dollar; none of what is no sum.
pub(super) fn given(usd: f64) -> Option<i64> {
    (usd.is_finite() && (0.0..1e6).contains(&usd)).then(|| nano(usd * 1e6))
}

impl Price {
    /// In millionths of a dollar.
    fn of(&self, tokens: &Tokens) -> f64 {
        let reasoning = tokens.reasoning.min(tokens.output);
        let tier =
            |pick: fn(&Above) -> Option<f64>| self.above.as_ref().and_then(|above| Some((above.tokens, pick(above)?)));
        let cache_write = self.cache_write.unwrap_or(self.input);
        // Where a table doesn't tell, an hour in the cache is at twice the input's price, as its inventor has it.
        let cache_write_1h = self.cache_write_1h.unwrap_or(self.input * 2.0);
        let answered = match self.reasoning {
            Some(price) => {
                part(reasoning, price, None) + part(tokens.output - reasoning, self.output, tier(|a| a.output))
            }
            None => part(tokens.output, self.output, tier(|a| a.output)),
        };
        part(tokens.input, self.input, tier(|a| a.input))
            + part(tokens.cache_read, self.cache_read.unwrap_or(self.input), tier(|a| a.cache_read))
            + part(tokens.cache_write, cache_write, tier(|a| a.cache_write))
            + part(tokens.cache_write_1h, cache_write_1h, None)
            + answered
    }
}

#[expect(clippy::cast_precision_loss, reason = "no call has 2^53 tokens")]
fn part(tokens: u64, price: f64, above: Option<(u64, f64)>) -> f64 {
    match above {
        Some((from, dearer)) if tokens > from => from as f64 * price + (tokens - from) as f64 * dearer,
        _ => tokens as f64 * price,
    }
}

/// The names under which a model may stand in a table, the closest first. All are other spellings of the same name.
fn spellings(model: &str) -> Vec<String> {
    let mut names = vec![model.to_owned()];
    let mut at = 0;
    while let Some(name) = names.get(at).cloned().filter(|_| names.len() < MAX_SPELLINGS) {
        at += 1;
        let bare = PASSED_ON.iter().filter_map(|prefix| name.strip_prefix(prefix)).map(str::to_owned);
        let under = UNDER.iter().filter_map(|(written, ours)| Some(format!("{ours}{}", name.strip_prefix(written)?)));
        let plain = APPENDED.iter().filter_map(|suffix| name.strip_suffix(suffix)).map(str::to_owned);
        let dashed = (name.starts_with("claude-") && name.contains('.')).then(|| name.replace('.', "-"));
        let more: Vec<String> =
            bare.chain(under).chain(plain).chain(undated(&name).map(str::to_owned)).chain(dashed).collect();
        for name in more {
            if !name.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// A name without the date of its making at the end: `-20250929`, `@20250929`, `-2025-08-07`.
fn undated(name: &str) -> Option<&str> {
    let shape = |text: &str| -> String { text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect() };
    [9, 11].into_iter().find_map(|len| {
        let (rest, end) = name.split_at_checked(name.len().checked_sub(len)?)?;
        let dated = matches!(shape(end).as_str(), "-00000000" | "@00000000" | "-0000-00-00");
        // A year, so that other numbers of eight digits stay.
        (dated && end.get(1..3) == Some("20")).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(prices: &Prices, model: &str, tokens: Tokens) -> Option<f64> {
        prices.cost(model, &tokens, false).map(|nano| crate::words::seconds(nano) / 1e9)
    }
    const MILLION_IN: Tokens =
        Tokens { input: 100_000, cache_read: 0, cache_write: 0, cache_write_1h: 0, output: 0, reasoning: 0 };

    #[test]
    fn the_shipped_table_is_whole() {
        assert!(TABLE.models.len() > 300, "{} models", TABLE.models.len());
        let day: jiff::civil::Date = Prices::date().parse().unwrap();
        assert!(day.year() >= 2026);
        for (name, price) in &TABLE.models {
            assert!(price.input + price.output > 0.0, "{name} is free");
            assert!(price.input < 1_000.0 && price.output < 10_000.0, "{name}: {price:?}");
        }
        assert!(SHIPPED.len() < 150_000);
    }

    #[test]
    fn a_model_is_found_under_its_other_spellings_and_nowhere_else() {
        let prices = Prices::shipped();
        let opus = cost(&prices, "claude-opus-4-6", MILLION_IN).unwrap();
        for name in [
            "claude-opus-4-6[1m]",
            "claude-opus-4-6-20260205",
            "claude-opus-4-6@20260205",
            "anthropic/claude-opus-4-6",
            "openrouter/anthropic/claude-opus-4.6",
            "anthropic/claude-opus-4.6:beta",
            "Claude-Opus-4-6",
        ] {
            assert_eq!(cost(&prices, name, MILLION_IN), Some(opus), "{name}");
        }
        for name in ["openai/gpt-5", "gpt-5-2025-08-07", "azure/gpt-5", "openai-codex/gpt-5"] {
            assert_eq!(cost(&prices, name, MILLION_IN), cost(&prices, "gpt-5", MILLION_IN), "{name}");
        }
        assert_eq!(cost(&prices, "x-ai/grok-4.3", MILLION_IN), cost(&prices, "xai/grok-4.3", MILLION_IN));
        for name in [
            "",
            "claude-opus-4-99",
            "claude-opus",
            "gpt-5-turbo-ultra",
            "gpt-5-high",
            "ollama/gpt-oss:20b",
            "ollama/gpt-5",
            "lmstudio/claude-opus-4-6",
            "my-claude-opus-4-6",
            "claude-opus-4-6-12345678",
            "deepseek-r1:8b",
            "<synthetic>",
            &"anthropic/".repeat(1_000),
        ] {
            assert_eq!(cost(&prices, name, MILLION_IN), None, "{name}");
        }
    }

    #[test]
    fn each_sort_of_token_has_its_own_price() {
        let prices = Prices::with(
            br#"{"models": {"m": {"input": 3, "output": 15, "reasoning": 20, "cache_read": 0.3, "cache_write": 3.75,
                 "cache_write_1h": 6, "above": {"tokens": 200000, "input": 6, "output": 22.5}, "fast": 2},
                 "bare": {"input": 2, "output": 8}}}"#,
        )
        .unwrap();
        let none = Tokens::default();
        for (model, tokens, usd) in [
            ("m", none, 0.0),
            ("m", Tokens { input: 1_000_000, ..none }, 0.6 + 4.8),
            ("m", Tokens { input: 200_000, ..none }, 0.6),
            ("m", Tokens { cache_read: 1_000_000, ..none }, 0.3),
            ("m", Tokens { cache_write: 1_000_000, ..none }, 3.75),
            ("m", Tokens { cache_write_1h: 1_000_000, ..none }, 6.0),
            ("m", Tokens { output: 100_000, reasoning: 40_000, ..none }, 0.9 + 0.8),
            ("m", Tokens { output: 1_000, reasoning: 40_000, ..none }, 0.02),
            ("bare", Tokens { output: 100_000, reasoning: 40_000, ..none }, 0.8),
            ("bare", Tokens { cache_read: 1_000_000, ..none }, 2.0),
            ("bare", Tokens { cache_write: 1_000_000, cache_write_1h: 1_000_000, ..none }, 2.0 + 4.0),
        ] {
            let got = cost(&prices, model, tokens).unwrap();
            assert!((got - usd).abs() < 1e-9, "{model} {tokens:?}: {got} instead of {usd}");
        }
        let fast = |model| prices.cost(model, &Tokens { input: 1_000, ..none }, true).unwrap();
        assert_eq!((fast("m"), fast("bare")), (6_000_000, 2_000_000), "an unknown factor is none");
    }

    #[test]
    fn the_users_table_goes_before() {
        let prices =
            Prices::with(br#"{"models": {"gpt-5": {"input": 1, "output": 1}, "ollama/*": {"input": 0, "output": 0}}}"#)
                .unwrap();
        assert_eq!(cost(&prices, "openai/gpt-5", MILLION_IN), Some(0.1));
        assert_eq!(cost(&prices, "ollama/qwen3:32b", MILLION_IN), Some(0.0));
        assert_eq!(cost(&prices, "vllm/qwen3", MILLION_IN), None);
        for (file, said) in [
            ("{}", "missing field `models`"),
            (r#"{"models": {"a": {"input": -1, "output": 0}}}"#, "a price of `a` is negative"),
            (r#"{"models": {"a": {"input": 1}}}"#, "missing field `output`"),
            (r#"{"models": {"a": {"in": 1, "output": 1}}}"#, "unknown field `in`"),
        ] {
            let error = Prices::with(file.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
