//! What a table is, judged by how it begins: another kind of file, JSON Lines, or text with some
//! delimiter.

use super::encoding::Ahead;
use super::error::{FileKind, Problem, Remedy};
use super::scanner::{Scan, Scanner};

/// How much text a delimiter is looked for in.
pub(super) const SAMPLE: usize = 64 * 1024;

/// The delimiters that are looked for; the first of two equally good ones is taken.
const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];

/// How many records a delimiter is judged by, the header included.
const RECORDS: u32 = 100;

/// Refuses a file whose first bytes are those of something else than text.
pub(super) fn refuse_other_files(head: &[u8]) -> Result<(), Problem> {
    let kind = KINDS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, kind)| kind);
    match kind {
        None => Ok(()),
        Some(kind) if *kind == ZIP && is_workbook(head) => {
            Err(Problem::NotText { kind: &WORKBOOK })
        }
        Some(kind) => Err(Problem::NotText { kind }),
    }
}

fn is_workbook(head: &[u8]) -> bool {
    let names: [&[u8]; 4] =
        [b"xl/", b"[Content_Types].xml", b"docProps/", b"opendocument.spreadsheet"];
    let start = &head[..head.len().min(4096)];
    names.iter().any(|name| start.windows(name.len()).any(|window| window == *name))
}

/// What a text starts like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A JSON object, so JSON Lines.
    JsonObject,
    /// A JSON array of objects or of arrays.
    JsonArray,
    /// Anything else.
    Plain,
}

/// Looks at the first characters of a text.
pub(super) fn start_of(text: &str) -> Start {
    let text = text.trim_ascii_start();
    if let Some(object) = text.strip_prefix('{') {
        let inside = object.trim_ascii_start();
        let is_object = inside.is_empty() || inside.starts_with(['"', '}', '\'']);
        return if is_object { Start::JsonObject } else { Start::Plain };
    }
    match text.strip_prefix('[').map(str::trim_ascii_start) {
        Some(inside) if inside.is_empty() || inside.starts_with(['{', '[', ']']) => {
            Start::JsonArray
        }
        Some(_) | None => Start::Plain,
    }
}

/// Finds the line `sep=;` that Excel writes and reads above a header: the delimiter, and the
/// length of the line.
pub(super) fn separator_line(text: &str) -> Option<(u8, usize)> {
    let (marker, rest) = text.split_at_checked(4)?;
    let delimiter = *rest.as_bytes().first()?;
    if !marker.eq_ignore_ascii_case("sep=") || !is_delimiter(delimiter) {
        return None;
    }
    let line_end = ["\r\n", "\n", "\r"].into_iter().find(|end| rest[1..].starts_with(end))?;
    Some((delimiter, 5 + line_end.len()))
}

/// Says whether a byte can stand between two fields.
pub(super) fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii() && !matches!(byte, 0 | b'"' | b'\n' | b'\r')
}

/// Finds the delimiter by which the most records have as many fields as the header, which must
/// have two at least; a comma if there is none.
pub(super) fn delimiter_of(sample: &str, ahead: Ahead) -> u8 {
    let mut best = (b',', (0, 0));
    for delimiter in DELIMITERS {
        if let Some(score) = score(sample, ahead, delimiter)
            && score > best.1
        {
            best = (delimiter, score);
        }
    }
    best.0
}

/// Returns the per mille of records that agree with the header, and the number of columns.
fn score(sample: &str, ahead: Ahead, delimiter: u8) -> Option<(u32, usize)> {
    let mut scanner = Scanner::new(delimiter, 1);
    let mut rest = sample;
    let mut columns = None;
    let (mut records, mut agreeing) = (0, 0);
    while records < RECORDS {
        match scanner.scan(rest, ahead) {
            Scan::Record { length } => {
                rest = &rest[length..];
                records += 1;
                agreeing += u32::from(*columns.get_or_insert(scanner.count()) == scanner.count());
            }
            Scan::NeedsMore | Scan::End => break,
            Scan::Unclosed { .. } | Scan::Stray { .. } => {
                records += 1;
                break;
            }
        }
    }
    // A header longer than the sample still tells its delimiter by what is there of it.
    let columns = columns.unwrap_or_else(|| sample.split(char::from(delimiter)).count());
    (columns >= 2).then(|| (agreeing * 1000 / records.max(1), columns))
}

const ZIP: FileKind = FileKind {
    name: "a zip archive",
    remedy: Remedy::Advice("unpack it, and add the tables inside"),
};
const WORKBOOK: FileKind = FileKind {
    name: "a workbook of a spreadsheet program",
    remedy: Remedy::Advice("save the sheet as \"CSV UTF-8\" and add that file"),
};
const GZIP: FileKind = FileKind { name: "a gzip file", remedy: Remedy::Unpack("gunzip -c") };
const ZSTD: FileKind = FileKind { name: "a zstd file", remedy: Remedy::Unpack("zstd -dc") };
const XZ: FileKind = FileKind { name: "an xz file", remedy: Remedy::Unpack("xz -dc") };
const BZIP2: FileKind = FileKind { name: "a bzip2 file", remedy: Remedy::Unpack("bzip2 -dc") };
const PARQUET: FileKind = FileKind {
    name: "a Parquet file",
    remedy: Remedy::Advice("write it as CSV or JSON Lines first, for example with DuckDB"),
};
const ARROW: FileKind = FileKind {
    name: "an Arrow file",
    remedy: Remedy::Advice("write it as CSV or JSON Lines first, for example with DuckDB"),
};
const SQLITE: FileKind = FileKind {
    name: "an SQLite file",
    remedy: Remedy::Advice("export the table first, for example with sqlite3 -csv -header"),
};
const PDF: FileKind =
    FileKind { name: "a PDF file", remedy: Remedy::Advice("a table is CSV, TSV or JSON Lines") };
const UTF32: FileKind =
    FileKind { name: "UTF-32 text", remedy: Remedy::Advice("save it as UTF-8") };
const HTML: FileKind = FileKind {
    name: "an HTML page",
    remedy: Remedy::Advice("look at it: a download may have failed"),
};

const KINDS: &[(&[u8], FileKind)] = &[
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", WORKBOOK),
    (b"\x1f\x8b", GZIP),
    (b"\x28\xb5\x2f\xfd", ZSTD),
    (b"\xfd7zXZ\0", XZ),
    (b"BZh91AY&SY", BZIP2),
    (b"PAR1", PARQUET),
    (b"ARROW1\0\0", ARROW),
    (b"FEA1", ARROW),
    (b"SQLite format 3\0", SQLITE),
    (b"%PDF-", PDF),
    (b"\xff\xfe\0\0", UTF32),
    (b"\0\0\xfe\xff", UTF32),
    (b"<!DOCTYPE html", HTML),
    (b"<!doctype html", HTML),
    (b"<html", HTML),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn sniffed(sample: &str) -> char {
        char::from(delimiter_of(sample, Ahead::Nothing))
    }

    #[test]
    fn the_delimiter_is_the_one_that_makes_a_table() {
        let cases = [
            ("a,b\n1,2\n", ','),
            ("a;b\n1;2\n", ';'),
            ("a\tb\n1\t2\n", '\t'),
            ("a|b\n1|2\n", '|'),
            ("id;price, EUR\n1;1,50\n2;2\n", ';'),
            ("id;text\n1;\"a;b,c\"\n2;Hello, world, again\n", ';'),
            ("\"a;b\",\"c;d\"\n\"1;2\",3\n", ','),
            ("text\nHello; world\n", ','),
            ("a;b", ';'),
            ("", ','),
            ("a,b;c\n", ','),
        ];
        for (sample, delimiter) in cases {
            assert_eq!(sniffed(sample), delimiter, "{sample}");
        }
    }

    #[test]
    fn a_record_cut_by_the_end_of_the_sample_does_not_count() {
        assert_eq!(delimiter_of("a;b\n1;2,3,4\n5", Ahead::More), b';');
        assert_eq!(delimiter_of("a;b;\"c", Ahead::More), b';');
    }

    #[test]
    fn objects_arrays_and_headers_start_differently() {
        assert_eq!(start_of("\n {\"a\":1}"), Start::JsonObject);
        assert_eq!(start_of("{"), Start::JsonObject);
        assert_eq!(start_of("[\n  {\"a\":1}]"), Start::JsonArray);
        assert_eq!(start_of("{name},text"), Start::Plain);
        assert_eq!(start_of("[id],text"), Start::Plain);
        assert_eq!(start_of(""), Start::Plain);
    }

    #[test]
    fn the_separator_line_of_excel_is_known() {
        assert_eq!(separator_line("sep=;\r\na;b"), Some((b';', 7)));
        assert_eq!(separator_line("SEP=\t\na"), Some((b'\t', 6)));
        assert_eq!(separator_line("sep=가\n"), None);
        assert_eq!(separator_line("sep=;x\n"), None);
        assert_eq!(separator_line("se가=;\n"), None);
        assert_eq!(separator_line("sep,b\n"), None);
    }
}
