//! Evaluating: what is handed in, the functions that count, and what comes back.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt};
use cel::common::value::{CowVal, Val as CelVal};
use cel::{Context, ExecutionError, FunctionContext};

use super::compile::Compiled;
use super::{ENV, EvalError, MATCHES, MAX_VALUE_DEPTH, RANGE, STEP, Val, error, on_large_stack};
use crate::settings::Pattern;

/// Up to this depth an expression is evaluated on the caller's stack; a level takes about 15 KiB in a debug build.
const SHALLOW: usize = 24;
/// Elements of a list or map that a loop may go through.
const MAX_ELEMENTS: usize = 1_000;
/// Steps of one evaluation. A turn of a loop is one step, and one more for each 8 KiB handed in, since a turn can go
/// through all of it; text made by `+` or `map` is a step for each 64 bytes. About a second's work at worst.
const MAX_STEPS: u64 = 500_000;
/// Values (elements, entries, texts …) that may be handed in.
const MAX_VALUES: usize = 500_000;
/// A function of ours that rewritten expressions call.
type Function = Box<
    dyn for<'context, 'call> Fn(
            &mut FunctionContext<'context, 'call>,
        ) -> Result<CowVal<'context, 'call>, ExecutionError>
        + Send
        + Sync,
>;

impl Compiled {
    pub fn eval(&self, vars: &BTreeMap<&'static str, Val>) -> Result<Val, EvalError> {
        let steps = Arc::new(AtomicU64::new(MAX_STEPS));
        let answer = catch_unwind(AssertUnwindSafe(|| {
            let evaluate = || self.eval_counted(vars, &steps);
            if self.deepest <= SHALLOW { evaluate() } else { on_large_stack(evaluate) }
        }))
        .unwrap_or_else(|_| Err(error("the evaluation broke off")));
        // An error within `||` or `exists` can be outvoted, so the counter is asked, whatever the answer.
        if steps.load(Ordering::Relaxed) == 0 {
            return Err(error(format!(
                "the evaluation takes more than {MAX_STEPS} steps (shorter lists, fewer loops in loops)"
            )));
        }
        answer
    }

    fn eval_counted(&self, vars: &BTreeMap<&'static str, Val>, steps: &Arc<AtomicU64>) -> Result<Val, EvalError> {
        let mut context = Context::with_env(Arc::clone(&ENV));
        let mut given = Given::default();
        for name in &self.names {
            let val = vars.get(name).ok_or_else(|| error(format!("`{name}` has no value here")))?;
            let value = match (val, &self.checks) {
                (Val::Map(checks), Some(read)) if *name == "checks" => {
                    given.map(checks.iter().filter(|(key, _)| read.contains(*key)), 0)?
                }
                (val, _) => given.value(val, 0)?,
            };
            context.add_variable_as_val(*name, value);
        }
        let each_turn = 1 + given.bytes / 8_192;
        for (name, function) in [
            (STEP, step(Arc::clone(steps), each_turn)),
            (RANGE, range()),
            (MATCHES, matches(self.patterns.clone(), Arc::clone(steps))),
        ] {
            context.add_function(name, function).map_err(|conflict| error(conflict.to_string()))?;
        }
        let answer = cel::Value::resolve_val(&self.tree, &context).map_err(|why| error(words(&why)))?;
        let mut left = MAX_VALUES;
        taken(answer.as_ref(), MAX_VALUE_DEPTH, &mut left)
    }
}

/// What was handed in so far.
#[derive(Default)]
struct Given {
    values: usize,
    bytes: u64,
}

impl Given {
    fn value<'v>(&mut self, val: &'v Val, depth: usize) -> Result<Box<dyn CelVal + 'v>, EvalError> {
        self.values += 1;
        self.bytes += 16;
        if self.values > MAX_VALUES {
            return Err(error(format!("there are more than {MAX_VALUES} values to evaluate")));
        }
        if depth > MAX_VALUE_DEPTH {
            return Err(error(format!("a value nests deeper than {MAX_VALUE_DEPTH}")));
        }
        Ok(match val {
            Val::Null => Box::new(CelNull),
            Val::Bool(b) => Box::new(CelBool::from(*b)),
            Val::Int(n) => Box::new(CelInt::from(*n)),
            Val::Double(x) => Box::new(CelDouble::from(*x)),
            Val::Time(t) => Box::new(CelInt::from(t.as_second())),
            Val::Text(text) => {
                self.bytes += size(text.len());
                Box::new(CelString::from(text.as_str()))
            }
            Val::List(list) => {
                let list: Result<Vec<_>, _> = list.iter().map(|val| self.value(val, depth + 1)).collect();
                Box::new(CelList::from(list?))
            }
            Val::Map(map) => return self.map(map.iter(), depth),
        })
    }

    fn map<'v>(
        &mut self,
        entries: impl Iterator<Item = (&'v String, &'v Val)>,
        depth: usize,
    ) -> Result<Box<dyn CelVal + 'v>, EvalError> {
        let mut map = CelMap::default().into_inner();
        for (key, val) in entries {
            self.bytes += size(key.len());
            map.insert(CelMapKey::from(key.as_str()), self.value(val, depth + 1)?);
        }
        Ok(Box::new(CelMap::from(map)))
    }
}

fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Takes `cost` steps; an error once there are none left.
fn take_steps(steps: &AtomicU64, cost: u64) -> Result<(), ExecutionError> {
    let left = steps.load(Ordering::Relaxed).saturating_sub(cost);
    steps.store(left, Ordering::Relaxed);
    if left == 0 { Err(ExecutionError::function_error("loop", "too many steps")) } else { Ok(()) }
}

fn argument<'context, 'call>(
    given: &mut FunctionContext<'context, 'call>,
) -> Result<CowVal<'context, 'call>, ExecutionError> {
    given.args.pop().ok_or(ExecutionError::MissingArgumentOrTarget)
}

/// Hands its argument on and counts a step, more for a large argument.
fn step(steps: Arc<AtomicU64>, each_turn: u64) -> Function {
    Box::new(move |given| {
        let value = argument(given)?;
        take_steps(&steps, each_turn + weigh(value.as_ref()) / 64)?;
        Ok(value)
    })
}

/// Roughly the bytes that a copy of a value takes.
fn weigh(value: &dyn CelVal) -> u64 {
    if let Some(text) = value.downcast_ref::<CelString>() {
        size(text.inner().len())
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        list.inner().iter().map(|element| 16 + weigh(element.as_ref())).sum()
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        map.inner().values().map(|element| 64 + weigh(element.as_ref())).sum()
    } else {
        0
    }
}

/// What a loop goes through: refused when it is long; the keys of a map in order, which `cel` has in none.
fn range() -> Function {
    Box::new(|given| {
        let value = argument(given)?;
        let elements = value.as_sizer().map_or(0, |sizer| *sizer.size().inner());
        if usize::try_from(elements).unwrap_or(usize::MAX) > MAX_ELEMENTS {
            let said = format!("{elements} elements are more than the {MAX_ELEMENTS} that a loop goes through");
            return Err(ExecutionError::function_error("loop", said));
        }
        let Some(map) = value.downcast_ref::<CelMap>() else { return Ok(value) };
        let mut keys: Vec<CelMapKey<'_>> = map.inner().keys().cloned().collect();
        keys.sort_by(|a, b| {
            a.inner()
                .as_comparer()
                .map_or(std::cmp::Ordering::Equal, |a| a.compare(b.inner()).unwrap_or(std::cmp::Ordering::Equal))
        });
        let keys = keys.iter().map(|key| key.inner().clone_as_boxed()).collect::<Vec<_>>();
        Ok(CowVal::owned(CelList::from(keys)))
    })
}

/// Whether a text matches the pattern of that number.
fn matches(patterns: Vec<Pattern>, steps: Arc<AtomicU64>) -> Function {
    Box::new(move |given| {
        let index = argument(given)?;
        let text = argument(given)?;
        let Some(text) = text.downcast_ref::<CelString>() else {
            let types = vec![text.get_type().name().to_owned(), "string".to_owned()];
            return Err(ExecutionError::no_such_overload("matches", types));
        };
        let index = index.downcast_ref::<CelInt>().and_then(|n| usize::try_from(*n.inner()).ok());
        let pattern = index.and_then(|n| patterns.get(n)).ok_or(ExecutionError::MissingArgumentOrTarget)?;
        take_steps(&steps, size(text.inner().len()) / 1_024)?;
        Ok(CowVal::owned(CelBool::from(pattern.is_match(text.inner()))))
    })
}

/// An answer as a plain value.
fn taken(value: &dyn CelVal, depth_left: usize, left: &mut usize) -> Result<Val, EvalError> {
    let too_large = || error("the answer is too large or nests too deep");
    *left = left.checked_sub(1).ok_or_else(too_large)?;
    let below = || depth_left.checked_sub(1).ok_or_else(too_large);
    if let Some(b) = value.downcast_ref::<CelBool>() {
        Ok(Val::Bool(*b.inner()))
    } else if let Some(n) = value.downcast_ref::<CelInt>() {
        Ok(Val::Int(*n.inner()))
    } else if let Some(n) = value.downcast_ref::<CelUInt>() {
        i64::try_from(*n.inner()).map(Val::Int).map_err(|_| error("the answer is beyond 64 bits"))
    } else if let Some(x) = value.downcast_ref::<CelDouble>() {
        Ok(Val::Double(*x.inner()))
    } else if let Some(text) = value.downcast_ref::<CelString>() {
        Ok(Val::Text(text.inner().to_owned()))
    } else if value.downcast_ref::<CelNull>().is_some() {
        Ok(Val::Null)
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        let below = below()?;
        list.inner().iter().map(|element| taken(element.as_ref(), below, left)).collect::<Result<_, _>>().map(Val::List)
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        let below = below()?;
        let entries = map.inner().iter().map(|(key, element)| {
            let key = match taken(key.inner(), below, left)? {
                Val::Text(text) => text,
                Val::Int(n) => n.to_string(),
                Val::Bool(b) => b.to_string(),
                _ => return Err(error("a map's keys are text")),
            };
            Ok((key, taken(element.as_ref(), below, left)?))
        });
        entries.collect::<Result<_, _>>().map(Val::Map)
    } else {
        Err(error(format!("the answer is of type {}, which can't leave an expression", value.get_type().name())))
    }
}

/// An error in words that repeat no value but a key: the crate's own show all of them, a page's body too.
fn words(why: &ExecutionError) -> String {
    match why {
        ExecutionError::NoSuchKey(key) => format!("there is no {}", crate::settings::echo(key)),
        ExecutionError::NoSuchOverload(overload) => overload.to_string(),
        ExecutionError::UndeclaredReference(name) => format!("unknown name {}", crate::settings::echo(name)),
        ExecutionError::UnexpectedType { got, want } => format!("expected {want}, found {got}"),
        ExecutionError::FunctionError { function, message } => format!("{function}: {message}"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".to_owned(),
        ExecutionError::Overflow(..) => "a whole number beyond 64 bits".to_owned(),
        ExecutionError::IndexOutOfBounds(_) => "an index beyond the end of the list".to_owned(),
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
            format!("can't {operator} {} and {}", left.type_of(), right.type_of())
        }
        ExecutionError::ValuesNotComparable(left, right) => {
            format!("can't compare {} with {}", left.type_of(), right.type_of())
        }
        ExecutionError::UnsupportedIndex(index, of) => {
            format!("can't look up a {} in a {}", index.type_of(), of.type_of())
        }
        ExecutionError::DuplicateKey(_) => "a map with the same key twice".to_owned(),
        ExecutionError::InvalidArgumentCount { expected, actual } => {
            format!("expected {expected} arguments, found {actual}")
        }
        _ => "the expression does not fit the values".to_owned(),
    }
}
