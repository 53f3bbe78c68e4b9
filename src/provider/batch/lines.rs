//! Cuts a result file into lines as it arrives, in bounded memory.
//!
//! A line ends at a line feed and nowhere else: answers hold U+2028 and its like as they are, which many
//! readers take for an end. What may come along and means nothing is taken off: carriage returns, blank
//! lines, a byte order mark. A line too long to be a reply is cut, and the next one is read as ever.

/// The most bytes of one line that are kept: 32 MiB, far above any reply, as for one that comes by itself.
pub const MAX_LINE_BYTES: usize = 32 << 20;

/// How much room is kept between lines.
const KEPT_ROOM_BYTES: usize = 1 << 20;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// One line that is not blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its number in the file, from 1; blank lines count.
    pub number: u64,
    /// What it holds, without its end; at most [`MAX_LINE_BYTES`].
    pub bytes: &'a [u8],
    /// Whether a line feed ended it. If not, the file may have been cut inside it.
    pub is_whole: bool,
    /// Whether it went on, so that its bytes are only a beginning.
    pub is_too_long: bool,
}

/// Splits bytes that come in chunks into lines; the cuts between chunks do not matter.
#[derive(Debug)]
pub struct Lines {
    max: usize,
    /// The beginning of the line that has not ended, at most `max` bytes of it.
    held: Vec<u8>,
    /// How long that line is so far.
    length: u64,
    /// How many lines have ended.
    ended: u64,
}

impl Lines {
    /// Starts a file.
    pub fn new() -> Self {
        Self::with_max(MAX_LINE_BYTES)
    }

    fn with_max(max: usize) -> Self {
        Self { max, held: Vec::new(), length: 0, ended: 0 }
    }

    /// Takes the next bytes of the file and calls `each` for every line that ends in them.
    pub fn push(&mut self, chunk: &[u8], each: &mut impl FnMut(Line<'_>)) {
        let mut rest = chunk;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let (tail, after) = rest.split_at(at);
            self.end(tail, each);
            rest = &after[1..];
        }
        self.hold(rest);
    }

    /// Ends the file and calls `each` for what stands behind its last line feed, if anything does.
    pub fn finish(self, each: &mut impl FnMut(Line<'_>)) {
        if self.length > 0 {
            self.tell(&self.held, self.length, false, each);
        }
    }

    fn hold(&mut self, part: &[u8]) {
        let room = self.max - self.held.len();
        self.held.extend_from_slice(&part[..part.len().min(room)]);
        self.length += part.len() as u64;
    }

    fn end(&mut self, tail: &[u8], each: &mut impl FnMut(Line<'_>)) {
        if self.length == 0 {
            self.tell(tail, tail.len() as u64, true, each);
        } else {
            self.hold(tail);
            self.tell(&self.held, self.length, true, each);
            self.held.clear();
            self.held.shrink_to(KEPT_ROOM_BYTES);
            self.length = 0;
        }
        self.ended += 1;
    }

    fn tell(&self, raw: &[u8], length: u64, is_whole: bool, each: &mut impl FnMut(Line<'_>)) {
        let number = self.ended + 1;
        let is_too_long = length > self.max as u64;
        let mut bytes = &raw[..raw.len().min(self.max)];
        if number == 1 {
            bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        }
        if !is_too_long {
            bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        }
        if is_too_long || !bytes.trim_ascii().is_empty() {
            each(Line { number, bytes, is_whole, is_too_long });
        }
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Told = (u64, Vec<u8>, bool, bool);

    fn split<'a>(max: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Told> {
        let mut told = Vec::new();
        let mut each = |line: Line<'_>| {
            told.push((line.number, line.bytes.to_vec(), line.is_whole, line.is_too_long));
        };
        let mut lines = Lines::with_max(max);
        for chunk in chunks {
            lines.push(chunk, &mut each);
        }
        lines.finish(&mut each);
        told
    }

    fn whole(text: &str) -> Vec<(u64, String, bool)> {
        split(MAX_LINE_BYTES, [text.as_bytes()])
            .into_iter()
            .map(|(number, bytes, is_whole, is_too_long)| {
                assert!(!is_too_long);
                (number, String::from_utf8(bytes).unwrap(), is_whole)
            })
            .collect()
    }

    fn line(number: u64, text: &str) -> (u64, String, bool) {
        (number, text.to_owned(), true)
    }

    #[test]
    fn only_a_line_feed_ends_a_line() {
        let text = "{\"a\":\"x\u{2028}y\u{2029}z\u{85}\"}\n{\"b\":1\r2}\n\u{b}\u{c}{}\n";
        assert_eq!(
            whole(text),
            [
                line(1, "{\"a\":\"x\u{2028}y\u{2029}z\u{85}\"}"),
                line(2, "{\"b\":1\r2}"),
                line(3, "\u{b}\u{c}{}"),
            ]
        );
    }

    #[test]
    fn blank_lines_carriage_returns_and_a_byte_order_mark_mean_nothing() {
        assert_eq!(
            whole("\u{feff}{}\r\n\r\n \t\n{1}\n\n{2}\r\n"),
            [line(1, "{}"), line(4, "{1}"), line(6, "{2}")]
        );
        assert_eq!(whole("\u{feff}\n{}\n"), [line(2, "{}")]);
        assert_eq!(whole("{}\n\u{feff}{}\n"), [line(1, "{}"), line(2, "\u{feff}{}")]);
        for nothing in ["", "\n", "\r\n\r\n", "\u{feff}", " "] {
            assert_eq!(whole(nothing), [], "{nothing:?}");
        }
    }

    #[test]
    fn a_last_line_without_its_end_is_told_as_such() {
        assert_eq!(whole("{}\n{\"a\""), [line(1, "{}"), (2, "{\"a\"".to_owned(), false)]);
        assert_eq!(whole("{}\n{}\r"), [line(1, "{}"), (2, "{}".to_owned(), false)]);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_the_next_one_read() {
        let file = b"12345\n123456\n12\n1234567";
        let wanted = [
            (1, b"12345".to_vec(), true, false),
            (2, b"12345".to_vec(), true, true),
            (3, b"12".to_vec(), true, false),
            (4, b"12345".to_vec(), false, true),
        ];
        assert_eq!(split(5, [&file[..]]), wanted);
        assert_eq!(split(5, file.chunks(1)), wanted);
        assert_eq!(split(5, file.chunks(4)), wanted);
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_allowed() {
        let mut lines = Lines::with_max(1 << 10);
        for _ in 0..1_000 {
            lines.push(&[b'x'; 4_096], &mut |line| panic!("{line:?}"));
        }
        assert!(lines.held.capacity() <= 2 << 10, "{}", lines.held.capacity());
    }

    /// The same once more, of the whole file at once.
    fn oracle(max: usize, file: &[u8]) -> Vec<Told> {
        let parts: Vec<&[u8]> = file.split(|byte| *byte == b'\n').collect();
        let last = parts.len() - 1;
        let mut told = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let is_too_long = part.len() > max;
            let mut bytes = part.to_vec();
            bytes.truncate(max);
            if at == 0 && bytes.starts_with(b"\xEF\xBB\xBF") {
                bytes.drain(..3);
            }
            if !is_too_long && bytes.ends_with(b"\r") {
                bytes.pop();
            }
            if is_too_long || bytes.iter().any(|byte| !byte.is_ascii_whitespace()) {
                told.push((at as u64 + 1, bytes, at != last, is_too_long));
            }
        }
        told
    }

    proptest! {
        #[test]
        fn any_chunking_equals_splitting_the_whole(
            file in prop::collection::vec(
                prop_oneof![
                    3 => Just(b'\n'),
                    1 => Just(b'\r'),
                    1 => prop::sample::select(&[0xEF_u8, 0xBB, 0xBF, 0xE2, 0x80, 0xA8, b' '][..]),
                    3 => any::<u8>(),
                ],
                0..80,
            ),
            has_mark in any::<bool>(),
            cuts in prop::collection::vec(0..80_usize, 0..12),
            max in 3..12_usize,
        ) {
            let mut file = file;
            if has_mark {
                file.splice(..0, BYTE_ORDER_MARK.iter().copied());
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(file.len())).collect();
            cuts.extend([0, file.len()]);
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|pair| &file[pair[0]..pair[1]]);
            prop_assert_eq!(split(max, chunks), oracle(max, &file));
            prop_assert_eq!(split(MAX_LINE_BYTES, [&file[..]]), oracle(MAX_LINE_BYTES, &file));
        }
    }
}
