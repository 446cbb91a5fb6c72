//! From sums to figures: today, the present rate, shares, and what of each is usual. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::ledger::{HISTORY_DAYS, Ledger, Sum};

/// Days with spending that it takes before anything is called unusual.
pub(super) const ENOUGH_DAYS: usize = 5;
/// Days on which a job must have spent before its share is called unusual.
pub(super) const ENOUGH_JOB_DAYS: usize = 3;
/// Hours that the rate for the projection is taken over.
const PROJECTION_HOURS: i64 = 6;
/// A day is projected once so many of its hours are over.
const PROJECTION_AFTER: i64 = 2 * 3_600;
/// A job's surge begins where this part of its day lies behind.
const SURGE: f64 = 0.9;

/// One series of sums: of a job, a source, or all.
#[derive(Debug, Default, Clone)]
struct Series {
    /// By the number of the hour: day times 24 plus the hour of the clock.
    hours: BTreeMap<i64, Sum>,
}

impl Series {
    fn add(&mut self, day: i64, hour: i8, sum: Sum) {
        self.hours.entry(day * 24 + i64::from(hour)).or_default().add(sum);
    }
    fn merge(&mut self, other: &Self) {
        for (hour, sum) in &other.hours {
            self.hours.entry(*hour).or_default().add(*sum);
        }
    }
    /// Between two hours, the second one left out.
    fn between(&self, from: i64, to: i64) -> Sum {
        let mut all = Sum::default();
        if from < to {
            self.hours.range(from..to).for_each(|(_, sum)| all.add(*sum));
        }
        all
    }
    fn day(&self, day: i64) -> Sum {
        self.between(day * 24, day * 24 + 24)
    }
}

/// The figures of a job, a source, or all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Figures {
    pub today: Sum,
    /// Since the hour of the clock began.
    pub hour: Sum,
    /// Dollars an hour since the hour before the present one began.
    pub rate: f64,
    /// What a busy hour costs usually; none while too little is known.
    pub usual_rate: Option<f64>,
    /// Part of today's spending of all, 0 to 1.
    pub share: f64,
    /// Its usual part; none while too little is known.
    pub usual_share: Option<f64>,
    /// The middle of its days, and the second dearest.
    pub usual_day: Option<(f64, f64)>,
    /// The hour of the clock from which on nearly all of today's was spent.
    pub since_hour: Option<i64>,
    /// Sum of all days that are kept.
    pub kept: Sum,
}

/// A job with its figures.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JobFigures {
    pub source: String,
    pub shown: String,
    pub figures: Figures,
}

/// All figures of one look.
#[derive(Debug, Default)]
pub(super) struct All {
    pub total: Figures,
    pub sources: BTreeMap<String, Figures>,
    /// The dearest of today first.
    pub jobs: Vec<JobFigures>,
    /// Days before today on which anything was spent.
    pub history_days: usize,
    /// What the day comes to at the rate of the last hours; none in its first ones.
    pub projected: Option<f64>,
    /// Models that have no price even now, with their tokens of the days that are kept, and those of today.
    pub unpriced: BTreeMap<String, u64>,
    pub unpriced_today: BTreeMap<String, u64>,
    /// Today, as people write it.
    pub date: String,
}

/// Where the present lies.
struct Place {
    day: i64,
    /// The number of the present hour.
    hour: i64,
    /// Seconds since it began.
    into: i64,
}

pub(super) fn figures(ledger: &mut Ledger, now: Timestamp, zone: &TimeZone) -> All {
    let (day, hour) = ledger.day_and_hour(now);
    let zoned = now.to_zoned(zone.clone());
    let into = i64::from(zoned.minute()) * 60 + i64::from(zoned.second());
    let place = Place { day, hour: day * 24 + i64::from(hour), into };
    let (mut total, mut sources, mut jobs) = (Series::default(), BTreeMap::<String, Series>::new(), BTreeMap::new());
    let mut all = All { date: zoned.date().to_string(), ..All::default() };
    for number in day - HISTORY_DAYS..=day {
        let Some(sums) = ledger.day(number) else { continue };
        for (model, tokens) in sums.unpriced() {
            let model = ledger.model(model);
            if ledger.is_priced(model) {
                continue;
            }
            *all.unpriced.entry(model.to_owned()).or_default() += tokens;
            if number == day {
                *all.unpriced_today.entry(model.to_owned()).or_default() += tokens;
            }
        }
        for job in sums.jobs() {
            let Some(known) = ledger.job(job) else { continue };
            // Two jobs that are shown alike are one to whoever reads of them.
            let series: &mut Series = jobs.entry((known.source.clone(), known.shown.clone())).or_default();
            let mut of_day = Series::default();
            sums.hours(job).for_each(|(hour, sum)| of_day.add(number, hour, sum));
            series.merge(&of_day);
            total.merge(&of_day);
            sources.entry(known.source.clone()).or_default().merge(&of_day);
        }
    }
    let spent = |series: &Series, day: i64| series.day(day).usd();
    let history: Vec<(i64, f64)> =
        (day - HISTORY_DAYS..day).map(|day| (day, spent(&total, day))).filter(|(_, usd)| *usd > 0.0).collect();
    all.history_days = history.len();
    let whole = spent(&total, day);
    let of = |series: &Series| of(series, &history, whole, &place);
    all.total = of(&total);
    all.sources = sources.iter().map(|(name, series)| (name.clone(), of(series))).collect();
    all.jobs = jobs
        .iter()
        .map(|((source, shown), series)| JobFigures {
            source: source.clone(),
            shown: shown.clone(),
            figures: of(series),
        })
        .collect();
    all.jobs.sort_by(|a, b| {
        let key = |job: &JobFigures| (job.figures.today.nano, job.figures.kept.nano, job.figures.kept.tokens);
        key(b).cmp(&key(a)).then_with(|| (&a.source, &a.shown).cmp(&(&b.source, &b.shown)))
    });
    all.projected = projected(&total, &place, now, zone);
    all
}

fn of(series: &Series, history: &[(i64, f64)], whole: f64, place: &Place) -> Figures {
    let today = series.day(place.day);
    let mut kept = Sum::default();
    series.hours.values().for_each(|sum| kept.add(*sum));
    let since_two = series.between(place.hour - 1, place.hour + 1).usd();
    let days: Vec<f64> = history.iter().map(|(day, _)| series.day(*day).usd()).collect();
    let enough = history.len() >= ENOUGH_DAYS;
    let shares = history.iter().zip(&days).map(|((_, all), own)| own / all).collect();
    let own_days: Vec<f64> = days.iter().copied().filter(|usd| *usd > 0.0).collect();
    let busy: Vec<f64> =
        series.hours.range(..place.day * 24).map(|(_, sum)| sum.usd()).filter(|usd| *usd > 0.0).collect();
    Figures {
        today,
        hour: series.between(place.hour, place.hour + 1),
        rate: since_two / (crate::words::seconds((3_600 + place.into).max(1)) / 3_600.0),
        usual_rate: (enough && own_days.len() >= ENOUGH_JOB_DAYS).then(|| quantile(busy, 0.9)).flatten(),
        share: if whole > 0.0 { today.usd() / whole } else { 0.0 },
        usual_share: if enough { quantile(shares, 0.5) } else { None },
        usual_day: (enough && own_days.len() >= ENOUGH_JOB_DAYS)
            .then(|| Some((quantile(own_days.clone(), 0.5)?, second(own_days)?)))
            .flatten(),
        since_hour: surge(series, place),
        kept,
    }
}

/// The last hour of today from which on nearly all of today's was spent.
fn surge(series: &Series, place: &Place) -> Option<i64> {
    let whole = series.day(place.day).usd();
    let hours = (place.day * 24..=place.hour).rev();
    hours
        .filter(|_| whole > 0.0)
        .find(|hour| series.between(*hour, place.hour + 1).usd() >= whole * SURGE)
        .map(|h| h % 24)
}

/// The value below which this part of them lies.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
fn quantile(mut values: Vec<f64>, part: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * part).round() as usize).copied()
}

fn second(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(2)?).copied()
}

/// What was spent, and for the rest of the day the rate of the last hours.
fn projected(total: &Series, place: &Place, now: Timestamp, zone: &TimeZone) -> Option<f64> {
    let zoned = now.to_zoned(zone.clone());
    let begin = zoned.start_of_day().ok()?.timestamp();
    let end = zoned.tomorrow().ok()?.start_of_day().ok()?.timestamp();
    let over = now.duration_since(begin).as_secs();
    if over < PROJECTION_AFTER {
        return None;
    }
    let lately = total.between(place.hour - (PROJECTION_HOURS - 1), place.hour + 1).usd();
    let seconds = ((PROJECTION_HOURS - 1) * 3_600 + place.into).max(1);
    let rest = end.duration_since(now).as_secs().max(0);
    Some(total.day(place.day).usd() + lately * crate::words::seconds(rest) / crate::words::seconds(seconds))
}
