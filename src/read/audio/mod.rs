//! Sound files: how long they are, whether that is what their header promises, and what they sound like. Long ones are
//! heard in stretches spread over the whole; what was not heard is said.

#[cfg(feature = "audio")]
mod packed;
mod sound;
mod spectrum;
#[cfg(test)]
pub(crate) mod tests;
mod wav;

use std::io::{Read, Seek, SeekFrom};

pub use sound::Sound;

/// Seconds of a file that are listened to.
const HEARD_S: u32 = 300;
/// A longer file is heard in stretches of so many seconds.
const STRETCH_S: u32 = 2;
/// Percent of samples that may be no samples: a writer that mixed up its formats has many.
const IMPOSSIBLE_PERCENT: f64 = 0.1;

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RIFF, RF64 or BW64 with PCM or floating-point samples.
    Wav,
    /// MPEG audio, layer 3 (and 1 and 2).
    Mp3,
    /// FLAC.
    Flac,
    /// Ogg with Vorbis or FLAC.
    Ogg,
}

impl Coding {
    /// Whether this build reads it.
    #[must_use]
    pub fn is_built_in(self) -> bool {
        self == Self::Wav || cfg!(feature = "audio")
    }

    fn file(self) -> &'static str {
        match self {
            Self::Wav => "a WAV file",
            Self::Mp3 => "an mp3 file",
            Self::Flac => "a FLAC file",
            Self::Ogg => "an Ogg file",
        }
    }
}

/// What is known of a sound file.
#[derive(Debug, Clone, PartialEq)]
pub struct Audio {
    /// Bytes of the file.
    pub bytes: u64,
    /// How its samples are stored: `pcm_16`, `float_32`, `mp3`, `flac`, `vorbis`.
    pub codec: String,
    /// How many channels.
    pub channels: u32,
    /// Samples a second.
    pub rate_hz: u32,
    /// Seconds of sound that are there.
    pub duration_s: f64,
    /// Seconds that the header promises, where it promises any.
    pub promised_s: Option<f64>,
    /// Whether the end is missing.
    pub ends_early: bool,
    /// Whether the limit on bytes came before the end, so that the length is what the header or the beginning says.
    pub cut: bool,
    /// What it sounds like.
    pub sound: Sound,
}

/// Why nothing was heard.
#[derive(Debug)]
pub enum Deaf {
    /// Reading failed.
    Io(std::io::Error),
    /// There is no sound in it, and in which way.
    Nothing(&'static str),
    /// It isn't what it should be: a fragment that follows the file's name (`is not a WAV file: …`).
    Malformed(String),
    /// It is well as far as can be told, and not read: a fragment that follows the file's name.
    Unread(String),
    /// The format isn't in this build.
    NotInThisBuild,
}

impl From<std::io::Error> for Deaf {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Listens to a file, reading at most `max_bytes`. CPU-bound: call on a lane.
pub fn audio(mut reader: impl Read + Seek + Send + Sync, coding: Coding, max_bytes: u64) -> Result<Audio, Deaf> {
    let bytes = reader.seek(SeekFrom::End(0))?;
    if bytes == 0 {
        return Err(Deaf::Nothing("it holds nothing"));
    }
    reader.seek(SeekFrom::Start(0))?;
    let heard = match coding {
        Coding::Wav => wav::wav(&mut reader, bytes, max_bytes)?,
        #[cfg(feature = "audio")]
        Coding::Mp3 | Coding::Flac | Coding::Ogg => packed::packed(&mut reader, coding, bytes, max_bytes)?,
        #[cfg(not(feature = "audio"))]
        Coding::Mp3 | Coding::Flac | Coding::Ogg => return Err(Deaf::NotInThisBuild),
    };
    let impossible = heard.sound.impossible_percent;
    if impossible > IMPOSSIBLE_PERCENT {
        let said = format!("holds no sound: {impossible:.1} % of its samples are no number or far beyond full scale");
        return Err(Deaf::Malformed(said));
    }
    Ok(heard)
}

/// Why a file is not of its format, by what it begins with.
fn not_a(coding: Coding, head: &[u8]) -> Deaf {
    let like = match head {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => Coding::Wav.file(),
        [b'O', b'g', b'g', b'S', ..] => Coding::Ogg.file(),
        [b'f', b'L', b'a', b'C', ..] => Coding::Flac.file(),
        [b'I', b'D', b'3', ..] | [0xff, 0xe2..=0xe7 | 0xf2..=0xf7 | 0xfa..=0xff, ..] => Coding::Mp3.file(),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "an MP4 file",
        [b'F', b'O', b'R', b'M', ..] => "an AIFF file",
        [0x1a, 0x45, 0xdf, 0xa3, ..] => "a WebM file",
        [0, 0, 0, 0, ..] => "a hole: zero bytes",
        [first, ..] if head.iter().take(12).all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => {
            if *first == b'<' {
                "a web page"
            } else {
                "text"
            }
        }
        _ => "nothing known",
    };
    let like = if like == coding.file() { "one, and its header makes no sense" } else { like };
    Deaf::Malformed(format!("is not {}: it begins like {like}", coding.file()))
}

/// Reads what is there, at most as much as there is room; how much that was.
fn read_up_to(reader: &mut impl Read, room: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
