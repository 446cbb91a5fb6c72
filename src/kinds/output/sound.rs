//! What is said and found about sound.

use super::settings::Settings;
use crate::clean;
use crate::expr::Val;
use crate::facts::{Facts, Finding, Subject, Value, Weight};
use crate::read::audio::Audio;
use crate::redact::Clean;
use crate::settings::Dur;
use crate::words::span;

/// Sound of which so much (in percent) is silence is nothing but silence.
const SILENT: f64 = 99.0;
/// Noise: so much of what is heard, in percent.
const STATIC: f64 = 80.0;
/// Or so much of it at this mean level and above: samples read in the wrong format are both.
const LOUD_STATIC: (f64, f64) = (50.0, -10.0);

/// The facts about sound, by name, rounded to what can be heard.
fn facts_of(audio: &Audio) -> Vec<(&'static str, Value)> {
    let sound = &audio.sound;
    let rounded = |x: f64, steps: f64| Value::from((x * steps).round() / steps);
    let mut facts = vec![
        ("codec", Value::from(audio.codec.as_str())),
        ("channels", audio.channels.into()),
        ("sample_rate_hz", audio.rate_hz.into()),
        ("duration_s", rounded(audio.duration_s, 1_000.0)),
        ("truncated", audio.ends_early.into()),
        ("heard_s", rounded(sound.heard_s, 1_000.0)),
        ("peak", rounded(sound.peak, 10_000.0)),
        ("rms_dbfs", rounded(sound.rms_dbfs, 10.0)),
        ("silence_percent", rounded(sound.silence_percent, 10.0)),
        ("longest_silence_s", rounded(sound.longest_silence_s, 10.0)),
    ];
    let sometimes = [
        ("header_duration_s", audio.promised_s, 1_000.0),
        ("clipping_percent", sound.clipping_percent, 100.0),
        ("flatness", sound.flatness, 1_000.0),
        ("noise_percent", sound.noise_percent, 10.0),
    ];
    facts.extend(sometimes.into_iter().filter_map(|(name, x, steps)| Some((name, rounded(x?, steps)))));
    facts
}

/// Puts the facts.
pub(super) fn put(facts: &mut Facts, audio: &Audio) {
    let me = &Subject::none();
    for (name, value) in facts_of(audio) {
        facts.info(me, name, value);
    }
    if audio.cut {
        facts.info(me, "cut", true);
    }
}

/// The same for expressions.
pub(super) fn val(audio: &Audio) -> Val {
    Val::Map(facts_of(audio).iter().map(|(name, value)| ((*name).to_owned(), Val::from(value))).collect())
}

/// Seconds in a sentence, with a tenth where that matters.
fn lasting(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, and seconds are shown whole")]
    if seconds < 60.0 { format!("{seconds:.1} s") } else { span(seconds as i128) }
}

/// Where the end is missing.
pub(super) fn cut_off(facts: &Facts, name: &Clean) -> Clean {
    let seconds = |fact: &'static str| facts.number(&Subject::none(), fact);
    let there = lasting(seconds("duration_s").unwrap_or_default());
    match seconds("header_duration_s") {
        Some(promised) => {
            clean!("{name} is cut off: of the {} that its header promises {there} are there", lasting(promised))
        }
        None => clean!("{name} is cut off after {there}: its last page is missing"),
    }
}

/// What is wrong with the sound; nothing where there is none.
pub(super) fn assess(settings: &Settings, facts: &Facts, name: &Clean, settled: bool) -> Vec<Finding> {
    let number = |fact: &'static str| facts.number(&Subject::none(), fact);
    let (Some(duration), Some(silence)) = (number("duration_s"), number("silence_percent")) else { return Vec::new() };
    let mut found = Vec::new();
    let mut find = |code: &'static str, weight, said: Clean| found.push(Finding::new(code, weight, settled, said));
    let heard = match number("heard_s") {
        Some(heard) if heard + 1.0 < duration => format!("the {} heard of its {}", lasting(heard), lasting(duration)),
        _ => format!("its {}", lasting(duration)),
    };
    let limit = |limit: Option<Dur>| limit.map(|limit| (limit, limit.as_secs_f64()));

    if let Some((least, _)) = limit(settings.min_duration).filter(|(_, least)| duration < *least) {
        let lasts = lasting(duration);
        find("too_short", Weight::Fail, clean!("{name} lasts {lasts}, at least {least} is expected"));
    }
    if let Some((most, _)) = limit(settings.max_duration).filter(|(_, most)| duration > *most) {
        find("too_long", Weight::Fail, clean!("{name} lasts {}, at most {most} is expected", lasting(duration)));
    }
    if silence >= SILENT {
        if !settings.allow_silence {
            let said = clean!("{name} is silent: {silence:.1} % of {heard} lie below -60 dBFS");
            find("silent", Weight::Fail, said);
        }
        return found;
    }
    let longest = number("longest_silence_s").unwrap_or_default();
    if let Some((most, _)) = limit(settings.max_silence).filter(|(_, most)| longest > *most) {
        let said = clean!("{name} is silent for {} in one piece, at most {most} is expected", lasting(longest));
        find("long_silence", Weight::Fail, said);
    }
    if let (Some(noise), Some(flatness)) = (number("noise_percent"), number("flatness"))
        && (noise >= STATIC || noise >= LOUD_STATIC.0 && number("rms_dbfs") >= Some(LOUD_STATIC.1))
    {
        if !settings.allow_static {
            let said = clean!(
                "{name} is static: {noise:.0} % of what is loud in {heard} is noise (its flatness is {flatness:.2})"
            );
            find("static", Weight::Fail, said);
        }
        return found;
    }
    let most = settings.clipping_limit();
    if let Some(clipped) = number("clipping_percent").filter(|clipped| *clipped > most) {
        let said = clean!("{name} is clipped: {clipped:.1} % of its samples stand at full scale, at most {most} % may");
        find("clipped", Weight::Warn, said);
    }
    found
}
