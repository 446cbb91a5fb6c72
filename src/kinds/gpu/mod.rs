//! NVIDIA cards, as the driver's own library tells them: memory, load, heat, errors, and whether a card or the driver is
//! gone. What the driver wrote into the kernel's log is read beside it.

mod cards;
mod put;
mod xids;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{FILE_REASONS, LANE_REASONS, MISSING};
use super::system::Least;
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome};
use crate::clean;
use crate::facts::{Blame, Facts, Finding, Subject, Unread, Value, Weight};
use crate::host::nvml::{self, Pci, Seen, Trouble};
use crate::host::{files, trust};
use crate::redact::Clean;
use crate::settings::Dur;
use crate::words::{count, span};
use cards::{Known, Wanted};

/// What moves is looked at this often in a fetch.
const SAMPLES: u32 = 3;
/// Looks may lie this far apart.
const MOST_APART: Dur = Dur::secs(2);
/// The key under which the cards are remembered.
const CARDS: &str = "cards";

/// The kind.
pub struct Gpu;

/// Settings of `gpu`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// NVIDIA's management library; by default `libnvidia-ml.so.1` where the system's loader finds it. Others may not be
    /// able to write it: what is in it is run.
    #[serde(default)]
    pub library: Option<String>,
    /// Whether a host without a driver, or without a card, is left out and that is said. A card that was once seen is
    /// missed all the same.
    #[serde(default)]
    pub optional: bool,
    /// How many cards there have to be; by default those of the last look. It is also the way to say that a card was
    /// taken out for good.
    #[serde(default)]
    pub devices: Option<u32>,
    /// The cards to look at, by their uuids (`nvidia-smi -L`) or how those begin; by default all. One that is not there
    /// is trouble.
    #[serde(default)]
    pub uuids: Vec<String>,
    /// Free memory of a card below which it is a warn. What is smaller counts: by default 5 % or 1 GiB.
    #[serde(default = "vram_warn")]
    pub vram_warn: Least,
    /// Free memory of a card below which it is a fail. What is smaller counts: by default 1 % or 128 MiB.
    #[serde(default = "vram_fail")]
    pub vram_fail: Least,
    /// Degrees Celsius from which a card is hot. By default a warn 5 below the card's own slowdown and a fail at it; for
    /// a card that doesn't tell, 88 and 93.
    #[serde(default)]
    pub temperature: Degrees,
    /// Whether the driver's errors (Xid) are looked for in the kernel's log, by `journalctl`.
    #[serde(default = "yes")]
    pub xids: bool,
    /// How long such an error counts.
    #[serde(default = "a_day")]
    pub xids_within: Dur,
    /// What moves is looked at three times, this far apart: the middle one counts.
    #[serde(default = "a_moment")]
    pub sample_every: Dur,
}

const fn yes() -> bool {
    true
}
const fn a_day() -> Dur {
    Dur::days(1)
}
const fn a_moment() -> Dur {
    Dur::millis(300)
}
const fn vram_warn() -> Least {
    Least::new(5.0, 1 << 30)
}
const fn vram_fail() -> Least {
    Least::new(1.0, 128 << 20)
}

/// Degrees from which it is too hot. One that is not given is the card's own, or the usual one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Degrees {
    /// From here on it is a warn.
    #[serde(default)]
    pub warn: Option<u32>,
    /// From here on it is a fail.
    #[serde(default)]
    pub fail: Option<u32>,
}

const WARN: ReasonOutcome = ReasonOutcome::Warn;
const FAIL: ReasonOutcome = ReasonOutcome::Fail;
const BLIND: ReasonOutcome = ReasonOutcome::Unknown(Blame::Blind);
const TARGET: ReasonOutcome = ReasonOutcome::Unknown(Blame::Target);

const fn doc(
    code: &'static str,
    outcome: ReasonOutcome,
    settled: bool,
    about: &'static str,
    action: &'static str,
) -> ReasonDoc {
    ReasonDoc { code, outcome, settled, about, action, needs_human: false }
}
/// What only a person at the machine can mend.
const fn human(code: &'static str, outcome: ReasonOutcome, about: &'static str, action: &'static str) -> ReasonDoc {
    ReasonDoc { code, outcome, settled: true, about, action, needs_human: true }
}

const LOAD_DRIVER: &str = "load the driver (nvidia-smi says more), or restart the machine";
const RESET: &str = "stop what uses the card and reset it (nvidia-smi -r), or restart the machine";
const COOL: &str = "see that the fans turn and the air is free, or give it less work";

const REASONS: &[ReasonDoc] = &[
    human("driver_gone", FAIL, "there were cards the last time, and now no driver answers for them", LOAD_DRIVER),
    human("driver_not_loaded", FAIL, "the library is installed and the kernel's driver is not loaded", LOAD_DRIVER),
    human(
        "driver_mismatch",
        FAIL,
        "the driver was upgraded while the old one is still loaded: no new program gets a card",
        "restart the machine, or unload and load the driver",
    ),
    human(
        "driver_missing",
        BLIND,
        "NVIDIA's management library is not there or can't be loaded",
        "install the driver, set `library`, or set `optional` where a host may have no card",
    ),
    human("not_nvml", BLIND, "the library that was loaded is not NVIDIA's, or too old", "correct `library`"),
    human(
        "library_untrusted",
        BLIND,
        "others can write the library that `library` names, and what is in it is run",
        "set the file's and the folder's owner and mode",
    ),
    human("driver_too_old", BLIND, "the driver can't be asked for the memory", "install a driver of 510 or newer"),
    doc("driver_error", TARGET, false, "the driver answers with an error", "see the kernel's log, restart the machine"),
    human("no_card", FAIL, "the driver runs and knows no card", "see whether the card is seated and powered"),
    human(
        "too_few_cards",
        FAIL,
        "there are fewer cards than `devices` says",
        "see whether each card is seated and powered, or correct `devices`",
    ),
    human(
        "card_gone",
        FAIL,
        "a card that was there, or that `uuids` names, is not there",
        "see whether the card is seated and powered (or set `devices` when it was taken out)",
    ),
    human("card_lost", FAIL, "the card fell off the bus", "restart the machine, see its power and its slot"),
    human("reset_required", FAIL, "the card can't be used before it is reset", RESET),
    human(
        "card_unusable",
        FAIL,
        "the card lacks power or interrupts, or its memory is broken",
        "see its power and slot",
    ),
    doc(
        "card_unreadable",
        TARGET,
        false,
        "the card fails to tell its memory, its load or its temperature",
        "see the kernel's log, reset the card",
    ),
    doc("vram_low", WARN, false, "little of the card's memory is free", "see which process holds it"),
    doc(
        "vram_out",
        FAIL,
        false,
        "next to none of the card's memory is free: the next allocation fails",
        "free what is not used, or restart the process that holds the most",
    ),
    doc("hot", WARN, false, "the card is near the temperature at which it slows down", COOL),
    doc("too_hot", FAIL, false, "the card is at the temperature at which it slows down, or above", COOL),
    doc("thermal_slowdown", FAIL, false, "the hardware halves the card's clocks for heat", COOL),
    doc("thermal_limit", WARN, false, "the driver lowers the card's clocks for heat", COOL),
    doc(
        "power_brake",
        FAIL,
        false,
        "the power supply asks the card for less, and its clocks are halved",
        "see the power supply and its cables",
    ),
    doc("hardware_slowdown", WARN, false, "the hardware lowers the card's clocks", "see its power and its heat"),
    human("ecc_uncorrected", FAIL, "errors of the card's memory could not be corrected: results may be wrong", RESET),
    doc(
        "ecc_growing",
        WARN,
        false,
        "there are more errors that could not be corrected than at the last look",
        "reset the card, run its diagnostics",
    ),
    human("retirement_pending", WARN, "bad memory waits for a reset to be taken out of use", RESET),
    human("remap_failed", FAIL, "bad memory can't be replaced any more", "have the card replaced"),
    human(
        "xid_error",
        FAIL,
        "the kernel's log names an error that leaves the card broken until it is reset",
        "reset the card or restart the machine, see NVIDIA's list of Xid errors",
    ),
    human(
        "xid_other",
        WARN,
        "the kernel's log names an error of the card that is no program's fault",
        "see NVIDIA's list of Xid errors",
    ),
];

const fn fact(name: &'static str, class: &'static str, about: &'static str) -> FactDoc {
    FactDoc { name, class, about }
}

const FACTS: &[FactDoc] = &[
    fact("driver", "info", "`ok`, `no_library`, `not_loaded` or `mismatch`"),
    fact("driver_says", "info", "what the driver answered instead of its cards"),
    fact("skipped", "info", "whether this host is left out: `optional` is set, and there is no driver or no card"),
    fact("driver_version", "state", "the driver's version"),
    fact("cards", "info", "how many cards answer"),
    fact("cards_listed", "info", "how many cards are looked at, those included that don't answer or are gone"),
    fact("cards_known", "info", "how many cards were known before, where no driver answers"),
    fact("cards_short", "info", "how many more there have to be, beside those that are named as gone"),
    fact("cards_left_out", "info", "cards beyond the first 64"),
    fact(
        "xid_log",
        "info",
        "`read`, or why the kernel's log could not be: then no Xid is seen, and that is no trouble",
    ),
    fact("card", "info", "`there`, `gone`, `lost`, `reset_required` or `unusable`"),
    fact("card_was", "info", "the product and uuid of a card that does not answer"),
    fact("uuid", "state", "the card's identity"),
    fact("name", "state", "the product"),
    fact("place", "info", "its domain, bus and device"),
    fact("vram_free_bytes", "gauge", "memory that is free"),
    fact("vram_used_bytes", "info", "memory in use"),
    fact("vram_total_bytes", "info", "the memory that programs can have"),
    fact("vram_used_percent", "gauge", "the share in use; it has no edges"),
    fact("utilisation_percent", "gauge", "the share of the time in which something ran; it has no edges"),
    fact("utilisation_peak_percent", "info", "the most of the three looks"),
    fact("memory_busy_percent", "info", "the share of the time in which its memory was read or written"),
    fact("temperature_c", "gauge", "degrees Celsius"),
    fact("temperature_peak_c", "info", "the most of the three looks"),
    fact("slowdown_c", "info", "degrees at which the hardware slows it down, where the card tells"),
    fact("shutdown_c", "info", "degrees at which it switches itself off, where the card tells"),
    fact(
        "throttled_by",
        "info",
        "what holds its clocks down, in words; idle, settings and the power limit are no trouble",
    ),
    fact("thermal_slowdown", "info", "whether the hardware halves its clocks for heat, in two of three looks"),
    fact("thermal_limit", "info", "whether the driver lowers its clocks for heat, in two of three looks"),
    fact("power_brake", "info", "whether the power supply asks it for less, in two of three looks"),
    fact("hardware_slowdown", "info", "whether the hardware lowers its clocks for another cause, in all looks"),
    fact("power_w", "info", "watts that it draws"),
    fact("power_limit_w", "info", "watts that it may draw"),
    fact("fan_percent", "info", "speed of its first fan"),
    fact("ecc", "state", "whether its memory corrects errors"),
    fact("ecc_uncorrected", "info", "errors that could not be corrected since the driver was loaded"),
    fact("ecc_uncorrected_ever", "counter", "the same over the card's life; only that it grows is trouble"),
    fact("ecc_corrected", "info", "errors that were corrected since the driver was loaded"),
    fact("pages_retired", "info", "pages of memory taken out of use"),
    fact("rows_remapped", "info", "rows of memory replaced by spare ones"),
    fact("retirement_pending", "info", "whether bad memory waits for a reset to be taken out of use"),
    fact("remap_failed", "info", "whether bad memory could not be replaced"),
    fact("persistence", "state", "whether the driver stays loaded while nobody uses the card"),
    fact("mig", "state", "whether the card is cut into instances; its load is then not told"),
    fact("processes", "info", "processes on the card"),
    fact("top_process", "info", "the one that holds the most memory, foreign"),
    fact("top_process_bytes", "info", "the memory that it holds"),
    fact("xids_of_card", "info", "errors in the kernel's log that leave the card broken, within `xids_within`"),
    fact("xids_of_programs", "info", "errors in the log that are a program's own fault: no trouble of the card"),
    fact("xids_other", "info", "other errors of the card in the log"),
    fact("xid", "info", "the number of the gravest error, of several the last one"),
    fact("xid_at", "info", "when that one came last"),
    fact("not_told", "info", "what the card does not tell, or fails to"),
];

impl Kind for Gpu {
    const DOC: KindDoc = KindDoc {
        name: "gpu",
        about: "Looks at NVIDIA cards through the driver's own library: memory, load, temperature, throttling, memory errors, \
                and whether a card or the driver is gone. What moves is looked at three times, and the middle one counts. \
                The driver's errors (Xid) are read from the kernel's log with `journalctl`; where that may not be read, \
                `xid_log` says so and nothing else is lost. Without persistence mode each look may start the card, which \
                takes seconds.",
        subjects: "the cards: `gpu0`, `gpu1` …, each by the number it was first seen under",
        facts: FACTS,
        reasons: &[REASONS, FILE_REASONS, MISSING, LANE_REASONS],
        example: r#"
[check.cards]
kind = "gpu"
optional = true
vram_warn = { percent = 5, size = "1GiB" }
temperature = { warn = 85 }
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        if let Some(library) = &settings.library
            && !(library.starts_with('/') || library.starts_with("~/"))
        {
            report("library", format!("`{library}` is no whole path (one begins with `/` or `~/`)"));
        }
        for (key, percent) in [("vram_warn", settings.vram_warn.percent), ("vram_fail", settings.vram_fail.percent)] {
            if let Some(percent) = percent.filter(|percent| !(0.0..=100.0).contains(percent)) {
                report(key, format!("{percent} is no percentage (it goes from 0 to 100)"));
            }
        }
        if let Degrees { warn: Some(warn), fail: Some(fail) } = settings.temperature
            && fail < warn
        {
            report("temperature", format!("it is a fail from {fail} °C on before it is a warn from {warn} °C on"));
        }
        if settings.devices.is_some() && !settings.uuids.is_empty() {
            report("devices", "`uuids` says already which cards there have to be".to_owned());
        }
        if settings.uuids.iter().any(|uuid| uuid.trim().is_empty()) {
            report("uuids", "an empty text is the beginning of every uuid".to_owned());
        }
        if settings.sample_every > MOST_APART {
            report("sample_every", format!("expected at most {MOST_APART}: three looks are taken in one fetch"));
        }
        if settings.xids_within.is_zero() {
            report("xids_within", "expected a duration above 0s (`xids = false` looks for none)".to_owned());
        }
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let library = settings.library.as_ref().map(|library| cx.host.expand(library));
        let about = library.as_ref().map_or_else(|| "the NVIDIA driver".to_owned(), |path| path.display().to_string());
        let (apart, proc) = (settings.sample_every.get(), cx.host.paths.proc.clone());
        let driver = cx.host.lane(&about, cx.deadline, move || ask(library.as_deref(), apart, &proc));
        let log =
            async { if settings.xids { Some(xids::read(cx, settings.xids_within.signed()).await) } else { None } };
        let (driver, log) = tokio::join!(driver, log);
        let known: Vec<Known> =
            cx.memory.get(CARDS)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        match driver?? {
            Ok((seen, names)) => Ok(whole(settings, &seen, &names, &known, log)),
            Err(trouble) => without_driver(settings, &trouble, known.len()),
        }
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, now: Timestamp) -> Vec<Finding> {
        let mut findings = of_the_driver(settings, facts);
        of_the_log(facts, &Subject::none(), now, &mut findings);
        for subject in facts.subjects().iter().filter(|subject| !subject.is_none()) {
            of_a_card(facts, subject, now, &mut findings);
        }
        findings
    }
}

/// The names of processes, by id.
type Names = Vec<(u32, Clean)>;

/// Blocking: asks the driver, and `/proc` for the names of who holds the most. The outer error is for what is no trouble
/// of the driver's.
fn ask(
    library: Option<&Path>,
    apart: std::time::Duration,
    proc: &Path,
) -> Result<Result<(Seen, Names), Trouble>, Unread> {
    if let Some(library) = library {
        if files::stat(library)?.is_none() {
            return Ok(Err(Trouble::NoLibrary(clean!("{} is not there", files::shown(library)))));
        }
        trusted(library)?;
    }
    Ok(nvml::look(library, SAMPLES, apart).map(|seen| {
        let names = put::top_processes(&seen).into_iter().filter_map(|pid| Some((pid, name_of(proc, pid)?))).collect();
        (seen, names)
    }))
}

/// A library is run, so it is held to what config files are held to; and a FIFO would hold the loader for ever.
fn trusted(library: &Path) -> Result<(), Unread> {
    files::open(library)?;
    match trust::others_can_write(library) {
        Some(why) => Err(Unread::blind("library_untrusted", clean!("the library is not loaded: {why}"))),
        None => Ok(()),
    }
}

fn name_of(proc: &Path, pid: u32) -> Option<Clean> {
    let path: PathBuf = proc.join(pid.to_string()).join("comm");
    let (name, _) = files::read(&path, 64).ok()?;
    Some(Clean::bytes(name.trim_ascii_end(), 64))
}

/// No card could be asked: the words for it, or that nothing is expected here.
fn without_driver(settings: &Settings, trouble: &Trouble, known: usize) -> Result<Fetched, Unread> {
    let none_expected =
        settings.devices == Some(0) || (known == 0 && settings.devices.is_none() && settings.uuids.is_empty());
    let skipped = settings.optional && none_expected;
    let driver = match trouble {
        Trouble::NoLibrary(_) if skipped || known > 0 => "no_library",
        Trouble::NoLibrary(_) => return Err(Unread::blind("driver_missing", trouble.said())),
        Trouble::NotLoaded => "not_loaded",
        Trouble::Mismatch => "mismatch",
        Trouble::NoPermission => return Err(Unread::blind("permission_denied", trouble.said())),
        Trouble::NotNvml(_) => return Err(Unread::blind("not_nvml", trouble.said())),
        Trouble::Lost | Trouble::ResetRequired | Trouble::Unusable(_) | Trouble::Other(_) => {
            return Err(Unread::target("driver_error", trouble.said()));
        }
    };
    let me = Subject::none();
    let mut facts = Facts::new();
    facts.info(&me, "driver", driver);
    facts.info(&me, "driver_says", trouble.said());
    facts.info(&me, "cards_known", known);
    // A driver that does not fit its library is there.
    facts.info(&me, "skipped", skipped && driver != "mismatch");
    Ok(facts.into())
}

/// The facts of all cards, and what to remember of them.
fn whole(
    settings: &Settings,
    seen: &Seen,
    names: &Names,
    known: &[Known],
    log: Option<Result<Vec<xids::Xid>, Clean>>,
) -> Fetched {
    let wanted = match (settings.devices, settings.uuids.as_slice()) {
        (Some(count), _) => Wanted::Count(usize::try_from(count).unwrap_or(usize::MAX)),
        (None, []) => Wanted::Remembered,
        (None, names) => Wanted::Named(names),
    };
    let roll = cards::call(&seen.cards, known, wanted);
    let me = Subject::none();
    let mut fetched = Fetched::default();
    let facts = &mut fetched.facts;
    facts.info(&me, "driver", "ok");
    if let Some(version) = &seen.driver {
        facts.state(&me, "driver_version", version.clone());
    }
    let there = roll.cards.iter().filter(|placed| matches!(placed.is, cards::Is::There(_))).count();
    facts.info(&me, "cards", there);
    facts.info(&me, "cards_listed", roll.cards.len());
    facts.info(&me, "cards_short", roll.short);
    facts.info(&me, "skipped", settings.optional && roll.cards.is_empty() && roll.short == 0);
    if seen.left_out > 0 {
        facts.info(&me, "cards_left_out", seen.left_out);
    }
    let xids = match log {
        None => Vec::new(),
        Some(Ok(xids)) => {
            facts.info(&me, "xid_log", "read");
            xids
        }
        Some(Err(why)) => {
            facts.info(&me, "xid_log", why);
            Vec::new()
        }
    };
    for placed in &roll.cards {
        put::card(settings, placed, names, &xids, &mut fetched);
    }
    // Errors of a card that nobody knows: it was gone before the first look. Of listed cards the others are not asked for.
    if !matches!(wanted, Wanted::Named(_)) {
        let listed: Vec<Pci> = roll.cards.iter().filter_map(cards::Placed::pci).collect();
        let lost: Vec<xids::Xid> = xids.iter().copied().filter(|xid| !listed.contains(&xid.pci)).collect();
        if let Some(last) = lost.last() {
            put::log(&me, Some(last.pci), &lost, &mut fetched.facts);
        }
    }
    if roll.known != known {
        fetched.remember.push((CARDS.to_owned(), serde_json::to_vec(&roll.known).ok()));
    }
    fetched
}

/// What is wrong with the driver, or with the number of cards.
fn of_the_driver(settings: &Settings, facts: &Facts) -> Vec<Finding> {
    let me = Subject::none();
    let number = |name| facts.number(&me, name).unwrap_or_default();
    if facts.flag(&me, "skipped") == Some(true) {
        return Vec::new();
    }
    let fail = |code, said| vec![Finding::new(code, Weight::Fail, true, said)];
    let says = facts.text(&me, "driver_says").cloned().unwrap_or_default();
    let known = whole_number(number("cards_known"));
    match facts.text(&me, "driver").map(Clean::as_str) {
        Some("mismatch") => fail("driver_mismatch", clean!("{says}: no new program gets a card")),
        Some("not_loaded" | "no_library") if known > 0 => {
            fail("driver_gone", clean!("{says}; the last time there {}", were(known)))
        }
        Some("not_loaded") => fail("driver_not_loaded", says),
        Some("ok") => {
            let (there, short) = (whole_number(number("cards")), whole_number(number("cards_short")));
            if short > 0 {
                let wanted = settings.devices.unwrap_or_default();
                let there = count(there, "card answers", "cards answer");
                return fail("too_few_cards", clean!("{there}, and there have to be {wanted}"));
            }
            if number("cards_listed") < 1.0 && settings.devices != Some(0) {
                return fail("no_card", clean!("the driver runs and knows no card"));
            }
            Vec::new()
        }
        _ => Vec::new(),
    }
}

fn were(cards: u64) -> String {
    if cards == 1 { "was 1 card".to_owned() } else { format!("were {cards} cards") }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts that were whole before")]
fn whole_number(n: f64) -> u64 {
    n as u64
}

/// What is wrong with one card, beside what its bands say.
fn of_a_card(facts: &Facts, subject: &Subject, now: Timestamp, findings: &mut Vec<Finding>) {
    let mut find = |code, weight, settled, said: Clean| {
        findings.push(Finding::new(code, weight, settled, said).on(subject));
    };
    let text = |name| facts.text(subject, name).cloned().unwrap_or_default();
    let is = |name| facts.flag(subject, name) == Some(true);
    let says = text("driver_says");
    match text("card").as_str() {
        "gone" => {
            let was = text("card_was");
            find("card_gone", Weight::Fail, true, clean!("is gone: the driver does not list it any more ({was})"));
        }
        "lost" => find("card_lost", Weight::Fail, true, says),
        "reset_required" => find("reset_required", Weight::Fail, true, says),
        "unusable" => find("card_unusable", Weight::Fail, true, says),
        _ => {}
    }
    let degrees = facts.number(subject, "temperature_c").map_or_else(String::new, |c| format!(", at {c:.0} °C"));
    if is("thermal_slowdown") {
        let said = clean!("is throttled: the hardware halves its clocks for heat{degrees}");
        find("thermal_slowdown", Weight::Fail, false, said);
    } else if is("thermal_limit") {
        find("thermal_limit", Weight::Warn, false, clean!("is throttled: its clocks are lowered for heat{degrees}"));
    }
    if is("power_brake") {
        find("power_brake", Weight::Fail, false, clean!("is throttled: the power supply asks it for less"));
    }
    if is("hardware_slowdown") {
        find("hardware_slowdown", Weight::Warn, false, clean!("is throttled: the hardware lowers its clocks"));
    }
    let errors = whole_number(facts.number(subject, "ecc_uncorrected").unwrap_or_default());
    if errors > 0 {
        let errors = count(errors, "error of its memory", "errors of its memory");
        let said = clean!("{errors} could not be corrected since the driver was loaded: its results may be wrong");
        find("ecc_uncorrected", Weight::Fail, true, said);
    }
    if is("remap_failed") {
        find("remap_failed", Weight::Fail, true, clean!("bad memory of the card can't be replaced any more"));
    }
    if is("retirement_pending") {
        let said = clean!("bad memory of the card waits for a reset to be taken out of use");
        find("retirement_pending", Weight::Warn, true, said);
    }
    of_the_log(facts, subject, now, findings);
}

/// The gravest of a card's errors in the log; one of another number is said anew.
fn of_the_log(facts: &Facts, subject: &Subject, now: Timestamp, findings: &mut Vec<Finding>) {
    let number = |name| facts.number(subject, name).map(whole_number).unwrap_or_default();
    let Some(Value::At(at)) = facts.get(subject, "xid_at").map(|fact| &fact.value) else { return };
    let code = number("xid");
    let (_, means) = xids::class(u32::try_from(code).unwrap_or(u32::MAX));
    let (reason, weight) = match (number("xids_of_card"), number("xids_other")) {
        (1.., _) => ("xid_error", Weight::Fail),
        (_, 1..) => ("xid_other", Weight::Warn),
        _ => return,
    };
    let ago = span(now.duration_since(*at).as_secs().max(0));
    let place = if subject.is_none() { ", at a place where no card is listed" } else { "" };
    let said = clean!("the driver logged Xid {code} {ago} ago: {means}{place}");
    let mut finding = Finding::new(reason, weight, true, said).on(subject);
    finding.episode = Some(clean!("Xid {code}"));
    findings.push(finding);
}

#[cfg(test)]
mod tests;
