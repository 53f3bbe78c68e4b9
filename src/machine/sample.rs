//! Which rows a pilot takes: at random, and the same ones for the same seed.
//!
//! Every row has its number in the lottery, drawn from the seed and its place in the table alone. The lowest win: so one
//! pass over a table of any size is enough, and a second pilot with the same seed goes on with the next ones.

use std::collections::BinaryHeap;

/// Draws a row's number. (The finalizer of `SplitMix64`, twice.)
pub fn lot(seed: u64, position: i64) -> u64 {
    mixed(mixed(seed) ^ position as u64)
}

fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The lowest numbers so far, at most so many.
#[derive(Clone, Debug)]
pub struct Lowest<T> {
    most: usize,
    kept: BinaryHeap<(u64, T)>,
}

impl<T: Ord> Lowest<T> {
    /// Starts with none.
    pub fn new(most: usize) -> Self {
        Self { most, kept: BinaryHeap::with_capacity(most.min(1 << 16)) }
    }

    /// Takes one in, if it is among the lowest.
    pub fn take(&mut self, number: u64, what: T) {
        if self.kept.len() < self.most {
            self.kept.push((number, what));
        } else if self.kept.peek().is_some_and(|highest| number < highest.0) {
            self.kept.pop();
            self.kept.push((number, what));
        }
    }

    /// Returns them, the lowest first.
    pub fn into_sorted(self) -> Vec<T> {
        self.kept.into_sorted_vec().into_iter().map(|(_, what)| what).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_part_of_a_table_is_drawn_from_alike() {
        for seed in 0..20 {
            let mut lowest = Lowest::new(1_000);
            (1..=100_000).for_each(|position| lowest.take(lot(seed, position), position));
            let drawn = lowest.into_sorted();
            let mut tenths = [0u32; 10];
            for position in drawn {
                tenths[((position - 1) / 10_000) as usize] += 1;
            }
            // Of 1,000 in ten parts, 100 each; six standard deviations are 57.
            assert!(tenths.iter().all(|count| (43..=157).contains(count)), "{seed}: {tenths:?}");
        }
    }

    #[test]
    fn another_seed_draws_others_and_the_same_one_the_same() {
        let draw = |seed| {
            let mut lowest = Lowest::new(20);
            (1..=1_000).for_each(|position| lowest.take(lot(seed, position), position));
            lowest.into_sorted()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    proptest! {
        #[test]
        fn the_lowest_are_kept(numbers in prop::collection::vec(0u64..1_000, 0..200), most in 0usize..50) {
            let mut lowest = Lowest::new(most);
            numbers.iter().enumerate().for_each(|(at, number)| lowest.take(*number, at));
            let kept: Vec<u64> = lowest.into_sorted().into_iter().map(|at| numbers[at]).collect();
            let mut sorted = numbers.clone();
            sorted.sort_unstable();
            sorted.truncate(most);
            prop_assert_eq!(kept, sorted);
        }
    }
}
