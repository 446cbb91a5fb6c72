//! Sound that a job wrote: five files of the same name, the same format and the same exit status, told apart.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::format_push_string,
    reason = "signals, and a config that is put together"
)]

use std::f64::consts::{PI, TAU};
use std::io::Cursor;

use crate::support::Lab;

const RATE: u32 = 16_000;

/// Random numbers from -1 to 1.
fn white(samples: usize) -> Vec<f64> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from((state >> 33) as u32) / f64::from(1_u32 << 30) - 1.0
    };
    (0..samples).map(|_| next()).collect()
}

/// Noise through three formants, in syllables.
fn speech(samples: usize) -> Vec<f64> {
    let mut voice = vec![0.0; samples];
    for (hz, width) in [(500.0, 80.0), (1_500.0, 120.0), (2_500.0, 160.0)] {
        let r = (-PI * width / f64::from(RATE)).exp();
        let a1 = 2.0 * r * (TAU * hz / f64::from(RATE)).cos();
        let (mut y1, mut y2) = (0.0, 0.0);
        for (out, x) in voice.iter_mut().zip(white(samples)) {
            let y = x * (1.0 - r) + a1 * y1 - r * r * y2;
            (y2, y1) = (y1, y);
            *out += y;
        }
    }
    let syllable = |n: usize| (n as f64 / f64::from(RATE) * 4.0 * PI).sin().powi(2);
    voice.iter().enumerate().map(|(n, x)| x * syllable(n)).collect()
}

fn wav(samples: &[f64]) -> Vec<u8> {
    let sample_format = hound::SampleFormat::Int;
    let spec = hound::WavSpec { channels: 1, sample_rate: RATE, bits_per_sample: 16, sample_format };
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    for x in samples {
        writer.write_sample((x * 32_767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
    file.into_inner()
}

#[test]
fn speech_silence_static_half_a_file_and_none_are_told_apart() {
    const LENGTH: usize = 4 * RATE as usize;
    let spoken = wav(&speech(LENGTH));
    let noise: Vec<f64> = white(LENGTH).iter().map(|x| x * 0.2).collect();
    let files = [
        ("speech", spoken.clone()),
        ("silence", wav(&vec![0.0; LENGTH])),
        ("static", wav(&noise)),
        ("cut", spoken[..spoken.len() / 3].to_vec()),
        ("nothing", Vec::new()),
    ];
    let mut config = String::new();
    for (name, _) in &files {
        config += &format!(
            "[check.{name}]\nkind = \"output\"\npath = \"~/out/{name}.wav\"\nformat = \"wav\"\nmin_duration = \"2s\"\nsettle = \"0s\"\n"
        );
    }
    let mut lab = Lab::with(&config);
    for (name, _) in &files {
        written(&lab, name, &spoken);
    }
    lab.cycle().quiet();

    lab.pass(15);
    for (name, bytes) in &files {
        written(&lab, name, bytes);
    }
    let report = lab.cycle().expect("red", true, &["cut", "nothing", "silence"]);
    let item = |report: &serde_json::Value, at: usize| report["top_3"][at]["item"].as_str().unwrap().to_owned();
    assert_eq!(
        item(&report, 0),
        "cut: `~/out/cut.wav` is cut off: of the 4.0 s that its header promises 1.3 s are there"
    );
    assert_eq!(item(&report, 1), "nothing: `~/out/nothing.wav` is empty: it holds nothing");
    assert_eq!(item(&report, 2), "silence: `~/out/silence.wav` is silent: 100.0 % of its 4.0 s lie below -60 dBFS");
    assert!(report["notes"].as_str().unwrap().contains("static"), "{report:#}");
    let shown = lab.run(&["explain", "static"]).stdout;
    assert!(shown.contains("is static: 100 % of what is loud in its 4.0 s is noise"), "{shown}");
    let shown = lab.run(&["explain", "speech"]).stdout;
    assert!(shown.contains("duration_s") && shown.contains("flatness"), "{shown}");

    // The next run brings speech everywhere, and nothing is left to say.
    lab.pass(15);
    for (name, _) in &files {
        written(&lab, name, &spoken);
    }
    lab.cycle().expect("green", true, &["cut", "nothing", "silence"]);
    lab.next().quiet();
}

/// Writes a file as of the lab's time.
fn written(lab: &Lab, name: &str, bytes: &[u8]) {
    let path = lab.write(&format!("out/{name}.wav"), bytes);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::from(lab.now)).unwrap();
}
