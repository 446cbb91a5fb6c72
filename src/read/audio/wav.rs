//! WAV: finds the samples behind whatever stands before them. What the header says of lengths is a promise that is held
//! against the file; nothing is read because of it.

use std::io::{Read, Seek, SeekFrom};

use super::sound::Ear;
use super::{Audio, Coding, Deaf, HEARD_S, STRETCH_S, not_a, read_up_to};

/// Chunks that may stand before the samples.
const MAX_CHUNKS: usize = 1_000;
/// What writers that can't come back to their header (into a pipe) put down lies from here on: no promise.
const NO_SIZE: u64 = 0x7fff_0000;
/// Writers miscount by a chunk's head or a rounding: when no more than this is missing, nothing is.
const SLIP_S: f64 = 0.05;
/// Frames decoded at a time.
const FRAMES_AT_ONCE: u64 = 16 * 1024;
/// Bytes taken at once.
const BYTES_AT_ONCE: u64 = 1 << 20;
/// Sample rates that exist.
const RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// How the samples are stored.
#[derive(Debug, Clone, Copy)]
struct Form {
    float: bool,
    /// Bytes of a sample.
    width: usize,
    channels: u16,
    rate_hz: u32,
}

impl Form {
    /// Bytes of one sample of all channels.
    fn frame(self) -> u64 {
        u64::from(self.channels) * u64::try_from(self.width).unwrap_or(u64::MAX)
    }
}

/// Where the samples are.
struct Samples {
    form: Form,
    start: u64,
    /// Bytes that are there.
    there: u64,
    /// Bytes that the header promises, where it does.
    promised: Option<u64>,
}

/// Hears a WAV file of `length` bytes; at most `max_bytes` of its samples are read, spread over all of it.
pub(super) fn wav(reader: &mut (impl Read + Seek), length: u64, max_bytes: u64) -> Result<Audio, Deaf> {
    let Samples { form, start, there, promised } = find(reader, length)?;
    let frames = there / form.frame();
    if frames == 0 {
        return Err(Deaf::Nothing("it has a header and no sound"));
    }
    let bits = u32::try_from(form.width * 8).unwrap_or(u32::MAX);
    let mut ear = Ear::new(form.rate_hz, usize::from(form.channels), bits);
    let most = (u64::from(HEARD_S) * u64::from(form.rate_hz)).min(max_bytes / form.frame()).max(1);
    for (first, count) in stretches(frames, most, u64::from(STRETCH_S) * u64::from(form.rate_hz)) {
        reader.seek(SeekFrom::Start(start + first * form.frame()))?;
        hear(reader, form, count, &mut ear)?;
        ear.gap();
    }
    let sound = ear.finish().ok_or(Deaf::Nothing("it has a header and no sound"))?;
    let duration_s = seconds(frames, form);
    let promised_s = promised.map(|bytes| seconds(bytes / form.frame(), form));
    Ok(Audio {
        bytes: length,
        codec: format!("{}_{bits}", if form.float { "float" } else { "pcm" }),
        channels: u32::from(form.channels),
        rate_hz: form.rate_hz,
        duration_s,
        promised_s,
        ends_early: promised_s.is_some_and(|promised| promised - duration_s > SLIP_S),
        cut: false,
        sound,
    })
}

#[expect(clippy::cast_precision_loss, reason = "frames fit 53 bits")]
fn seconds(frames: u64, form: Form) -> f64 {
    frames as f64 / f64::from(form.rate_hz)
}

/// The first frame and the length of what is heard: all of it, or stretches that lie evenly from the start to the end.
pub(super) fn stretches(frames: u64, most: u64, stretch: u64) -> Vec<(u64, u64)> {
    if frames <= most {
        return vec![(0, frames)];
    }
    let stretch = stretch.min(most);
    let number = (most / stretch).max(1);
    let first = |n: u64| {
        let last = u128::from(frames - stretch);
        u64::try_from(last * u128::from(n) / u128::from(number.saturating_sub(1).max(1))).unwrap_or(0)
    };
    (0..number).map(|n| (first(n), stretch)).collect()
}

/// Hears `frames` from where the reader is, or as many as there are.
fn hear(reader: &mut impl Read, form: Form, frames: u64, ear: &mut Ear) -> Result<(), Deaf> {
    let mut left = frames;
    let mut bytes = Vec::new();
    let mut samples = Vec::new();
    while left > 0 {
        // A header may claim 65,535 channels: what is taken at once is bounded in bytes as well.
        let now = left.min(FRAMES_AT_ONCE).min((BYTES_AT_ONCE / form.frame()).max(1));
        bytes.resize(usize::try_from(now * form.frame()).unwrap_or(0), 0);
        let got = read_up_to(reader, &mut bytes)?;
        samples.clear();
        decode(bytes.get(..got).unwrap_or_default(), form, &mut samples);
        ear.hear(&samples);
        if got < bytes.len() {
            break;
        }
        left -= now;
    }
    Ok(())
}

/// Stored samples as numbers from -1 to 1.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "24 bits of each sample are enough")]
fn decode(bytes: &[u8], form: Form, samples: &mut Vec<f32>) {
    const WHOLE: f32 = 2_147_483_648.0;
    match (form.float, form.width) {
        (true, 4) => samples.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
        (true, _) => samples.extend(bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32)),
        (false, 1) => samples.extend(bytes.iter().map(|&b| (f32::from(b) - 128.0) / 128.0)),
        (false, 2) => samples.extend(bytes.as_chunks().0.iter().map(|&b| f32::from(i16::from_le_bytes(b)) / 32_768.0)),
        (false, 3) => {
            let wide = |&[a, b, c]: &[u8; 3]| i32::from_le_bytes([0, a, b, c]) as f32 / WHOLE;
            samples.extend(bytes.as_chunks().0.iter().map(wide));
        }
        (false, _) => samples.extend(bytes.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b) as f32 / WHOLE)),
    }
}

/// Walks the chunks to the samples.
fn find(reader: &mut (impl Read + Seek), length: u64) -> Result<Samples, Deaf> {
    let mut head = [0; 12];
    let got = read_up_to(reader, &mut head)?;
    let long = match &head {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E'] => false,
        [b'R', b'F', b'6', b'4', _, _, _, _, b'W', b'A', b'V', b'E']
        | [b'B', b'W', b'6', b'4', _, _, _, _, b'W', b'A', b'V', b'E'] => true,
        [b'R', b'I', b'F', b'X', ..] => {
            return Err(Deaf::Unread(
                "is a WAV file with its bytes in the other order (RIFX), which is not read".into(),
            ));
        }
        [b'R', b'I', b'F', b'F', ..] if got < head.len() => return Err(broken("it ends within its header")),
        _ => return Err(not_a(Coding::Wav, head.get(..got).unwrap_or_default())),
    };
    let whole = u64::from(le32(&head, 4)).saturating_add(8);
    let mut form = None;
    let mut long_size = None;
    let mut at = 12;
    for _ in 0..MAX_CHUNKS {
        let mut chunk = [0; 8];
        reader.seek(SeekFrom::Start(at))?;
        if read_up_to(reader, &mut chunk)? < chunk.len() {
            return Err(broken("it ends before its samples begin"));
        }
        let [id @ .., _, _, _, _] = chunk;
        let size = u64::from(le32(&chunk, 4));
        let body = at + 8;
        match &id {
            b"fmt " => form = Some(format(&beginning(reader, size)?)?),
            b"ds64" if long => {
                long_size = beginning(reader, size)?.get(8..16).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
            }
            b"data" => {
                let Some(form) = form else { return Err(broken("its samples stand before their format")) };
                let there = length.saturating_sub(body);
                let size = long_size.filter(|_| size == u64::from(u32::MAX)).unwrap_or(size);
                // Nothing promised, by a header that knows how long the file is: what follows are other chunks.
                let none = size == 0 && whole.abs_diff(length) <= 1;
                let no_promise = (size == 0 && !none) || (size >= NO_SIZE && size > there && long_size.is_none());
                let promised = (!no_promise).then_some(size);
                return Ok(Samples { form, start: body, there: there.min(promised.unwrap_or(there)), promised });
            }
            _ => {}
        }
        at = body.saturating_add(size);
        if size % 2 == 1 {
            // A chunk of odd length is followed by a zero, which some writers forget: no chunk's name begins with one.
            let mut pad = [0];
            reader.seek(SeekFrom::Start(at))?;
            at += u64::from(read_up_to(reader, &mut pad)? == 1 && pad == [0]);
        }
    }
    Err(broken("its samples are not among the first 1,000 chunks"))
}

fn broken(why: &str) -> Deaf {
    Deaf::Malformed(format!("is a broken WAV file: {why}"))
}

/// The beginning of a chunk, as far as anything in it matters.
fn beginning(reader: &mut impl Read, size: u64) -> Result<Vec<u8>, Deaf> {
    let mut bytes = vec![0; usize::try_from(size.min(64)).unwrap_or(0)];
    let got = read_up_to(reader, &mut bytes)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// The format chunk.
fn format(chunk: &[u8]) -> Result<Form, Deaf> {
    if chunk.len() < 16 {
        return Err(broken("its format is cut off"));
    }
    let (channels, rate_hz) = (le16(chunk, 2), le32(chunk, 4));
    let (frame, bits) = (le16(chunk, 12), le16(chunk, 14));
    let tag = match le16(chunk, 0) {
        0xfffe if chunk.len() < 40 => return Err(broken("its format is cut off")),
        0xfffe => le16(chunk, 24),
        tag => tag,
    };
    if channels == 0 || !RATES_HZ.contains(&rate_hz) {
        return Err(broken(&format!("its header says {channels} channels at {rate_hz} Hz")));
    }
    let float = match tag {
        1 => false,
        3 => true,
        other => {
            let name = match other {
                2 | 0x11 => "ADPCM".to_owned(),
                6 | 7 => "A-law or µ-law".to_owned(),
                0x50 | 0x55 => "MPEG audio".to_owned(),
                other => format!("the codec 0x{other:04x}"),
            };
            return Err(Deaf::Unread(format!("is a WAV file that holds {name}, which is not read")));
        }
    };
    // What a sample takes is by the frame; the bits may be fewer (20 in 24).
    let width = if frame == 0 { bits.div_ceil(8) } else { frame / channels };
    let whole = frame == 0 || frame.is_multiple_of(channels);
    let fits = if float { matches!(width, 4 | 8) } else { matches!(width, 1..=4) };
    if !whole || !fits || bits > width * 8 {
        return Err(broken(&format!("its header says {bits} bits in {frame} bytes for {channels} channels")));
    }
    Ok(Form { float, width: usize::from(width), channels, rate_hz })
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}
