//! The documentation of the kind `spend`.

use crate::facts::Blame;
use crate::kinds::common::{
    CONNECT_REASONS, FILE_REASONS, HTTP_REASONS, LANE_REASONS, MISSING, SECRET_REASONS, SQLITE_REASONS,
};
use crate::kinds::{FactDoc, KindDoc, ReasonDoc, ReasonOutcome};

const fn fact(name: &'static str, class: &'static str, about: &'static str) -> FactDoc {
    FactDoc { name, class, about }
}

const fn warn(code: &'static str, settled: bool, about: &'static str, action: &'static str) -> ReasonDoc {
    ReasonDoc { code, outcome: ReasonOutcome::Warn, settled, about, action, needs_human: false }
}

const fn blind(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    let outcome = ReasonOutcome::Unknown(Blame::Blind);
    ReasonDoc { code, outcome, settled: true, about, action, needs_human: true }
}

const fn target(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    let outcome = ReasonOutcome::Unknown(Blame::Target);
    ReasonDoc { code, outcome, settled: false, about, action, needs_human: false }
}

pub(super) const DOC: KindDoc = KindDoc {
    name: "spend",
    about: "What agents spent, from what they write down: Claude Code, Codex, OpenClaw, Hermes, a LiteLLM proxy, lines of \
            your own. A call that stands in several places is counted once; what its writer says it cost goes before the \
            shipped prices; a model without a price is said and never taken as free. Each look reads only what is new, \
            newest first; today is a day of this machine's zone, and 14 days before it tell what is usual. Shares and \
            rates are judged once 5 of those have spending, and not while logs wait to be read or can't be; the limit is judged even then, by \
            what is known. A subscription is priced \
            as if it were paid by the token.",
    subjects: "each source, by its name; each job as `SOURCE:JOB` (Claude Code and Codex: the project's folder, OpenClaw: \
               the agent and its cron job, Hermes: the cron job or channel, LiteLLM: the request's tag, the key's alias or the \
               user), the 60 dearest; each quota as `SOURCE NAME quota`; an agent of OpenClaw whose database can't be read as \
               `SOURCE agent NAME`; `advances` where that can't be evaluated",
    facts: &[
        fact("today_usd", "gauge", "US dollars spent today; over `daily_limit` it is `over_limit`"),
        fact(
            "projected_usd",
            "gauge",
            "US dollars the day comes to: what is spent, and the rate of the last 6 hours for the rest; from its third \
             hour on, and judged (`projected_over_limit`) once a quarter of the limit is spent",
        ),
        fact("limit_usd", "info", "`daily_limit`, US dollars"),
        fact("hour_usd", "info", "US dollars spent since the hour of the clock began"),
        fact("since_last_usd", "info", "US dollars counted since the last look"),
        fact("tokens_today", "info", "tokens of today, those without a price among them"),
        fact("rate_usd_per_h", "info", "US dollars an hour, since the hour before the present one began"),
        fact("usual_rate_usd_per_h", "info", "what a busy hour costs: nine of ten hours with spending cost less"),
        fact(
            "times_usual",
            "gauge",
            "the rate in terms of the usual one; above `rate_warn` it is `rate`, where the rate is above `rate_floor`",
        ),
        fact("share_pct", "gauge", "a job's or source's percentage of today; a job's is judged (`disproportionate`)"),
        fact("usual_share_pct", "info", "the middle of its shares of the days before, percent"),
        fact("usual_day_usd", "info", "the middle of the job's days before, US dollars"),
        fact("source", "info", "the source that the job stands in"),
        fact("job", "info", "the job, foreign"),
        fact(
            "idle_usd",
            "gauge",
            "US dollars spent since `advances` ceased to hold; over `idle_limit` it is `nothing_advances`",
        ),
        fact("advances", "info", "whether `advances` holds"),
        fact(
            "used_pct",
            "gauge",
            "percentage of a provider's quota that is used, as last read and until it begins anew",
        ),
        fact("resets_at", "info", "when the quota begins anew"),
        fact("read_at", "info", "when the quota was last written down"),
        fact("unpriced_models", "info", "models without a price in the days that are kept, foreign"),
        fact("unpriced_tokens", "info", "their tokens, which are not in the sums"),
        fact("unpriced_models_today", "info", "models without a price that were used today, foreign"),
        fact("unpriced_tokens_today", "info", "their tokens of today"),
        fact("prices_date", "info", "the day of the shipped prices"),
        fact("history_days", "info", "days before today with spending, 14 at most"),
        fact("files", "info", "files that were written within the days that are kept"),
        fact("calls", "info", "calls read in this look"),
        fact("repeated_calls", "info", "calls among them that were counted before"),
        fact("bytes_read", "info", "bytes read in this look"),
        fact("left_bytes", "info", "bytes of logs that wait for the next look"),
        fact("behind", "info", "databases of which rows wait for the next look"),
        fact("cut_rows", "info", "proxies that gave only their newest rows"),
        fact("bad_lines", "info", "lines that could not be read"),
        fact("too_long_lines", "info", "lines of more than 4 MiB, which are passed over"),
        fact("passed_over", "info", "links in folders, FIFOs and devices, which are not read"),
        fact("compressed_events", "info", "events of today that are compressed, so that their cost can't be seen"),
        fact("forgotten_calls", "info", "calls that would not be known again, for want of room"),
        fact("forgotten_values", "info", "values that there was no room to keep"),
        fact("lines_so_far", "info", "lines of the source that were read so far"),
        fact("calls_so_far", "info", "calls in them"),
        fact("own_lines", "info", "whether `fields` says where things stand"),
    ],
    reasons: &[
        &[
            ReasonDoc {
                code: "over_limit",
                outcome: ReasonOutcome::Fail,
                settled: true,
                about: "more was spent today than `daily_limit`",
                action: "stop what spends most, or raise `daily_limit`",
                needs_human: false,
            },
            warn(
                "projected_over_limit",
                true,
                "at the rate of the last 6 hours the day comes to more than `daily_limit`",
                "see which job spends most, and slow it down",
            ),
            warn(
                "disproportionate",
                true,
                "the job's share of today is `share_warn` points above its usual one; it spent more than `share_floor`, more than \
                 twice its usual day, and more than on all its days but one",
                "see what the job is doing, and stop it if it loops",
            ),
            warn(
                "rate",
                true,
                "more than `rate_warn` times a usual busy hour is spent, and more than `rate_floor` an hour",
                "see what is running, and stop what loops",
            ),
            warn(
                "nothing_advances",
                true,
                "more than `idle_limit` was spent while `advances` did not hold",
                "see why work stands still, and stop what spends meanwhile",
            ),
            warn(
                "quota_low",
                false,
                "more than `quota.warn` percent of a quota is used",
                "spare the quota until it begins anew",
            ),
            ReasonDoc {
                code: "quota_nearly_gone",
                outcome: ReasonOutcome::Fail,
                settled: false,
                about: "more than `quota.fail` percent of a quota is used",
                action: "stop what can wait until the quota begins anew",
                needs_human: false,
            },
            warn(
                "unpriced",
                true,
                "models were used of which no price is known",
                "give their prices in the file that `prices` names (0 for models of your own)",
            ),
            warn(
                "behind",
                false,
                "more was written than could be read in time",
                "raise `timeout` until it has caught up",
            ),
            warn("cut", false, "the proxy holds more calls than it gives at once", "look more often (`every`)"),
            warn("partial", true, "OpenClaw compressed events before they were read", "look more often (`every`)"),
            warn(
                "unreadable_lines",
                false,
                "more lines could not be read than could",
                "see whether the tool writes another format now",
            ),
            warn("no_usage", true, "no line has the fields that `fields` names", "correct `fields`"),
            blind("no_source", "there is no such folder, file or database", "correct `path`, or take the source out"),
            blind("too_many_files", "there are more files or levels than are looked at", "give a narrower `path`"),
            blind("prices_unreadable", "the file of `prices` can't be read", "correct the file of prices"),
            blind("condition_error", "`advances` could not be evaluated", "correct `advances`"),
            blind("key_refused", "the proxy refuses the key", "give a key that may read spend"),
            target("bad_status", "the proxy answers with an error", "see the proxy's log and its database"),
            target("not_usage", "the proxy's answer is no list of calls", "see which version of the proxy answers"),
        ],
        FILE_REASONS,
        MISSING,
        LANE_REASONS,
        SQLITE_REASONS,
        CONNECT_REASONS,
        HTTP_REASONS,
        SECRET_REASONS,
    ],
    example: "\
[check.spend]
kind = \"spend\"
sources = [{ kind = \"claude-code\" }, { kind = \"codex\" }]
daily_limit = \"$25\"
",
    thresholds_remind: true,
};
