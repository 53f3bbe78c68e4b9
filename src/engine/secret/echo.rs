//! Finds a key in what others say, however it is written there.

use std::ops::Range;

/// The ways in which a key can come back.
#[derive(Clone)]
pub(super) struct Echoes {
    /// Its bytes, each of which may be written as itself or escaped.
    plain: Vec<u8>,
    /// What stands in the base64 of any text that holds it, at each of the three places where it can begin.
    base64: [Vec<u8>; 3],
}

impl Echoes {
    pub(super) fn of(key: &str) -> Self {
        let plain = key.as_bytes().to_vec();
        let base64 = [0, 1, 2].map(|before| core_of_base64(&plain, before));
        Self { plain, base64 }
    }

    /// Returns where the key stands first.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let first = self.plain.first()?;
        let starts = |byte: u8| {
            byte == *first
                || matches!(byte, b'\\' | b'%' | b'&')
                || self.base64.iter().any(|core| core.first().map(url_safe) == Some(url_safe(&byte)))
        };
        let mut from = 0;
        while let Some(at) = bytes[from..].iter().position(|byte| starts(*byte)) {
            let at = from + at;
            let length = self.here(&bytes[at..]);
            if let Some(length) = length {
                return Some(at..at + length);
            }
            from = at + 1;
        }
        None
    }

    /// Returns how long the key is that stands at the start of `bytes`, if it does.
    fn here(&self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        let is_plain = self.plain.iter().all(|wanted| match written(&bytes[at..], *wanted) {
            Some(length) => {
                at += length;
                true
            }
            None => false,
        });
        if is_plain {
            return Some(at);
        }
        let same = |core: &&Vec<u8>| {
            let found = bytes.iter().map(url_safe).take(core.len());
            core.len() <= bytes.len() && found.eq(core.iter().map(url_safe))
        };
        self.base64.iter().find(same).map(Vec::len)
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

/// Returns the part of the base64 of a text with a key in it that the rest of the text has no part in, where
/// `before` bytes of the key's first group of three are others.
fn core_of_base64(key: &[u8], before: usize) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
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
fn url_safe(byte: &u8) -> u8 {
    match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => *other,
    }
}
