//! A stream of bytes as a window of text that moves over it.
//!
//! It reads in large chunks, hashes every byte once on the way, decodes, and keeps only what the
//! caller has not consumed yet; so memory is one chunk and one record. Bytes that are no text stop
//! the stream, but only after the text before them was handed out: the caller knows the line then.

use std::io::{self, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};
use sha2::{Digest, Sha256};

use super::encoding::{self, Ahead, Guess};
use super::error::Problem;
use super::sniff;

/// How many bytes are read at a time, and how many an encoding is recognized from.
pub(super) const CHUNK: usize = 256 * 1024;

/// A record larger than this is taken for a quote that never closes. `SQLite` takes at most a
/// billion bytes in one value, and escapes make the JSON of a cell larger than the cell. Unit tests
/// have a lower limit, to reach it in little time and memory.
pub(super) const MAX_RECORD_BYTES: usize =
    if cfg!(test) { 64 * 1024 * 1024 } else { 512 * 1024 * 1024 };

/// A buffer that grew past this for one record is given back after it.
const KEPT_CAPACITY: usize = 8 * 1024 * 1024;

/// Empties a buffer for the next record, and gives its memory back if one record made it huge.
pub(super) fn renew(buffer: &mut String) {
    buffer.clear();
    buffer.shrink_to(KEPT_CAPACITY);
}

/// The text of a stream.
pub(super) struct Text<R> {
    bytes: Bytes<R>,
    decoding: Decoding,
    window: String,
    /// Where in the window the text begins that was not consumed yet.
    start: usize,
    /// What stops the stream once the window is used up.
    fault: Option<Problem>,
}

enum Decoding {
    /// Only ASCII so far: every encoding but UTF-16 agrees on it.
    Ascii,
    Utf8,
    Other(Decoder),
    /// Another encoding, at its end.
    Flushed(&'static Encoding),
}

impl<R: Read> Text<R> {
    /// Starts on a stream, in the encoding of that name or in the one its bytes are found to have.
    pub(super) fn new(reader: R, encoding: Option<&str>) -> Result<Self, Problem> {
        let named = encoding.map(encoding::by_name).transpose()?;
        let mut bytes = Bytes::new(reader);
        bytes.fill().map_err(Problem::Io)?;
        sniff::refuse_other_files(&bytes.pending)?;
        let decoding = if let Some((marked, length)) = Encoding::for_bom(&bytes.pending) {
            bytes.pending.drain(..length);
            Decoding::of(marked)
        } else {
            let known = named.or_else(|| encoding::by_nuls(&bytes.pending));
            known.map_or(Decoding::Ascii, Decoding::of)
        };
        Ok(Self { bytes, decoding, window: String::new(), start: 0, fault: None })
    }

    /// Returns the text that was not consumed yet, as far as it is in memory.
    pub(super) fn rest(&self) -> &str {
        &self.window[self.start..]
    }

    /// Lets go of the first `length` bytes of the rest.
    pub(super) fn consume(&mut self, length: usize) {
        self.start += length;
    }

    /// Adds text to the rest, and says [`Ahead::Nothing`] if there was none to add.
    ///
    /// The error is about what comes right after the rest.
    pub(super) fn more(&mut self) -> Result<Ahead, Problem> {
        self.window.drain(..self.start);
        self.start = 0;
        if self.window.len() < KEPT_CAPACITY / 2 {
            self.window.shrink_to(KEPT_CAPACITY);
        }
        let before = self.window.len();
        while self.window.len() == before {
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            self.bytes.fill().map_err(Problem::Io)?;
            if self.is_at_end() {
                return Ok(Ahead::Nothing);
            }
            self.fault = self.decode().err();
            if let Some(nul) = self.window[before..].find('\0') {
                self.window.truncate(before + nul);
                self.fault = Some(Problem::Nul);
            }
        }
        Ok(Ahead::More)
    }

    /// Adds text until the rest has `length` bytes or there is no more; an error is kept for later.
    pub(super) fn look_ahead(&mut self, length: usize) -> Ahead {
        while self.rest().len() < length {
            match self.more() {
                Ok(Ahead::More) => {}
                Ok(Ahead::Nothing) => return Ahead::Nothing,
                Err(fault) => {
                    self.fault = Some(fault);
                    return Ahead::More;
                }
            }
        }
        Ahead::More
    }

    /// Returns the encoding's name in the WHATWG standard.
    pub(super) fn encoding(&self) -> &'static str {
        match &self.decoding {
            Decoding::Ascii | Decoding::Utf8 => UTF_8.name(),
            Decoding::Other(decoder) => decoder.encoding().name(),
            Decoding::Flushed(encoding) => encoding.name(),
        }
    }

    /// Reads to the end of the stream and returns the hash and the number of all its bytes.
    pub(super) fn finish(mut self) -> io::Result<([u8; 32], u64)> {
        while self.bytes.ahead == Ahead::More {
            self.bytes.pending.clear();
            self.bytes.fill()?;
        }
        Ok((self.bytes.hash.finalize().into(), self.bytes.count))
    }

    fn is_at_end(&self) -> bool {
        let flushed = !matches!(self.decoding, Decoding::Other(_));
        self.bytes.pending.is_empty() && self.bytes.ahead == Ahead::Nothing && flushed
    }

    /// Turns pending bytes into text, up to the first that is wrong.
    fn decode(&mut self) -> Result<(), Problem> {
        match &mut self.decoding {
            Decoding::Ascii => self.decode_ascii(),
            Decoding::Utf8 => self.decode_utf8(),
            Decoding::Other(decoder) => {
                let encoding = decoder.encoding();
                let flushed = decode_other(decoder, &mut self.bytes, &mut self.window)?;
                if flushed == Ahead::Nothing {
                    self.decoding = Decoding::Flushed(encoding);
                }
                Ok(())
            }
            Decoding::Flushed(_) => Ok(()),
        }
    }

    fn decode_ascii(&mut self) -> Result<(), Problem> {
        let pending = &self.bytes.pending;
        let ascii = if pending.is_ascii() {
            pending.len()
        } else {
            pending.iter().take_while(|byte| byte.is_ascii()).count()
        };
        if ascii > 0 {
            self.bytes.take_utf8(ascii, &mut self.window);
            return Ok(());
        }
        match encoding::recognize(pending, self.bytes.ahead) {
            Guess::Is(encoding) => {
                self.decoding = Decoding::of(encoding);
                Ok(())
            }
            Guess::Perhaps(likely) => {
                Err(Problem::UnclearEncoding { byte: self.bytes.position(), likely })
            }
        }
    }

    fn decode_utf8(&mut self) -> Result<(), Problem> {
        let error = match std::str::from_utf8(&self.bytes.pending) {
            Ok(valid) => {
                self.window.push_str(valid);
                self.bytes.pending.clear();
                return Ok(());
            }
            Err(error) => error,
        };
        self.bytes.take_utf8(error.valid_up_to(), &mut self.window);
        let cut = error.error_len().is_none() && self.bytes.ahead == Ahead::More;
        if cut {
            return Ok(());
        }
        Err(Problem::Malformed { encoding: UTF_8.name(), byte: self.bytes.position() })
    }
}

impl Decoding {
    fn of(encoding: &'static Encoding) -> Self {
        if encoding == UTF_8 {
            Self::Utf8
        } else {
            Self::Other(encoding.new_decoder_without_bom_handling())
        }
    }
}

fn decode_other<R>(
    decoder: &mut Decoder,
    bytes: &mut Bytes<R>,
    window: &mut String,
) -> Result<Ahead, Problem> {
    let pending = &bytes.pending;
    // Three bytes of text for one of the file is the most there is, and an overflow is impossible
    // in chunks of this size.
    let room = decoder.max_utf8_buffer_length_without_replacement(pending.len());
    window.reserve(room.unwrap_or(pending.len() * 3 + 16));
    let last = bytes.ahead == Ahead::Nothing;
    let (result, read) = decoder.decode_to_string_without_replacement(pending, window, last);
    let position = bytes.position();
    bytes.pending.drain(..read);
    match result {
        DecoderResult::InputEmpty => Ok(bytes.ahead),
        DecoderResult::OutputFull => Ok(Ahead::More),
        DecoderResult::Malformed(wrong, after) => Err(Problem::Malformed {
            encoding: decoder.encoding().name(),
            byte: (position + read as u64).saturating_sub(u64::from(wrong) + u64::from(after)),
        }),
    }
}

/// The bytes of a stream that were read and not decoded yet, and a hash of all that were read.
struct Bytes<R> {
    reader: R,
    hash: Sha256,
    /// How many were read.
    count: u64,
    pending: Vec<u8>,
    ahead: Ahead,
}

impl<R> Bytes<R> {
    fn new(reader: R) -> Self {
        let pending = Vec::with_capacity(CHUNK + 64);
        Self { reader, hash: Sha256::new(), count: 0, pending, ahead: Ahead::More }
    }

    /// Returns which byte of the file is the first that pends, counted from 1.
    fn position(&self) -> u64 {
        self.count - self.pending.len() as u64 + 1
    }

    /// Moves pending bytes that are known to be UTF-8 into `text`.
    fn take_utf8(&mut self, length: usize, text: &mut String) {
        if let Ok(valid) = std::str::from_utf8(&self.pending[..length]) {
            text.push_str(valid);
        }
        self.pending.drain(..length);
    }
}

impl<R: Read> Bytes<R> {
    /// Reads until a whole chunk pends or there is no more.
    fn fill(&mut self) -> io::Result<()> {
        let wanted = CHUNK.saturating_sub(self.pending.len());
        if wanted == 0 || self.ahead == Ahead::Nothing {
            return Ok(());
        }
        let old = self.pending.len();
        let read = (&mut self.reader).take(wanted as u64).read_to_end(&mut self.pending)?;
        self.hash.update(&self.pending[old..]);
        self.count += read as u64;
        if read < wanted {
            self.ahead = Ahead::Nothing;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Hands out one byte at a time, and is interrupted before each.
    struct Trickle<'a>(&'a [u8], bool);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    fn read_all<R: Read>(reader: R, encoding: Option<&str>) -> (String, Option<Problem>) {
        let mut text = Text::new(reader, encoding).unwrap();
        let mut all = String::new();
        loop {
            all.push_str(text.rest());
            text.consume(text.rest().len());
            match text.more() {
                Ok(Ahead::More) => {}
                Ok(Ahead::Nothing) => return (all, None),
                Err(problem) => {
                    assert_eq!(text.rest(), "");
                    return (all, Some(problem));
                }
            }
        }
    }

    #[test]
    fn text_survives_every_cut_of_its_chunks() {
        for shift in 0..4 {
            let text = "x".repeat(shift) + &"가나다é\u{1f642}".repeat(3 * CHUNK / 10);
            let (read, problem) = read_all(text.as_bytes(), None);
            assert!(problem.is_none() && read == text, "shift {shift}");
        }
    }

    #[test]
    fn a_slow_and_interrupted_reader_gives_the_same_text() {
        let (read, problem) = read_all(Trickle("가,b\n".as_bytes(), false), None);
        assert!(problem.is_none());
        assert_eq!(read, "가,b\n");
    }

    #[test]
    fn text_before_a_broken_byte_is_handed_out_first() {
        let mut bytes = "안녕하세요".as_bytes().to_vec();
        bytes.extend(b"\xff rest");
        let (read, problem) = read_all(&bytes[..], None);
        assert_eq!(read, "안녕하세요");
        assert!(matches!(problem, Some(Problem::Malformed { encoding: "UTF-8", byte: 16 })));
    }

    #[test]
    fn a_character_cut_by_the_end_of_the_file_is_malformed() {
        let bytes = &"가나다라마".as_bytes()[..14];
        let (read, problem) = read_all(bytes, None);
        assert_eq!(read, "가나다라");
        assert!(matches!(problem, Some(Problem::Malformed { byte: 13, .. })), "{problem:?}");
        let (read, problem) = read_all(&b"\xff\xfea\0b"[..], None);
        assert_eq!(read, "a");
        assert!(matches!(problem, Some(Problem::Malformed { byte: 5, .. })), "{problem:?}");
    }

    #[test]
    fn the_malformed_byte_of_another_encoding_is_counted_from_one() {
        // 0xC7D1 is 한; 0xC7 before an ASCII digit is no character of CP949.
        let (read, problem) = read_all(&b"ab\xc7\xd1\xc71"[..], Some("cp949"));
        assert_eq!(read, "ab한");
        assert!(matches!(problem, Some(Problem::Malformed { encoding: "EUC-KR", byte: 5 })));
    }

    #[test]
    fn a_nul_stops_the_text_even_before_broken_bytes() {
        let (read, problem) = read_all(&b"ab\0c\xff"[..], Some("utf-8"));
        assert_eq!(read, "ab");
        assert!(matches!(problem, Some(Problem::Nul)));
    }

    #[test]
    fn the_hash_is_of_the_file_even_if_it_was_not_read_to_its_end() {
        let bytes = vec![b'a'; 3 * CHUNK + 5];
        let text = Text::new(&bytes[..], None).unwrap();
        let (hash, count) = text.finish().unwrap();
        assert_eq!(count, bytes.len() as u64);
        assert_eq!(hash[..], Sha256::digest(&bytes)[..]);
    }

    #[test]
    fn korean_after_a_long_ascii_start_is_recognized() {
        let mut bytes = vec![b'a'; 2 * CHUNK - 1];
        bytes.extend(encoding_rs::EUC_KR.encode("똠방각하 펲시콜라").0.iter());
        let (read, problem) = read_all(&bytes[..], None);
        assert!(problem.is_none(), "{problem:?}");
        assert!(read.ends_with("a똠방각하 펲시콜라"));
    }
}
