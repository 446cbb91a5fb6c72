//! A stand-in for NVIDIA's library, built by the C compiler from `tests/fixtures/nvml/stub.c` and loaded as the real one is.
//! It answers from a text file beside it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// What a healthy card of 24 GiB says, with its number for `{n}`.
const HEALTHY: &str = "\
{n}.uuid GPU-5ea1{n}000-0000-4000-8000-00000000000{n}
{n}.name NVIDIA RTX A5000
{n}.bus {n}
{n}.total 25757220864
{n}.free 20401094656
{n}.busy 35
{n}.celsius 61
{n}.slowdown 95
{n}.shutdown 98
{n}.milliwatts 120500
{n}.limit 230000
{n}.fan 30
{n}.throttle 0
{n}.ecc 1
{n}.uncorrected 0
{n}.uncorrected_ever 0
{n}.corrected 3
{n}.corrected_ever 17
{n}.rows_corrected 0
{n}.rows_uncorrected 0
{n}.rows_pending 0
{n}.rows_failed 0
{n}.persistence 1
{n}.mig 0
{n}.processes 1 4294967296
";

/// A library of one's own and what it answers.
pub struct Nvml {
    folder: PathBuf,
}

impl Nvml {
    /// A copy in this folder with so many healthy cards; none, and a line that says so, where there is no C compiler.
    #[expect(clippy::print_stderr, reason = "what is not tested is said")]
    pub fn new(folder: &Path, cards: usize) -> Option<Self> {
        let Some(built) = built() else {
            eprintln!("not tested: there is no C compiler (cc) to build a stand-in for NVIDIA's library");
            return None;
        };
        let nvml = Self { folder: folder.to_owned() };
        std::fs::create_dir_all(folder).unwrap();
        std::fs::copy(built, nvml.library()).unwrap();
        nvml.healthy(cards);
        Some(nvml)
    }

    /// The library.
    pub fn library(&self) -> PathBuf {
        self.folder.join("libnvidia-ml.so.1")
    }

    /// So many healthy cards.
    pub fn healthy(&self, cards: usize) {
        self.says(cards, &[]);
    }

    /// So many healthy cards, but for these lines, which come first.
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    pub fn says(&self, cards: usize, but: &[&str]) {
        let mut text = format!("{}\ninit 0\ndriver 550.54.14\ncards {cards}\n", but.join("\n"));
        text.extend((0..cards).map(|n| HEALTHY.replace("{n}", &n.to_string())));
        std::fs::write(self.folder.join("nvml.state"), text).unwrap();
    }
}

/// The library as it was built, once for all tests of a binary.
#[expect(clippy::disallowed_methods, reason = "a test's own compiler")]
fn built() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<(TempDir, PathBuf)>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let folder = tempfile::Builder::new().prefix("pulsecheck-nvml-").tempdir().unwrap();
        let library = folder.path().join("libnvidia-ml.so.1");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nvml/stub.c");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let built = Command::new(compiler)
            .args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Wno-unused-parameter", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output()
            .ok()?;
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success() && said.is_empty(), "the stand-in does not build: {said}");
        Some((folder, library))
    });
    built.as_ref().map(|(_, library)| library.as_path())
}
