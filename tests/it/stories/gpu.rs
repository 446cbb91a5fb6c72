//! A card in each of its states, as the driver's library tells it: well, full, hot, with errors, gone, and without a driver.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::nvml::Nvml;
use crate::support::{Http, Lab, Ran};

struct Machine {
    lab: Lab,
    nvml: Nvml,
    sink: Http,
}

/// A machine with two cards that are well; none where nothing can stand in for the library.
fn machine(more: &str) -> Option<Machine> {
    let lab = Lab::new();
    let nvml = Nvml::new(&lab.path("driver"), 2)?;
    let sink = Http::ok("taken");
    lab.config(&format!(
        "instance = \"lab\"\n[check.cards]\nkind = \"gpu\"\nlibrary = \"{}\"\nsample_every = \"1ms\"\n{more}\n{}",
        nvml.library().display(),
        sink.hook()
    ));
    let mut machine = Machine { lab, nvml, sink };
    machine.log("");
    machine.lab.cycle().quiet();
    Some(machine)
}

impl Machine {
    /// What the kernel's log says from now on.
    fn log(&mut self, lines: &str) {
        let script = self.lab.write("bin/journalctl", format!("#!/bin/sh\ncat <<'END'\n{lines}\nEND\n"));
        std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o700)).unwrap();
        let path = format!("{}:/usr/bin:/bin", self.lab.path("bin").display());
        self.lab.env = vec![("PATH".to_owned(), path)];
    }

    /// The driver says this; the cycles after it.
    fn says(&mut self, cards: usize, but: &[&str], cycles: usize) -> Vec<Ran> {
        self.nvml.says(cards, but);
        (0..cycles).map(|_| self.lab.next()).collect()
    }

    /// All is well again, and that is said once.
    #[track_caller]
    fn recovers(&mut self, items: &[&str]) {
        self.nvml.healthy(2);
        self.lab.next().expect("green", true, items);
        self.lab.next().quiet();
        self.sink.take();
    }
}

/// Text and action of each item.
fn items(report: &Value) -> Vec<(&str, &str)> {
    let text = |item: &'_ Value, key: &str| -> &'static str { item[key].as_str().unwrap().to_owned().leak() };
    report["top_3"].as_array().unwrap().iter().map(|item| (text(item, "item"), text(item, "action"))).collect()
}

const MEMORY_FULL: (&str, &str) = (
    "cards gpu1: 95.3 MiB of 23.9 GiB of its memory are free (0.4 %)",
    "free what is not used, or restart the process that holds the most",
);

#[test]
fn memory_that_is_nearly_full_is_yellow_then_red_and_a_busy_card_is_nothing() {
    let Some(mut machine) = machine("xids = false") else { return };
    for ran in machine.says(2, &["0.busy 100", "1.busy 99", "1.throttle 4"], 3) {
        ran.quiet();
    }
    let runs = machine.says(2, &["1.free 100000000", "1.processes "], 3);
    runs[0].quiet();
    assert_eq!(items(&runs[1].expect("yellow", true, &["cards/gpu1"])), [MEMORY_FULL]);
    assert_eq!(items(&runs[2].expect("red", true, &["cards/gpu1"])), [MEMORY_FULL]);
    assert_eq!(machine.sink.heard(), ["open yellow lab/cards/gpu1", "raise red lab/cards/gpu1"]);
    machine.recovers(&["cards/gpu1"]);
}

#[test]
fn a_card_that_is_hot_and_throttled_is_told_from_one_that_is_only_warm() {
    let Some(mut machine) = machine("xids = false") else { return };
    for ran in machine.says(2, &["0.celsius 88", "1.celsius 60 97 60", "1.throttle 0x48 0 0"], 3) {
        ran.quiet();
    }
    let runs = machine.says(2, &["0.celsius 95", "0.throttle 0x48"], 3);
    let report = runs[2].expect("red", true, &["cards/gpu0"]);
    assert_eq!(
        items(&report),
        [(
            "cards gpu0: is throttled: the hardware halves its clocks for heat, at 95 °C",
            "see that the fans turn and the air is free, or give it less work"
        )]
    );
    machine.recovers(&["cards/gpu0"]);
    // Without the heat: the power limit and idle clocks are as they should be.
    for ran in machine.says(2, &["0.throttle 4", "1.throttle 1"], 3) {
        ran.quiet();
    }
}

#[test]
fn errors_of_the_card_are_red_at_once_and_those_of_programs_are_not() {
    let Some(mut machine) = machine("") else { return };
    let line = |lab: &Lab, bus: u32, code: u32| {
        let at = lab.now.as_second();
        format!(
            "{at}.000001 box kernel: NVRM: Xid (PCI:0000:{bus:02x}:00): {code}, pid=4411, name=python3, Ch 00000008"
        )
    };
    let of_programs = [line(&machine.lab, 0, 31), line(&machine.lab, 1, 43)].join("\n");
    machine.log(&of_programs);
    machine.lab.next().quiet();

    let broken = line(&machine.lab, 1, 119);
    machine.log(&format!("{of_programs}\n{broken}"));
    let report = machine.lab.next().expect("red", true, &["cards/gpu1"]);
    assert_eq!(
        items(&report),
        [(
            "cards gpu1: the driver logged Xid 119 15 min ago: its firmware does not answer",
            "reset the card or restart the machine, see NVIDIA's list of Xid errors"
        )]
    );
    assert_eq!((report["requires_human"].as_bool(), machine.sink.heard().len()), (Some(true), 1));
    machine.lab.next().expect("red", false, &["cards/gpu1"]);
    machine.log("");
    machine.recovers(&["cards/gpu1"]);

    let runs = machine.says(2, &["0.uncorrected 2", "0.uncorrected_ever 2"], 1);
    let report = runs[0].expect("red", true, &["cards/gpu0"]);
    let said = "cards gpu0: 2 errors of its memory could not be corrected since the driver was loaded: its results may be wrong";
    assert_eq!(items(&report)[0].0, said);
    // After a reset they are history, and history is no trouble.
    machine.nvml.says(2, &["0.uncorrected_ever 2"]);
    machine.lab.next().expect("green", true, &["cards/gpu0"]);
    machine.lab.next().quiet();
}

#[test]
fn a_card_that_is_gone_is_missed_by_its_own_name() {
    let Some(mut machine) = machine("xids = false") else { return };
    // The first of two goes: the other one keeps its name.
    let other = "0.uuid GPU-5ea11000-0000-4000-8000-000000000001";
    let report = machine.says(1, &[other, "0.bus 1"], 1)[0].expect("red", true, &["cards/gpu0"]);
    assert_eq!(
        items(&report),
        [(
            "cards gpu0: is gone: the driver does not list it any more (NVIDIA RTX A5000, GPU-5ea10000-0000-4000-8000-000000000000)",
            "see whether the card is seated and powered (or set `devices` when it was taken out)"
        )]
    );
    machine.lab.next().expect("red", false, &["cards/gpu0"]);
    machine.recovers(&["cards/gpu0"]);
    // One that fell off the bus is still listed.
    let report =
        machine.says(2, &["error 1 nvmlDeviceGetHandleByIndex_v2 15"], 1)[0].expect("red", true, &["cards/gpu1"]);
    assert_eq!(items(&report)[0].0, "cards gpu1: has fallen off the bus");
    machine.recovers(&["cards/gpu1"]);
}

#[test]
fn a_driver_that_is_gone_is_told_from_one_that_was_only_upgraded_and_from_a_host_without_one() {
    let Some(mut machine) = machine("xids = false\noptional = true") else { return };
    let report = machine.says(2, &["init 9"], 1)[0].expect("red", true, &["cards"]);
    assert_eq!(
        items(&report),
        [(
            "cards: the NVIDIA driver is not loaded; the last time there were 2 cards",
            "load the driver (nvidia-smi says more), or restart the machine"
        )]
    );
    machine.recovers(&["cards"]);
    let report = machine.says(2, &["init 18"], 1)[0].expect("red", true, &["cards"]);
    assert_eq!(
        items(&report),
        [(
            "cards: the loaded NVIDIA driver and its library are of different versions: no new program gets a card",
            "restart the machine, or unload and load the driver"
        )]
    );
    machine.recovers(&["cards"]);
    // Its library is gone: the same trouble where there were cards, and none at all where there never were any.
    std::fs::remove_file(machine.nvml.library()).unwrap();
    machine.lab.next().expect("red", true, &["cards"]);
    std::fs::remove_dir_all(machine.lab.state()).unwrap();
    machine.lab.next().quiet();
    let explained = machine.lab.run(&["explain", "cards"]);
    assert!(explained.stdout.contains("skipped"), "{explained:?}");
}

#[test]
fn a_driver_that_hangs_holds_up_neither_the_cycle_nor_the_other_checks() {
    let Some(machine) = machine("xids = false\ntimeout = \"1s\"") else { return };
    let Machine { mut lab, nvml, sink: _ } = machine;
    let config = std::fs::read_to_string(lab.path("pulsecheck.toml")).unwrap();
    let site = Http::ok("hello");
    lab.config(&format!("{config}\n{}", site.check("site")));
    nvml.says(2, &["hang nvmlDeviceGetMemoryInfo_v2"]);
    let begun = Instant::now();
    lab.next().quiet();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let report = lab.next().expect("yellow", true, &["cards"]);
    let (item, action) = items(&report)[0];
    assert!(item.starts_with("cards: no answer from \"") && item.ends_with("within 1.0 s"), "{item}");
    assert_eq!(action, "see whether it hangs or is overloaded");
    assert_eq!(site.take().len(), 2, "the other check was looked at each time");
    nvml.healthy(2);
    lab.next().expect("green", true, &["cards"]);
}
