//! What a stretch of samples sounds like, in numbers: how loud, how much of it silent, clipped, or noise. It keeps a block
//! and two numbers for each block heard, however long the file is.

use super::spectrum::Spectrum;

/// Channels that are listened to; what lies beyond is counted and not heard.
const MAX_CHANNELS: usize = 8;
/// A block below this is silence: -60 dBFS, the floor of a quiet recording.
const SILENT: f64 = 0.001;
/// Samples from here on, in either direction, lie at full scale: the last step of 16 bits, and half a step.
const FULL_SCALE: f32 = 1.0 - 1.5 / 32_768.0;
/// That many in a row at full scale are clipped: a wave that is not passes through its peak quicker.
const CLIPPED_RUN: u32 = 3;
/// Beyond this (18 dB over full scale) a floating-point sample is none.
const IMPOSSIBLE: f32 = 8.0;
/// A block of white noise is flatter than this (0.94), one of pink noise less flat (0.56), speech and music far less.
const NOISY: f64 = 0.75;
/// Of what is heard, blocks this much (30 dB) below the loud ones are pauses: their noise floor says nothing.
const PAUSE: f64 = 0.0316;
/// What stands for the level of nothing at all.
const FLOOR_DBFS: f64 = -144.0;

/// What was heard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sound {
    /// Seconds that were listened to.
    pub heard_s: f64,
    /// The largest sample; 1 is full scale.
    pub peak: f64,
    /// The mean power in dB below full scale, constant offset left out; -144 stands for nothing at all.
    pub rms_dbfs: f64,
    /// Percent of the time below -60 dBFS (of 8-bit samples: below one step).
    pub silence_percent: f64,
    /// The longest stretch of it in one piece.
    pub longest_silence_s: f64,
    /// Percent of samples in runs at full scale; none of 8-bit samples, whose steps are too coarse to tell.
    pub clipping_percent: Option<f64>,
    /// The median flatness of the spectrum over what is neither silence nor pause: speech below 0.2, pink noise 0.56, white
    /// noise 0.94.
    pub flatness: Option<f64>,
    /// Percent of the same time that is as flat as white noise.
    pub noise_percent: Option<f64>,
    /// Percent of samples that are no number or far beyond full scale.
    pub impossible_percent: f64,
}

/// Hears samples, block after block.
#[derive(Debug)]
pub struct Ear {
    rate_hz: f64,
    channels: usize,
    silent: f64,
    measures_clipping: bool,
    spectrum: Spectrum,
    /// The block that is being filled, for each channel.
    planes: Vec<Vec<f32>>,
    runs: Vec<u32>,
    samples: u64,
    impossible: u64,
    clipped: u64,
    frames: u64,
    silent_frames: u64,
    silence_run: u64,
    longest_silence: u64,
    peak: f32,
    /// Sums of squares.
    energy: f64,
    /// Loudness and flatness of each block that isn't silent.
    blocks: Vec<(f32, f32)>,
}

impl Ear {
    /// For interleaved samples of `channels` channels; `bits` is how finely they were stored.
    #[must_use]
    pub fn new(rate_hz: u32, channels: usize, bits: u32) -> Self {
        let heard = channels.clamp(1, MAX_CHANNELS);
        let step = 1.0 / f64::from(1_u32 << bits.saturating_sub(1).min(30));
        Self {
            rate_hz: f64::from(rate_hz.max(1)),
            channels: channels.max(1),
            silent: SILENT.max(step),
            measures_clipping: bits >= 16,
            spectrum: Spectrum::new(rate_hz),
            planes: vec![Vec::new(); heard],
            runs: vec![0; heard],
            samples: 0,
            impossible: 0,
            clipped: 0,
            frames: 0,
            silent_frames: 0,
            silence_run: 0,
            longest_silence: 0,
            peak: 0.0,
            energy: 0.0,
            blocks: Vec::new(),
        }
    }

    /// Hears what follows the last samples; a frame that isn't whole is left out.
    pub fn hear(&mut self, interleaved: &[f32]) {
        for frame in interleaved.chunks_exact(self.channels) {
            for ((plane, run), &sample) in self.planes.iter_mut().zip(&mut self.runs).zip(frame) {
                self.samples += 1;
                // Not a number is no smaller than anything.
                let possible = sample.abs() <= IMPOSSIBLE;
                self.impossible += u64::from(!possible);
                let sample = if possible { sample } else { 0.0 };
                self.peak = self.peak.max(sample.abs());
                if sample.abs() >= FULL_SCALE {
                    *run += 1;
                    self.clipped += match *run {
                        CLIPPED_RUN => u64::from(CLIPPED_RUN),
                        run => u64::from(run > CLIPPED_RUN),
                    };
                } else {
                    *run = 0;
                }
                plane.push(sample);
            }
            if self.planes.first().is_some_and(|plane| plane.len() >= self.spectrum.block()) {
                self.block();
            }
        }
    }

    /// What comes next does not follow what came last.
    pub fn gap(&mut self) {
        self.block();
        self.longest_silence = self.longest_silence.max(self.silence_run);
        self.silence_run = 0;
        self.runs.fill(0);
    }

    /// Weighs the block and begins a new one. The last one of a stretch may be short: it has no spectrum.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "blocks are short, and f32 is plenty"
    )]
    fn block(&mut self) {
        let length = self.planes.first().map_or(0, Vec::len);
        if length == 0 {
            return;
        }
        let (mut loudest, mut loudest_rms) = (None, 0.0);
        for plane in &mut self.planes {
            let mean = (plane.iter().copied().map(f64::from).sum::<f64>() / length as f64) as f32;
            for sample in plane.iter_mut() {
                *sample -= mean;
            }
            let energy = plane.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>();
            self.energy += energy;
            let rms = (energy / length as f64).sqrt();
            if rms > loudest_rms {
                (loudest, loudest_rms) = (Some(&*plane), rms);
            }
        }
        let frames = u64::try_from(length).unwrap_or(u64::MAX);
        self.frames += frames;
        if loudest_rms < self.silent {
            self.silent_frames += frames;
            self.silence_run += frames;
        } else {
            self.longest_silence = self.longest_silence.max(self.silence_run);
            self.silence_run = 0;
            let flatness = loudest.and_then(|plane| self.spectrum.flatness(plane));
            self.blocks.extend(flatness.map(|flatness| (loudest_rms as f32, flatness as f32)));
        }
        self.planes.iter_mut().for_each(Vec::clear);
    }

    /// What was heard in all; none when there was not one whole frame.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of minutes of samples fit 53 bits")]
    pub fn finish(mut self) -> Option<Sound> {
        self.gap();
        if self.frames == 0 {
            return None;
        }
        let of_samples = |n: u64| n as f64 / self.samples as f64 * 100.0;
        let mean_square = self.energy / (self.frames as f64 * self.planes.len() as f64);
        let loud = loud(&self.blocks);
        let mut flatness: Vec<f64> =
            self.blocks.iter().filter(|(rms, _)| f64::from(*rms) >= loud * PAUSE).map(|(_, f)| f64::from(*f)).collect();
        flatness.sort_by(f64::total_cmp);
        let noisy = flatness.len() - flatness.partition_point(|flatness| *flatness < NOISY);
        Some(Sound {
            heard_s: self.frames as f64 / self.rate_hz,
            peak: f64::from(self.peak),
            rms_dbfs: (10.0 * mean_square.log10()).max(FLOOR_DBFS),
            silence_percent: self.silent_frames as f64 / self.frames as f64 * 100.0,
            longest_silence_s: self.longest_silence as f64 / self.rate_hz,
            clipping_percent: self.measures_clipping.then(|| of_samples(self.clipped)),
            flatness: flatness.get(flatness.len() / 2).copied(),
            noise_percent: (!flatness.is_empty()).then(|| noisy as f64 / flatness.len() as f64 * 100.0),
            impossible_percent: of_samples(self.impossible),
        })
    }
}

/// How loud the loud blocks are: the level that one in twenty exceeds, so that a click is not taken for it.
fn loud(blocks: &[(f32, f32)]) -> f64 {
    let mut levels: Vec<f32> = blocks.iter().map(|(rms, _)| *rms).collect();
    levels.sort_by(f32::total_cmp);
    levels.get(levels.len() * 19 / 20).copied().map_or(0.0, f64::from)
}
