//! Sounds made by numbers, files made of them by another hand (`hound`) and byte by byte, and what is heard in each.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "signals and tables; what is compared is exact"
)]

use std::io::Cursor;

use super::*;

/// Random numbers from -1 to 1, the same each time.
pub(crate) fn white(samples: usize) -> Vec<f64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f64::from(u32::try_from(state >> 32).unwrap()) / f64::from(u32::MAX) * 2.0 - 1.0
    };
    (0..samples).map(|_| next()).collect()
}

/// Noise that loses 3 dB an octave (Kellet's filter).
fn pink(samples: usize) -> Vec<f64> {
    let mut b = [0.0_f64; 3];
    let shape = |w: f64| {
        b[0] = 0.997_65 * b[0] + w * 0.099_046;
        b[1] = 0.963_00 * b[1] + w * 0.296_516_4;
        b[2] = 0.570_00 * b[2] + w * 1.052_691_3;
        (b[0] + b[1] + b[2] + w * 0.184_8) * 0.15
    };
    white(samples).into_iter().map(shape).collect()
}

/// Noise through a vocal tract (three formants), in syllables, four a second, with a breath after every eighth.
pub(crate) fn speech(samples: usize, rate: u32) -> Vec<f64> {
    let rate = f64::from(rate);
    let mut voice = vec![0.0; samples];
    for (hz, width, gain) in [(500.0, 80.0, 1.0), (1_500.0, 100.0, 0.5), (2_500.0, 150.0, 0.3)] {
        let r = (-std::f64::consts::PI * width / rate).exp();
        let (a1, a2) = (2.0 * r * (std::f64::consts::TAU * hz / rate).cos(), -r * r);
        let (mut y1, mut y2) = (0.0, 0.0);
        for (out, x) in voice.iter_mut().zip(white(samples)) {
            let y = x * (1.0 - r) + a1 * y1 + a2 * y2;
            (y2, y1) = (y1, y);
            *out += gain * y;
        }
    }
    let envelope = |n: usize| {
        let syllable = n as f64 / rate * 4.0;
        if syllable as u64 % 9 == 8 { 0.0 } else { (syllable.fract() * std::f64::consts::PI).sin().powi(2) }
    };
    voice.iter().enumerate().map(|(n, y)| (y * envelope(n)).clamp(-1.0, 1.0)).collect()
}

fn tones(samples: usize, rate: u32, hz: &[f64], peak: f64) -> Vec<f64> {
    let turn = std::f64::consts::TAU / f64::from(rate);
    let each = peak / hz.len() as f64;
    (0..samples).map(|n| hz.iter().map(|hz| (turn * hz * n as f64).sin() * each).sum()).collect()
}

fn scaled(samples: &[f64], by: f64) -> Vec<f64> {
    samples.iter().map(|x| x * by).collect()
}

/// A WAV of 16 bits, as `hound` writes it.
pub(crate) fn wav(rate: u32, channels: u16, samples: &[f64]) -> Vec<u8> {
    let spec =
        hound::WavSpec { channels, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    for x in samples {
        writer.write_sample((x * 32_767.0).clamp(-32_768.0, 32_767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
    file.into_inner()
}

fn heard(bytes: &[u8], coding: Coding) -> Result<Audio, String> {
    audio(Cursor::new(bytes), coding, 256 << 20).map_err(|why| match why {
        Deaf::Io(e) => panic!("{e}"),
        Deaf::Nothing(how) => format!("empty: {how}"),
        Deaf::Malformed(how) => format!("malformed: {how}"),
        Deaf::Unread(how) => format!("unread: {how}"),
        Deaf::NotInThisBuild => "not in this build".to_owned(),
    })
}

/// What 3 s of 16 kHz sound like.
fn sound(samples: &[f64]) -> Sound {
    heard(&wav(16_000, 1, samples), Coding::Wav).unwrap().sound
}

const RATE: u32 = 16_000;
const THREE_S: usize = 48_000;

#[test]
fn sounds_are_told_apart_by_their_physics() {
    let hum: Vec<f64> = tones(THREE_S, RATE, &[50.0, 100.0, 150.0], 0.3);
    let music = tones(THREE_S, RATE, &[261.6, 329.6, 392.0], 0.5);
    let hiss: Vec<f64> =
        speech(THREE_S, RATE).iter().zip(white(THREE_S)).map(|(voice, hiss)| voice * 0.5 + hiss * 0.004).collect();
    // Name, samples, flatness from and to, percent of noise from and to.
    for (name, samples, flat, noise) in [
        ("white noise", white(THREE_S), (0.92, 0.96), (99.0, 100.0)),
        ("quiet white noise", scaled(&white(THREE_S), 0.01), (0.92, 0.96), (99.0, 100.0)),
        ("pink noise", pink(THREE_S), (0.4, 0.66), (0.0, 2.0)),
        ("speech-like noise", speech(THREE_S, RATE), (0.0, 0.3), (0.0, 2.0)),
        ("the same with a hissing floor", hiss, (0.0, 0.4), (0.0, 10.0)),
        ("music", music, (0.0, 0.01), (0.0, 0.0)),
        ("hum", hum, (0.0, 0.01), (0.0, 0.0)),
    ] {
        let heard = sound(&samples);
        let within = |x: Option<f64>, (from, to): (f64, f64)| x.is_some_and(|x| (from..=to).contains(&x));
        assert!(within(heard.flatness, flat) && within(heard.noise_percent, noise), "{name}: {heard:?}");
        assert!(heard.silence_percent < 40.0, "{name}: {heard:?}");
    }
}

#[test]
fn levels_are_what_they_are() {
    let near = |x: f64, want: f64| (x - want).abs() < 0.05;
    let sine = sound(&tones(THREE_S, RATE, &[440.0], 0.5));
    assert!(near(sine.rms_dbfs, -9.03) && near(sine.peak, 0.5) && near(sine.heard_s, 3.0), "{sine:?}");
    assert_eq!((sine.silence_percent, sine.longest_silence_s, sine.clipping_percent), (0.0, 0.0, Some(0.0)));
    // Uniform noise over the whole range: a third of full power.
    assert!(near(sound(&white(THREE_S)).rms_dbfs, -4.77));
}

#[test]
fn silence_is_silence_however_it_is_stored() {
    let dither = scaled(&white(THREE_S), 1.0 / 32_768.0);
    let offset = vec![0.3; THREE_S];
    let soft = scaled(&tones(THREE_S, RATE, &[440.0], 1.0), 0.001);
    for (name, samples) in
        [("zeros", &vec![0.0; THREE_S]), ("dither", &dither), ("an offset", &offset), ("soft", &soft)]
    {
        let heard = sound(samples);
        assert_eq!((heard.silence_percent, heard.flatness, heard.noise_percent), (100.0, None, None), "{name}");
        assert!((heard.longest_silence_s - 3.0).abs() < 0.01 && heard.rms_dbfs < -60.0, "{name}: {heard:?}");
    }
    let audible = sound(&scaled(&tones(THREE_S, RATE, &[440.0], 1.0), 0.003));
    assert_eq!(audible.silence_percent, 0.0, "{audible:?}");
    // Of 8 bits the last step goes to and fro.
    let eight: Vec<u8> = (0..24_000_u32).map(|n| if n % 3 == 0 { 127 } else { 128 }).collect();
    assert_eq!(heard(&raw_wav(1, 8_000, 8, &eight), Coding::Wav).unwrap().sound.silence_percent, 100.0);
    // A pause in the middle, and a second channel that is loud meanwhile.
    let mut pause = tones(THREE_S, RATE, &[440.0], 0.5);
    pause[16_000..32_000].fill(0.0);
    let longest = sound(&pause).longest_silence_s;
    assert!((0.7..=1.0).contains(&longest), "{longest}");
    let both: Vec<f64> = pause.iter().flat_map(|&x| [x, 0.2 * f64::from(u8::from(x == 0.0))]).collect();
    let stereo = heard(&wav(RATE, 2, &both), Coding::Wav).unwrap();
    assert_eq!((stereo.channels, stereo.duration_s), (2, 3.0));
    // Two channels that would cancel each other are no silence.
    let opposite: Vec<f64> = tones(THREE_S, RATE, &[440.0], 0.5).iter().flat_map(|&x| [x, -x]).collect();
    assert_eq!(heard(&wav(RATE, 2, &opposite), Coding::Wav).unwrap().sound.silence_percent, 0.0);
}

#[test]
fn clipping_is_a_wave_cut_off_and_not_one_that_is_loud() {
    for (name, samples, from, to) in [
        ("at full scale", tones(THREE_S, RATE, &[100.0], 1.0), 0.0, 0.9),
        ("a tenth over", tones(THREE_S, RATE, &[100.0], 1.1), 25.0, 30.0),
        ("far over", tones(THREE_S, RATE, &[100.0], 10.0), 90.0, 100.0),
        ("random samples", white(THREE_S), 0.0, 0.01),
        ("loud speech", scaled(&speech(THREE_S, RATE), 0.9), 0.0, 0.1),
    ] {
        let clipped = sound(&samples).clipping_percent.unwrap();
        assert!((from..=to).contains(&clipped), "{name}: {clipped}");
    }
}

#[test]
fn what_was_once_sampled_slower_is_judged_where_it_has_sound() {
    // Every second sample of white noise, and the ones between them by a low pass: nothing above a quarter of the rate.
    let slow = white(24_000);
    let narrow: Vec<f64> = (0..96_000)
        .map(|n| {
            let at = f64::from(n) / 4.0;
            (-24..=24)
                .filter_map(|k| {
                    let source = at.floor() + f64::from(k);
                    let x = at - source;
                    let sinc =
                        if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
                    let window = 0.5 + 0.5 * (x / 25.0 * std::f64::consts::PI).cos();
                    Some(slow.get(source as usize).filter(|_| source >= 0.0)? * sinc * window)
                })
                .sum::<f64>()
                * 0.5
        })
        .collect();
    let heard = heard(&wav(32_000, 1, &narrow), Coding::Wav).unwrap().sound;
    assert!(heard.noise_percent.unwrap() > 80.0, "{heard:?}");
}

/// A WAV with a plain header, whatever the samples are.
fn raw_wav(channels: u16, rate: u32, bits: u16, data: &[u8]) -> Vec<u8> {
    chunks(&[(b"fmt ", &fmt(if bits == 33 { 3 } else { 1 }, channels, rate, bits & !1)), (b"data", data)])
}

fn fmt(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    let frame = channels * bits / 8;
    let mut chunk = Vec::new();
    for (field, width) in [
        (u32::from(tag), 2),
        (channels.into(), 2),
        (rate, 4),
        (rate * u32::from(frame), 4),
        (frame.into(), 2),
        (bits.into(), 2),
    ] {
        chunk.extend_from_slice(&field.to_le_bytes()[..width]);
    }
    chunk
}

fn chunks(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut body = b"WAVE".to_vec();
    for (id, bytes) in chunks {
        body.extend_from_slice(*id);
        body.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
        body.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            body.push(0);
        }
    }
    [b"RIFF", u32::try_from(body.len()).unwrap().to_le_bytes().as_slice(), &body].concat()
}

/// The same with other words at some places.
fn patched(wav: &[u8], words: &[(usize, u32)]) -> Vec<u8> {
    let mut wav = wav.to_vec();
    for (at, word) in words {
        wav[*at..*at + 4].copy_from_slice(&word.to_le_bytes());
    }
    wav
}

/// One second of a tone as bytes of so many bits, and the tone as it is heard.
fn tone(bits: u16) -> Vec<u8> {
    let samples = tones(8_000, 8_000, &[440.0], 0.5);
    let int = |x: f64, bits: i32| ((x * 2.0_f64.powi(bits - 1)) as i32).to_le_bytes();
    samples
        .iter()
        .flat_map(|&x| match bits {
            8 => vec![(128.0 + x * 128.0) as u8],
            16 => int(x, 16)[..2].to_vec(),
            24 => int(x, 24)[..3].to_vec(),
            32 => int(x, 32).to_vec(),
            33 => (x as f32).to_le_bytes().to_vec(),
            _ => x.to_le_bytes().to_vec(),
        })
        .collect()
}

#[test]
fn headers_lie_and_samples_do_not() {
    let sixteen = raw_wav(1, 8_000, 16, &tone(16));
    let extensible = |sub: u16, bits: u16, valid: u16, data: &[u8]| {
        let mut format = fmt(0xfffe, 1, 8_000, bits);
        format.extend_from_slice(&22_u16.to_le_bytes());
        format.extend_from_slice(&valid.to_le_bytes());
        format.extend_from_slice(&4_u32.to_le_bytes());
        format.extend_from_slice(&sub.to_le_bytes());
        format.extend_from_slice(b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71");
        chunks(&[(b"fmt ", &format), (b"data", data)])
    };
    let plain = fmt(1, 1, 8_000, 16);
    let mut unpadded = chunks(&[(b"LIST", b"INFOodd"), (b"fmt ", &plain), (b"data", &tone(16))]);
    unpadded.remove(12 + 8 + 7);
    let mut rf64 = chunks(&[(b"ds64", &[0; 28]), (b"fmt ", &plain), (b"data", &tone(16))]);
    rf64[..4].copy_from_slice(b"RF64");
    rf64[28..36].copy_from_slice(&16_000_u64.to_le_bytes());
    let data_at = rf64.len() - 16_000 - 4;
    let rf64 = patched(&rf64, &[(4, u32::MAX), (data_at, u32::MAX)]);
    let trailing = [&patched(&sixteen, &[(4, 36 + 16_000 + 20)]), b"LIST\x0c\0\0\0INFOISFTabcd".as_slice()].concat();

    for (name, wav, codec, promised) in [
        ("8 bits", raw_wav(1, 8_000, 8, &tone(8)), "pcm_8", Some(1.0)),
        ("16 bits", sixteen.clone(), "pcm_16", Some(1.0)),
        ("24 bits", raw_wav(1, 8_000, 24, &tone(24)), "pcm_24", Some(1.0)),
        ("32 bits", raw_wav(1, 8_000, 32, &tone(32)), "pcm_32", Some(1.0)),
        ("floating point", raw_wav(1, 8_000, 33, &tone(33)), "float_32", Some(1.0)),
        ("double precision", chunks(&[(b"fmt ", &fmt(3, 1, 8_000, 64)), (b"data", &tone(64))]), "float_64", Some(1.0)),
        ("extensible", extensible(1, 16, 16, &tone(16)), "pcm_16", Some(1.0)),
        ("extensible, 20 bits in 24", extensible(1, 24, 20, &tone(24)), "pcm_24", Some(1.0)),
        ("extensible floating point", extensible(3, 32, 32, &tone(33)), "float_32", Some(1.0)),
        ("written into a pipe", patched(&sixteen, &[(4, u32::MAX), (40, u32::MAX)]), "pcm_16", None),
        ("written into a pipe by another", patched(&sixteen, &[(4, 0x7fff_f024), (40, 0x7fff_f000)]), "pcm_16", None),
        ("a header that was never finished", patched(&sixteen, &[(4, 0), (40, 0)]), "pcm_16", None),
        ("the same, of a writer that counts its header", patched(&sixteen, &[(4, 36), (40, 0)]), "pcm_16", None),
        ("the size of the whole is wrong", patched(&sixteen, &[(4, 7)]), "pcm_16", Some(1.0)),
        ("miscounted by a header", patched(&sixteen, &[(40, 16_044)]), "pcm_16", Some(1.002_75)),
        ("no frame size", patched(&sixteen, &[(32, 16 << 16)]), "pcm_16", Some(1.0)),
        (
            "chunks before",
            chunks(&[
                (b"JUNK", &[0; 28]),
                (b"LIST", b"INFOIART\x03\0\0\0me\0"),
                (b"fmt ", &plain),
                (b"data", &tone(16)),
            ]),
            "pcm_16",
            Some(1.0),
        ),
        ("an odd chunk without its padding", unpadded, "pcm_16", Some(1.0)),
        ("chunks behind", trailing, "pcm_16", Some(1.0)),
        ("RF64", rf64, "pcm_16", Some(1.0)),
    ] {
        let got = heard(&wav, Coding::Wav).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!((got.codec.as_str(), got.channels, got.rate_hz), (codec, 1, 8_000), "{name}");
        assert!((got.duration_s - 1.0).abs() < 1e-9 && !got.ends_early && !got.cut, "{name}: {got:?}");
        assert_eq!(got.promised_s, promised, "{name}");
        let near = |x: f64, want: f64| (x - want).abs() < 0.1;
        assert!(near(got.sound.rms_dbfs, -9.03) && near(got.sound.peak, 0.5), "{name}: {:?}", got.sound);
        assert!(got.sound.flatness.unwrap() < 0.01, "{name}");
    }
}

#[test]
fn what_is_cut_off_broken_or_empty_is_said() {
    let whole = raw_wav(1, 8_000, 16, &tone(16));
    let cut = heard(&whole[..8_044], Coding::Wav).unwrap();
    assert_eq!((cut.duration_s, cut.promised_s, cut.ends_early), (0.5, Some(1.0), true));
    // Cut within a sample, and by less than anybody hears.
    assert!(heard(&whole[..8_045], Coding::Wav).unwrap().ends_early);
    assert!(!heard(&whole[..whole.len() - 100], Coding::Wav).unwrap().ends_early);

    let plain = fmt(1, 1, 8_000, 16);
    let tail = (b"LIST", b"INFOISFT\x04\0\0\0abcd".as_slice());
    let random: Vec<u8> = white(64_000).iter().map(|x| (x * 127.0) as i8 as u8).collect();
    let unscaled: Vec<u8> =
        tones(8_000, 8_000, &[440.0], 9_000.0).iter().flat_map(|x| (*x as f32).to_le_bytes()).collect();
    for (name, bytes, want) in [
        ("nothing", Vec::new(), "empty: it holds nothing"),
        ("no samples", raw_wav(1, 8_000, 16, &[]), "empty: it has a header and no sound"),
        (
            "none, and a chunk behind",
            chunks(&[(b"fmt ", &plain), (b"data", &[]), tail]),
            "empty: it has a header and no sound",
        ),
        ("half a sample", raw_wav(1, 8_000, 16, &[1]), "empty: it has a header and no sound"),
        ("cut in its header", whole[..10].to_vec(), "malformed: is a broken WAV file: it ends within its header"),
        (
            "cut before its samples",
            whole[..40].to_vec(),
            "malformed: is a broken WAV file: it ends before its samples begin",
        ),
        (
            "a chunk longer than the file",
            patched(&chunks(&[(b"LIST", b"INFO"), (b"fmt ", &plain)]), &[(16, 0xffff_fff0)]),
            "malformed: is a broken WAV file: it ends before its samples begin",
        ),
        (
            "samples before their format",
            chunks(&[(b"data", &tone(16)), (b"fmt ", &plain)]),
            "malformed: is a broken WAV file: its samples stand before their format",
        ),
        (
            "half a format",
            chunks(&[(b"fmt ", &plain[..8]), (b"data", b"ab")]),
            "malformed: is a broken WAV file: its format is cut off",
        ),
        (
            "no channels",
            patched(&whole, &[(22, 8_000 << 16)]),
            "malformed: is a broken WAV file: its header says 0 channels at 8000 Hz",
        ),
        ("no rate", patched(&whole, &[(24, 0)]), "malformed: is a broken WAV file: its header says 1 channels at 0 Hz"),
        (
            "a frame of three bytes for two channels",
            patched(&whole, &[(22, 2 | 8_000 << 16), (32, 3 | 16 << 16)]),
            "malformed: is a broken WAV file: its header says 16 bits in 3 bytes for 2 channels",
        ),
        (
            "ADPCM",
            chunks(&[(b"fmt ", &fmt(2, 1, 8_000, 16)), (b"data", b"abcd")]),
            "unread: is a WAV file that holds ADPCM, which is not read",
        ),
        (
            "big-endian",
            [b"RIFX", &whole[4..]].concat(),
            "unread: is a WAV file with its bytes in the other order (RIFX), which is not read",
        ),
        ("zero bytes", vec![0; 4_096], "malformed: is not a WAV file: it begins like a hole: zero bytes"),
        ("a web page", b"<!doctype html><p>429".to_vec(), "malformed: is not a WAV file: it begins like a web page"),
        ("an error", b"{\"error\": \"out of credit\"}".to_vec(), "malformed: is not a WAV file: it begins like text"),
        ("random bytes", random.clone(), "malformed: is not a WAV file: it begins like nothing known"),
        (
            "numbers beyond all scales",
            raw_wav(1, 8_000, 33, &unscaled),
            "malformed: holds no sound: 99.0 % of its samples are no number or far beyond full scale",
        ),
    ] {
        assert_eq!(heard(&bytes, Coding::Wav).unwrap_err(), want, "{name}");
    }
    // Random bytes as samples are noise, or no samples at all.
    for bits in [8, 16, 24] {
        let got = heard(&raw_wav(1, 8_000, bits, &random), Coding::Wav).unwrap();
        assert!(got.sound.noise_percent.unwrap() > 95.0, "{bits} bits: {got:?}");
    }
    assert!(heard(&raw_wav(1, 8_000, 33, &random), Coding::Wav).unwrap_err().starts_with("malformed: holds no sound"));
    // Samples read with their bytes in the wrong order.
    let swapped: Vec<u8> = wav(RATE, 1, &speech(THREE_S, RATE))[44..].chunks(2).flat_map(|b| [b[1], b[0]]).collect();
    let got = heard(&raw_wav(1, RATE, 16, &swapped), Coding::Wav).unwrap();
    assert!(got.sound.noise_percent.unwrap() > 80.0, "{got:?}");
}

#[test]
fn a_long_file_is_heard_all_over() {
    assert_eq!(wav::stretches(100, 100, 10), [(0, 100)]);
    assert_eq!(wav::stretches(101, 30, 10), [(0, 10), (45, 10), (91, 10)]);
    assert_eq!(wav::stretches(u64::MAX / 4, 3, 10), [(0, 3)]);
    let file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut &file, &raw_wav(1, 8_000, 8, &[])).unwrap();
    // Ten hours of holes; the header promises an hour more.
    file.set_len(44 + 10 * 3_600 * 8_000).unwrap();
    let header = patched(&raw_wav(1, 8_000, 8, &[]), &[(4, 0), (40, 11 * 3_600 * 8_000)]);
    std::os::unix::fs::FileExt::write_all_at(&file, &header, 0).unwrap();
    let got = audio(&file, Coding::Wav, 1 << 30).unwrap();
    assert_eq!((got.duration_s, got.promised_s, got.ends_early), (36_000.0, Some(39_600.0), true));
    assert_eq!(got.sound.heard_s, 300.0);
    // Few bytes may be read.
    assert_eq!(audio(&file, Coding::Wav, 80_000).unwrap().sound.heard_s, 10.0);
}

#[test]
fn hostile_input_ends() {
    for (name, bytes) in crate::read::hostile::table() {
        for coding in [Coding::Wav, Coding::Mp3, Coding::Flac, Coding::Ogg] {
            assert!(heard(&bytes, coding).is_err(), "{name}");
            let magic: &[u8] = match coding {
                Coding::Wav => &raw_wav(3, 8_000, 16, &[])[..40],
                Coding::Mp3 => b"ID3\x04\x00\x10\x7f\x7f\x7f\x7f\xff\xfb\x90\x00",
                Coding::Flac => b"fLaC\x84\xff\xff\xff",
                Coding::Ogg => b"OggS\x00\x02",
            };
            let _some = heard(&[magic, &bytes].concat(), coding);
        }
    }
}

#[cfg(feature = "audio")]
mod compressed {
    use super::*;

    // The sounds above (1.5 s, and 4 s as Ogg) at 16 kHz, written by `lame -V 7`, `flac -8`, `oggenc -q -1` and `opusenc`.
    const SPEECH_MP3: &[u8] = include_bytes!("../../../tests/fixtures/audio/speech.mp3");
    const SPEECH_FLAC: &[u8] = include_bytes!("../../../tests/fixtures/audio/speech.flac");
    const SPEECH_OGG: &[u8] = include_bytes!("../../../tests/fixtures/audio/speech.ogg");
    const STATIC_MP3: &[u8] = include_bytes!("../../../tests/fixtures/audio/static.mp3");
    const STATIC_OGG: &[u8] = include_bytes!("../../../tests/fixtures/audio/static.ogg");
    const SILENCE_FLAC: &[u8] = include_bytes!("../../../tests/fixtures/audio/silence.flac");
    const OPUS: &[u8] = include_bytes!("../../../tests/fixtures/audio/opus.ogg");

    #[test]
    fn other_formats_are_heard_like_wav() {
        for (name, bytes, coding, codec, promised, silence, noise) in [
            ("speech.mp3", SPEECH_MP3, Coding::Mp3, "mp3", Some(1.5), (0.0, 40.0), Some((0.0, 10.0))),
            ("speech.flac", SPEECH_FLAC, Coding::Flac, "flac", Some(1.5), (0.0, 40.0), Some((0.0, 10.0))),
            ("speech.ogg", SPEECH_OGG, Coding::Ogg, "vorbis", None, (0.0, 40.0), Some((0.0, 10.0))),
            ("static.mp3", STATIC_MP3, Coding::Mp3, "mp3", Some(1.5), (0.0, 5.0), Some((90.0, 100.0))),
            ("static.ogg", STATIC_OGG, Coding::Ogg, "vorbis", None, (0.0, 5.0), Some((90.0, 100.0))),
            ("silence.flac", SILENCE_FLAC, Coding::Flac, "flac", Some(1.5), (100.0, 100.0), None),
        ] {
            let got = heard(bytes, coding).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!((got.codec.as_str(), got.channels, got.rate_hz), (codec, 1, 16_000), "{name}");
            let length = if name == "speech.ogg" { 4.0 } else { 1.5 };
            assert!((got.duration_s - length).abs() < 0.01 && !got.ends_early && !got.cut, "{name}: {got:?}");
            assert_eq!(got.promised_s, promised, "{name}");
            let within = |x: f64, (from, to): (f64, f64)| (from..=to).contains(&x);
            assert!(within(got.sound.silence_percent, silence), "{name}: {:?}", got.sound);
            let fits = match (got.sound.noise_percent, noise) {
                (Some(is), Some(range)) => within(is, range),
                (is, range) => is.is_none() && range.is_none(),
            };
            assert!(fits, "{name}: {:?}", got.sound);
        }
        assert_eq!(heard(OPUS, Coding::Ogg).unwrap_err(), "unread: holds Opus, whose sound is not read");
    }

    #[test]
    fn a_missing_end_is_seen_where_the_format_allows_it() {
        for (name, bytes, coding) in [
            ("speech.mp3", SPEECH_MP3, Coding::Mp3),
            ("speech.flac", SPEECH_FLAC, Coding::Flac),
            ("speech.ogg", SPEECH_OGG, Coding::Ogg),
        ] {
            let cut = heard(&bytes[..bytes.len() * 2 / 3], coding).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert!(cut.ends_early && (0.4..3.0).contains(&cut.duration_s), "{name}: {cut:?}");
        }
        // Without a tag in its first frame an mp3 promises nothing, wherever it ends.
        let frames = &SPEECH_MP3[SPEECH_MP3.len() / 3..];
        let first = frames.windows(2).position(|bytes| bytes == SPEECH_MP3[first_frame()..].get(..2).unwrap()).unwrap();
        let got = heard(&frames[first..frames.len() / 2], Coding::Mp3).unwrap();
        assert_eq!((got.promised_s, got.ends_early), (None, false));
    }

    fn first_frame() -> usize {
        SPEECH_MP3.windows(2).position(|bytes| bytes[0] == 0xff && bytes[1] & 0xe0 == 0xe0).unwrap()
    }

    #[test]
    fn another_format_under_its_name_and_damage_are_said() {
        let page = b"<html>".repeat(1_000);
        for (name, bytes, coding, want) in [
            (
                "a WAV",
                &*wav(RATE, 1, &speech(THREE_S, RATE)),
                Coding::Mp3,
                "is not an mp3 file: it begins like a WAV file",
            ),
            ("an mp3", SPEECH_MP3, Coding::Flac, "is not a FLAC file: it begins like an mp3 file"),
            ("an mp3", SPEECH_MP3, Coding::Wav, "is not a WAV file: it begins like an mp3 file"),
            ("a page", &page, Coding::Ogg, "is not an Ogg file: it begins like a web page"),
            ("a beginning", &SPEECH_FLAC[..20], Coding::Flac, "is cut off: it ends before its sound begins"),
        ] {
            assert_eq!(heard(bytes, coding).unwrap_err(), format!("malformed: {want}"), "{name}");
        }
        let mut damaged = SPEECH_FLAC.to_vec();
        let from = damaged.len() / 4;
        for (byte, random) in damaged[from..].iter_mut().zip(white(1 << 20)) {
            if random > 0.99 {
                *byte = !*byte;
            }
        }
        let why = heard(&damaged, Coding::Flac).map(|got| (got.ends_early, got.duration_s));
        assert!(why.as_ref().is_err_and(|why| why.contains("packets")) || why.is_ok_and(|(early, _)| early));
    }

    #[test]
    fn a_tag_of_any_size_is_stepped_over() {
        let tag = |size: u32| {
            let digits: Vec<u8> = (0..4).rev().map(|n| ((size >> (7 * n)) & 0x7f) as u8).collect();
            [b"ID3\x04\x00\x00", digits.as_slice(), &vec![0xff; size as usize], SPEECH_MP3].concat()
        };
        let got = heard(&tag(300_000), Coding::Mp3).unwrap();
        assert_eq!((got.promised_s, got.ends_early), (Some(1.5), false));
    }

    #[test]
    fn few_bytes_may_be_read() {
        let ten = [SPEECH_MP3, &SPEECH_MP3[first_frame() + 300..].repeat(40)].concat();
        let got = audio(Cursor::new(&ten), Coding::Mp3, 64 * 1024).unwrap();
        assert!(got.cut && !got.ends_early, "{got:?}");
    }
}
