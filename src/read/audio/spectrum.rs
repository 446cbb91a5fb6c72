//! How flat a spectrum is: the one number that tells noise from everything that somebody made or said.

use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

/// Windows whose power is averaged for one spectrum. One window of white noise has a flatness of e^-γ = 0.56, since its
/// power scatters around a flat line; of eight half-overlapping ones it is 0.94.
const WINDOWS: usize = 8;
/// Where speech, music and the noise of broken models all are, and no lossy codec cuts anything off.
const BAND_HZ: (f64, f64) = (100.0, 7_000.0);
/// What was once sampled at a lower rate holds nothing above: the band ends with the last line that holds something, but
/// not below this, where telephones end.
const LEAST_TOP_HZ: f64 = 3_000.0;
/// A line this much (20 dB) below the mean holds nothing.
const NOTHING: f64 = 1e-2;
/// The band ends below this part of half the sample rate, where converters cut off.
const BELOW_NYQUIST: f64 = 0.9;
/// Fewer lines than this make no spectrum.
const LEAST_LINES: usize = 16;

/// Measures blocks of sound of one sample rate.
pub struct Spectrum {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    piece: Vec<f32>,
    lines: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
    power: Vec<f64>,
    band: std::ops::Range<usize>,
    /// Lines of the band that are in it whatever they hold.
    least: usize,
}

impl std::fmt::Debug for Spectrum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spectrum").field("window", &self.window.len()).field("band", &self.band).finish_non_exhaustive()
    }
}

impl Spectrum {
    /// Windows of about 20 ms: longer than a pitch period, shorter than a syllable.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "windows and lines are a few thousand"
    )]
    pub fn new(rate_hz: u32) -> Self {
        let length = usize::try_from(rate_hz / 50).unwrap_or(usize::MAX).clamp(64, 8_192).next_power_of_two();
        let fft = RealFftPlanner::new().plan_fft_forward(length);
        let turn = std::f64::consts::TAU / length as f64;
        let window = (0..length).map(|n| (0.5 - 0.5 * (turn * n as f64).cos()) as f32).collect();
        let line = |hz: f64| (hz * length as f64 / f64::from(rate_hz.max(1))).ceil() as usize;
        let top = BAND_HZ.1.min(f64::from(rate_hz) / 2.0 * BELOW_NYQUIST);
        Self {
            window,
            piece: fft.make_input_vec(),
            lines: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            power: vec![0.0; length / 2 + 1],
            band: line(BAND_HZ.0)..line(top),
            least: line(LEAST_TOP_HZ.min(top)).saturating_sub(line(BAND_HZ.0)),
            fft,
        }
    }

    /// Samples in a block: about 100 ms.
    #[must_use]
    pub fn block(&self) -> usize {
        self.window.len() / 2 * (WINDOWS + 1)
    }

    /// The flatness of a block within the band, from 0 (a tone) to 1 (perfectly white): the geometric mean of its power
    /// over the arithmetic one. None of a block of another length, without power, or of too low a sample rate.
    #[expect(clippy::cast_precision_loss, reason = "lines are a few thousand")]
    pub fn flatness(&mut self, block: &[f32]) -> Option<f64> {
        if block.len() != self.block() {
            return None;
        }
        self.power.fill(0.0);
        for samples in block.windows(self.window.len()).step_by(self.window.len() / 2) {
            for ((to, sample), weight) in self.piece.iter_mut().zip(samples).zip(&self.window) {
                *to = sample * weight;
            }
            self.fft.process_with_scratch(&mut self.piece, &mut self.lines, &mut self.scratch).ok()?;
            for (power, line) in self.power.iter_mut().zip(&self.lines) {
                *power += f64::from(line.norm_sqr());
            }
        }
        let band = self.power.get(self.band.clone()).filter(|band| band.len() >= LEAST_LINES)?;
        let sum = band.iter().sum::<f64>();
        if sum <= f64::MIN_POSITIVE {
            return None;
        }
        let something = sum / band.len() as f64 * NOTHING;
        let top = band.iter().rposition(|power| *power > something).map_or(0, |last| last + 1).max(self.least);
        let band = band.get(..top)?;
        let mean = band.iter().sum::<f64>() / band.len() as f64;
        // 100 dB below the mean a line is as good as nothing; its logarithm must not be minus infinity.
        let logs = band.iter().map(|power| (power / mean).max(1e-10).ln()).sum::<f64>() / band.len() as f64;
        Some(logs.exp())
    }
}
