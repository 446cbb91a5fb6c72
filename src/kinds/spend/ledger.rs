//! What was spent, by day, hour and job, and which calls were counted already, so that a call that stands in several files
//! or lines is counted once. Sums and keys don't depend on the order in which calls are taken in.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use serde::{Deserialize, Serialize};

use super::kept::Kept;
use super::prices::{Prices, Tokens};
use crate::facts::Unread;

/// Days before today that are kept: what is usual is taken from them.
pub(super) const HISTORY_DAYS: i64 = 14;
/// Jobs of one day; what is beyond is one job of its source.
const MAX_JOBS: usize = 300;
/// Models that have no price, by name; what is beyond goes under one name.
const MAX_MODELS: usize = 200;
/// Bytes of a job's or a model's name.
const MAX_NAME: usize = 200;
/// Calls whose keys are kept, in all.
const MAX_SEEN: usize = 280_000;
/// What jobs beyond the most are called.
const OTHERS: &str = "(others)";
const SECONDS_OF_DAY: i64 = 86_400;
/// Copies of a call differ in time by less than this.
const NEAR: i64 = 3_600;

/// One call, as a log tells it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call<'a> {
    pub at: Timestamp,
    /// Identity of the job within its source.
    pub job: &'a str,
    pub model: &'a str,
    pub tokens: Tokens,
    /// What it cost, where whoever wrote the log is to be believed about that: nothing too is a price then.
    pub usd: Option<f64>,
    pub fast: bool,
    pub key: Option<CallKey>,
}

/// By what a call is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CallKey {
    /// Of the message.
    pub message: u64,
    /// Of the request that it answered: two messages of the same name and different requests are two calls.
    pub request: u32,
    /// A side line of a conversation, which repeats its parent's messages under new requests.
    pub aside: bool,
}

/// A hash of the parts that make a key: stable over time, since it is kept.
pub(super) fn hash(parts: &[&[u8]]) -> u64 {
    // FNV-1a with a final mix; an attacker who can write the log can misstate its sums anyway.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

/// The same in 32 bits.
pub(super) fn short_hash(part: &[u8]) -> u32 {
    u32::try_from(hash(&[part]) >> 32).unwrap_or_default()
}

/// A sum: billionths of a dollar, tokens, and those of them that have no price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub nano: i64,
    pub tokens: u64,
    pub unpriced: u64,
}

impl Sum {
    pub fn add(&mut self, other: Sum) {
        self.nano = self.nano.saturating_add(other.nano);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.unpriced = self.unpriced.saturating_add(other.unpriced);
    }
    fn take(&mut self, other: Sum) {
        self.nano = self.nano.saturating_sub(other.nano).max(0);
        self.tokens = self.tokens.saturating_sub(other.tokens);
        self.unpriced = self.unpriced.saturating_sub(other.unpriced);
    }
    #[expect(clippy::cast_precision_loss, reason = "dollars are shown in cents")]
    pub fn usd(&self) -> f64 {
        self.nano as f64 / 1e9
    }
}

/// One day of the zone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Day {
    /// By job and hour of the clock: nano, tokens, unpriced.
    #[serde(default)]
    jobs: BTreeMap<u32, BTreeMap<i8, (i64, u64, u64)>>,
    /// Tokens without a price, by model.
    #[serde(default)]
    unpriced: BTreeMap<u16, u64>,
}

impl Day {
    /// A job's sums by hour.
    pub fn hours(&self, job: u32) -> impl Iterator<Item = (i8, Sum)> {
        let sum = |(hour, (nano, tokens, unpriced)): (&i8, &(i64, u64, u64))| {
            (*hour, Sum { nano: *nano, tokens: *tokens, unpriced: *unpriced })
        };
        self.jobs.get(&job).into_iter().flatten().map(sum)
    }
    /// The jobs that spent.
    pub fn jobs(&self) -> impl Iterator<Item = u32> {
        self.jobs.keys().copied()
    }
    /// Models without a price, and their tokens.
    pub fn unpriced(&self) -> impl Iterator<Item = (u16, u64)> {
        self.unpriced.iter().map(|(model, tokens)| (*model, *tokens))
    }

    fn change(&mut self, rec: &Rec, hour: i8, change: fn(&mut Sum, Sum)) {
        let slot = self.jobs.entry(rec.job).or_default().entry(hour).or_default();
        let mut sum = Sum { nano: slot.0, tokens: slot.1, unpriced: slot.2 };
        change(&mut sum, rec.sum());
        *slot = (sum.nano, sum.tokens, sum.unpriced);
        if rec.model > 0 {
            let mut sum = Sum { tokens: self.unpriced.get(&rec.model).copied().unwrap_or(0), ..Sum::default() };
            change(&mut sum, Sum { tokens: rec.tokens, ..Sum::default() });
            self.unpriced.insert(rec.model, sum.tokens);
        }
    }

    /// Drops what came to nothing.
    fn tidy(&mut self) {
        for hours in self.jobs.values_mut() {
            hours.retain(|_, sum| *sum != (0, 0, 0));
        }
        self.jobs.retain(|_, hours| !hours.is_empty());
        self.unpriced.retain(|_, tokens| *tokens > 0);
    }
}

/// A job's name: its source, its identity there, and how it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Job {
    pub source: String,
    pub id: String,
    pub shown: String,
}

/// Names by number. Numbers are never given twice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Names {
    next_job: u32,
    next_model: u16,
    jobs: BTreeMap<u32, Job>,
    models: BTreeMap<u16, String>,
}

/// What is kept of a call that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rec {
    request: u32,
    aside: bool,
    fast: bool,
    at: i64,
    tokens: u64,
    nano: i64,
    job: u32,
    /// 0: it has a price.
    model: u16,
}

impl Rec {
    fn sum(&self) -> Sum {
        Sum { nano: self.nano, tokens: self.tokens, unpriced: if self.model > 0 { self.tokens } else { 0 } }
    }
    /// Of two records of one call the greater is the better one: a parent before a side line, then the one with more
    /// tokens (a stream writes its call several times), then whatever makes the choice the same in every order.
    fn rank(&self) -> (bool, u64, bool, i64, i64, u32) {
        (!self.aside, self.tokens, self.fast, -self.at, self.nano, self.request)
    }

    const BYTES: usize = 8 + 4 + 1 + 5 + 5 + 8 + 4 + 2;

    fn write(&self, message: u64, out: &mut Vec<u8>) {
        out.extend(message.to_le_bytes());
        out.extend(self.request.to_le_bytes());
        out.push(u8::from(self.aside) | u8::from(self.fast) << 1);
        out.extend(self.at.to_le_bytes().into_iter().take(5));
        out.extend(self.tokens.to_le_bytes().into_iter().take(5));
        out.extend(self.nano.to_le_bytes());
        out.extend(self.job.to_le_bytes());
        out.extend(self.model.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Option<(u64, Self)> {
        let mut rest = bytes;
        let mut number = |len: usize| -> Option<u64> {
            let (head, tail) = rest.split_at_checked(len)?;
            rest = tail;
            let mut whole = [0; 8];
            whole.get_mut(..len)?.copy_from_slice(head);
            Some(u64::from_le_bytes(whole))
        };
        let message = number(8)?;
        let request = u32::try_from(number(4)?).ok()?;
        let flags = number(1)?;
        let at = i64::try_from(number(5)?).ok()?;
        let tokens = number(5)?;
        let nano = number(8)?.cast_signed();
        let job = u32::try_from(number(4)?).ok()?;
        let model = u16::try_from(number(2)?).ok()?;
        Some((message, Self { request, aside: flags & 1 > 0, fast: flags & 2 > 0, at, tokens, nano, job, model }))
    }
}

/// The keys of one UTC day, in parts.
type Seen = BTreeMap<u64, Vec<Rec>>;

/// A UTC day and a part of its keys.
type Place = (i64, u64);

/// Parts of a day's keys: so many that each stays far below what one value may hold.
const PARTS: u64 = 16;

/// What was spent and counted.
pub(super) struct Ledger {
    zone: TimeZone,
    prices: Prices,
    /// The first second that still counts.
    since: i64,
    now: i64,
    names: Names,
    by_name: BTreeMap<(String, String), u32>,
    days: BTreeMap<i64, Day>,
    changed_days: BTreeSet<i64>,
    seen: BTreeMap<Place, Seen>,
    /// How many keys each part that was not read holds.
    counts: BTreeMap<Place, u32>,
    changed_seen: BTreeSet<Place>,
    names_changed: bool,
    /// What was counted for the first time, or counted higher, in this look.
    pub added: Sum,
    /// Calls older than what is kept.
    pub too_old: u64,
    /// Calls that stood there again.
    pub again: u64,
    /// Keys that were dropped early, for want of room.
    pub forgotten: u64,
    /// The last place in time that was asked for: calls come in order, and a zone is slow to ask.
    place: Option<(i64, i64, (i64, i8))>,
}

impl Ledger {
    /// What is kept, as of the last look.
    pub fn open(kept: &mut Kept, zone: TimeZone, prices: Prices, now: Timestamp) -> Result<Self, Unread> {
        let names: Names = kept.json("names")?.unwrap_or_default();
        let by_name = names.jobs.iter().map(|(n, job)| ((job.source.clone(), job.id.clone()), *n)).collect();
        let mut ledger = Self {
            prices,
            since: 0,
            now: now.as_second(),
            names,
            by_name,
            days: BTreeMap::new(),
            changed_days: BTreeSet::new(),
            seen: BTreeMap::new(),
            counts: BTreeMap::new(),
            changed_seen: BTreeSet::new(),
            names_changed: false,
            added: Sum::default(),
            too_old: 0,
            again: 0,
            forgotten: 0,
            place: None,
            zone,
        };
        let (today, _) = ledger.day_and_hour(now);
        let first = civil::Date::default().checked_add(jiff::Span::new().days(today - HISTORY_DAYS)).ok();
        let begin = first.and_then(|date| date.to_zoned(ledger.zone.clone()).ok());
        ledger.since = begin.map_or(0, |begin| begin.timestamp().as_second());
        for day in today - HISTORY_DAYS..=today + 1 {
            if let Some(read) = kept.json(&day_name(day))? {
                ledger.days.insert(day, read);
            }
        }
        for name in kept.names("day/") {
            let day = name.strip_prefix("day/").and_then(|day| day.parse::<i64>().ok());
            if day.is_none_or(|day| day < today - HISTORY_DAYS) {
                kept.forget(&name);
            }
        }
        let first_seen = ledger.since.div_euclid(SECONDS_OF_DAY) - 1;
        for name in kept.names("seen/") {
            match parse_seen(&name) {
                Some((day, part)) if day >= first_seen => {
                    let count = kept.size(&name) / Rec::BYTES;
                    ledger.counts.insert((day, part), u32::try_from(count).unwrap_or(u32::MAX));
                }
                _ => kept.forget(&name),
            }
        }
        Ok(ledger)
    }

    /// The first second that still counts: what was last written before it needs no reading.
    pub fn since(&self) -> i64 {
        self.since
    }

    /// A moment's day (days since year 0 of the calendar) and hour of the clock, in the zone.
    pub fn day_and_hour(&mut self, at: Timestamp) -> (i64, i8) {
        let second = at.as_second();
        if let Some((from, to, place)) = self.place
            && (from..to).contains(&second)
        {
            return place;
        }
        let zoned = at.to_zoned(self.zone.clone());
        let place = (day_number(zoned.date()), zoned.hour());
        let into = i64::from(zoned.minute()) * 60 + i64::from(zoned.second());
        // Zones change their offsets at whole quarters of an hour.
        let from = second - into % 900;
        self.place = Some((from, from + 900, place));
        place
    }

    /// The day that a number stands for.
    pub fn day(&self, day: i64) -> Option<&Day> {
        self.days.get(&day)
    }
    /// A job by its number.
    pub fn job(&self, number: u32) -> Option<&Job> {
        self.names.jobs.get(&number)
    }
    /// A model without a price, by its number.
    pub fn model(&self, number: u16) -> &str {
        self.names.models.get(&number).map_or("", String::as_str)
    }
    /// Whether a model has a price by now, which it may have got after it was used.
    pub fn is_priced(&self, model: &str) -> bool {
        self.prices.knows(model)
    }
    /// Says how a job is to be shown, where its log tells better than its identity.
    pub fn show(&mut self, source: &str, id: &str, shown: &str) {
        let number = self.by_name.get(&(cut(source), cut(id))).copied();
        if let Some(job) = number.and_then(|number| self.names.jobs.get_mut(&number))
            && job.shown != shown
        {
            job.shown = cut(shown);
            self.names_changed = true;
        }
    }

    /// Shows jobs otherwise, where `rename` has another word for them.
    pub fn rename(&mut self, rename: impl Fn(&str) -> Option<String>) {
        for job in self.names.jobs.values_mut() {
            if let Some(shown) = rename(&job.shown) {
                job.shown = shown;
                self.names_changed = true;
            }
        }
    }

    /// Takes in a call; whether it was one of the days that are kept.
    pub fn take(&mut self, kept: &mut Kept, source: &str, call: &Call<'_>) -> Result<bool, Unread> {
        let at = call.at.as_second();
        if at < self.since || at > self.now + SECONDS_OF_DAY {
            self.too_old += 1;
            return Ok(false);
        }
        let tokens = call.tokens.total().min((1 << 40) - 1);
        let nano =
            call.usd.and_then(super::prices::given).or_else(|| self.prices.cost(call.model, &call.tokens, call.fast));
        if tokens == 0 && nano.unwrap_or(0) == 0 {
            return Ok(true);
        }
        let (day, hour) = self.day_and_hour(call.at);
        let rec = Rec {
            request: call.key.map_or(0, |key| key.request),
            aside: call.key.is_some_and(|key| key.aside),
            fast: call.fast,
            at,
            tokens,
            nano: nano.unwrap_or(0),
            job: self.job_number(day, source, call.job),
            model: if nano.is_some() { 0 } else { self.model_number(call.model) },
        };
        let Some(key) = call.key else {
            self.add(day, hour, &rec);
            return Ok(true);
        };
        if let Some((place, at_index)) = self.find(kept, key, at)? {
            self.again += 1;
            let Some(old) = self.seen.get_mut(&place).and_then(|seen| seen.get_mut(&key.message)?.get_mut(at_index))
            else {
                return Ok(true);
            };
            let name = |rec: &Rec| self.names.jobs.get(&rec.job).map(|job| (&job.source, &job.id));
            if (rec.rank(), name(old)) <= (old.rank(), name(&rec)) {
                return Ok(true);
            }
            let replaced = std::mem::replace(old, rec);
            self.changed_seen.insert(place);
            if let Ok(then) = Timestamp::from_second(replaced.at) {
                let (day, hour) = self.day_and_hour(then);
                self.subtract(day, hour, &replaced);
            }
            self.add(day, hour, &rec);
            return Ok(true);
        }
        let place = part_of(at, key.message);
        self.load(kept, place)?;
        self.seen.entry(place).or_default().entry(key.message).or_default().push(rec);
        self.changed_seen.insert(place);
        self.add(day, hour, &rec);
        Ok(true)
    }

    fn add(&mut self, day: i64, hour: i8, rec: &Rec) {
        self.days.entry(day).or_default().change(rec, hour, Sum::add);
        self.changed_days.insert(day);
        self.added.add(rec.sum());
    }
    fn subtract(&mut self, day: i64, hour: i8, rec: &Rec) {
        self.days.entry(day).or_default().change(rec, hour, Sum::take);
        self.changed_days.insert(day);
        self.added.take(rec.sum());
    }

    /// Where a call that is the same stands: of the same message and request, or of the same message where either of the
    /// two is a side line.
    fn find(&mut self, kept: &Kept, key: CallKey, at: i64) -> Result<Option<(Place, usize)>, Unread> {
        let mut aside = None;
        let mut days = vec![at.div_euclid(SECONDS_OF_DAY)];
        days.extend([(at - NEAR).div_euclid(SECONDS_OF_DAY), (at + NEAR).div_euclid(SECONDS_OF_DAY)]);
        days.dedup();
        for day in days {
            let place = (day, key.message % PARTS);
            self.load(kept, place)?;
            let Some(recs) = self.seen.get(&place).and_then(|seen| seen.get(&key.message)) else { continue };
            if let Some(exact) = recs.iter().position(|rec| rec.request == key.request) {
                return Ok(Some((place, exact)));
            }
            if let Some(near) = recs.iter().position(|rec| rec.aside || key.aside) {
                aside.get_or_insert((place, near));
            }
        }
        Ok(aside)
    }

    fn load(&mut self, kept: &Kept, place: (i64, u64)) -> Result<(), Unread> {
        if self.seen.contains_key(&place) {
            return Ok(());
        }
        let mut seen = Seen::new();
        if self.counts.remove(&place).is_some() {
            let bytes = kept.get(&seen_name(place))?.unwrap_or_default();
            for (message, rec) in bytes.chunks_exact(Rec::BYTES).filter_map(Rec::read) {
                seen.entry(message).or_default().push(rec);
            }
        }
        self.seen.insert(place, seen);
        Ok(())
    }

    fn job_number(&mut self, day: i64, source: &str, id: &str) -> u32 {
        let name = (cut(source), cut(id));
        if let Some(number) = self.by_name.get(&name) {
            let known = self.days.get(&day).is_some_and(|day| day.jobs.contains_key(number));
            if known || self.days.get(&day).is_none_or(|day| day.jobs.len() < MAX_JOBS) {
                return *number;
            }
        } else if self.days.get(&day).is_none_or(|day| day.jobs.len() < MAX_JOBS) {
            return self.new_job(name);
        }
        let others = (name.0, OTHERS.to_owned());
        self.by_name.get(&others).copied().unwrap_or_else(|| self.new_job(others))
    }

    fn new_job(&mut self, (source, id): (String, String)) -> u32 {
        let number = self.names.next_job;
        self.names.next_job = number.wrapping_add(1);
        self.names.jobs.insert(number, Job { source: source.clone(), id: id.clone(), shown: id.clone() });
        self.by_name.insert((source, id), number);
        self.names_changed = true;
        number
    }

    fn model_number(&mut self, model: &str) -> u16 {
        let model = if model.is_empty() { "(no name)".to_owned() } else { cut(model) };
        let of = |names: &Names, name: &str| names.models.iter().find(|(_, known)| **known == name).map(|(n, _)| *n);
        if let Some(number) = of(&self.names, &model) {
            return number;
        }
        let model = if self.names.models.len() < MAX_MODELS { model } else { OTHERS.to_owned() };
        if let Some(number) = of(&self.names, &model) {
            return number;
        }
        let number = self.names.next_model.checked_add(1).unwrap_or(1);
        self.names.next_model = number;
        self.names.models.insert(number, model);
        self.names_changed = true;
        number
    }

    /// Writes what changed.
    pub fn close(&mut self, kept: &mut Kept) {
        for day in std::mem::take(&mut self.changed_days) {
            if let Some(sums) = self.days.get_mut(&day) {
                sums.tidy();
                kept.put_json(&day_name(day), sums);
            }
        }
        self.make_room(kept);
        for place in std::mem::take(&mut self.changed_seen) {
            let mut bytes = Vec::new();
            for (message, recs) in self.seen.get(&place).into_iter().flatten() {
                for rec in recs {
                    rec.write(*message, &mut bytes);
                }
            }
            kept.put(&seen_name(place), bytes);
        }
        let used: BTreeSet<u32> = self.days.values().flat_map(|day| day.jobs.keys().copied()).collect();
        let models: BTreeSet<u16> = self.days.values().flat_map(|day| day.unpriced.keys().copied()).collect();
        let before = (self.names.jobs.len(), self.names.models.len());
        self.names.jobs.retain(|number, _| used.contains(number));
        self.names.models.retain(|number, _| models.contains(number));
        if self.names_changed || before != (self.names.jobs.len(), self.names.models.len()) {
            kept.put_json("names", &self.names);
        }
    }

    /// Drops keys while there are too many, the oldest days first, then the oldest of a part.
    fn make_room(&mut self, kept: &mut Kept) {
        let mut counts = self.counts.clone();
        for (place, seen) in &self.seen {
            counts.insert(*place, u32::try_from(seen.values().map(Vec::len).sum::<usize>()).unwrap_or(u32::MAX));
        }
        let mut total: usize = counts.values().map(|count| usize::try_from(*count).unwrap_or(usize::MAX)).sum();
        let newest = counts.keys().map(|(day, _)| *day).max();
        for (place, count) in &counts {
            if total <= MAX_SEEN || Some(place.0) == newest {
                break;
            }
            total = total.saturating_sub(usize::try_from(*count).unwrap_or(0));
            self.forgotten += u64::from(*count);
            self.seen.remove(place);
            self.changed_seen.remove(place);
            kept.forget(&seen_name(*place));
        }
        let most = MAX_SEEN / usize::try_from(PARTS).unwrap_or(1);
        for (place, seen) in &mut self.seen {
            let len: usize = seen.values().map(Vec::len).sum();
            if len > most {
                let mut times: Vec<i64> = seen.values().flatten().map(|rec| rec.at).collect();
                times.sort_unstable();
                let edge = times.get(len - most).copied().unwrap_or(i64::MAX);
                seen.retain(|_, recs| {
                    recs.retain(|rec| rec.at >= edge);
                    !recs.is_empty()
                });
                let left: usize = seen.values().map(Vec::len).sum();
                self.forgotten += u64::try_from(len - left.min(len)).unwrap_or(0);
                self.changed_seen.insert(*place);
            }
        }
    }
}

/// Days since the calendar's first.
pub(super) fn day_number(date: civil::Date) -> i64 {
    let span = civil::Date::default().until((jiff::Unit::Day, date));
    span.map_or(0, |span| i64::from(span.get_days()))
}

fn part_of(at: i64, message: u64) -> (i64, u64) {
    (at.div_euclid(SECONDS_OF_DAY), message % PARTS)
}
fn day_name(day: i64) -> String {
    format!("day/{day}")
}
fn seen_name((day, part): (i64, u64)) -> String {
    format!("seen/{day}/{part}")
}
fn parse_seen(name: &str) -> Option<(i64, u64)> {
    let (day, part) = name.strip_prefix("seen/")?.split_once('/')?;
    Some((day.parse().ok()?, part.parse().ok()?))
}
fn cut(name: &str) -> String {
    let end = (0..=name.len().min(MAX_NAME)).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    name.get(..end).unwrap_or_default().to_owned()
}
