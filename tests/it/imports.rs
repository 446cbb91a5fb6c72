//! One crate has no other wall: what a module may import stands in ARCHITECTURE.md, and is held here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use regex::Regex;

/// The table: each module with what it may import.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let page = fs::read_to_string("ARCHITECTURE.md").unwrap();
    let row = Regex::new(r"(?m)^\| `(\w+)` \|[^|\n]*\|([^|\n]*)\|$").unwrap();
    row.captures_iter(&page)
        .map(|row| (row[1].to_owned(), row[2].split_whitespace().map(str::to_owned).collect()))
        .collect()
}

/// A source file without its comments and its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let text = text.split("#[cfg(test)]\npub(crate) mod tests {").next().unwrap();
    Regex::new(r"//[^\n]*").unwrap().replace_all(text, "").into_owned()
}

fn visit(folder: &Path, found: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found(&path);
        }
    }
}

/// Modules that stand behind `#[cfg(test)]` as files of their own.
fn is_test(path: &Path) -> bool {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let parent = path.parent().unwrap();
    ["mod.rs", "../mod.rs", "lib.rs"].iter().any(|file| {
        fs::read_to_string(parent.join(file)).is_ok_and(|text| {
            Regex::new(&format!(r"#\[cfg\(test\)\]\s*(pub\(\w+\) )?mod {stem};")).unwrap().is_match(&text)
        })
    })
}

#[test]
fn every_module_imports_what_the_table_allows() {
    let allowed = allowed();
    let modules: BTreeSet<&str> = allowed.keys().map(String::as_str).collect();
    let mention = Regex::new(r"crate::(?:(\w+)|\{([^}]*)\})").unwrap();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    visit(Path::new("src"), &mut |path| {
        let relative = path.strip_prefix("src").unwrap();
        let first = relative.iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        if matches!(module, "lib" | "main") || is_test(path) {
            return;
        }
        seen.insert(module.to_owned());
        let Some(may) = allowed.get(module) else {
            wrong.push(format!("`{module}` is not in the table"));
            return;
        };
        let code = code(path);
        for import in mention.captures_iter(&code) {
            let names: Vec<&str> = match (import.get(1), import.get(2)) {
                (Some(one), _) => vec![one.as_str()],
                (_, Some(list)) => list.as_str().split(',').filter_map(|item| item.trim().split("::").next()).collect(),
                _ => vec![],
            };
            for name in names.into_iter().filter(|name| *name != module && modules.contains(name)) {
                if !may.contains(name) {
                    wrong.push(format!("{}: `{module}` may not import `{name}`", path.display()));
                }
            }
        }
    });
    let missing: Vec<&&str> = modules.iter().filter(|module| !seen.contains(**module)).collect();
    assert!(missing.is_empty(), "in the table but not in src: {missing:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_pure_middle_reads_no_clock_and_does_no_io() {
    let outside =
        Regex::new(r"std::(fs|net|process|time|env|thread)\b|tokio::|reqwest|rusqlite|Timestamp::now|Zoned::now")
            .unwrap();
    let mut wrong = Vec::new();
    for place in ["src/judge", "src/report", "src/facts", "src/records.rs", "src/words.rs", "src/cycle/route.rs"] {
        let mut look = |path: &Path| {
            if path.file_stem().is_some_and(|stem| stem == "tests") {
                return;
            }
            for found in outside.find_iter(&code(path)) {
                wrong.push(format!("{}: {}", path.display(), found.as_str()));
            }
        };
        if Path::new(place).is_dir() { visit(Path::new(place), &mut look) } else { look(Path::new(place)) }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
