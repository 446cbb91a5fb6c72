//! Comma-separated values with a header (RFC 4180, any end of line).

use std::io::Read;

use super::{MAX_LINE_BYTES, without_bom};

/// Columns that are looked at; a header with more is cut.
pub const MAX_COLUMNS: usize = 1_000;

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Csv {
    /// The header's names, trimmed; empty when there is no header.
    pub columns: Vec<String>,
    /// Rows below the header.
    pub rows: u64,
    /// Rows with another number of fields than the header.
    pub ragged_rows: u64,
    /// The line of the first ragged row, and how many fields it has.
    pub first_ragged: Option<(u64, usize)>,
    /// The line of the first row that is not UTF-8.
    pub not_utf8: Option<u64>,
    /// The line where the limit on one row was reached: most likely an open quote.
    pub too_long: Option<u64>,
    /// Whether the limit on bytes came before the end, or a row's.
    pub cut: bool,
}

/// Reads at most `max_bytes`; `each` gets every row's line and fields (not UTF-8 is replaced).
pub fn csv(reader: impl Read, max_bytes: u64, mut each: impl FnMut(u64, &[String])) -> std::io::Result<Csv> {
    let mut seen = Csv::default();
    let mut limited = without_bom(reader)?.take(max_bytes);
    let mut rows = ::csv::ReaderBuilder::new().flexible(true).has_headers(false).from_reader(&mut limited);
    let (mut row, mut held) = (::csv::ByteRecord::new(), None::<(u64, Vec<String>)>);
    let mut header = true;
    loop {
        let more = rows.read_byte_record(&mut row).map_err(std::io::Error::other)?;
        // A row is taken in when the next one is there: the last may be half a row, cut by the limit.
        if let Some((line, fields)) = held.take_if(|_| more) {
            seen.take_in(&mut header, line, &fields, &mut each);
        }
        if !more {
            break;
        }
        let line = row.position().map_or(0, ::csv::Position::line);
        if row.as_slice().len() > MAX_LINE_BYTES {
            return Ok(Csv { too_long: Some(line), cut: true, ..seen });
        }
        if seen.not_utf8.is_none() && row.iter().any(|field| std::str::from_utf8(field).is_err()) {
            seen.not_utf8 = Some(line);
        }
        held = Some((line, row.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect()));
    }
    drop(rows);
    seen.cut = limited.limit() == 0 && has_more(limited.into_inner())?;
    if let Some((line, fields)) = held.filter(|_| !seen.cut) {
        seen.take_in(&mut header, line, &fields, &mut each);
    }
    Ok(seen)
}

impl Csv {
    fn take_in(&mut self, header: &mut bool, line: u64, fields: &[String], each: &mut impl FnMut(u64, &[String])) {
        if std::mem::replace(header, false) {
            self.columns = fields.iter().take(MAX_COLUMNS).map(|name| name.trim().to_owned()).collect();
            return;
        }
        self.rows += 1;
        if fields.len() != self.columns.len() && (fields.len() <= MAX_COLUMNS || self.columns.len() < MAX_COLUMNS) {
            self.ragged_rows += 1;
            self.first_ragged.get_or_insert((line, fields.len()));
        }
        each(line, fields);
    }
}

fn has_more(mut reader: impl Read) -> std::io::Result<bool> {
    let mut byte = [0];
    loop {
        match reader.read(&mut byte) {
            Ok(n) => return Ok(n > 0),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::hostile::{self, Endless};

    fn read(raw: &[u8], max: u64) -> Csv {
        csv(raw, max, |_, _| {}).unwrap()
    }

    #[test]
    fn header_rows_and_ragged_ones() {
        for (raw, columns, rows, ragged, first) in [
            (&b"id,name\n1,a\n2,b\n"[..], &["id", "name"][..], 2, 0, None),
            (b"\xef\xbb\xbfid, name \r\n1,\"a\r\nb\"\r\n", &["id", "name"], 1, 0, None),
            (b"id,name\n1,a\n2\n3,c,d\n", &["id", "name"], 3, 2, Some((3, 1))),
            (b"id,name,at\n1,a", &["id", "name", "at"], 1, 1, Some((2, 2))),
            (b"id\n", &["id"], 0, 0, None),
            (b"", &[], 0, 0, None),
        ] {
            let got = read(raw, 1_000);
            assert_eq!(
                (&got.columns[..], got.rows, got.ragged_rows, got.first_ragged),
                (columns.to_vec().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().as_slice(), rows, ragged, first),
                "{raw:?}"
            );
            assert!(!got.cut && got.not_utf8.is_none());
        }
        assert_eq!(read(b"a\n\xff\n", 1_000).not_utf8, Some(2));
    }

    #[test]
    fn the_row_that_our_limit_cuts_is_not_ragged() {
        let cut = read(b"a,b\n1,2\n3,4\n", 9);
        assert_eq!((cut.rows, cut.ragged_rows, cut.cut), (1, 0, true));
        let whole = read(b"a,b\n1,2\n3,4\n", 12);
        assert_eq!((whole.rows, whole.cut), (2, false));
    }

    #[test]
    fn hostile_input_ends() {
        for (name, raw) in hostile::table() {
            let got = read(&raw, 10_000_000);
            assert!(got.columns.len() <= MAX_COLUMNS, "{name}");
        }
        let endless = csv(Endless(b'"'), 5_000_000, |_, _| {}).unwrap();
        assert!(endless.cut);
    }
}
