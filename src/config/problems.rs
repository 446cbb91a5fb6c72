//! All that is wrong with a config, at once, and how it is shown: with the lines of the file on a terminal, one line a
//! problem elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan,
    SpanContents,
};

use crate::redact::Clean;
use crate::settings::Problem;

/// Problems that are shown; the rest is counted.
const MAX_SHOWN: usize = 50;

/// Everything that is wrong with a config, in the order of its files and lines.
#[derive(Clone, Default)]
pub struct Problems {
    list: Vec<Problem>,
    texts: BTreeMap<PathBuf, Arc<str>>,
}

impl Problems {
    /// One problem that is about a whole file, or about no file that was read.
    #[must_use]
    pub fn one(problem: Problem) -> Self {
        Self { list: vec![problem], texts: BTreeMap::new() }
    }

    /// The problems, in order.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// Keeps a file's text, to show its lines and to count them.
    pub(super) fn know(&mut self, file: &Path, text: &Arc<str>) {
        self.texts.insert(file.to_path_buf(), Arc::clone(text));
    }

    /// Puts what was found in the order of `files`, then of their lines, and drops what was found twice.
    pub(super) fn sort(&mut self, files: &[PathBuf]) {
        let place = |problem: &Problem| {
            let file = files.iter().position(|file| *file == problem.file).unwrap_or(usize::MAX);
            (file, problem.span.start, problem.span.end)
        };
        self.list.sort_by_key(place);
        self.list.dedup();
    }

    /// For people. With `color` it is made for a terminal of `width` columns and shows the lines of the file; without,
    /// each problem is a line `FILE:LINE:COLUMN: KEY: what is wrong`, its way out in parentheses below.
    #[must_use]
    pub fn render(&self, color: bool, width: usize) -> String {
        let mut out = String::new();
        for problem in self.list.iter().take(MAX_SHOWN) {
            if color {
                self.picture(problem, width, &mut out);
            } else {
                out.push_str(&self.line(problem));
            }
        }
        if let Some(more) = self.list.len().checked_sub(MAX_SHOWN).filter(|more| *more > 0) {
            out.extend(["… and ", &more.to_string(), " more\n"]);
        }
        out
    }

    /// A place as `FILE:LINE:COLUMN`.
    pub(super) fn place(&self, file: &Path, at: usize) -> String {
        let position = self.position(file, at).map(|(line, column)| format!(":{line}:{column}"));
        format!("{}{}", file.display(), position.unwrap_or_default())
    }

    /// Line and column of a place, from 1; the column counts characters.
    fn position(&self, file: &Path, at: usize) -> Option<(usize, usize)> {
        let before = self.texts.get(file)?.get(..at)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        Some((line, before.get(line_start..).map_or(0, |text| text.chars().count()) + 1))
    }

    fn line(&self, problem: &Problem) -> String {
        let mut out = String::new();
        if !problem.file.as_os_str().is_empty() {
            out.push_str(&self.place(&problem.file, problem.span.start));
            out.push_str(": ");
        }
        out.push_str(&headline(problem));
        out.push('\n');
        if let Some(hint) = &problem.hint {
            out.extend(["  (", Clean::line(hint, 2_000).as_str(), ")\n"]);
        }
        Clean::new(&out).as_str().to_owned()
    }

    fn picture(&self, problem: &Problem, width: usize, out: &mut String) {
        let shown = Shown {
            said: headline(problem),
            hint: problem.hint.as_ref().map(|hint| Clean::line(hint, 2_000).as_str().to_owned()),
            excerpt: self.excerpt(problem),
        };
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode())
            .with_width(width.clamp(40, 160))
            .with_context_lines(1)
            .with_links(false)
            .without_cause_chain();
        // A picture that can't be drawn must not cost the message.
        let mut drawn = String::new();
        if shown.excerpt.is_some() && handler.render_report(&mut drawn, &shown).is_ok() {
            out.push_str(&drawn);
        } else {
            out.extend(["  × ", &self.line(problem)]);
        }
        out.push('\n');
    }

    /// The line of the place, unless it holds what the gate would replace.
    fn excerpt(&self, problem: &Problem) -> Option<Excerpt> {
        let text = self.texts.get(&problem.file)?;
        let (line_number, column) = self.position(&problem.file, problem.span.start)?;
        let start = text.get(..problem.span.start)?.rfind('\n').map_or(0, |at| at + 1);
        let end = text.get(problem.span.start..)?.find('\n').map_or(text.len(), |at| problem.span.start + at);
        // A tab has no width that could be known, so it is shown as one space: the marks stay below their place.
        let line = text.get(start..end)?.trim_end_matches('\r').replace('\t', " ");
        let unchanged = Clean::new(&line).as_str() == line;
        let from = problem.span.start - start;
        let mark = from..problem.span.end.min(end).saturating_sub(start).clamp(from, line.len().max(from));
        let file = problem.file.display().to_string();
        (unchanged && problem.shows_source()).then_some(Excerpt { file, line, line_number, column, mark })
    }
}

/// What is wrong, after the key that it is about.
fn headline(problem: &Problem) -> String {
    let said = Clean::line(&problem.said, 2_000);
    if problem.key.is_empty() {
        said.as_str().to_owned()
    } else {
        format!("{}: {said}", Clean::line(&problem.key, 300))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false, 0).trim_end())
    }
}
impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl std::error::Error for Problems {}

/// One line of a file.
#[derive(Debug)]
struct Excerpt {
    file: String,
    line: String,
    /// From 1.
    line_number: usize,
    /// From 1.
    column: usize,
    /// The bytes of the line that it is about.
    mark: Range<usize>,
}

impl SourceCode for Excerpt {
    /// Asked for context lines, it gives the whole line; without, the place itself.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        _after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let whole = SourceSpan::from(0..self.line.len());
        let (span, column) = if before == 0 { (*span, self.column - 1) } else { (whole, 0) };
        let data =
            self.line.as_bytes().get(span.offset()..span.offset() + span.len()).ok_or(MietteError::OutOfBounds)?;
        Ok(Box::new(MietteSpanContents::new_named(self.file.clone(), data, span, self.line_number - 1, column, 1)))
    }
}

/// One problem as the drawing library wants it.
#[derive(Debug)]
struct Shown {
    said: String,
    hint: Option<String>,
    excerpt: Option<Excerpt>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}
impl std::error::Error for Shown {}
impl miette::Diagnostic for Shown {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|hint| Box::new(hint) as _)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.excerpt.as_ref().map(|excerpt| excerpt as _)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let mark = self.excerpt.as_ref()?.mark.clone();
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(None, mark))))
    }
}
