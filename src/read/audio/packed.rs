//! mp3, FLAC and Ogg: every packet is counted, for the length; the packets of some stretches are decoded, for the sound.

use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use symphonia::core::codecs::audio::well_known as codec_id;
use symphonia::core::codecs::audio::{AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::packet::Packet;
use symphonia::default::formats::{FlacReader, MpaReader, OggReader};

use super::sound::Ear;
use super::{Audio, Coding, Deaf, HEARD_S, STRETCH_S, not_a, read_up_to};

/// An mp3's first frame lies this near to its beginning, or what was found is chance.
const FIRST_FRAME_WITHIN: u64 = 128 * 1024;
/// After a jump a decoder's first packets are wrong: they build on those before.
const WARM_UP: u32 = 10;
/// Percent of packets that may be broken.
const BROKEN_PERCENT: u64 = 5;
/// A header counts in packets: when no more than this is missing, nothing is.
const SLIP_S: f64 = 0.15;

/// The file from some place on, with a limit on what is read of it.
struct Bounded<R> {
    reader: R,
    start: u64,
    length: u64,
    left: u64,
    seen: Arc<Seen>,
}

/// What was read of a file.
#[derive(Default)]
struct Seen {
    bytes: AtomicU64,
    cut: AtomicBool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let most = room.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 && !room.is_empty() {
            self.seen.cut.store(true, Ordering::Relaxed);
        }
        let got = self.reader.read(room.get_mut(..most).unwrap_or_default())?;
        let got_bytes = u64::try_from(got).unwrap_or(u64::MAX);
        self.left = self.left.saturating_sub(got_bytes);
        self.seen.bytes.fetch_add(got_bytes, Ordering::Relaxed);
        Ok(got)
    }
}
impl<R: Seek> Seek for Bounded<R> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(at.saturating_add(self.start)),
            relative => relative,
        };
        Ok(self.reader.seek(to)?.saturating_sub(self.start))
    }
}
impl<R: Read + Seek + Send + Sync> MediaSource for Bounded<R> {
    fn is_seekable(&self) -> bool {
        true
    }
    fn byte_len(&self) -> Option<u64> {
        Some(self.length)
    }
}

/// Hears a file of `length` bytes; at most `max_bytes` are read.
pub(super) fn packed(
    reader: &mut (impl Read + Seek + Send + Sync),
    coding: Coding,
    length: u64,
    max_bytes: u64,
) -> Result<Audio, Deaf> {
    let start = after_tag(reader)?;
    let mut head = vec![0; 4 * 1024];
    reader.seek(SeekFrom::Start(start))?;
    let got = read_up_to(reader, &mut head)?;
    head.truncate(got);
    reader.seek(SeekFrom::Start(start))?;

    let seen = Arc::new(Seen::default());
    let length_s = length.saturating_sub(start);
    let source = Bounded { reader, start, length: length_s, left: max_bytes, seen: Arc::clone(&seen) };
    let stream = MediaSourceStream::new(Box::new(source), MediaSourceStreamOptions::default());
    let packets = open(stream, coding, &seen).map_err(|why| match why {
        Error::IoError(e) if e.kind() != ErrorKind::UnexpectedEof => Deaf::Io(e),
        _ if seen.cut.load(Ordering::Relaxed) => Deaf::Unread("has more before its sound than is read".into()),
        Error::IoError(_) if is_like(coding, &head) => {
            Deaf::Malformed("is cut off: it ends before its sound begins".into())
        }
        _ => not_a(coding, &head),
    })?;
    let promises = match coding {
        // Without such a tag in its first frame the length of an mp3 is anybody's guess.
        Coding::Mp3 => [b"Xing", b"Info", b"VBRI"].iter().any(|tag| head.windows(4).any(|bytes| bytes == *tag)),
        Coding::Flac => true,
        // What is taken for an Ogg file's length is read from its last page.
        Coding::Ogg | Coding::Wav => false,
    };
    Listening::new(packets, promises, seen, length_s)?.all().map(|heard| Audio { bytes: length, ..heard })
}

/// Where an ID3 tag ends that stands before everything else.
fn after_tag(reader: &mut (impl Read + Seek)) -> Result<u64, Deaf> {
    let mut head = [0; 10];
    reader.seek(SeekFrom::Start(0))?;
    read_up_to(reader, &mut head)?;
    Ok(match head {
        [b'I', b'D', b'3', _, _, flags, a, b, c, d] if (a | b | c | d) < 0x80 => {
            let size = [a, b, c, d].iter().fold(0_u64, |size, digit| (size << 7) | u64::from(*digit));
            let footer = if flags & 0x10 == 0 { 0 } else { 10 };
            10 + size + footer
        }
        _ => 0,
    })
}

/// Whether a file begins as its format wants it.
fn is_like(coding: Coding, head: &[u8]) -> bool {
    match coding {
        Coding::Flac => head.starts_with(b"fLaC"),
        Coding::Ogg => head.starts_with(b"OggS"),
        Coding::Mp3 | Coding::Wav => false,
    }
}

fn open<'s>(stream: MediaSourceStream<'s>, coding: Coding, seen: &Seen) -> Result<Box<dyn FormatReader + 's>, Error> {
    let options = FormatOptions::default();
    Ok(match coding {
        Coding::Flac => Box::new(FlacReader::try_new(stream, options)?),
        Coding::Ogg => Box::new(OggReader::try_new(stream, options)?),
        Coding::Mp3 | Coding::Wav => {
            let reader = MpaReader::try_new(stream, options)?;
            if seen.bytes.load(Ordering::Relaxed) > FIRST_FRAME_WITHIN {
                return Err(Error::DecodeError("no frame at the beginning"));
            }
            Box::new(reader)
        }
    })
}

fn unread(codec: AudioCodecId) -> Deaf {
    let name = match codec {
        codec_id::CODEC_ID_OPUS => "Opus",
        codec_id::CODEC_ID_SPEEX => "Speex",
        _ => "a codec",
    };
    Deaf::Unread(format!("holds {name}, whose sound is not read"))
}

/// A file on its way through the ear.
struct Listening<'s> {
    packets: Box<dyn FormatReader + 's>,
    seen: Arc<Seen>,
    length: u64,
    track: u32,
    /// Seconds a tick of the track's clock.
    tick_s: f64,
    codec: AudioCodecParameters,
    decoder: Box<dyn AudioDecoder>,
    promised_s: Option<f64>,
    /// Of all packets so far.
    duration_s: f64,
    ear: Option<Ear>,
    form: Option<(u32, usize)>,
    samples: Vec<f32>,
    heard_s: f64,
    /// Where the present stretch ends, in seconds heard; packets to decode and not hear before it begins.
    until_s: f64,
    warm_up: u32,
    skipped: bool,
    decoded: u64,
    broken: u64,
}

/// The first track of sound that has a codec, its clock and its decoder.
fn choose(packets: &dyn FormatReader) -> Result<(&Track, AudioCodecParameters, Box<dyn AudioDecoder>), Deaf> {
    let nothing = Deaf::Nothing("it has a header and no sound");
    let Some(track) = packets.default_track(TrackType::Audio) else { return Err(nothing) };
    let Some(codec) = track.codec_params.as_ref().and_then(|params| params.audio()) else { return Err(nothing) };
    let decoder = symphonia::default::get_codecs()
        .make_audio_decoder(codec, &AudioDecoderOptions::default())
        .map_err(|_| unread(codec.codec))?;
    Ok((track, codec.clone(), decoder))
}

#[expect(clippy::cast_precision_loss, reason = "ticks and bytes are shown in seconds and shares")]
impl<'s> Listening<'s> {
    fn new(packets: Box<dyn FormatReader + 's>, promises: bool, seen: Arc<Seen>, length: u64) -> Result<Self, Deaf> {
        let (track, codec, decoder) = choose(&*packets)?;
        let tick_s = track.time_base.map_or(0.0, |base| f64::from(base.numer.get()) / f64::from(base.denom.get()));
        let promised_s = track.num_frames.filter(|_| promises).map(|ticks| ticks as f64 * tick_s);
        Ok(Self {
            track: track.id,
            tick_s,
            codec,
            decoder,
            packets,
            seen,
            length,
            promised_s,
            duration_s: 0.0,
            ear: None,
            form: None,
            samples: Vec::new(),
            heard_s: 0.0,
            until_s: 0.0,
            warm_up: 0,
            skipped: false,
            decoded: 0,
            broken: 0,
        })
    }

    fn all(mut self) -> Result<Audio, Deaf> {
        let mut ends_early = false;
        let mut cut = false;
        loop {
            match self.packets.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track => cut |= !self.take(&packet),
                Ok(Some(_)) => {}
                Ok(None) => break,
                // Another stream follows in the same file, as radio is recorded.
                Err(Error::ResetRequired) => {
                    let (track, codec, decoder) = choose(&*self.packets)?;
                    (self.track, self.codec, self.decoder) = (track.id, codec, decoder);
                }
                Err(Error::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof => {
                    ends_early = true;
                    break;
                }
                Err(Error::IoError(e)) => return Err(e.into()),
                Err(_) => {
                    self.broken += 1;
                    break;
                }
            }
        }
        cut |= self.seen.cut.load(Ordering::Relaxed);
        let mut duration_s = self.duration_s;
        let packets = self.decoded + self.broken;
        if packets == 0 {
            return Err(Deaf::Nothing("it has a header and no sound"));
        }
        if self.broken * 100 > packets * BROKEN_PERCENT && self.broken > 1 || self.decoded == 0 {
            let broken = self.broken;
            return Err(Deaf::Malformed(format!("has {broken} of {packets} packets that can't be decoded")));
        }
        if cut {
            let share = (self.seen.bytes.load(Ordering::Relaxed) as f64 / self.length as f64).clamp(0.001, 1.0);
            duration_s = self.promised_s.unwrap_or(duration_s / share);
        }
        let missing = self.promised_s.is_some_and(|promised| promised - duration_s > SLIP_S);
        let (rate_hz, channels) = self.form.unwrap_or_default();
        let sound = self.ear.and_then(Ear::finish).ok_or(Deaf::Nothing("it has a header and no sound"))?;
        Ok(Audio {
            bytes: self.length,
            codec: self.decoder.codec_info().short_name.to_owned(),
            channels: u32::try_from(channels).unwrap_or(u32::MAX),
            rate_hz,
            duration_s,
            promised_s: self.promised_s,
            ends_early: !cut && (ends_early || missing),
            cut,
            sound,
        })
    }

    /// Takes a packet in; false when what follows is of another form, which is not heard.
    fn take(&mut self, packet: &Packet) -> bool {
        let was_s = self.duration_s;
        self.duration_s += packet.block_dur().get() as f64 * self.tick_s;
        if self.heard_s >= self.until_s && self.warm_up == 0 {
            let by_bytes = self.seen.bytes.load(Ordering::Relaxed) as f64 / self.length as f64;
            let by_time = self.promised_s.map_or(0.0, |promised| self.duration_s / promised.max(0.001));
            if self.heard_s > by_bytes.max(by_time).min(1.0) * f64::from(HEARD_S) {
                self.skipped = true;
                return true;
            }
            self.until_s = self.heard_s + f64::from(STRETCH_S);
            if std::mem::take(&mut self.skipped) {
                self.decoder.reset();
                self.warm_up = WARM_UP;
                if let Some(ear) = &mut self.ear {
                    ear.gap();
                }
            }
        }
        let decoded = self.decoder.decode(packet);
        if self.warm_up > 0 {
            self.warm_up -= 1;
            return true;
        }
        let Ok(decoded) = decoded else {
            self.broken += 1;
            return true;
        };
        self.decoded += 1;
        if decoded.frames() == 0 {
            self.duration_s = was_s;
            return true;
        }
        let form = (decoded.spec().rate(), decoded.spec().channels().count());
        if *self.form.get_or_insert(form) != form {
            return false;
        }
        decoded.copy_to_vec_interleaved(&mut self.samples);
        let bits = self.codec.bits_per_sample.unwrap_or(32);
        self.ear.get_or_insert_with(|| Ear::new(form.0, form.1, bits)).hear(&self.samples);
        // The decoder leaves out what the encoder added at both ends.
        let heard_s = decoded.frames() as f64 / f64::from(form.0.max(1));
        self.heard_s += heard_s;
        self.duration_s = was_s + heard_s;
        true
    }
}
