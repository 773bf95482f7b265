//! Contacts from CSV (from XLSX in [`xlsx`]), pushed in as they arrive: constant memory, an error for each bad line.
//!
//! RFC 4180 with a header line. UTF-8 (with or without a byte order mark) or GBK, told apart by the first
//! 64 KiB: what is no UTF-8 is GBK. A bad line is reported with its number and passed over.

mod rows;
pub(crate) mod xlsx;

use std::collections::BTreeMap;

use csv_core::{ReadRecordResult, Reader};
use encoding_rs::{CoderResult, Decoder, Encoding, GB18030, UTF_8};

use rows::Table;
pub(crate) use rows::{Line, LineError, cell};

/// How much is looked at before the encoding is decided.
const LOOK: usize = 64 * 1024;
/// The longest line, in bytes of UTF-8.
const LONGEST: usize = 64 * 1024;
const MOST_COLUMNS: usize = 200;

/// Why nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ImportError {
    /// There is no column with the number.
    #[error("the header has no column for `callee`; name it so, or map it with `map=COLUMN:callee`")]
    NoCallee,
    /// Too many columns.
    #[error("the header has more than 200 columns, or a column twice")]
    Header,
    /// No workbook, or one that is damaged.
    #[error("the file begins as an XLSX workbook and cannot be read as one")]
    Workbook,
    /// A workbook that is too large.
    #[error("a workbook may have 32 MiB, and 512 MiB unpacked; send larger lists as CSV")]
    WorkbookLarge,
    /// A line without an end.
    #[error("a line is longer than 64 KiB: is a quotation mark missing?")]
    TooLong,
}

/// Reads a file as it arrives.
pub(crate) struct Importer {
    /// What arrived before the encoding was known.
    head: Vec<u8>,
    decoder: Option<Decoder>,
    reader: Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
    filled: usize,
    ended: usize,
    /// The line that has been reached, from 1.
    line: u64,
    /// The line on which the record that is being read began.
    began: u64,
    /// A record is over and the next has not begun.
    between: bool,
    table: Table,
    encoding: &'static Encoding,
}

impl Importer {
    /// `map` gives columns other names.
    pub(crate) fn new(map: BTreeMap<String, String>) -> Self {
        Self {
            head: Vec::new(),
            decoder: None,
            reader: Reader::new(),
            fields: vec![0; LONGEST],
            ends: vec![0; MOST_COLUMNS],
            filled: 0,
            ended: 0,
            line: 1,
            began: 1,
            between: true,
            table: Table::new(map),
            encoding: UTF_8,
        }
    }

    /// Returns the name of the encoding.
    pub(crate) fn encoding(&self) -> &'static str {
        if self.encoding == UTF_8 { "UTF-8" } else { "GBK" }
    }

    /// Takes the next bytes and appends what they complete to `rows`.
    pub(crate) fn push(&mut self, bytes: &[u8], rows: &mut Vec<Line>) -> Result<(), ImportError> {
        if self.decoder.is_some() {
            return self.decode(bytes, false, rows);
        }
        self.head.extend_from_slice(bytes);
        if self.head.len() < LOOK {
            return Ok(());
        }
        self.begin(rows)
    }

    /// There is no more.
    pub(crate) fn finish(&mut self, rows: &mut Vec<Line>) -> Result<(), ImportError> {
        if self.decoder.is_none() {
            self.begin(rows)?;
        }
        self.decode(&[], true, rows)?;
        self.records(&[], rows)?;
        if self.table.is_known() { Ok(()) } else { Err(ImportError::NoCallee) }
    }

    fn begin(&mut self, rows: &mut Vec<Line>) -> Result<(), ImportError> {
        // A character that is cut in two by the end of the look is no error.
        let cut = match std::str::from_utf8(&self.head) {
            Ok(_) => true,
            Err(error) => error.error_len().is_none(),
        };
        self.encoding = if cut { UTF_8 } else { GB18030 };
        self.decoder = Some(self.encoding.new_decoder_with_bom_removal());
        let head = std::mem::take(&mut self.head);
        self.decode(&head, false, rows)
    }

    fn decode(&mut self, mut bytes: &[u8], last: bool, rows: &mut Vec<Line>) -> Result<(), ImportError> {
        let mut text = vec![0; 16 * 1024];
        loop {
            let Some(decoder) = &mut self.decoder else { return Ok(()) };
            // What is no character becomes U+FFFD, and its line is reported.
            let (result, read, written, _) = decoder.decode_to_utf8(bytes, &mut text, last);
            bytes = &bytes[read..];
            let decoded = text[..written].to_vec();
            if !decoded.is_empty() {
                self.records(&decoded, rows)?;
            }
            if result == CoderResult::InputEmpty {
                return Ok(());
            }
        }
    }

    /// Feeds the CSV reader; an empty slice is the end.
    fn records(&mut self, mut text: &[u8], rows: &mut Vec<Line>) -> Result<(), ImportError> {
        let at_end = text.is_empty();
        loop {
            if self.between {
                // The rest of a line's end, and empty lines, belong to no record.
                while let Some(rest) = text.strip_prefix(b"\n").or_else(|| text.strip_prefix(b"\r")) {
                    self.line += u64::from(text[0] == b'\n');
                    text = rest;
                }
                if text.is_empty() && !at_end {
                    return Ok(());
                }
                self.between = false;
                self.began = self.line;
            }
            let (result, read, written, ends) =
                self.reader.read_record(text, &mut self.fields[self.filled..], &mut self.ends[self.ended..]);
            self.line += text[..read].iter().fold(0, |lines, byte| lines + u64::from(*byte == b'\n'));
            text = &text[read..];
            self.filled += written;
            self.ended += ends;
            match result {
                ReadRecordResult::InputEmpty if !at_end => return Ok(()),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    return Err(ImportError::TooLong);
                }
                ReadRecordResult::Record => {
                    self.record(rows)?;
                    self.filled = 0;
                    self.ended = 0;
                    self.between = true;
                }
                ReadRecordResult::End => return Ok(()),
            }
        }
    }

    fn record(&mut self, rows: &mut Vec<Line>) -> Result<(), ImportError> {
        let mut from = 0;
        let fields: Vec<String> = self.ends[..self.ended]
            .iter()
            .map(|to| {
                let field = String::from_utf8_lossy(&self.fields[from..*to]).into_owned();
                from = *to;
                field
            })
            .collect();
        rows.extend(self.table.take(self.began, fields)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::rows::Row;
    use super::*;

    fn read(
        bytes: &[u8],
        step: usize,
    ) -> (Vec<Result<Row, LineError>>, Result<(), ImportError>, &'static str) {
        let mut importer = Importer::new(BTreeMap::from([("电话".into(), "callee".into())]));
        let mut rows = Vec::new();
        for chunk in bytes.chunks(step.max(1)) {
            if let Err(error) = importer.push(chunk, &mut rows) {
                return (rows, Err(error), importer.encoding());
            }
        }
        let end = importer.finish(&mut rows);
        (rows, end, importer.encoding())
    }

    #[test]
    fn good_lines_are_read_and_bad_ones_reported_by_their_number() {
        let text = "\u{feff}callee,name,external_id,consent\r\n+8613800138000,\"王, 芳\",c1,contract\r\n13800138000,x,,\r\n\
                    +8613800138001,x\r\n+8613800138002,\"two\nlines\",,\r\n,x,,\r\n+8613800138003,y,,maybe\r\n";
        for step in [1, 7, 4_096] {
            let (rows, end, encoding) = read(text.as_bytes(), step);
            assert_eq!((end, encoding), (Ok(()), "UTF-8"));
            let good: Vec<&Row> = rows.iter().filter_map(|row| row.as_ref().ok()).collect();
            assert_eq!(good.len(), 2);
            assert_eq!(good[0].variables["name"], "王, 芳");
            assert_eq!(good[0].external_id.as_deref(), Some("c1"));
            assert_eq!(good[1].variables["name"], "two\nlines");
            let bad: Vec<u64> =
                rows.iter().filter_map(|row| row.as_ref().err()).map(|error| error.line).collect();
            assert_eq!(bad, [3, 4, 7, 8]);
        }
    }

    #[test]
    fn gbk_is_recognised_and_columns_are_mapped() {
        let (bytes, _, _) = GB18030.encode("电话,name\n+8613800138000,王芳\n");
        let (rows, end, encoding) = read(&bytes, 3);
        assert_eq!((end, encoding), (Ok(()), "GBK"));
        assert_eq!(rows[0].as_ref().unwrap().variables["name"], "王芳");
    }

    #[test]
    fn a_file_without_a_number_or_without_an_end_is_refused() {
        assert_eq!(read(b"name\nx\n", 99).1, Err(ImportError::NoCallee));
        assert_eq!(read(b"", 99).1, Err(ImportError::NoCallee));
        assert_eq!(read(b"callee,a,a\n", 99).1, Err(ImportError::Header));
        let endless = format!("callee,name\n+8613800138000,\"{}", "x".repeat(LONGEST + 1));
        assert_eq!(read(endless.as_bytes(), 4_096).1, Err(ImportError::TooLong));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_importer_and_it_does_not_matter_how_they_arrive(bytes: Vec<u8>, step in 1_usize..50) {
            let mut file = b"callee,x\n".to_vec();
            file.extend(bytes);
            let (a, b) = (read(&file, step), read(&file, usize::MAX));
            prop_assert_eq!(a.0, b.0);
            prop_assert_eq!(a.1, b.1);
        }
    }
}
