//! A pipeline that turns chapters into sound on a GPU, watched by the pack for it: what goes wrong in silence is told apart,
//! each from what looks like it and is well.

use std::fs::{File, Permissions};
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use serde_json::Value;

use crate::support::nvml::Nvml;
use crate::support::{Lab, Ran};

/// Samples a second of the sounds.
const RATE: u32 = 16_000;

/// The pipeline: a queue, a worker, a card, sounds and a catalog.
struct Pipeline {
    lab: Lab,
    nvml: Nvml,
    worker: Option<Worker>,
}

/// A process that ends with the test.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Pipeline {
    /// At rest, and that is quiet: everything done, no worker, a catalog of yesterday. None where nothing can stand in for
    /// NVIDIA's library.
    fn at_rest() -> Option<Self> {
        let lab = Lab::new();
        let nvml = Nvml::new(&lab.path("driver"), 1)?;
        let pack = std::fs::read_to_string("checks/gpu-worker.toml").unwrap();
        let library = format!("library = \"{}\"\nsample_every = \"1ms\"\nxids = false\n", nvml.library().display());
        lab.config(&pack.replace("kind = \"gpu\"\n", &format!("kind = \"gpu\"\n{library}")));
        std::fs::create_dir_all(lab.path("gpu-worker")).unwrap();
        let queue = Connection::open(lab.path("gpu-worker/queue.db")).unwrap();
        queue.execute_batch("CREATE TABLE tasks (id TEXT, status TEXT, started_at TEXT)").unwrap();
        drop(queue);
        let pipeline = Self { lab, nvml, worker: None };
        pipeline.task("chapter-46", "done", 20 * 60);
        pipeline.wrote("out/chapter-46.wav", &speech(), 16 * 60);
        pipeline.wrote("catalog/index.json", b"{}", 16 * 60);
        pipeline.lab.cycle().quiet();
        Some(pipeline)
    }

    /// At work on a chapter for an hour and more, all well.
    fn at_work() -> Option<Self> {
        let mut pipeline = Self::at_rest()?;
        pipeline.begin_work(40);
        pipeline.advances(1);
        for _ in 0..2 {
            pipeline.next().quiet();
        }
        Some(pipeline)
    }

    fn begin_work(&mut self, minutes_ago: i64) {
        self.task("chapter-47", "processing", minutes_ago);
        self.worker_starts();
        self.nvml.says(1, &["0.busy 96"]);
    }

    /// A quarter of an hour later; the pipeline wrote its catalog meanwhile, if it does.
    fn next(&mut self) -> Ran {
        self.lab.pass(15);
        self.advances(1);
        self.lab.cycle()
    }

    /// The same with nothing written.
    fn next_without_progress(&mut self) -> Ran {
        self.lab.next()
    }

    fn ago(&self, minutes: i64) -> Timestamp {
        self.lab.now - SignedDuration::from_mins(minutes)
    }

    /// A task that has been at a status for so long; another status than before is written over it.
    fn task(&self, id: &str, status: &str, minutes_ago: i64) {
        let queue = Connection::open(self.lab.path("gpu-worker/queue.db")).unwrap();
        queue.execute("DELETE FROM tasks WHERE id = ?", [id]).unwrap();
        let row = [id, status, &self.ago(minutes_ago).to_string()];
        queue.execute("INSERT INTO tasks VALUES (?, ?, ?)", row).unwrap();
    }

    fn wrote(&self, name: &str, bytes: &[u8], minutes_ago: i64) {
        let path = self.lab.write(&format!("gpu-worker/{name}"), bytes);
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::from(self.ago(minutes_ago))).unwrap();
    }

    fn advances(&self, minutes_ago: i64) {
        self.wrote("catalog/index.json", b"{}", minutes_ago);
    }

    fn worker_starts(&mut self) {
        let mut command = Command::new("sleep");
        let child = command.arg("600").stdin(Stdio::null()).spawn().unwrap();
        self.lab.write("gpu-worker/worker.pid", format!("{}\n", child.id()));
        self.worker = Some(Worker(child));
    }

    fn worker_dies(&mut self) {
        self.worker = None;
    }
}

/// The status and the checks of the report's items, by name and without what they all begin with.
#[track_caller]
fn says(ran: &Ran) -> String {
    let (status, _, mut items) = ran.says();
    items.sort();
    let items: Vec<&str> = items.iter().map(|item| item.trim_start_matches("gpu-worker-")).collect();
    format!("{status}: {}", items.join(", "))
}

/// What a rule says and what is to be done.
#[track_caller]
fn verdict(ran: &Ran, check: &str) -> (String, String) {
    let report = ran.report();
    let items = report["top_3"].as_array().unwrap();
    let item = items.iter().find(|item| item["check"] == format!("gpu-worker-{check}"));
    let item: &Value = item.unwrap_or_else(|| panic!("no item of {check}: {report:#}"));
    let text = |key: &str| item[key].as_str().unwrap().to_owned();
    (text("item"), text("action"))
}

fn words(check: &str, says: &str, action: &str) -> (String, String) {
    (format!("gpu-worker-{check}: {says}"), action.to_owned())
}

/// Three seconds of 16 bits.
fn wav(sample: impl FnMut(u32) -> f64) -> Vec<u8> {
    let sample_format = hound::SampleFormat::Int;
    let spec = hound::WavSpec { channels: 1, sample_rate: RATE, bits_per_sample: 16, sample_format };
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    for sample in (0..3 * RATE).map(sample) {
        #[expect(clippy::cast_possible_truncation, reason = "a sample is from -1 to 1")]
        writer.write_sample((sample * 20_000.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
    file.into_inner()
}

/// A voice: a low tone with its overtones, in four syllables a second.
fn speech() -> Vec<u8> {
    let turn = std::f64::consts::TAU / f64::from(RATE);
    wav(|n| {
        let tone: f64 = (1..12).map(|over| (turn * 140.0 * f64::from(over * n)).sin() / f64::from(over)).sum();
        tone * (turn * 2.0 * f64::from(n)).sin().powi(2) * 0.4
    })
}

/// Every sample is any number: a model of which the weights are broken.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    wav(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f64::from(u32::try_from(state >> 32).unwrap()) / f64::from(u32::MAX) - 0.5
    })
}

#[test]
fn a_pipeline_at_rest_or_at_work_is_quiet_on_any_host() {
    let Some(mut pipeline) = Pipeline::at_work() else { return };
    // Done, and no worker any more; a day later a game makes the card busy.
    pipeline.task("chapter-47", "done", 90);
    pipeline.worker_dies();
    pipeline.nvml.says(1, &["0.busy 100"]);
    pipeline.lab.pass(24 * 60);
    for _ in 0..4 {
        pipeline.next_without_progress().quiet();
    }
    // As it is shipped, on a host without a driver, before anything was ever made.
    let lab = Lab::with("include = [\"pack:gpu-worker\"]\n");
    let queue = lab.write("gpu-worker/queue.db", "");
    let queue = Connection::open(queue).unwrap();
    queue.execute_batch("CREATE TABLE tasks (id TEXT, status TEXT, started_at TEXT)").unwrap();
    drop(queue);
    if std::path::Path::new("/proc/driver/nvidia").exists() {
        eprintln!("not tested without a driver: there is one here");
    } else {
        lab.cycle().quiet();
    }
}

#[test]
fn a_stuck_task_with_a_dead_worker_is_told_from_one_whose_worker_hangs() {
    let Some(mut pipeline) = Pipeline::at_work() else { return };
    // A long chapter that goes on is no trouble.
    pipeline.task("chapter-47", "processing", 2 * 60);
    pipeline.next().quiet();
    pipeline.task("chapter-47", "processing", 4 * 60);
    let ran = pipeline.next();
    assert_eq!(says(&ran), "red: hung, queue");
    assert_eq!(
        verdict(&ran, "hung"),
        words(
            "hung",
            "a task is stuck and its worker is alive: it hangs",
            "kill the worker, put the task back into the queue, start the worker"
        )
    );
    let task = verdict(&ran, "queue").0;
    assert!(task.contains("\"chapter-47\"") && task.contains("4 h 15 min"), "{task}");

    pipeline.worker_dies();
    let ran = pipeline.next();
    assert_eq!(says(&ran), "red: hung, orphaned, queue", "the one has just closed");
    assert_eq!(
        verdict(&ran, "orphaned"),
        words(
            "orphaned",
            "a task is stuck and its worker is dead",
            "mark the task as failed, put it back into the queue, start the worker"
        )
    );
    // Requeued and taken up anew: all of it is over.
    pipeline.begin_work(1);
    assert_eq!(says(&pipeline.next()), "green: orphaned, queue");
    pipeline.next().quiet();
}

#[test]
fn work_that_nobody_does_is_said_before_it_is_stuck_and_a_worker_that_rests_is_not() {
    let Some(mut pipeline) = Pipeline::at_work() else { return };
    pipeline.worker_dies();
    pipeline.next().quiet();
    pipeline.next().expect("yellow", true, &["gpu-worker-down"]);
    let ran = pipeline.next();
    ran.expect("red", true, &["gpu-worker-down"]);
    assert_eq!(
        verdict(&ran, "down"),
        words(
            "down",
            "there are tasks in the queue and no worker runs",
            "start the worker, see in its log why it ended"
        )
    );
    pipeline.task("chapter-47", "done", 1);
    pipeline.next().expect("green", true, &["gpu-worker-down"]);
}

#[test]
fn a_busy_card_with_nothing_advancing_is_told_from_one_that_works() {
    let Some(mut pipeline) = Pipeline::at_work() else { return };
    pipeline.nvml.says(1, &["0.busy 98"]);
    for _ in 0..3 {
        pipeline.next().quiet();
    }
    // The next chapter, and nothing is written any more. For half an hour that is patience.
    pipeline.task("chapter-48", "processing", 1);
    pipeline.task("chapter-47", "done", 1);
    pipeline.next_without_progress().quiet();
    pipeline.next_without_progress().expect("red", true, &["gpu-worker-catalog"]);
    let ran = pipeline.next_without_progress();
    assert_eq!(says(&ran), "red: busy-for-nothing, catalog");
    assert_eq!(
        verdict(&ran, "busy-for-nothing"),
        words(
            "busy-for-nothing",
            "the GPU is busy at 98 % or more while nothing advances",
            "see what the worker computes, then restart it"
        )
    );
    let report = pipeline.next_without_progress().report();
    let levels: Vec<&Value> = report["top_3"].as_array().unwrap().iter().map(|item| &item["level"]).collect();
    assert_eq!(levels, ["red", "red"], "three in a row are a pattern");
    // It stands still as well with a card that does nothing: that is not this.
    pipeline.nvml.says(1, &["0.busy 0"]);
    assert_eq!(says(&pipeline.next_without_progress()), "red: busy-for-nothing, catalog", "the one has just closed");
    pipeline.next_without_progress().expect("red", false, &["gpu-worker-catalog"]);
}

#[test]
fn a_full_card_with_nothing_advancing_is_told_from_one_that_is_full_of_work() {
    let Some(mut pipeline) = Pipeline::at_work() else { return };
    // Full and busy, and the chapter grows: the card alone is said, and only as a warn.
    pipeline.nvml.says(1, &["0.busy 99", "0.free 500000000"]);
    pipeline.next().quiet();
    pipeline.next().expect("yellow", true, &["gpu-worker-gpu/gpu0"]);
    for _ in 0..2 {
        pipeline.next().expect("yellow", false, &["gpu-worker-gpu/gpu0"]);
    }
    // The next chapter has been begun, and nothing of it is written.
    pipeline.task("chapter-48", "processing", 20);
    pipeline.task("chapter-47", "done", 20);
    for _ in 0..4 {
        pipeline.next_without_progress();
    }
    let ran = pipeline.next_without_progress();
    assert_eq!(says(&ran), "red: catalog, gpu/gpu0, out-of-memory", "one cause is named");
    assert_eq!(
        verdict(&ran, "out-of-memory"),
        words(
            "out-of-memory",
            "the GPU has next to no memory left and nothing advances",
            "let the worker free the card's memory, or restart it"
        )
    );
}

#[test]
fn sound_that_is_no_speech_while_the_worker_goes_on_is_a_broken_model() {
    for (bytes, why) in [
        (noise(), "static"),
        (wav(|_| 0.0), "silence"),
        (Vec::new(), "nothing"),
        (speech()[..30_000].to_vec(), "the end is missing"),
    ] {
        let Some(mut pipeline) = Pipeline::at_work() else { return };
        pipeline.wrote("out/chapter-47.wav", &bytes, 2);
        let ran = pipeline.next();
        assert_eq!(says(&ran), "red: audio, garbage", "{why}");
        assert_eq!(
            verdict(&ran, "garbage"),
            words(
                "garbage",
                "the newest sound is no speech while the worker goes on",
                "kill the worker and start it with a freshly loaded model"
            )
        );
        let audio = verdict(&ran, "audio").0;
        assert!(audio.contains("chapter-47.wav"), "{why}: {audio}");
        // A good one after it, and all is well.
        pipeline.wrote("out/chapter-48.wav", &speech(), 1);
        assert_eq!(says(&pipeline.next()), "green: audio, garbage");
    }
    // The same sound with everything done and no worker: there is nothing to restart.
    let Some(pipeline) = Pipeline::at_rest() else { return };
    pipeline.wrote("out/chapter-47.wav", &noise(), 2);
    pipeline.lab.cycle().expect("red", true, &["gpu-worker-audio"]);
}

#[test]
fn what_could_not_be_looked_at_speaks_for_itself_and_takes_no_part_in_the_verdicts() {
    let Some(mut pipeline) = Pipeline::at_work() else { return };
    // A driver that answers with an error, and a queue that is no database any more.
    pipeline.nvml.says(1, &["init 999"]);
    let queue = pipeline.lab.write("gpu-worker/queue.db", "no database, and long enough to be seen as none".repeat(40));
    std::fs::set_permissions(queue, Permissions::from_mode(0o600)).unwrap();
    pipeline.next();
    pipeline.next();
    assert_eq!(says(&pipeline.next()), "red: gpu, queue");
}
