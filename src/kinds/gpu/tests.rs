use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::*;
use crate::facts::Class;
use crate::kinds::testing::{Look, Trial, problems, settings};

#[path = "../../../tests/it/support/nvml.rs"]
mod stub;
use stub::Nvml;

/// A place with a stand-in for the library.
struct Bench {
    dir: tempfile::TempDir,
    nvml: Nvml,
    trial: Trial,
}

impl Bench {
    fn new(cards: usize) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let nvml = Nvml::new(&dir.path().join("driver"), cards)?;
        let trial = Trial::new(dir.path());
        Some(Self { dir, nvml, trial })
    }

    fn settings(&self, more: &str) -> Settings {
        // Without a log, unless a test writes one: this machine's own is none of the tests' business.
        let xids = if more.contains("xids") { "" } else { "xids = false\n" };
        let library = self.nvml.library();
        settings::<Gpu>(&format!("library = '{}'\nsample_every = '1ms'\n{xids}{more}", library.display()))
    }

    fn look(&mut self, more: &str) -> Look {
        let settings = self.settings(more);
        self.trial.look::<Gpu>(&settings).unwrap()
    }

    /// The findings and the gauges beyond an edge, as `subject: code`.
    fn codes(&mut self, more: &str) -> String {
        let look = self.look(more);
        let mut codes = look.codes();
        for (subject, _, fact) in look.facts.iter() {
            let (Class::Gauge(scale), Some(value)) = (&fact.class, fact.value.number()) else { continue };
            let beyond = |at: f64| if scale.worse == crate::facts::Worse::Above { value > at } else { value < at };
            let edge = [&scale.fail, &scale.warn].into_iter().flatten().find(|edge| beyond(edge.at));
            codes.extend(edge.map(|edge| format!("{subject}: {}", edge.code)));
        }
        codes.join(", ")
    }
}

#[test]
fn a_healthy_card_is_read_whole() {
    let Some(mut bench) = Bench::new(2) else { return };
    bench.nvml.says(2, &["0.busy 10 98 40", "1.free 9000000000 20000000000 10000000000"]);
    let look = bench.look("");
    assert_eq!(look.codes(), Vec::<String>::new());
    for (name, value) in [
        ("vram_total_bytes", 25_757_220_864.0),
        ("vram_free_bytes", 20_401_094_656.0),
        ("vram_used_percent", 20.8),
        ("utilisation_percent", 40.0),
        ("utilisation_peak_percent", 98.0),
        ("memory_busy_percent", 20.0),
        ("temperature_c", 61.0),
        ("slowdown_c", 95.0),
        ("power_w", 120.5),
        ("power_limit_w", 230.0),
        ("fan_percent", 30.0),
        ("ecc_corrected", 3.0),
        ("ecc_uncorrected", 0.0),
        ("processes", 1.0),
    ] {
        assert_eq!(look.number("gpu0", name), Some(value), "{name}");
    }
    assert_eq!(look.number("gpu1", "vram_free_bytes"), Some(10_000_000_000.0), "the middle one");
    assert_eq!(look.text("gpu0", "place"), Some("0000:00:00"));
    assert_eq!(look.text("gpu1", "uuid"), Some("GPU-5ea11000-0000-4000-8000-000000000001"));
    assert_eq!(look.text("gpu0", "throttled_by"), Some("nothing"));
    assert_eq!(look.text("gpu0", "not_told"), Some("retired pages"), "pages are for cards that don't remap rows");
    assert_eq!(look.text("", "driver_version"), Some("550.54.14"));
    let flag = |name| look.facts.flag(&Subject::new("gpu0"), name);
    assert_eq!([flag("ecc"), flag("persistence"), flag("mig")], [Some(true), Some(true), Some(false)]);
}

#[test]
fn each_trouble_and_its_harmless_twin() {
    let Some(mut bench) = Bench::new(1) else { return };
    for (but, codes) in [
        // Memory: 5 % of 24 GiB are more than 1 GiB, so that counts; and 1 % more than 128 MiB.
        (&["0.free 1073741824"][..], ""),
        (&["0.free 1073741823"], "gpu0: vram_low"),
        (&["0.free 134217727"], "gpu0: vram_out"),
        (&["0.free 134217727 9000000000 9000000000"], ""),
        // Busy is no trouble.
        (&["0.busy 100"], ""),
        // Heat: by the card's own threshold, else by when it switches off, else by the usual one.
        (&["0.celsius 89"], ""),
        (&["0.celsius 90"], "gpu0: hot"),
        (&["0.celsius 95"], "gpu0: too_hot"),
        (&["0.celsius 70 99 71"], ""),
        (&["0.celsius 92", "0.slowdown 0"], "gpu0: hot"),
        (&["0.celsius 84", "error 0 nvmlDeviceGetTemperatureThreshold 3"], ""),
        (&["0.celsius 93", "error 0 nvmlDeviceGetTemperatureThreshold 3"], "gpu0: too_hot"),
        // What holds clocks down: heat and power are trouble, what somebody set and idling are not.
        (&["0.throttle 0x48"], "gpu0: thermal_slowdown"),
        (&["0.throttle 0x48 0 0"], ""),
        (&["0.throttle 0x20"], "gpu0: thermal_limit"),
        (&["0.throttle 0x88"], "gpu0: power_brake"),
        (&["0.throttle 0x08"], "gpu0: hardware_slowdown"),
        (&["0.throttle 0x08 0x08 0"], ""),
        (&["0.throttle 0x01"], ""),
        (&["0.throttle 0x02"], ""),
        (&["0.throttle 0x04"], ""),
        (&["0.throttle 0x110"], ""),
        // Errors of the memory: those of long ago are history.
        (&["0.uncorrected 2"], "gpu0: ecc_uncorrected"),
        (&["0.uncorrected_ever 12"], ""),
        (&["0.corrected 90000"], ""),
        (&["0.rows_pending 1"], "gpu0: retirement_pending"),
        (&["0.rows_corrected 3"], ""),
        (&["0.rows_failed 1"], "gpu0: remap_failed"),
        (&["0.pages_single 2", "0.pages_double 1", "0.pages_pending 0"], ""),
        (&["0.pages_single 2", "0.pages_double 1", "0.pages_pending 1"], "gpu0: retirement_pending"),
        // The card itself.
        (&["error 0 nvmlDeviceGetHandleByIndex_v2 15"], "gpu0: card_lost"),
        (&["error 0 nvmlDeviceGetTemperature 15"], "gpu0: card_lost"),
        (&["error 0 nvmlDeviceGetHandleByIndex_v2 16"], "gpu0: reset_required"),
        (&["error 0 nvmlDeviceGetHandleByIndex_v2 8"], "gpu0: card_unusable"),
        (&["error 0 nvmlDeviceGetHandleByIndex_v2 999"], "gpu0: card_unreadable"),
        (&["error 0 nvmlDeviceGetHandleByIndex_v2 4"], "gpu0: permission_denied"),
        (&["error 0 nvmlDeviceGetTemperature 999"], "gpu0: card_unreadable"),
        (&["error 0 nvmlDeviceGetTemperature 3"], ""),
        (&["error 0 nvmlDeviceGetFanSpeed_v2 999"], ""),
        (&["error 0 nvmlDeviceGetUtilizationRates 3", "0.mig 1"], ""),
        (&["cards 0"], "gpu0: card_gone"),
    ] {
        bench.nvml.healthy(1);
        assert_eq!(bench.codes(""), "", "before {but:?}");
        bench.nvml.says(1, but);
        assert_eq!(bench.codes(""), codes, "{but:?}");
    }
    bench.nvml.says(1, &["0.pages_single 2", "0.pages_double 1"]);
    assert_eq!(bench.look("").number("gpu0", "pages_retired"), Some(3.0));
    bench.nvml.says(1, &["0.celsius 80", "0.free 2000000000"]);
    assert_eq!(bench.codes("temperature = { warn = 80 }\nvram_warn = { percent = 10 }"), "gpu0: hot, gpu0: vram_low");
    assert_eq!(bench.codes("vram_warn = {}\nvram_fail = {}"), "");
}

#[test]
fn the_sentences() {
    let Some(mut bench) = Bench::new(1) else { return };
    let pid = std::process::id();
    let holds = format!("0.processes 1 1 {pid} 24000000000");
    bench.nvml.says(1, &["0.free 100000000", "0.celsius 96", "0.throttle 0x48", "0.uncorrected 1", &holds]);
    let look = bench.look("");
    let says = |name| match &look.facts.get(&Subject::new("gpu0"), name).unwrap().class {
        Class::Gauge(scale) => scale.says.as_str().to_owned(),
        other => panic!("{other:?}"),
    };
    let name = std::fs::read_link("/proc/self/exe").unwrap();
    let name: String = name.file_name().unwrap().to_str().unwrap().chars().take(9).collect();
    let memory = says("vram_free_bytes");
    assert!(memory.starts_with("95.3 MiB of 23.9 GiB of its memory are free (0.4 %); \""), "{memory}");
    assert!(memory.contains(&name) && memory.ends_with(&format!(", pid {pid}\" holds 22.3 GiB")), "{memory}");
    assert_eq!(says("temperature_c"), "96 °C hot, it slows down at 95 °C");
    let said: Vec<&str> = look.findings.iter().map(|finding| finding.said.as_str()).collect();
    assert_eq!(
        said,
        [
            "is throttled: the hardware halves its clocks for heat, at 96 °C",
            "1 error of its memory could not be corrected since the driver was loaded: its results may be wrong",
        ]
    );
    assert!(look.facts.get(&Subject::new("gpu0"), "top_process").unwrap().foreign);
}

#[test]
fn errors_of_a_lifetime_are_counted_by_their_growth() {
    let Some(mut bench) = Bench::new(1) else { return };
    bench.nvml.says(1, &["0.uncorrected_ever 12"]);
    let look = bench.look("");
    let fact = look.facts.get(&Subject::new("gpu0"), "ecc_uncorrected_ever").unwrap();
    let Class::Counter(scale) = &fact.class else { panic!("{fact:?}") };
    assert_eq!(scale.warn.as_ref().map(|edge| (edge.at, edge.code.as_str())), Some((0.0, "ecc_growing")));
}

#[test]
fn a_card_that_was_there_is_missed_until_somebody_says_that_it_was_taken_out() {
    let Some(mut bench) = Bench::new(2) else { return };
    assert_eq!(bench.codes(""), "");
    bench.nvml.healthy(1);
    let look = bench.look("");
    assert_eq!(look.codes(), ["gpu1: card_gone"]);
    assert_eq!(
        look.said(),
        "is gone: the driver does not list it any more (NVIDIA RTX A5000, GPU-5ea11000-0000-4000-8000-000000000001)"
    );
    assert_eq!(bench.codes("optional = true"), "gpu1: card_gone");
    assert_eq!(bench.codes("devices = 1"), "");
    assert_eq!(bench.codes(""), "", "by now one is what is remembered");
    assert_eq!(bench.codes("devices = 3"), "too_few_cards");
    assert_eq!(bench.look("devices = 3").said(), "1 card answers, and there have to be 3");
    assert_eq!(bench.codes("uuids = ['GPU-5ea10']"), "");
    assert_eq!(bench.codes("uuids = ['GPU-5ea10', 'GPU-77']"), "GPU-77: card_gone");
    bench.nvml.healthy(0);
    assert_eq!(bench.codes("devices = 0"), "");
    assert_eq!(bench.codes("optional = true"), "");
    assert_eq!(bench.codes(""), "no_card");
}

#[test]
fn a_driver_that_is_gone_is_told_from_one_that_never_was() {
    for (but, was_there, more, says) in [
        ("init 9", true, "", "driver_gone"),
        ("init 9", true, "optional = true", "driver_gone"),
        ("init 9", false, "", "driver_not_loaded"),
        ("init 9", false, "optional = true", ""),
        ("init 18", true, "", "driver_mismatch"),
        ("init 18", false, "optional = true", "driver_mismatch"),
        ("init 12", true, "", "driver_gone"),
        ("init 12", false, "optional = true", ""),
        ("cards 0", false, "", "no_card"),
        ("cards 0", false, "optional = true", ""),
    ] {
        let Some(mut bench) = Bench::new(1) else { return };
        if was_there {
            assert_eq!(bench.codes(""), "");
        }
        bench.nvml.says(1, &[but]);
        assert_eq!(bench.codes(more), says, "{but}, was there: {was_there}, {more}");
        let skipped = bench.look(more).facts.flag(&Subject::none(), "skipped");
        assert_eq!(skipped, Some(says.is_empty()), "what is left out is said");
    }
    let Some(mut bench) = Bench::new(1) else { return };
    bench.look("");
    bench.nvml.says(1, &["init 9"]);
    assert_eq!(bench.look("").said(), "the NVIDIA driver is not loaded; the last time there was 1 card");
    bench.nvml.says(1, &["init 18"]);
    assert_eq!(
        bench.look("").said(),
        "the loaded NVIDIA driver and its library are of different versions: no new program gets a card"
    );
}

#[test]
fn what_can_not_be_asked_is_unknown_with_the_reason() {
    let Some(mut bench) = Bench::new(1) else { return };
    let unread = |bench: &mut Bench, more: &str| {
        let settings = bench.settings(more);
        let unread = bench.trial.look::<Gpu>(&settings).unwrap_err();
        format!("{} {:?}", unread.code, unread.blame)
    };
    for (but, says) in [
        ("init 12", "driver_missing Blind"),
        ("init 4", "permission_denied Blind"),
        ("init 13", "not_nvml Blind"),
        ("init 999", "driver_error Target"),
    ] {
        bench.nvml.says(1, &[but]);
        assert_eq!(unread(&mut bench, ""), says, "{but}");
    }
    // Another library, none, and what is no library.
    let library = bench.nvml.library();
    std::fs::remove_file(&library).unwrap();
    assert_eq!(unread(&mut bench, ""), "driver_missing Blind");
    files::replace(&library, b"#!/bin/sh\n", 0o700).unwrap();
    assert_eq!(unread(&mut bench, ""), "driver_missing Blind");
    // What others can write is not run.
    std::fs::set_permissions(&library, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(unread(&mut bench, ""), "library_untrusted Blind");
    assert_eq!(unread(&mut bench, "optional = true"), "library_untrusted Blind");
}

#[test]
fn a_driver_that_hangs_is_left_at_the_deadline() {
    for function in ["nvmlInit_v2", "nvmlDeviceGetTemperature", "nvmlDeviceGetFieldValues"] {
        let Some(mut bench) = Bench::new(1) else { return };
        bench.nvml.says(1, &[&format!("hang {function}")]);
        let (settings, now) = (bench.settings(""), bench.trial.host().now());
        let unread = bench.trial.look_within::<Gpu>(&settings, now, Duration::from_millis(200)).unwrap_err();
        assert_eq!(unread.code.as_str(), "no_answer", "{function}");
    }
}

/// A `journalctl` that says this.
fn journal(bench: &mut Bench, script: &str) {
    let folder = bench.dir.path().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    files::replace(&folder.join("journalctl"), format!("#!/bin/sh\n{script}\n").as_bytes(), 0o700).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.display());
    bench.trial.host().env.insert("PATH".into(), path.into());
}

#[test]
fn the_drivers_errors_are_read_from_the_kernels_log() {
    let Some(mut bench) = Bench::new(2) else { return };
    let now = bench.trial.host().now().wall.as_second();
    let line = |ago: i64, bus: u32, code: u32| {
        format!("echo '{}.000001 box kernel: NVRM: Xid (PCI:0000:{bus:02x}:00): {code}, pid=1, name=x'", now - ago)
    };
    for (lines, says, said) in [
        (vec![line(7_200, 1, 79)], "gpu1: xid_error", "the driver logged Xid 79 2 h ago: it fell off the bus"),
        (vec![line(60, 0, 31), line(30, 0, 43)], "", ""),
        (
            vec![line(60, 0, 31), line(30, 1, 92)],
            "gpu1: xid_other",
            "the driver logged Xid 92 30 s ago: many memory errors were corrected",
        ),
        (vec![line(90_000, 1, 79)], "", ""),
        (
            vec![line(50, 0, 48), line(40, 0, 13)],
            "gpu0: xid_error",
            "the driver logged Xid 48 50 s ago: a memory error that can't be corrected",
        ),
        (
            vec![line(50, 7, 79)],
            "xid_error",
            "the driver logged Xid 79 50 s ago: it fell off the bus, at a place where no card is listed",
        ),
        (vec![line(50, 7, 13)], "", ""),
        (vec!["echo '-- No entries --'; exit 1".to_owned()], "", ""),
    ] {
        journal(&mut bench, &lines.join("\n"));
        let look = bench.look("xids = true");
        assert_eq!(look.codes().join(", "), says, "{lines:?}");
        let words = look.said().replace("51 s", "50 s").replace("31 s", "30 s");
        assert_eq!(words, said, "{lines:?}");
        assert_eq!(look.text("", "xid_log"), Some("read"));
    }
    // What may not be read is said, and is no trouble of the cards.
    for (script, says) in [
        (
            "echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1",
            "insufficient permissions",
        ),
        ("echo 'unknown option' >&2; exit 1", "unknown option"),
        ("exit 7", "`journalctl` says \"\""),
    ] {
        journal(&mut bench, script);
        let look = bench.look("xids = true");
        assert_eq!(look.codes(), Vec::<String>::new());
        let log = look.text("", "xid_log").unwrap();
        assert!(log.contains(says), "{log}");
    }
    std::fs::remove_file(bench.dir.path().join("bin/journalctl")).unwrap();
    bench.trial.host().env.insert("PATH".into(), bench.dir.path().join("bin").into());
    let look = bench.look("xids = true");
    assert!(look.text("", "xid_log").unwrap().starts_with("`journalctl`: "), "{look:?}");
}

#[test]
fn a_log_that_hangs_costs_the_cards_nothing() {
    let Some(mut bench) = Bench::new(1) else { return };
    journal(&mut bench, "exec sleep 60");
    let (settings, now) = (bench.settings("xids = true"), bench.trial.host().now());
    let look = bench.trial.look_within::<Gpu>(&settings, now, Duration::from_secs(1)).unwrap();
    assert_eq!(look.number("gpu0", "temperature_c"), Some(61.0));
    assert_eq!(look.text("", "xid_log"), Some("`journalctl` did not end in time"));
}

#[test]
fn bad_settings_are_refused() {
    for (toml, said) in [
        (
            "library = 'libnvidia-ml.so.1'",
            "library: `libnvidia-ml.so.1` is no whole path (one begins with `/` or `~/`)",
        ),
        ("vram_warn = { percent = 120 }", "vram_warn: 120 is no percentage (it goes from 0 to 100)"),
        (
            "temperature = { warn = 90, fail = 80 }",
            "temperature: it is a fail from 80 °C on before it is a warn from 90 °C on",
        ),
        ("devices = 1\nuuids = ['GPU-1']", "devices: `uuids` says already which cards there have to be"),
        ("uuids = ['']", "uuids: an empty text is the beginning of every uuid"),
        ("sample_every = '5s'", "sample_every: expected at most 2s: three looks are taken in one fetch"),
        ("xids_within = '0s'", "xids_within: expected a duration above 0s (`xids = false` looks for none)"),
    ] {
        assert_eq!(problems::<Gpu>(toml), [said], "{toml}");
    }
    assert!(problems::<Gpu>("gpus = 1")[0].starts_with("unknown field `gpus`, expected one of `library`"));
    assert_eq!(problems::<Gpu>(""), Vec::<String>::new());
}

/// On a machine with a card this is the one look at the real thing: what the card tells is plausible.
#[test]
#[expect(clippy::print_stderr, reason = "what is not tested is said, and what was seen")]
fn a_real_card_answers() {
    let dir = tempfile::tempdir().unwrap();
    let look = match Trial::new(dir.path()).look::<Gpu>(&settings::<Gpu>("")) {
        Ok(look) if look.number("", "cards") >= Some(1.0) => look,
        Ok(look) => return eprintln!("not tested on a real card: {:?}", look.codes()),
        Err(unread) => return eprintln!("not tested on a real card: {}", unread.said),
    };
    for (subject, name, fact) in look.facts.iter() {
        eprintln!("{subject} {name} = {:?}", fact.value);
    }
    eprintln!("{:?}", look.codes());
    for subject in look.facts.subjects().iter().filter(|subject| !subject.is_none()) {
        let number = |name| look.facts.number(subject, name).unwrap_or_else(|| panic!("{subject} tells no {name}"));
        let (free, used, total) = (number("vram_free_bytes"), number("vram_used_bytes"), number("vram_total_bytes"));
        assert!((free + used - total).abs() < 1.0 && total > f64::from(1 << 30), "{free} + {used} = {total}");
        assert!((10.0..=120.0).contains(&number("temperature_c")));
        assert!((0.0..=100.0).contains(&number("utilisation_percent")));
        assert!(look.facts.text(subject, "uuid").unwrap().as_str().starts_with("GPU-"));
    }
    assert!(look.text("", "driver_version").is_some());
}
