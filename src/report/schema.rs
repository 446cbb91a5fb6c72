//! The report's public contract, and the check against it.

use std::sync::OnceLock;

/// `schemas/report.schema.json`, as shipped.
pub const SCHEMA: &str = include_str!("../../schemas/report.schema.json");

/// What is wrong with a report, at most three sentences; empty when it holds to the schema. Compiling the schema takes 2 ms,
/// so it is done when the first report is written and not before.
#[must_use]
pub fn problems(report: &serde_json::Value) -> Vec<String> {
    static COMPILED: OnceLock<Result<jsonschema::Validator, String>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| {
        let schema = serde_json::from_str(SCHEMA).map_err(|e| e.to_string())?;
        jsonschema::validator_for(&schema).map_err(|e| e.to_string())
    });
    match compiled {
        Ok(validator) => validator
            .iter_errors(report)
            .take(3)
            .map(|error| format!("{}: {}", error.instance_path(), error.masked()))
            .collect(),
        Err(why) => vec![format!("the schema does not compile: {why}")],
    }
}
