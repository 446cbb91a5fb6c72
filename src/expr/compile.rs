//! Compiling: what is unknown is refused, and the counters are put in.

use std::collections::BTreeSet;
use std::panic::catch_unwind;

use cel::common::ast::{CallExpr, EntryExpr, Expr as Node, IdedExpr, LiteralValue, operators};
use cel::common::types::CelInt;

use super::{ENV, EvalError, MATCHES, RANGE, STEP, error, on_large_stack};
use crate::settings::Pattern;

/// Bytes of source.
pub(super) const MAX_SOURCE_BYTES: usize = 4_096;
/// How deep brackets may nest.
const MAX_BRACKETS: usize = 64;
/// How deep a parsed expression may nest, where `a.b.c` is as deep as it is long and a `+` counts twice.
const MAX_DEPTH: usize = 128;

/// The functions that expressions may call beside operators and loops.
const FUNCTIONS: [&str; 13] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];
/// Names of types, which stand where a variable could (`type(x) == int`).
const TYPES: [&str; 10] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];
const OPERATORS: [&str; 18] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
];

/// An expression that was read and rewritten.
pub(super) struct Compiled {
    pub source: String,
    pub tree: IdedExpr,
    /// How deep it nests.
    pub deepest: usize,
    /// What `matches` matches, by number.
    pub patterns: Vec<Pattern>,
    /// The variables it reads.
    pub names: BTreeSet<&'static str>,
    /// The keys it reads of `checks`; none when it uses `checks` as a whole.
    pub checks: Option<BTreeSet<String>>,
}

impl Compiled {
    pub fn new(source: &str, known: &'static [&'static str]) -> Result<Self, EvalError> {
        if source.len() > MAX_SOURCE_BYTES {
            return Err(error(format!(
                "expected an expression of at most {MAX_SOURCE_BYTES} bytes, found {}",
                source.len()
            )));
        }
        let Shape { brackets, operators, plain } = Shape::of(source);
        if plain && brackets > MAX_BRACKETS {
            return Err(error(format!("the expression nests deeper than {MAX_BRACKETS} brackets")));
        }
        // The parser recurses for each bracket and operator. Short expressions do with any stack.
        let rewrite = if plain && brackets <= 8 && operators <= 64 {
            Rewrite::parse(source, known)
        } else {
            on_large_stack(|| Rewrite::parse(source, known))
        };
        let (tree, Rewrite { patterns, names, checks, deepest, .. }) = rewrite?;
        Ok(Self { source: source.to_owned(), tree, deepest, patterns, names, checks })
    }

    pub fn checks_read(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        checks_read(&self.tree, &mut names);
        names.into_iter().collect()
    }
}

/// The shape of a source, without what stands in quotes.
struct Shape {
    /// How deep brackets nest.
    brackets: usize,
    /// How many operators, dots and brackets there are.
    operators: usize,
    /// Whether quotes are what they seem: there is no triple or raw quote and no comment.
    plain: bool,
}

impl Shape {
    fn of(source: &str) -> Self {
        let odd = ["'''", "\"\"\"", "r'", "r\"", "R'", "R\"", "//"];
        let mut shape = Self { brackets: 0, operators: 0, plain: !odd.iter().any(|odd| source.contains(odd)) };
        let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
        for byte in source.bytes() {
            match (quote, byte) {
                (Some(_), _) if escaped => escaped = false,
                (Some(_), b'\\') => escaped = true,
                (Some(q), b) if b == q => quote = None,
                (None, b'"' | b'\'') => quote = Some(byte),
                (None, b'(' | b'[' | b'{') => {
                    depth += 1;
                    shape.operators += 1;
                    shape.brackets = shape.brackets.max(depth);
                }
                (None, b')' | b']' | b'}') => depth = depth.saturating_sub(1),
                (None, b) if b.is_ascii_punctuation() && b != b'_' => shape.operators += 1,
                _ => {}
            }
        }
        shape
    }
}

fn parse_error(errors: &cel::ParseErrors) -> String {
    match errors.errors.first() {
        Some(first) => {
            let (line, column) = first.pos;
            format!("not a CEL expression: line {line}, column {column}: {}", first.msg)
        }
        None => "not a CEL expression".to_owned(),
    }
}

/// One pass over a parsed expression that refuses what is unknown and puts the counters in.
struct Rewrite {
    known: &'static [&'static str],
    /// Variables of the loops around the node.
    bound: Vec<String>,
    patterns: Vec<Pattern>,
    names: BTreeSet<&'static str>,
    checks: Option<BTreeSet<String>>,
    /// How deep the expression nests.
    deepest: usize,
}

fn call(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id: 0, expr: Node::Call(CallExpr { func_name: name.to_owned(), target: None, args }) }
}

impl Rewrite {
    fn parse(source: &str, known: &'static [&'static str]) -> Result<(IdedExpr, Self), EvalError> {
        let parsed = catch_unwind(|| ENV.parser().enable_optional_syntax(false).parse(source))
            .map_err(|_| error("the expression can't be read"))?
            .map_err(|errors| error(parse_error(&errors)))?;
        let (bound, patterns, names) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut rewrite = Self { known, bound, patterns, names, checks: Some(BTreeSet::new()), deepest: 0 };
        let tree = rewrite.node(parsed, 0)?;
        Ok((tree, rewrite))
    }

    fn nodes(&mut self, nodes: Vec<IdedExpr>, depth: usize) -> Result<Vec<IdedExpr>, EvalError> {
        nodes.into_iter().map(|node| self.node(node, depth)).collect()
    }

    fn node(&mut self, node: IdedExpr, depth: usize) -> Result<IdedExpr, EvalError> {
        self.deepest = self.deepest.max(depth);
        if depth > MAX_DEPTH {
            return Err(error("the expression is too deep (fewer operators in a row, fewer brackets)"));
        }
        let IdedExpr { id, expr } = node;
        let counted = matches!(&expr, Node::Call(call) if call.func_name == operators::ADD);
        let depth = depth + if counted { 2 } else { 1 };
        if let Some(key) = check_key(&expr).map(str::to_owned)
            && !self.bound.iter().any(|name| name == "checks")
            && self.known.contains(&"checks")
        {
            if let Some(keys) = &mut self.checks {
                keys.insert(key);
            }
            self.names.insert("checks");
            return Ok(IdedExpr { id, expr });
        }
        let expr = match expr {
            Node::Ident(name) => {
                self.name(&name)?;
                Node::Ident(name)
            }
            Node::Select(mut select) => {
                *select.operand = self.node(std::mem::take(&mut *select.operand), depth)?;
                Node::Select(select)
            }
            Node::Call(call) => self.call(call, depth)?,
            Node::List(mut list) => {
                list.elements = self.nodes(list.elements, depth)?;
                Node::List(list)
            }
            Node::Map(mut map) => {
                for entry in &mut map.entries {
                    match &mut entry.expr {
                        EntryExpr::MapEntry(entry) => {
                            entry.key = self.node(std::mem::take(&mut entry.key), depth)?;
                            entry.value = self.node(std::mem::take(&mut entry.value), depth)?;
                        }
                        EntryExpr::StructField(_) => return Err(error("messages are not supported in expressions")),
                    }
                }
                Node::Map(map)
            }
            Node::Struct(_) | Node::Unspecified => return Err(error("messages are not supported in expressions")),
            Node::Literal(literal) => Node::Literal(literal),
            Node::Comprehension(mut turn) => {
                turn.iter_range = call(RANGE, vec![self.node(turn.iter_range, depth)?]);
                turn.accu_init = self.node(turn.accu_init, depth)?;
                let outside = self.bound.len();
                self.bound.push(turn.accu_var.clone());
                turn.result = self.node(turn.result, depth)?;
                self.bound.push(turn.iter_var.clone());
                self.bound.extend(turn.iter_var2.clone());
                turn.loop_cond = self.node(turn.loop_cond, depth)?;
                turn.loop_step = self.node(turn.loop_step, depth)?;
                // `all` and `exists` are known to the crate by their steps, the others by their condition `true`.
                if matches!(turn.loop_cond.expr, Node::Literal(_)) {
                    count_step(&mut turn.loop_step, &turn.accu_var);
                } else {
                    wrap(&mut turn.loop_cond);
                }
                self.bound.truncate(outside);
                Node::Comprehension(turn)
            }
        };
        Ok(IdedExpr { id, expr })
    }

    fn name(&mut self, written: &str) -> Result<(), EvalError> {
        let name = written.strip_prefix('.').unwrap_or(written);
        if self.bound.iter().any(|bound| bound == name) || TYPES.contains(&name) {
            return Ok(());
        }
        let Some(known) = self.known.iter().find(|known| **known == name) else {
            return Err(error(format!(
                "unknown name {} (known here: {})",
                crate::settings::echo(name),
                self.known.join(", ")
            )));
        };
        self.names.insert(known);
        if name == "checks" {
            self.checks = None;
        }
        Ok(())
    }

    fn call(&mut self, mut written: CallExpr, depth: usize) -> Result<Node, EvalError> {
        let name = written.func_name.as_str();
        if !(FUNCTIONS.contains(&name) || OPERATORS.contains(&name) || name == operators::NOT_STRICTLY_FALSE) {
            let functions = FUNCTIONS.join(", ");
            return Err(error(format!(
                "unknown function {} (known are {functions}, has, all, exists, exists_one, map, filter)",
                crate::settings::echo(name)
            )));
        }
        if let Some(target) = &mut written.target {
            **target = self.node(std::mem::take(&mut **target), depth)?;
        }
        written.args = self.nodes(written.args, depth)?;
        match written.func_name.as_str() {
            "matches" => self.matches(written),
            // The sum of an accumulator and a list is `map` and `filter` at work, which the crate knows by its shape.
            operators::ADD if !written.args.first().is_some_and(is_accumulator) => {
                Ok(call(STEP, vec![IdedExpr { id: 0, expr: Node::Call(written) }]).expr)
            }
            _ => Ok(Node::Call(written)),
        }
    }

    /// `text.matches("…")` with its pattern compiled once, under the limits of every other pattern in a config.
    fn matches(&mut self, mut written: CallExpr) -> Result<Node, EvalError> {
        let mut args: Vec<IdedExpr> = written.target.take().map(|target| *target).into_iter().collect();
        args.append(&mut written.args);
        let pattern = match args.pop().map(|arg| arg.expr) {
            Some(Node::Literal(LiteralValue::String(text))) if args.len() == 1 => text,
            _ => return Err(error("`matches` takes one pattern in quotes: `text.matches(\"^ok\")`")),
        };
        let index = i64::try_from(self.patterns.len()).unwrap_or(i64::MAX);
        self.patterns.push(Pattern::parse(pattern.inner()).map_err(error)?);
        args.push(IdedExpr { id: 0, expr: Node::Literal(LiteralValue::Int(CelInt::from(index))) });
        Ok(call(MATCHES, args).expr)
    }
}

fn is_accumulator(node: &IdedExpr) -> bool {
    matches!(&node.expr, Node::Ident(name) if name.starts_with('@'))
}

/// Counts turns in a loop's step, without changing its shape: the crate knows `map` and `filter` by
/// `@result + [x]` and `c ? @result + [x] : @result` and builds their lists in place.
fn count_step(step: &mut IdedExpr, accumulator: &str) {
    let is_accumulator = |node: &IdedExpr| matches!(&node.expr, Node::Ident(name) if name == accumulator);
    if let Node::Call(written) = &mut step.expr {
        match (written.func_name.as_str(), written.args.as_mut_slice()) {
            (operators::CONDITIONAL, [guard, then, _]) => {
                wrap(guard);
                return count_step(then, accumulator);
            }
            (operators::ADD, [left, right]) if is_accumulator(left) => {
                if let Node::List(list) = &mut right.expr {
                    list.elements.iter_mut().for_each(wrap);
                }
                return;
            }
            _ => {}
        }
    }
    wrap(step);
}

fn wrap(node: &mut IdedExpr) {
    *node = call(STEP, vec![std::mem::take(node)]);
}

/// The check that `checks["name"]` or `checks.name` reads.
fn check_key(node: &Node) -> Option<&str> {
    let is_checks = |node: &IdedExpr| matches!(&node.expr, Node::Ident(name) if name == "checks" || name == ".checks");
    match node {
        Node::Select(select) if is_checks(&select.operand) => Some(&select.field),
        Node::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
            [checks, IdedExpr { expr: Node::Literal(LiteralValue::String(key)), .. }] if is_checks(checks) => {
                Some(key.inner())
            }
            _ => None,
        },
        _ => None,
    }
}

fn checks_read(node: &IdedExpr, names: &mut BTreeSet<String>) {
    let only_asked = matches!(&node.expr, Node::Select(select) if select.test);
    if let Some(key) = check_key(&node.expr)
        && !only_asked
    {
        names.insert(key.to_owned());
    }
    match &node.expr {
        Node::Select(select) => checks_read(&select.operand, names),
        Node::Call(call) => {
            call.target.iter().for_each(|target| checks_read(target, names));
            call.args.iter().for_each(|arg| checks_read(arg, names));
        }
        Node::List(list) => list.elements.iter().for_each(|element| checks_read(element, names)),
        Node::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    checks_read(&entry.key, names);
                    checks_read(&entry.value, names);
                }
            }
        }
        Node::Comprehension(turn) => {
            for part in [&turn.iter_range, &turn.accu_init, &turn.loop_cond, &turn.loop_step, &turn.result] {
                checks_read(part, names);
            }
        }
        Node::Ident(_) | Node::Literal(_) | Node::Struct(_) | Node::Unspecified => {}
    }
}
