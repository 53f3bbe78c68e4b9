//! Which lines go together into one batch.
//!
//! Lines are taken in the order in which they come, and a batch is closed by the first line that it
//! has no room for. So the same lines always make the same batches, in one pass and with nothing held
//! back; a closer packing would have to reorder rows or remember them. A line that no batch can hold
//! is said to be so: it must not close a batch, nor wait for one that never comes.

use std::fmt;
use std::ops::AddAssign;

/// The most that one batch may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Requests, which is lines. A batch always takes one, so zero is read as one.
    pub requests: u64,
    /// Bytes of the input file, line breaks included.
    pub bytes: u64,
    /// Estimated tokens; `None` where no limit is known. This is what a batch may hold while no
    /// other one waits: the room that is left in the queue now says when to send, not what fits.
    pub tokens: Option<u64>,
}

/// The size of one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Its bytes, with its line break.
    pub bytes: u64,
    /// Its estimated tokens.
    pub tokens: u64,
}

/// What a batch holds that is being filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests, which is lines.
    pub requests: u64,
    /// Bytes, line breaks included.
    pub bytes: u64,
    /// Estimated tokens.
    pub tokens: u64,
}

impl Load {
    /// Takes in one more line.
    pub fn add(&mut self, size: Size) {
        *self += Self { requests: 1, bytes: size.bytes, tokens: size.tokens };
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.tokens = self.tokens.saturating_add(other.tokens);
    }
}

/// Whether a line fits into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It does.
    Fits,
    /// Not into this one, but into an empty one.
    NextBatch,
    /// Into no batch at all.
    Never(TooBig),
}

/// Why no batch can hold a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooBig {
    /// It is longer than a whole input file may be.
    Bytes,
    /// It has more tokens than a whole batch may hold.
    Tokens,
}

impl fmt::Display for TooBig {
    /// Writes words that go on from "the request".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "is larger than a whole batch file may be",
            Self::Tokens => "has more tokens than a whole batch may hold",
        })
    }
}

/// Says whether a line of this size fits into a batch that holds `load`.
pub fn fit(load: Load, size: Size, limits: BatchLimits) -> Fit {
    if size.bytes > limits.bytes {
        return Fit::Never(TooBig::Bytes);
    }
    if limits.tokens.is_some_and(|most| size.tokens > most) {
        return Fit::Never(TooBig::Tokens);
    }
    let has_room = load.requests < limits.requests.max(1)
        && size.bytes <= limits.bytes.saturating_sub(load.bytes)
        && limits.tokens.is_none_or(|most| size.tokens <= most.saturating_sub(load.tokens));
    if has_room { Fit::Fits } else { Fit::NextBatch }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: Load = Load { requests: 0, bytes: 0, tokens: 0 };

    fn size(bytes: u64, tokens: u64) -> Size {
        Size { bytes, tokens }
    }

    /// Packs line by line, as a feeder does. Returns the numbers of the lines in each batch, and of those in none.
    fn packed(lines: &[Size], limits: BatchLimits) -> (Vec<Vec<usize>>, Vec<(usize, TooBig)>) {
        let (mut closed, mut never) = (Vec::new(), Vec::new());
        let (mut load, mut open) = (Load::default(), Vec::new());
        for (number, line) in lines.iter().enumerate() {
            match fit(load, *line, limits) {
                Fit::Fits => {}
                Fit::NextBatch => {
                    closed.push(std::mem::take(&mut open));
                    load = Load::default();
                    assert_eq!(fit(load, *line, limits), Fit::Fits, "an empty batch takes it");
                }
                Fit::Never(why) => {
                    never.push((number, why));
                    continue;
                }
            }
            load.add(*line);
            open.push(number);
        }
        if !open.is_empty() {
            closed.push(open);
        }
        (closed, never)
    }

    /// The oracle looks at the whole list: of the lines that can be sent at all, each batch is the longest
    /// run from where the last one ended whose sums, in numbers that cannot overflow, are within the limits.
    fn oracle(lines: &[Size], limits: BatchLimits) -> Vec<Vec<usize>> {
        let within = |run: &[usize]| {
            let bytes: u128 = run.iter().map(|number| u128::from(lines[*number].bytes)).sum();
            let tokens: u128 = run.iter().map(|number| u128::from(lines[*number].tokens)).sum();
            run.len() as u128 <= u128::from(limits.requests)
                && bytes <= u128::from(limits.bytes)
                && limits.tokens.is_none_or(|most| tokens <= u128::from(most))
        };
        let mut rest: Vec<usize> = (0..lines.len()).filter(|number| within(&[*number])).collect();
        let mut batches = Vec::new();
        while !rest.is_empty() {
            let longest = (1..=rest.len()).rev().find(|end| within(&rest[..*end])).unwrap();
            let after = rest.split_off(longest);
            batches.push(std::mem::replace(&mut rest, after));
        }
        batches
    }

    /// Small numbers, and numbers near the end of what a `u64` holds.
    fn amounts(most: u64) -> impl Strategy<Value = u64> {
        prop_oneof![
            9 => 0..=most,
            1 => (0..=most).prop_map(|less| u64::MAX - less),
            1 => (0..=most).prop_map(|more| u64::MAX / 2 + more),
        ]
    }

    proptest! {
        #[test]
        fn batches_are_those_of_the_oracle(
            lines in prop::collection::vec((amounts(40), amounts(30)), 0..60),
            requests in 1u64..12,
            bytes in amounts(120),
            tokens in prop::option::of(amounts(90)),
        ) {
            let lines: Vec<Size> = lines.into_iter().map(|(bytes, tokens)| size(bytes, tokens)).collect();
            let limits = BatchLimits { requests, bytes, tokens };
            let (batches, never) = packed(&lines, limits);
            prop_assert_eq!(&batches, &oracle(&lines, limits));
            prop_assert_eq!((&batches, &never), (&packed(&lines, limits).0, &packed(&lines, limits).1));

            // In order, and each line once: in a batch or in none.
            let sent: Vec<usize> = batches.concat();
            prop_assert!(sent.is_sorted());
            let mut all: Vec<usize> = never.iter().map(|(number, _)| *number).chain(sent).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lines.len()).collect::<Vec<_>>());

            for (number, why) in never {
                let too_big = match why {
                    TooBig::Bytes => lines[number].bytes > bytes,
                    TooBig::Tokens => tokens.is_some_and(|most| lines[number].tokens > most),
                };
                prop_assert!(too_big, "line {number} is said to be too big");
            }
        }

        #[test]
        fn a_batch_never_goes_over_and_is_closed_only_by_a_line_it_cannot_take(
            lines in prop::collection::vec((0u64..40, 0u64..30), 0..60),
            requests in 1u64..12,
            bytes in 0u64..120,
            tokens in prop::option::of(0u64..90),
        ) {
            let lines: Vec<Size> = lines.into_iter().map(|(bytes, tokens)| size(bytes, tokens)).collect();
            let (batches, _) = packed(&lines, BatchLimits { requests, bytes, tokens });
            let goes_over = |batch: &[usize]| {
                batch.len() as u64 > requests
                    || batch.iter().map(|number| lines[*number].bytes).sum::<u64>() > bytes
                    || batch.iter().map(|number| lines[*number].tokens).sum::<u64>()
                        > tokens.unwrap_or(u64::MAX)
            };
            for batch in &batches {
                prop_assert!(!batch.is_empty() && !goes_over(batch));
            }
            for pair in batches.windows(2) {
                let with_first_of_next = [pair[0].as_slice(), &pair[1][..1]].concat();
                prop_assert!(goes_over(&with_first_of_next));
            }
        }
    }

    #[test]
    fn limits_may_be_reached_and_not_passed() {
        let limits = BatchLimits { requests: 3, bytes: 100, tokens: Some(50) };
        let load = Load { requests: 2, bytes: 60, tokens: 30 };
        let table = [
            (load, size(40, 20), Fit::Fits),
            (load, size(41, 20), Fit::NextBatch),
            (load, size(40, 21), Fit::NextBatch),
            (load, size(100, 50), Fit::NextBatch),
            (load, size(101, 0), Fit::Never(TooBig::Bytes)),
            (load, size(0, 51), Fit::Never(TooBig::Tokens)),
            (load, size(101, 51), Fit::Never(TooBig::Bytes)),
            (NONE, size(100, 50), Fit::Fits),
            (Load { requests: 3, bytes: 0, tokens: 0 }, size(1, 1), Fit::NextBatch),
        ];
        for (load, size, expected) in table {
            assert_eq!(fit(load, size, limits), expected, "{size:?} into {load:?}");
        }
    }

    #[test]
    fn without_a_known_limit_tokens_do_not_matter() {
        let limits = BatchLimits { requests: 10, bytes: 100, tokens: None };
        let load = Load { requests: 1, bytes: 1, tokens: 7 };
        assert_eq!(fit(load, size(1, u64::MAX - 7), limits), Fit::Fits);
    }

    #[test]
    fn a_batch_always_takes_one_line() {
        let limits = BatchLimits { requests: 0, bytes: 10, tokens: None };
        assert_eq!(fit(NONE, size(5, 5), limits), Fit::Fits);
        assert_eq!(
            fit(Load { requests: 1, bytes: 5, tokens: 5 }, size(5, 5), limits),
            Fit::NextBatch
        );
    }

    #[test]
    fn sums_stop_at_the_end_of_numbers() {
        let mut load = Load { requests: u64::MAX, bytes: u64::MAX - 1, tokens: 3 };
        load.add(size(7, u64::MAX));
        assert_eq!(load, Load { requests: u64::MAX, bytes: u64::MAX, tokens: u64::MAX });
        let limits = BatchLimits { requests: u64::MAX, bytes: u64::MAX, tokens: Some(u64::MAX) };
        assert_eq!(fit(load, size(1, 1), limits), Fit::NextBatch);
    }
}
