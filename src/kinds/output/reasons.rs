//! The reasons of this kind's own.

use crate::facts::Blame;
use crate::kinds::{ReasonDoc, ReasonOutcome};

const fn fail(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    ReasonDoc { code, outcome: ReasonOutcome::Fail, settled: true, about, action, needs_human: false }
}
const fn warn(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    ReasonDoc { code, outcome: ReasonOutcome::Warn, settled: true, about, action, needs_human: false }
}
const fn blind(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    let outcome = ReasonOutcome::Unknown(Blame::Blind);
    ReasonDoc { code, outcome, settled: true, about, action, needs_human: true }
}

/// All but those of the host's functions.
pub(super) const OWN: &[ReasonDoc] = &[
    fail("missing", "there is no such file", "see why the job did not write it, then run it again"),
    fail("stale", "it is older than `max_age`", "see why the job did not write it, then run it again"),
    fail(
        "before_run",
        "it is older than the start of the last successful execution of `after_job`: that one wrote nothing",
        "see why the job ended well without writing it",
    ),
    fail("empty", "there is nothing in it", "see why the job wrote nothing, then run it again"),
    fail("too_small", "it has fewer bytes than `min_size`", "see why the job wrote so little, then run it again"),
    fail("too_big", "it has more bytes than `max_size`", "see what the job wrote into it"),
    fail("malformed", "it isn't what its format says", "see why the job wrote it broken, then run it again"),
    fail(
        "wrong_shape",
        "it does not match the JSON Schema",
        "see why the job wrote another shape, or correct the schema",
    ),
    fail("too_few_rows", "it has fewer rows than `min_rows`", "see why the job wrote so few rows, then run it again"),
    fail("missing_column", "its header lacks a column of `columns`", "see why the job left the column out"),
    fail("missing_value", "a path of `required` leads to nothing", "see why the job left the value out"),
    fail("expectation_failed", "`expect` does not hold", "compare the content with `expect`"),
    fail(
        "truncated",
        "less sound is there than its header promises",
        "see what ended the job early, then run it again",
    ),
    fail("silent", "99 % of its sound or more lie below -60 dBFS", "see why the job wrote silence, then run it again"),
    fail(
        "static",
        "what is heard is noise: 80 % of it is as flat as white noise (or half of it, louder than -10 dBFS)",
        "see whether the model or its sample format is broken, load it afresh and run the job again",
    ),
    fail("too_short", "it lasts less than `min_duration`", "see why the job wrote so little, then run it again"),
    fail("too_long", "it lasts longer than `max_duration`", "see why the job did not come to an end"),
    fail(
        "long_silence",
        "one silence in it is longer than `max_silence`",
        "see which part the job left out, then run it again",
    ),
    warn("clipped", "more than `max_clipping` percent of its samples are clipped", "turn the job's output level down"),
    warn(
        "unchanged",
        "a new run brought the same content as the run before (`changes = true`)",
        "see whether the job still reads new input",
    ),
    warn(
        "from_the_future",
        "its time of writing is more than 5 minutes ahead",
        "set the clock of the machine that wrote it",
    ),
    blind("expectation_error", "`expect` could not be evaluated over this content", "correct `expect`"),
    blind("too_large_to_read", "what is asked needs more of it than may be read", "raise `max_read` or ask for less"),
    blind(
        "unsupported_audio",
        "it holds sound in a way that isn't read (Opus, ADPCM)",
        "write another format, or check it with `format = \"any\"`",
    ),
    blind(
        "not_in_this_build",
        "its format isn't in this build",
        "use a build with the feature `audio`, or check it with `format = \"any\"`",
    ),
    blind("schema_unreadable", "`schema_file` is missing, unreadable or no JSON Schema", "correct the schema file"),
    blind("no_run", "the job has no successful execution on record", "run the job with `pulsecheck exec --job`"),
    blind("not_captured", "the job's output was not captured", "let `pulsecheck exec` capture the job's output"),
];
