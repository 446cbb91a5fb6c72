//! CEL behind one type: names declared by the place an expression stands in, compiled when the config is read, bounded
//! when evaluated.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use crate::facts::CheckName;
use crate::records::CheckView;

/// A place where an expression may stand, and the names it may use there.
pub trait Place: Send + Sync + 'static {
    /// The variables.
    const NAMES: &'static [&'static str];
}

/// A compiled expression: source at most 4 KiB, unknown names refused when the config is read.
#[derive(Debug, Clone)]
pub struct Expr<P: Place>(String, PhantomData<fn() -> P>);

/// A value handed to or returned by an expression. Whole numbers are ints, never uints.
#[derive(Debug, Clone, PartialEq)]
pub enum Val {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// Text.
    Text(String),
    /// A list, at most 1,000 elements (longer ones are an error when evaluated).
    List(Vec<Val>),
    /// A map with text keys.
    Map(BTreeMap<String, Val>),
    /// A moment.
    Time(jiff::Timestamp),
}

impl From<&serde_json::Value> for Val {
    fn from(_json: &serde_json::Value) -> Self {
        unimplemented!()
    }
}

/// Why an evaluation gave no answer, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvalError(pub crate::redact::Clean);

impl<P: Place> Expr<P> {
    /// Compiles.
    pub fn compile(_source: &str) -> Result<Self, EvalError> {
        unimplemented!()
    }
    /// Its source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0
    }
    /// Evaluates to a value. CPU-bound: call on a lane. Every name in `P::NAMES` must be in `vars`.
    pub fn eval(&self, _vars: &BTreeMap<&'static str, Val>) -> Result<Val, EvalError> {
        unimplemented!()
    }
    /// Evaluates to yes or no; any other type is an error.
    pub fn holds(&self, _vars: &BTreeMap<&'static str, Val>) -> Result<bool, EvalError> {
        unimplemented!()
    }
    /// The names of checks that the expression reads by `checks["name"]`, so that unknown ones are config errors.
    #[must_use]
    pub fn checks_read(&self) -> Vec<String> {
        unimplemented!()
    }
}

/// What `checks` is in conditions and rules: `checks["NAME"]` has `outcome` (`pass`, `warn`, `fail`, `unknown`), `age_s`,
/// `facts` (of the check itself) and `subjects`, a map of subject to `outcome` and `facts`.
#[must_use]
pub fn checks_val(_checks: &BTreeMap<CheckName, CheckView>, _now: jiff::Timestamp) -> Val {
    unimplemented!()
}
