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

/// What rules and conditions may use: `checks` (by name: `outcome`, `reasons`, `age_s`, `facts`,
/// `subjects`) and `now`.
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

/// Whether it is settled is the rule's own word.
const fn holds(code: &'static str, outcome: ReasonOutcome, about: &'static str) -> ReasonDoc {
    let action = "look at the checks that the rule reads";
    ReasonDoc { code, outcome, settled: false, about, action, needs_human: false }
}

impl Kind for Rule {
    const DOC: KindDoc = KindDoc {
        name: "rule",
        about: "A verdict of your own over what other checks saw in this cycle, or last where they weren't due: true means \
                trouble. `reasons` of a check are the codes why it does not pass, `age_s` tells how old its facts are. Rules over \
                rules see what those came to in this cycle.",
        subjects: "",
        facts: &[FactDoc { name: "holds", class: "info", about: "whether the expression is true" }],
        reasons: &[
            &[
                holds("rule_fails", ReasonOutcome::Fail, "the expression is true, with `weight = \"fail\"`"),
                holds("rule_warns", ReasonOutcome::Warn, "the expression is true, with `weight = \"warn\"`"),
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

    fn checks_read(settings: &Settings) -> Vec<(&'static str, String)> {
        settings.expr.checks_read().into_iter().map(|name| ("expr", name)).collect()
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
        let (code, weight) = match settings.weight {
            RuleWeight::Warn => ("rule_warns", Weight::Warn),
            RuleWeight::Fail => ("rule_fails", Weight::Fail),
        };
        vec![Finding::new(code, weight, settings.settled, Clean::line(&settings.says, 300))]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Scale, Unit};
    use crate::kinds::testing::{at, views};
    use crate::records::OutcomeWord;

    fn settings(toml: &str) -> Result<Settings, String> {
        toml::from_str(toml).map_err(|e| e.message().to_owned())
    }

    /// The GPU's check with its utilisation, and a worker's that doesn't pass.
    fn checks() -> Arc<BTreeMap<CheckName, CheckView>> {
        let mut facts = Facts::new();
        facts.gauge(&Subject::none(), "utilisation_pct", 97.0, Scale::plain(Unit::Percent));
        let view = |name: &str, facts: Facts, outcome| CheckView {
            check: CheckName::try_from(name).unwrap(),
            at: at(1_000),
            outcomes: [(Subject::none(), outcome)].into(),
            reasons: [(Subject::none(), vec!["not_running".into()])].into(),
            facts,
        };
        views(vec![view("gpu", facts, OutcomeWord::Pass), view("worker", Facts::new(), OutcomeWord::Unknown)]).checks()
    }

    fn verdict(expr: &str, more: &str) -> String {
        let settings = settings(&format!("expr = '{expr}'\nsays = 'the GPU is busy for nothing'\n{more}")).unwrap();
        match look(&settings.expr, &checks(), at(1_060)) {
            Err(unread) => format!("? {}", unread.code),
            Ok(facts) => Rule::assess(&settings, &facts, &Past::default(), at(1_060))
                .iter()
                .map(|finding| format!("{} {:?} {} {}", finding.code, finding.weight, finding.settled, finding.said))
                .collect::<Vec<_>>()
                .join("; "),
        }
    }

    #[test]
    fn verdicts() {
        let busy = "checks[\"gpu\"].facts.utilisation_pct > 90.0";
        for (expr, more, want) in [
            (
                &*format!("{busy} && checks[\"worker\"].outcome != \"pass\""),
                "",
                "rule_fails Fail false the GPU is busy for nothing",
            ),
            (busy, "weight = 'warn'\nsettled = true", "rule_warns Warn true the GPU is busy for nothing"),
            (&*format!("!({busy})"), "", ""),
            ("\"not_running\" in checks[\"worker\"].reasons", "", "rule_fails Fail false the GPU is busy for nothing"),
            ("checks[\"worker\"].age_s > 30.0", "", "rule_fails Fail false the GPU is busy for nothing"),
            ("checks[\"gone\"].outcome == \"fail\"", "", "? not_observed"),
            ("checks[\"gpu\"].facts.temperature > 90.0", "", "? expression_error"),
            ("checks[\"gpu\"].facts.utilisation_pct", "", "? expression_error"),
        ] {
            assert_eq!(verdict(expr, more), want, "{expr}");
            let code = want.trim_start_matches("? ").split(' ').next().unwrap();
            assert!(code.is_empty() || Rule::DOC.reason(code).is_some(), "{code} is not documented");
        }
    }

    #[test]
    fn bad_settings_are_refused() {
        assert_eq!(settings("says = 'x'").unwrap_err(), "missing field `expr`");
        let unknown = settings("expr = 'check.x'\nsays = 'x'").unwrap_err();
        assert!(unknown.contains("`check`"), "{unknown}");
        let weight = settings("expr = 'checks[\"a\"].outcome == \"fail\"'\nsays = 'x'\nweight = 'red'").unwrap_err();
        assert_eq!(weight, "unknown variant `red`, expected `warn` or `fail`");
        let mut said = Vec::new();
        Rule::validate(&settings("expr = 'now > 0'\nsays = ' '").unwrap(), &mut |key, why| {
            said.push(format!("{key}: {why}"));
        });
        assert_eq!(
            said,
            [
                "says: expected the trouble in words",
                "expr: expected an expression that reads a check, like `checks[\"api\"].outcome == \"fail\"`"
            ]
        );
    }

    #[test]
    fn a_whole_look_goes_through_the_host() {
        let root = tempfile::tempdir().unwrap();
        let settings = settings("expr = 'checks[\"a\"].outcome == \"fail\"'\nsays = 'x'").unwrap();
        let unread = crate::kinds::testing::Trial::new(root.path()).look::<Rule>(&settings).unwrap_err();
        assert_eq!(unread.code.as_str(), "not_observed");
    }
}
