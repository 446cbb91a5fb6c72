//! From what a card says to its facts: the middle of three looks, its bands, what is no trouble, what was not told.

use super::cards::{Is, Placed};
use super::xids::{self, Class, Xid};
use super::{Fetched, Names, Settings};
use crate::clean;
use crate::facts::{Class as FactClass, Edge, Facts, Scale, Subject, Unit, Unread, Worse};
use crate::host::nvml::{Card, ESSENTIAL, Pci, Sample, Seen, Throttle, Trouble};
use crate::redact::Clean;
use crate::words::size;

/// Degrees for cards that don't tell their own: below what any card of the last ten years slows down at.
const USUAL_WARN_C: u32 = 88;
const USUAL_FAIL_C: u32 = 93;
/// So far below the slowdown a card is hot.
const BEFORE_SLOWDOWN_C: u32 = 5;

/// The processes that hold the most of each card.
pub(super) fn top_processes(seen: &Seen) -> Vec<u32> {
    seen.cards.iter().flatten().filter_map(top_process).map(|(pid, _)| pid).collect()
}

fn top_process(card: &Card) -> Option<(u32, Option<u64>)> {
    card.processes.iter().flatten().copied().max_by_key(|(_, bytes)| *bytes)
}

/// Puts one card.
pub(super) fn card(settings: &Settings, placed: &Placed<'_>, names: &Names, xids: &[Xid], fetched: &mut Fetched) {
    let subject = &placed.subject;
    let facts = &mut fetched.facts;
    log(subject, placed.pci(), xids, facts);
    let trouble = match &placed.is {
        Is::There(card) => {
            facts.info(subject, "card", "there");
            there(settings, subject, card, names, facts);
            if let Some(unread) = unread(card) {
                fetched.unread.insert(subject.clone(), unread);
            }
            return;
        }
        Is::Gone => None,
        Is::Troubled(trouble) => Some(*trouble),
    };
    let word = match trouble {
        None => "gone",
        Some(Trouble::Lost) => "lost",
        Some(Trouble::ResetRequired) => "reset_required",
        Some(Trouble::Unusable(_)) => "unusable",
        Some(Trouble::NoPermission) => {
            let said = clean!("this user may not ask the card");
            fetched.unread.insert(subject.clone(), Unread::blind("permission_denied", said));
            return;
        }
        Some(other) => {
            fetched.unread.insert(subject.clone(), Unread::target("card_unreadable", other.said()));
            return;
        }
    };
    let was = placed.known.as_ref().map_or_else(|| Clean::line(subject.as_str(), 96), super::Known::shown);
    facts.info(subject, "card", word);
    facts.info(subject, "card_was", was);
    if let Some(trouble) = trouble {
        facts.info(subject, "driver_says", trouble.said());
    }
}

/// A card that answers some questions and fails others is read in part only.
fn unread(card: &Card) -> Option<Unread> {
    if let Some((what, why)) = card.failed.iter().find(|(what, _)| ESSENTIAL.contains(what)) {
        return Some(Unread::target("card_unreadable", clean!("the card does not tell its {what}: {why}")));
    }
    card.too_old.then(|| Unread::blind("driver_too_old", clean!("the driver is too old to be asked for the memory")))
}

fn there(settings: &Settings, subject: &Subject, card: &Card, names: &Names, facts: &mut Facts) {
    if let Some(uuid) = &card.uuid {
        facts.state(subject, "uuid", uuid.clone());
    }
    if let Some(name) = &card.name {
        facts.state(subject, "name", name.clone());
    }
    if let Some(Pci { domain, bus, device }) = card.pci {
        facts.info(subject, "place", clean!("{domain:04x}:{bus:02x}:{device:02x}"));
    }
    processes(subject, card, names, facts);
    memory(settings, subject, card, facts);
    load(subject, card, facts);
    heat(settings, subject, card, facts);
    throttling(subject, card, facts);
    memory_errors(subject, card, facts);
    for (name, flag) in [("ecc", card.ecc), ("persistence", card.persistence), ("mig", card.mig)] {
        if let Some(flag) = flag {
            facts.state(subject, name, flag);
        }
    }
    if let Some(fan) = card.fan_percent {
        facts.info(subject, "fan_percent", fan);
    }
    let failed = card.failed.iter().map(|(what, why)| format!("{what} ({why})"));
    let not_told: Vec<String> = card.not_told.iter().map(|what| (*what).to_owned()).chain(failed).collect();
    if !not_told.is_empty() {
        facts.info(subject, "not_told", not_told.join(", "));
    }
}

fn processes(subject: &Subject, card: &Card, names: &Names, facts: &mut Facts) {
    let Some(processes) = &card.processes else { return };
    facts.info(subject, "processes", processes.len());
    if let Some((pid, bytes)) = top_process(card) {
        let name = names.iter().find(|(named, _)| *named == pid).map(|(_, name)| name.as_str());
        let shown = name.map_or_else(|| format!("pid {pid}"), |name| format!("{name}, pid {pid}"));
        facts.put_foreign(subject, "top_process", shown, FactClass::Info);
        if let Some(bytes) = bytes {
            facts.info(subject, "top_process_bytes", bytes);
        }
    }
}

fn edge(at: Option<f64>, code: &'static str) -> Option<Edge> {
    at.map(|at| Edge { at, code: code.into(), settled: false })
}

fn memory(settings: &Settings, subject: &Subject, card: &Card, facts: &mut Facts) {
    let (Some(total), Some(free)) = (card.memory_bytes.filter(|total| *total > 0), middle(card, |s| s.free_bytes))
    else {
        return;
    };
    let used = total.saturating_sub(free);
    let free_percent = percent(free, total);
    let most = match (facts.text(subject, "top_process"), facts.number(subject, "top_process_bytes")) {
        (Some(who), Some(bytes)) => format!("; {} holds {}", who.quoted(), crate::words::bytes(bytes)),
        _ => String::new(),
    };
    let scale = Scale {
        unit: Unit::Bytes,
        worse: Worse::Below,
        warn: edge(settings.vram_warn.of(total), "vram_low"),
        fail: edge(settings.vram_fail.of(total), "vram_out"),
        says: clean!("{} of {} of its memory are free ({free_percent:.1} %){most}", size(free), size(total)),
        episode: None,
    };
    facts.gauge(subject, "vram_free_bytes", free, scale);
    facts.info(subject, "vram_used_bytes", used);
    facts.info(subject, "vram_total_bytes", total);
    facts.gauge(subject, "vram_used_percent", tenths(100.0 - free_percent), Scale::plain(Unit::Percent));
}

fn load(subject: &Subject, card: &Card, facts: &mut Facts) {
    if let Some(busy) = middle(card, |sample| sample.busy_percent) {
        facts.gauge(subject, "utilisation_percent", busy, Scale::plain(Unit::Percent));
    }
    if let Some(peak) = card.samples.iter().filter_map(|sample| sample.busy_percent).max() {
        facts.info(subject, "utilisation_peak_percent", peak);
    }
    if let Some(busy) = middle(card, |sample| sample.memory_busy_percent) {
        facts.info(subject, "memory_busy_percent", busy);
    }
    if let Some(milliwatts) = middle(card, |sample| sample.milliwatts) {
        facts.info(subject, "power_w", tenths(f64::from(milliwatts) / 1_000.0));
    }
    if let Some(milliwatts) = card.power_limit_mw {
        facts.info(subject, "power_limit_w", tenths(f64::from(milliwatts) / 1_000.0));
    }
}

fn heat(settings: &Settings, subject: &Subject, card: &Card, facts: &mut Facts) {
    for (name, degrees) in [("slowdown_c", card.slowdown_c), ("shutdown_c", card.shutdown_c)] {
        if let Some(degrees) = degrees {
            facts.info(subject, name, degrees);
        }
    }
    let Some(celsius) = middle(card, |sample| sample.celsius) else { return };
    let peak = card.samples.iter().filter_map(|sample| sample.celsius).max().unwrap_or(celsius);
    facts.info(subject, "temperature_peak_c", peak);
    // A card that tells only when it switches off slows down a little earlier.
    let slowdown = card.slowdown_c.or(card.shutdown_c.map(|shutdown| shutdown.saturating_sub(BEFORE_SLOWDOWN_C)));
    let slowdown = slowdown.filter(|degrees| *degrees > 0);
    let warn = slowdown.map_or(USUAL_WARN_C, |slowdown| slowdown.saturating_sub(BEFORE_SLOWDOWN_C));
    let fail = settings.temperature.fail.unwrap_or(slowdown.unwrap_or(USUAL_FAIL_C));
    let warn = settings.temperature.warn.unwrap_or(warn.min(fail));
    let limit = slowdown.map_or_else(String::new, |slowdown| format!(", it slows down at {slowdown} °C"));
    // Degrees are whole, and an edge is crossed only beyond it: the limit itself counts as reached.
    let from = |degrees: u32| Some(f64::from(degrees) - 0.5);
    let scale = Scale {
        unit: Unit::Celsius,
        worse: Worse::Above,
        warn: edge(from(warn), "hot"),
        fail: edge(from(fail), "too_hot"),
        says: clean!("{celsius} °C hot{limit}"),
        episode: None,
    };
    facts.gauge(subject, "temperature_c", celsius, scale);
}

fn throttling(subject: &Subject, card: &Card, facts: &mut Facts) {
    let seen: Vec<Throttle> = card.samples.iter().filter_map(|sample| sample.throttle).collect();
    if seen.is_empty() {
        return;
    }
    let count = |bit: fn(&Throttle) -> bool| seen.iter().filter(|throttle| bit(throttle)).count();
    let mostly = |bit: fn(&Throttle) -> bool| count(bit) * 2 > seen.len();
    let (thermal, limit, brake) =
        (mostly(|t| t.hardware_thermal), mostly(|t| t.software_thermal), mostly(|t| t.power_brake));
    // The bit for any slowdown is set for a moment when the card changes its state, so it has to last.
    let hardware = count(|t| t.hardware) == seen.len() && !thermal && !brake;
    for (name, flag) in [
        ("thermal_slowdown", thermal),
        ("thermal_limit", limit),
        ("power_brake", brake),
        ("hardware_slowdown", hardware),
    ] {
        facts.info(subject, name, flag);
    }
    let words = [
        (thermal, "heat (hardware)"),
        (limit, "heat (driver)"),
        (brake, "power supply"),
        (hardware, "hardware"),
        (mostly(|t| t.power_cap), "power limit"),
        (mostly(|t| t.by_setting), "settings"),
        (mostly(|t| t.idle), "idle"),
    ];
    let words: Vec<&str> = words.into_iter().filter_map(|(is, word)| is.then_some(word)).collect();
    facts.info(subject, "throttled_by", if words.is_empty() { "nothing".to_owned() } else { words.join(", ") });
}

fn memory_errors(subject: &Subject, card: &Card, facts: &mut Facts) {
    for (name, errors) in [
        ("ecc_uncorrected", card.uncorrected),
        ("ecc_corrected", card.corrected),
        ("pages_retired", card.pages_retired),
        ("rows_remapped", card.rows_remapped),
    ] {
        if let Some(errors) = errors {
            facts.info(subject, name, errors);
        }
    }
    if let Some(ever) = card.uncorrected_ever {
        let scale = Scale {
            unit: Unit::None,
            worse: Worse::Above,
            warn: edge(Some(0.0), "ecc_growing"),
            fail: None,
            says: clean!("more errors of its memory that could not be corrected: {ever} in its life"),
            episode: None,
        };
        facts.put(subject, "ecc_uncorrected_ever", ever, FactClass::Counter(Box::new(scale)));
    }
    let either =
        |a: Option<bool>, b: Option<bool>| (a.is_some() || b.is_some()).then(|| a == Some(true) || b == Some(true));
    if let Some(pending) = either(card.pages_pending, card.rows_pending) {
        facts.info(subject, "retirement_pending", pending);
    }
    if let Some(failed) = card.rows_failed {
        facts.info(subject, "remap_failed", failed);
    }
}

/// The errors of a card's place in the log.
pub(super) fn log(subject: &Subject, pci: Option<Pci>, xids: &[Xid], facts: &mut Facts) {
    let by_code = xids::of(xids, pci);
    for (name, class) in
        [("xids_of_card", Class::Card), ("xids_of_programs", Class::Program), ("xids_other", Class::Other)]
    {
        let times: u64 = by_code.iter().filter(|(code, _)| xids::class(**code).0 == class).map(|(_, (n, _))| n).sum();
        if times > 0 {
            facts.info(subject, name, times);
        }
    }
    let gravest = by_code.iter().max_by_key(|(code, (_, at))| (xids::class(**code).0, *at));
    if let Some((code, (_, at))) = gravest {
        facts.info(subject, "xid", *code);
        facts.info(subject, "xid_at", *at);
    }
}

/// The middle of what the looks saw.
fn middle<T: Ord + Copy>(card: &Card, of: impl Fn(&Sample) -> Option<T>) -> Option<T> {
    let mut seen: Vec<T> = card.samples.iter().filter_map(of).collect();
    seen.sort();
    seen.get(seen.len() / 2).copied()
}

#[expect(clippy::cast_precision_loss, reason = "shares are judged and shown in three digits")]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64 * 100.0
}

fn tenths(n: f64) -> f64 {
    (n * 10.0).round() / 10.0
}
