//! Contacts from the first sheet of an XLSX workbook (ECMA-376), read by `calamine`.
//!
//! A workbook is a ZIP file and cannot be read as it arrives, so it is held in memory and may be no larger
//! than [`LARGEST`]; what it unpacks to is measured before it is read, and the rows are then streamed.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use calamine::{DataRef, Reader, Xlsx};
use flate2::read::DeflateDecoder;
use tokio::sync::mpsc;

use super::{ImportError, Line, LineError, Table};

/// The largest workbook, in bytes: some half a million contacts.
pub(crate) const LARGEST: usize = 32 * 1024 * 1024;
/// What it may unpack to, in bytes.
const LARGEST_UNPACKED: u64 = 512 * 1024 * 1024;
const MOST_COLUMNS: usize = 200;
const BATCH: usize = 500;

/// Says whether a file begins as a workbook does.
pub(crate) fn is_xlsx(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04")
}

/// Reads a workbook and sends its lines in batches. Blocks; call it beside the runtime.
pub(crate) fn read(
    file: Vec<u8>,
    map: BTreeMap<String, String>,
    lines: &mpsc::Sender<Vec<Line>>,
) -> Result<(), ImportError> {
    measure(&file, LARGEST_UNPACKED)?;
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(file)).map_err(|_| ImportError::Workbook)?;
    let sheet = book.sheet_names().first().cloned().ok_or(ImportError::Workbook)?;
    let mut cells = book.worksheet_cells_reader(&sheet).map_err(|_| ImportError::Workbook)?;
    let mut table = Table::new(map);
    let mut batch = Vec::with_capacity(BATCH);
    let mut row = SheetRow::default();
    loop {
        let cell = cells.next_cell().map_err(|_| ImportError::Workbook)?;
        let at = cell.as_ref().map(calamine::Cell::get_position);
        if at.is_none_or(|(line, _)| line != row.line) {
            row.finish(&mut table, &mut batch)?;
            if batch.len() >= BATCH || at.is_none() {
                // Nobody takes the lines any more: the request is gone.
                if lines.blocking_send(std::mem::take(&mut batch)).is_err() {
                    return Ok(());
                }
            }
        }
        let (Some(cell), Some((line, column))) = (cell, at) else { break };
        row.line = line;
        row.put(column as usize, cell.get_value())?;
    }
    if table.is_known() { Ok(()) } else { Err(ImportError::NoCallee) }
}

/// The cells of a line as far as they came.
#[derive(Default)]
struct SheetRow {
    line: u32,
    fields: Vec<String>,
    damaged: bool,
}

impl SheetRow {
    fn put(&mut self, column: usize, value: &DataRef<'_>) -> Result<(), ImportError> {
        let text = match value {
            DataRef::Empty => return Ok(()),
            DataRef::Error(_) => {
                self.damaged = true;
                return Ok(());
            }
            DataRef::Int(number) => number.to_string(),
            // Below 2^53 a whole number is exact, and is written as one.
            DataRef::Float(number) if number.fract() == 0.0 && number.abs() < 9.0e15 => {
                format!("{number:.0}")
            }
            DataRef::Float(number) => number.to_string(),
            DataRef::String(text) => text.clone(),
            DataRef::SharedString(text) => (*text).to_owned(),
            DataRef::Bool(flag) => flag.to_string(),
            DataRef::DateTime(at) => {
                let (year, month, day, hour, minute, ..) = at.to_ymd_hms_milli();
                if at.is_duration() || at.as_f64() < 1.0 {
                    format!("{hour:02}:{minute:02}")
                } else if (hour, minute) == (0, 0) {
                    format!("{year:04}-{month:02}-{day:02}")
                } else {
                    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}")
                }
            }
            DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.clone(),
        };
        if column >= MOST_COLUMNS {
            return Err(ImportError::Header);
        }
        if self.fields.len() <= column {
            self.fields.resize(column + 1, String::new());
        }
        self.fields[column] = text;
        Ok(())
    }

    fn finish(&mut self, table: &mut Table, batch: &mut Vec<Line>) -> Result<(), ImportError> {
        let mut fields = std::mem::take(&mut self.fields);
        let damaged = std::mem::take(&mut self.damaged);
        let line = u64::from(self.line) + 1;
        if fields.iter().all(String::is_empty) && !damaged {
            return Ok(());
        }
        // Cells at the end of a line that are empty are not in the file.
        if fields.len() < table.width() {
            fields.resize(table.width(), String::new());
        }
        match table.take(line, fields)? {
            Some(_) if damaged => {
                batch.push(Err(LineError { line, reason: "a cell holds an error of the spreadsheet" }));
            }
            Some(read) => batch.push(read),
            None => {}
        }
        Ok(())
    }
}

/// Unpacks every part and counts, so that a small file that unpacks to a huge one is refused, whatever its
/// headers say (APPNOTE.TXT 4.3: end of central directory, central directory, local headers).
fn measure(file: &[u8], most: u64) -> Result<(), ImportError> {
    const END: usize = 22;
    let u16_at = |at: usize| -> Option<usize> {
        Some(usize::from(u16::from_le_bytes(file.get(at..at + 2)?.try_into().ok()?)))
    };
    let u32_at = |at: usize| -> Option<usize> {
        usize::try_from(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?)).ok()
    };
    let walk = || -> Option<Result<(), ImportError>> {
        let end = file.len().checked_sub(END)?;
        // No comment behind it: there is one way only to read such a file.
        if file.get(end..end + 4)? != b"PK\x05\x06" || u16_at(end + 20)? != 0 {
            return None;
        }
        let (parts, mut at) = (u16_at(end + 10)?, u32_at(end + 16)?);
        let mut left = most;
        for _ in 0..parts {
            if file.get(at..at + 4)? != b"PK\x01\x02" {
                return None;
            }
            let (method, packed, local) = (u16_at(at + 10)?, u32_at(at + 20)?, u32_at(at + 42)?);
            at += 46 + u16_at(at + 28)? + u16_at(at + 30)? + u16_at(at + 32)?;
            let data = local + 30 + u16_at(local + 26)? + u16_at(local + 28)?;
            let data = file.get(data..data.checked_add(packed)?)?;
            let size = match method {
                0 => packed as u64,
                8 => {
                    let unpacked = DeflateDecoder::new(data).take(left + 1);
                    std::io::copy(&mut { unpacked }, &mut std::io::sink()).ok()?
                }
                _ => return None,
            };
            match left.checked_sub(size) {
                Some(rest) => left = rest,
                None => return Some(Err(ImportError::WorkbookLarge)),
            }
        }
        Some(Ok(()))
    };
    walk().unwrap_or(Err(ImportError::Workbook))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use proptest::prelude::*;

    use super::*;

    /// Packs parts as a spreadsheet program does.
    pub(crate) fn zip(parts: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let (mut file, mut directory) = (Vec::new(), Vec::new());
        for (name, data) in parts {
            let mut packer = DeflateEncoder::new(Vec::new(), Compression::fast());
            packer.write_all(data).unwrap();
            let packed = packer.finish().unwrap();
            let mut crc = flate2::Crc::new();
            crc.update(data);
            let offset = file.len() as u32;
            let mut common = Vec::new();
            common.extend([20, 0, 0, 0, 8, 0, 0, 0, 0x21, 0x50]);
            common.extend(crc.sum().to_le_bytes());
            common.extend((packed.len() as u32).to_le_bytes());
            common.extend((data.len() as u32).to_le_bytes());
            common.extend((name.len() as u16).to_le_bytes());
            common.extend([0, 0]);
            file.extend(b"PK\x03\x04");
            file.extend(&common);
            file.extend(name.as_bytes());
            file.extend(&packed);
            directory.extend(b"PK\x01\x02\x14\x00");
            directory.extend(&common);
            directory.extend([0; 10]);
            directory.extend(offset.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let offset = file.len() as u32;
        let count = (parts.len() as u16).to_le_bytes();
        file.extend(&directory);
        file.extend(b"PK\x05\x06\0\0\0\0");
        file.extend(count);
        file.extend(count);
        file.extend((directory.len() as u32).to_le_bytes());
        file.extend(offset.to_le_bytes());
        file.extend([0, 0]);
        file
    }

    /// A workbook whose one sheet has these rows, written as XML.
    fn workbook(rows: &str) -> Vec<u8> {
        const MAIN: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
        const REL: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
        const PACKAGE: &str = "http://schemas.openxmlformats.org/package/2006";
        let text = |text: String| format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{text}").into_bytes();
        zip(&[
            (
                "[Content_Types].xml",
                text(format!(
                    "<Types xmlns=\"{PACKAGE}/content-types\"><Default Extension=\"xml\" ContentType=\"application/xml\"/></Types>"
                )),
            ),
            (
                "_rels/.rels",
                text(format!(
                    "<Relationships xmlns=\"{PACKAGE}/relationships\"><Relationship Id=\"rId1\" Type=\"{REL}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
                )),
            ),
            (
                "xl/_rels/workbook.xml.rels",
                text(format!(
                    "<Relationships xmlns=\"{PACKAGE}/relationships\"><Relationship Id=\"rId1\" Type=\"{REL}/worksheet\" Target=\"worksheets/sheet1.xml\"/>\
                     <Relationship Id=\"rId2\" Type=\"{REL}/styles\" Target=\"styles.xml\"/></Relationships>"
                )),
            ),
            (
                "xl/styles.xml",
                text(format!(
                    "<styleSheet xmlns=\"{MAIN}\"><cellXfs count=\"2\"><xf numFmtId=\"0\"/><xf numFmtId=\"14\"/></cellXfs></styleSheet>"
                )),
            ),
            (
                "xl/workbook.xml",
                text(format!(
                    "<workbook xmlns=\"{MAIN}\" xmlns:r=\"{REL}\"><sheets><sheet name=\"Kontakte\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>"
                )),
            ),
            (
                "xl/worksheets/sheet1.xml",
                text(format!("<worksheet xmlns=\"{MAIN}\"><sheetData>{rows}</sheetData></worksheet>")),
            ),
        ])
    }

    fn text_cell(at: &str, text: &str) -> String {
        format!("<c r=\"{at}\" t=\"inlineStr\"><is><t>{text}</t></is></c>")
    }

    fn lines_of(file: Vec<u8>) -> (Vec<Line>, Result<(), ImportError>) {
        let (sender, mut receiver) = mpsc::channel(64);
        let end = read(file, BTreeMap::from([("电话".into(), "callee".into())]), &sender);
        drop(sender);
        let mut lines = Vec::new();
        while let Some(batch) = receiver.blocking_recv() {
            lines.extend(batch);
        }
        (lines, end)
    }

    #[test]
    fn a_workbook_gives_contacts_and_its_bad_lines_by_number() {
        let header = ["电话", "name", "amount", "due_date", "external_id"];
        let header: String =
            header.iter().zip('A'..).map(|(name, at)| text_cell(&format!("{at}1"), name)).collect();
        let rows = format!(
            "<row r=\"1\">{header}</row>\
             <row r=\"2\">{}{}<c r=\"C2\"><v>1280.5</v></c><c r=\"D2\" s=\"1\"><v>46353</v></c><c r=\"E2\"><v>17</v></c></row>\
             <row r=\"3\"><c r=\"A3\"><v>8613800138001</v></c>{}</row>\
             <row r=\"5\">{}{}</row>\
             <row r=\"6\">{}<c r=\"B6\" t=\"e\"><v>#REF!</v></c></row>",
            text_cell("A2", "+8613800138000"),
            text_cell("B2", "王芳"),
            text_cell("B3", "no plus"),
            text_cell("A5", "'+86 138 0013 8002"),
            text_cell("B5", "=1+1"),
            text_cell("A6", "+8613800138003"),
        );
        let (lines, end) = lines_of(workbook(&rows));
        assert_eq!(end, Ok(()));
        let good: Vec<_> = lines.iter().filter_map(|line| line.as_ref().ok()).collect();
        assert_eq!(good.len(), 2, "{lines:?}");
        assert_eq!(good[0].variables["amount"], "1280.5");
        assert_eq!(good[0].variables["due_date"], "2026-11-27");
        assert_eq!(good[0].external_id.as_deref(), Some("17"));
        assert_eq!(good[1].callee.reveal(), "+8613800138002");
        let bad: Vec<u64> = lines.iter().filter_map(|line| line.as_ref().err()).map(|bad| bad.line).collect();
        assert_eq!(bad, [3, 6]);
    }

    #[test]
    fn what_is_no_workbook_or_unpacks_to_too_much_is_refused() {
        assert_eq!(lines_of(b"PK\x03\x04 but nothing more".to_vec()).1, Err(ImportError::Workbook));
        assert_eq!(lines_of(zip(&[("x", vec![1])])).1, Err(ImportError::Workbook));
        let sheet = workbook(&format!("<row r=\"1\">{}</row>", text_cell("A1", "name")));
        assert_eq!(lines_of(sheet).1, Err(ImportError::NoCallee));
        let half = vec![0; 500_001];
        let mut bomb = zip(&[("a", half.clone()), ("b", half)]);
        assert!(bomb.len() < 20_000, "{} bytes", bomb.len());
        assert_eq!(measure(&bomb, 1_000_000), Err(ImportError::WorkbookLarge));
        assert_eq!(measure(&bomb, 1_000_002), Ok(()));
        bomb.push(0);
        assert_eq!(measure(&bomb, 1_000_002), Err(ImportError::Workbook), "one way only to read it");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_bytes_panic_the_reader(bytes: Vec<u8>, at in 0_usize..4_000, byte: u8) {
            let _ = measure(&bytes, LARGEST_UNPACKED);
            let mut book = workbook(&format!("<row r=\"1\">{}</row>", text_cell("A1", "callee")));
            let at = at % book.len();
            book[at] = byte;
            let _ = lines_of(book);
        }
    }
}
