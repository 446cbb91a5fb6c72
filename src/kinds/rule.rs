//! The kind `rule`: a verdict of the user's own over what other checks saw.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::common::LANE_REASONS;
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome};
use crate::clean;
use crate::expr::{Expr, Place, Val, checks_val};
use crate::facts::{Blame, CheckName, Facts, Finding, Subject, Unread, Weight};
use crate::records::CheckView;
use crate::redact::Clean;

/// What rules and conditions may use: `checks` (by name: `outcome`, `age_s`, `facts`, `subjects`) and `now`.
#[derive(Debug, Clone, Copy)]
pub struct RulePlace;
impl Place for RulePlace {
    const NAMES: &'static [&'static str] = &["checks", "now"];
}

/// The variables of [`RulePlace`].
pub(super) fn vars(checks: &BTreeMap<CheckName, CheckView>, now: Timestamp) -> BTreeMap<&'static str, Val> {
    BTreeMap::from([("checks", checks_val(checks, now)), ("now", Val::Time(now))])
}

/// The kind.
pub struct Rule;

/// The settings of the kind `rule`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// CEL over `checks` and `now`; true means trouble.
    pub expr: Expr<RulePlace>,
    /// The trouble in words, a fragment: `the GPU is busy while nothing advances`.
    pub says: String,
    /// How bad it can get.
    #[serde(default)]
    pub weight: RuleWeight,
    /// Whether it can't pass by itself: then it acts at once instead of after a streak.
    #[serde(default)]
    pub settled: bool,
}

/// How bad a rule's trouble can get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleWeight {
    /// Yellow at most.
    Warn,
    /// Can reach red.
    #[default]
    Fail,
}

const fn blind(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    let outcome = ReasonOutcome::Unknown(Blame::Blind);
    ReasonDoc { code, outcome, settled: true, about, action, needs_human: true }
}

impl Kind for Rule {
    const DOC: KindDoc = KindDoc {
        name: "rule",
        about: "A verdict of your own over what other checks saw in this cycle, or last where they weren't due: true means \
                trouble. `age_s` of a check tells how old its facts are.",
        subjects: "",
        facts: &[FactDoc { name: "holds", class: "info", about: "whether the expression is true" }],
        reasons: &[
            &[
                ReasonDoc {
                    code: "holds",
                    outcome: ReasonOutcome::Fail,
                    settled: false,
                    about: "the expression is true; weight and whether it is settled are the rule's own",
                    action: "look at the checks that the rule reads",
                    needs_human: false,
                },
                blind(
                    "not_observed",
                    "a check that the expression reads has not been observed yet, or there is none of that name",
                    "correct the check's name in `expr`, or let that check run first",
                ),
                blind(
                    "expression_error",
                    "the expression could not be evaluated: a fact is missing or has another type",
                    "correct `expr` (`has(…)` tells whether a fact is there)",
                ),
            ],
            LANE_REASONS,
        ],
        example: "\
[check.gpu-busy-for-nothing]
kind = \"rule\"
expr = 'checks[\"gpu\"].facts.utilisation_pct > 90.0 && checks[\"worker\"].outcome != \"pass\"'
says = \"the GPU is busy while nothing advances\"
weight = \"fail\"
",
        thresholds_remind: false,
    };
    type Settings = Settings;
    const AFTER_OTHERS: bool = true;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        if settings.says.trim().is_empty() {
            report("says", "expected the trouble in words".into());
        }
        if settings.expr.checks_read().is_empty() {
            report(
                "expr",
                "expected an expression that reads a check, like `checks[\"api\"].outcome == \"fail\"`".into(),
            );
        }
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let (expr, records, now) = (settings.expr.clone(), Arc::clone(&cx.records), cx.now.wall);
        let about = format!("rule {}", cx.check);
        cx.host.lane(&about, cx.deadline, move || look(&expr, &records.checks(), now)).await?.map(Fetched::from)
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        if facts.flag(&Subject::none(), "holds") != Some(true) {
            return Vec::new();
        }
        let weight = match settings.weight {
            RuleWeight::Warn => Weight::Warn,
            RuleWeight::Fail => Weight::Fail,
        };
        vec![Finding::new("holds", weight, settings.settled, Clean::line(&settings.says, 300))]
    }
}

/// Blocking: evaluates.
fn look(expr: &Expr<RulePlace>, checks: &BTreeMap<CheckName, CheckView>, now: Timestamp) -> Result<Facts, Unread> {
    let unseen = |name: &&String| !checks.keys().any(|check| check.as_str() == name.as_str());
    if let Some(name) = expr.checks_read().iter().find(unseen) {
        return Err(Unread::blind("not_observed", clean!("the check `{name}` has not been observed")));
    }
    let holds = expr
        .holds(&vars(checks, now))
        .map_err(|e| Unread::blind("expression_error", clean!("`expr` could not be evaluated: {e}")))?;
    let mut facts = Facts::new();
    facts.info(&Subject::none(), "holds", holds);
    Ok(facts)
}
