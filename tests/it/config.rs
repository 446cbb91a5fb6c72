//! Bad configs and, word for word, what is said of them: `tests/configs/NAME.toml` and `NAME.err`.

use std::fs;
use std::path::{Path, PathBuf};

use pulsecheck::config::{Config, Found};
use pulsecheck::host::{Host, files};

#[test]
fn bad_configs_are_refused_with_these_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (configs, made) = (root.join("tests/configs"), root.join("target/configs"));
    let mut names: Vec<PathBuf> = fs::read_dir(&configs).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    names.sort();
    assert!(names.len() >= 10, "the fixtures are there");

    let read = |path: &Path| files::read(path, 1 << 20).unwrap().0;
    let mut wrong = Vec::new();
    for path in names {
        // In a folder of its own: the checkout may be one that others can write.
        let dir = tempfile::tempdir().unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let there = dir.path().join(name);
        files::replace(&there, &read(&path), 0o600).unwrap();
        let host = Host::for_tests(dir.path());
        let problems = Config::load(&Found::File(there), &host).map(|_| name).unwrap_err();
        let said = problems.render(false, 0).replace(&format!("{}/", dir.path().display()), "");
        let wanted = path.with_extension("err");
        if !wanted.exists() || read(&wanted) != said.as_bytes() {
            fs::create_dir_all(&made).unwrap();
            files::replace(&made.join(wanted.file_name().unwrap()), said.as_bytes(), 0o644).unwrap();
            wrong.push(format!("--- {name}\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "other words than in tests/configs (made: target/configs):\n{}", wrong.join("\n"));
}
