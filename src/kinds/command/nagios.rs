//! What a Nagios plugin prints: one line of text, performance data, more text. The form is that of the Monitoring
//! Plugins' development guidelines; what plugins really print is read leniently, and the verdict is never read from it.

/// Bytes of output that are looked at: `MAX_PLUGIN_OUTPUT_LENGTH` of Nagios 4.
pub const MAX_BYTES: usize = 8_192;
/// Measurements kept; what is beyond is cut, and the cut is said.
pub const MAX_METRICS: usize = 200;

/// What a plugin printed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Output {
    /// The first line's text, without the performance data.
    pub first: String,
    /// The lines of text after it.
    pub more: Vec<String>,
    /// The measurements, in order.
    pub metrics: Vec<Metric>,
    /// How many pieces of performance data were not to be understood.
    pub malformed: usize,
    /// Whether text or measurements were cut.
    pub cut: bool,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its name.
    pub label: String,
    /// The number as it was printed; none when the plugin could not determine it (`U`).
    pub value: Option<f64>,
    /// The unit as it was printed.
    pub uom: String,
    /// What the plugin was told to warn about.
    pub warn: Option<Range>,
    /// What the plugin was told to call critical.
    pub crit: Option<Range>,
    /// The least possible value.
    pub min: Option<f64>,
    /// The greatest possible value.
    pub max: Option<f64>,
}

/// What a unit counts, and by how much the number is multiplied to count it in base units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Uom {
    /// Plain count.
    Count,
    /// Seconds.
    Seconds(f64),
    /// Bytes.
    Bytes(f64),
    /// Percent.
    Percent,
    /// Ever growing.
    Counter,
}

impl Metric {
    /// Its unit; one that is not known counts as a plain number. The multiples of bytes are binary, as the Monitoring
    /// Plugins compute them.
    #[must_use]
    pub fn unit(&self) -> Uom {
        let binary = |power: i32| Uom::Bytes(1024_f64.powi(power));
        match self.uom.as_str() {
            "s" => Uom::Seconds(1.0),
            "ms" => Uom::Seconds(1e-3),
            "us" | "µs" => Uom::Seconds(1e-6),
            "ns" => Uom::Seconds(1e-9),
            "%" => Uom::Percent,
            "c" => Uom::Counter,
            "B" => binary(0),
            "KB" | "kB" | "KiB" => binary(1),
            "MB" | "MiB" => binary(2),
            "GB" | "GiB" => binary(3),
            "TB" | "TiB" => binary(4),
            "PB" | "PiB" => binary(5),
            _ => Uom::Count,
        }
    }
}

/// A range that a plugin was given: outside of it (inside, where `inside` is set) there is something to say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Its start, itself still in it.
    pub start: f64,
    /// Its end, itself still in it.
    pub end: f64,
    /// Whether the values in it are the bad ones (`@`).
    pub inside: bool,
}

impl Range {
    /// Reads `10`, `10:`, `~:10`, `10:20`, `@10:20`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (inside, text) = text.strip_prefix('@').map_or((false, text), |rest| (true, rest));
        let (start, end) = text.split_once(':').unwrap_or(("", text));
        let start = match start {
            "" => 0.0,
            "~" => f64::NEG_INFINITY,
            number => finite(number)?,
        };
        let end = match end {
            "" if text.ends_with(':') => f64::INFINITY,
            number => finite(number)?,
        };
        (start <= end).then_some(Self { start, end, inside })
    }

    /// Whether the plugin has something to say about this value.
    #[must_use]
    pub fn alerts(self, value: f64) -> bool {
        (self.start..=self.end).contains(&value) == self.inside
    }
}

fn finite(text: &str) -> Option<f64> {
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "-+.".contains(c));
    text.parse().ok().filter(|number: &f64| numeric && number.is_finite())
}

/// Reads a plugin's stdout. Text comes before a `|`, performance data after it; from a second `|`, in a later line, all
/// that follows is performance data.
#[must_use]
pub fn parse(stdout: &str) -> Output {
    let kept = stdout.get(..stdout.floor_char_boundary(MAX_BYTES)).unwrap_or(stdout);
    let mut output = Output { cut: kept.len() < stdout.len(), ..Output::default() };
    let mut data = String::new();
    let mut all_data = false;
    for (number, line) in kept.lines().enumerate() {
        if all_data {
            data.push(' ');
            data.push_str(line);
            continue;
        }
        let text = match line.split_once('|') {
            Some((text, measured)) => {
                data.push(' ');
                data.push_str(measured);
                all_data = number > 0;
                text
            }
            None => line,
        };
        let text = text.trim();
        if number == 0 {
            text.clone_into(&mut output.first);
        } else if !text.is_empty() {
            output.more.push(text.to_owned());
        }
    }
    let mut rest = data.trim_start();
    while !rest.is_empty() {
        let (metric, after) = metric(rest);
        match metric {
            Some(_) if output.metrics.len() == MAX_METRICS => output.cut = true,
            Some(metric) => output.metrics.push(metric),
            None => output.malformed += 1,
        }
        rest = after.trim_start();
    }
    output
}

/// Reads the first measurement of `text`, and what comes after it.
fn metric(text: &str) -> (Option<Metric>, &str) {
    let (label, rest) = if let Some(quoted) = text.strip_prefix('\'') {
        // A quote that is never closed swallows everything; the piece up to the next blank is lost instead.
        let Some(split) = quoted_label(quoted) else {
            return (None, text.split_once(char::is_whitespace).map_or("", |(_, rest)| rest));
        };
        split
    } else {
        let end = text.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(text.len());
        let (label, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        (label.to_owned(), rest)
    };
    let (values, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let measured = values.strip_prefix('=').filter(|_| !label.trim().is_empty());
    (measured.and_then(|values| fields(label.trim(), values)), after)
}

/// The label up to the closing quote, with `''` for a quote in it, and what comes after.
fn quoted_label(text: &str) -> Option<(String, &str)> {
    let mut label = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('\'')?;
        label.push_str(part);
        match after.strip_prefix('\'') {
            Some(after) => {
                label.push('\'');
                rest = after;
            }
            None => return Some((label, after)),
        }
    }
}

/// `value[UOM];[warn];[crit];[min];[max]`, of which all but the value may be missing.
fn fields(label: &str, values: &str) -> Option<Metric> {
    let mut fields = values.split(';');
    let (value, uom) = number(fields.next()?)?;
    let mut range = || fields.next().and_then(Range::parse);
    let (warn, crit) = (range(), range());
    let mut limit = || fields.next().and_then(finite);
    let (min, max) = (limit(), limit());
    Some(Metric { label: label.to_owned(), value, uom: uom.to_owned(), warn, crit, min, max })
}

/// A number and the unit behind it; `U` is a number that the plugin does not know.
fn number(text: &str) -> Option<(Option<f64>, &str)> {
    if text == "U" {
        return Some((None, ""));
    }
    let plain = text.bytes().take_while(|b| b.is_ascii_digit() || b"-+.".contains(b)).count();
    // Some print small numbers as 1.2e-05; no unit is an `e` with digits.
    let exponent = text.get(plain..).and_then(|rest| {
        let digits = rest.strip_prefix(['e', 'E'])?;
        let signed = digits.strip_prefix(['-', '+']).unwrap_or(digits);
        let count = signed.bytes().take_while(u8::is_ascii_digit).count();
        (count > 0).then(|| rest.len() - signed.len() + count)
    });
    let (number, uom) = text.split_at_checked(plain + exponent.unwrap_or(0))?;
    // `1,5` of another locale would be read as 1.
    let is_unit = !uom.contains(|c: char| c.is_ascii_digit() || "'\"".contains(c));
    Some((Some(finite(number).filter(|_| is_unit)?), uom))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(label: &str, value: f64, uom: &str) -> Metric {
        Metric {
            label: label.to_owned(),
            value: Some(value),
            uom: uom.to_owned(),
            warn: None,
            crit: None,
            min: None,
            max: None,
        }
    }
    fn outside(start: f64, end: f64) -> Range {
        Range { start, end, inside: false }
    }

    /// What the Monitoring Plugins of Debian 12 print.
    #[test]
    fn real_plugins_are_read() {
        let http = "HTTP OK: HTTP/1.0 200 OK - 138 bytes in 0.001 second response time |time=0.000661s;;;0.000000;10.000000 size=138B;;;0;";
        let age = "FILE_AGE CRITICAL: /tmp/x is 1626 seconds old and 4096 bytes | age=1626s;10;20 size=4096B;0;0;0";
        let procs = "PROCS OK: 92 processes | procs=92;1:500;1:1000;0;";
        let disk = "DISK OK - free space: / 64967MiB (69% inode=95%);| /=29449256960B;243497277849;257024904396;0;270552530944";
        let load =
            "LOAD OK - total load average: 4.35, 4.10, 3.90|load1=4.350;5.000;9.000;0; load5=4.100;5.000;9.000;0; ";
        let refused = "connect to address 127.0.0.1 and port 19999: Connection refused\n";
        for (stdout, first, metrics) in [
            (
                http,
                "HTTP OK: HTTP/1.0 200 OK - 138 bytes in 0.001 second response time",
                vec![
                    Metric { min: Some(0.0), max: Some(10.0), ..plain("time", 0.000_661, "s") },
                    Metric { min: Some(0.0), ..plain("size", 138.0, "B") },
                ],
            ),
            (
                age,
                "FILE_AGE CRITICAL: /tmp/x is 1626 seconds old and 4096 bytes",
                vec![
                    Metric {
                        warn: Some(outside(0.0, 10.0)),
                        crit: Some(outside(0.0, 20.0)),
                        ..plain("age", 1626.0, "s")
                    },
                    Metric {
                        warn: Some(outside(0.0, 0.0)),
                        crit: Some(outside(0.0, 0.0)),
                        min: Some(0.0),
                        ..plain("size", 4096.0, "B")
                    },
                ],
            ),
            (
                procs,
                "PROCS OK: 92 processes",
                vec![Metric {
                    warn: Some(outside(1.0, 500.0)),
                    crit: Some(outside(1.0, 1000.0)),
                    min: Some(0.0),
                    ..plain("procs", 92.0, "")
                }],
            ),
            (
                disk,
                "DISK OK - free space: / 64967MiB (69% inode=95%);",
                vec![Metric {
                    warn: Some(outside(0.0, 243_497_277_849.0)),
                    crit: Some(outside(0.0, 257_024_904_396.0)),
                    min: Some(0.0),
                    max: Some(270_552_530_944.0),
                    ..plain("/", 29_449_256_960.0, "B")
                }],
            ),
            (
                load,
                "LOAD OK - total load average: 4.35, 4.10, 3.90",
                vec![
                    Metric {
                        warn: Some(outside(0.0, 5.0)),
                        crit: Some(outside(0.0, 9.0)),
                        min: Some(0.0),
                        ..plain("load1", 4.35, "")
                    },
                    Metric {
                        warn: Some(outside(0.0, 5.0)),
                        crit: Some(outside(0.0, 9.0)),
                        min: Some(0.0),
                        ..plain("load5", 4.1, "")
                    },
                ],
            ),
            (refused, "connect to address 127.0.0.1 and port 19999: Connection refused", vec![]),
        ] {
            let output = parse(stdout);
            assert_eq!(output, Output { first: first.to_owned(), metrics, ..Output::default() });
        }
    }

    #[test]
    fn performance_data_is_read_as_it_comes() {
        for (data, metrics, malformed) in [
            ("'a b'=1 'it''s'=2s", vec![plain("a b", 1.0, ""), plain("it's", 2.0, "s")], 0),
            ("x=U y=-.5%;", vec![Metric { value: None, ..plain("x", 0.0, "") }, plain("y", -0.5, "%")], 0),
            ("t=1.2e-05s e=3E2", vec![plain("t", 1.2e-5, "s"), plain("e", 300.0, "")], 0),
            ("load average 1=x a=1", vec![plain("a", 1.0, "")], 3),
            ("=5 ''=5 a= b=;1", vec![], 4),
            ("'never closed a=1", vec![plain("a", 1.0, "")], 2),
            ("a=1..2 b=nan c=inf d=1,5", vec![], 4),
            ("a=1;bad;2", vec![Metric { crit: Some(outside(0.0, 2.0)), ..plain("a", 1.0, "") }], 0),
        ] {
            let output = parse(&format!("OK|{data}"));
            assert_eq!((output.metrics, output.malformed), (metrics, malformed), "{data}");
        }
    }

    #[test]
    fn later_lines_are_text_until_a_bar() {
        let output =
            parse("DISK OK | /=1MB\n/ 15272 MB (77%);\n\n/boot 68 MB | /boot=68MB\n/home=69357MB\n'/var log'=8\n");
        assert_eq!(output.first, "DISK OK");
        assert_eq!(output.more, ["/ 15272 MB (77%);", "/boot 68 MB"]);
        let labels: Vec<_> = output.metrics.iter().map(|metric| metric.label.as_str()).collect();
        assert_eq!(labels, ["/", "/boot", "/home", "/var log"]);
    }

    #[test]
    fn output_is_bounded() {
        let long = parse(&"ä".repeat(MAX_BYTES));
        assert_eq!((long.first.len(), long.cut), (MAX_BYTES, true));
        let odd = parse(&format!("x{}", "ä".repeat(MAX_BYTES)));
        assert_eq!((odd.first.len(), odd.cut), (MAX_BYTES - 1, true));
        let many = parse(&format!("|{}", "a=1 ".repeat(MAX_METRICS + 1)));
        assert_eq!((many.metrics.len(), many.cut), (MAX_METRICS, true));
        assert_eq!(parse(""), Output::default());
    }

    #[test]
    fn ranges_follow_the_guidelines() {
        for (text, bad, good) in [
            ("10", vec![-0.1, 10.1], vec![0.0, 10.0]),
            ("10:", vec![9.9], vec![10.0, 1e9]),
            ("~:10", vec![10.1], vec![-1e9, 10.0]),
            ("10:20", vec![9.0, 21.0], vec![10.0, 20.0]),
            ("@10:20", vec![10.0, 20.0], vec![9.9, 20.1]),
        ] {
            let range = Range::parse(text).unwrap();
            for value in bad {
                assert!(range.alerts(value), "{value} of {text}");
            }
            for value in good {
                assert!(!range.alerts(value), "{value} of {text}");
            }
        }
        for text in ["", "x", "20:10", "@", "1:2:3", "nan"] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }

    #[test]
    fn units_are_base_units() {
        for (uom, unit) in [
            ("ms", Uom::Seconds(1e-3)),
            ("KB", Uom::Bytes(1024.0)),
            ("%", Uom::Percent),
            ("c", Uom::Counter),
            ("rpm", Uom::Count),
        ] {
            assert_eq!(plain("x", 1.0, uom).unit(), unit);
        }
    }
}
