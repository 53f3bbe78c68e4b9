//! Finds a key in what others say, however it is written there.

use std::ops::Range;

/// The ways in which a key can come back.
#[derive(Clone)]
pub(super) struct Echoes {
    /// Its bytes, each of which may be written as itself or escaped.
    plain: Vec<u8>,
    /// What stands in the base64 of any text that holds it, at each of the three places where it can begin, as URLs write
    /// it.
    base64: [Vec<u8>; 3],
    /// Whether any of these can start with a byte: what is looked through is long, and mostly something else.
    starts: Box<[bool; 256]>,
}

impl Echoes {
    pub(super) fn of(key: &str) -> Self {
        let plain = key.as_bytes().to_vec();
        let base64 = [0, 1, 2].map(|before| core_of_base64(&plain, before));
        let mut starts = Box::new([false; 256]);
        let firsts = base64.iter().chain([&plain]).filter_map(|way| way.first());
        for byte in firsts.chain(b"\\%&") {
            starts[usize::from(*byte)] = true;
        }
        (starts[usize::from(b'+')], starts[usize::from(b'/')]) = (true, true);
        Self { plain, base64, starts }
    }

    /// Returns where the key stands first.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let can_start = |byte: &u8| self.starts[usize::from(*byte)];
        let mut from = 0;
        while let Some(at) = bytes[from..].iter().position(can_start) {
            let at = from + at;
            if let Some(length) = self.here(&bytes[at..]) {
                return Some(at..at + length);
            }
            from = at + 1;
        }
        None
    }

    /// Returns how long the key is that stands at the start of `bytes`, if it does.
    fn here(&self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        let mut is_next = |wanted: &u8| match written(&bytes[at..], *wanted) {
            Some(length) => {
                at += length;
                true
            }
            None => false,
        };
        if self.plain.iter().all(&mut is_next) {
            return Some(at);
        }
        let is_here = |core: &&Vec<u8>| {
            core.len() <= bytes.len()
                && bytes.iter().zip(*core).all(|(byte, digit)| url_safe(*byte) == *digit)
        };
        self.base64.iter().find(is_here).map(Vec::len)
    }
}

/// Returns how many bytes at the start of `bytes` are one way to write `wanted`: itself, `\/`, `\u002f` with any number
/// of backslashes, `%2F` with its own `%` escaped or not, `&#47;` or `&#x2f;`.
fn written(bytes: &[u8], wanted: u8) -> Option<usize> {
    if bytes.first() == Some(&wanted) {
        return Some(1);
    }
    match bytes.first()? {
        b'\\' => {
            let slashes = bytes.iter().take_while(|byte| **byte == b'\\').count();
            match bytes.get(slashes)? {
                b'u' if number(bytes.get(slashes + 1..slashes + 5)?, 16)? == u32::from(wanted) => {
                    Some(slashes + 5)
                }
                byte if *byte == wanted => Some(slashes + 1),
                _ => None,
            }
        }
        b'%' => {
            let mut at = 1;
            while bytes.get(at..at + 2) == Some(b"25") {
                at += 2;
            }
            (number(bytes.get(at..at + 2)?, 16)? == u32::from(wanted)).then_some(at + 2)
        }
        b'&' => {
            let inside = bytes.strip_prefix(b"&#")?;
            let end = inside.iter().take(10).position(|byte| *byte == b';')?;
            let code = match inside[..end].strip_prefix(b"x").or(inside[..end].strip_prefix(b"X")) {
                Some(digits) => number(digits, 16)?,
                None => number(&inside[..end], 10)?,
            };
            (code == u32::from(wanted)).then_some(2 + end + 1)
        }
        _ => None,
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let add = |sum: u32, digit: &u8| {
        sum.checked_mul(radix)?.checked_add(char::from(*digit).to_digit(radix)?)
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

/// Returns the part of the base64, as URLs write it, of a text with a key in it that the rest of the text has no part in, where
/// `before` bytes of the key's first group of three are others.
fn core_of_base64(key: &[u8], before: usize) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bit = |at: usize| {
        let at = at - before * 8;
        key[at / 8] >> (7 - at % 8) & 1
    };
    let (start, end) = ((before * 8).div_ceil(6), (before + key.len()) * 8 / 6);
    let digit = |place: usize| {
        let value = (0..6).fold(0, |sum, more| sum << 1 | bit(place * 6 + more));
        DIGITS[usize::from(value)]
    };
    (start..end).map(digit).collect()
}

/// The two digits that URLs write otherwise.
fn url_safe(byte: u8) -> u8 {
    match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    }
}
