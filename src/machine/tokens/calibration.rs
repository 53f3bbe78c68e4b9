//! What the provider billed for requests that were counted here, and what follows for those to come.
//!
//! Where the vocabulary is the model's own, texts are counted as they are billed, and what differs is the same for every
//! request of a prompt: how the schema is written, a token more or less around the messages. So one number is
//! learned, the offset. Elsewhere a ratio is learned too. A few answers with strange bills (a server that counts
//! otherwise for a while, a tool that was called) must not bend the rest: what lies far from the others is left out.

use std::fmt;

/// A request with an answer on file: what is counted for it, and what the provider billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// By [`super::InputTokens::count`].
    pub counted: u64,
    /// The input tokens of its answer's usage.
    pub billed: u64,
}

/// What counted tokens come to on the bill.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    ratio: f64,
    offset: f64,
    /// The most that was billed for a counted token.
    most_ratio: f64,
    answers: u64,
}

/// What an estimate of input tokens stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The model's own vocabulary.
    Exact,
    /// The model's own vocabulary, and the text of a schema of which nobody says how it is billed.
    ExactButForm,
    /// So many answers on file.
    Calibrated(u64),
    /// The vocabulary of other models.
    Estimate,
}

/// With fewer answers than this a ratio is chance.
const LEAST_FOR_A_RATIO: usize = 3;
/// With fewer answers than this a line through them is chance.
const LEAST_FOR_A_LINE: usize = 8;
/// How far from the middle a bill may lie, in the distance that half of them keep to.
const FAR: f64 = 6.0;
/// Between these no vocabulary of a language model lies beside another.
const RATIOS: std::ops::RangeInclusive<f64> = 0.25..=4.0;

impl Calibration {
    /// Learns from answers; `None` where there are too few. `is_exact` says that the texts are counted with the model's
    /// own vocabulary.
    pub fn learn(seen: &[Counted], is_exact: bool) -> Option<Self> {
        let seen: Vec<Counted> =
            seen.iter().copied().filter(|one| one.billed > 0 && one.counted > 0).collect();
        if seen.is_empty() || !is_exact && seen.len() < LEAST_FOR_A_RATIO {
            return None;
        }
        let fit = if is_exact { offset } else { line };
        let first = fit(&seen);
        let kept = near(&seen, first);
        let (ratio, offset) = fit(&kept);
        let ratios = seen.iter().map(|one| one.billed as f64 / one.counted as f64);
        Some(Self {
            ratio,
            offset,
            most_ratio: ratios.fold(0.0, f64::max),
            answers: seen.len() as u64,
        })
    }

    /// Returns how many answers this stands on.
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// Returns the tokens that so many requests of `counted` tokens in all are billed as.
    pub fn of_all(&self, counted: u64, requests: u64) -> u64 {
        let billed = self.ratio * counted as f64 + self.offset * requests as f64;
        // Nobody bills nothing; a line through few points can say so of short requests.
        billed.round().max(requests as f64) as u64
    }

    /// Returns the tokens that a request of `counted` tokens is billed as.
    pub fn of(&self, counted: u64) -> u64 {
        self.of_all(counted, 1)
    }

    /// Returns what a request of `counted` tokens would be billed as at the dearest ratio that was seen.
    pub(super) fn most(&self, counted: u64) -> u64 {
        (self.most_ratio * counted as f64).ceil() as u64
    }
}

impl fmt::Display for Basis {
    /// Writes what stands in brackets behind a number of tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::ExactButForm => f.write_str("exact but for the schema, which is estimated"),
            Self::Calibrated(1) => f.write_str("calibrated on 1 answer"),
            Self::Calibrated(answers) => write!(f, "calibrated on {answers} answers"),
            Self::Estimate => f.write_str("estimate"),
        }
    }
}

/// Fits the offset alone.
fn offset(seen: &[Counted]) -> (f64, f64) {
    (1.0, mean(seen.iter().map(|one| one.billed as f64 - one.counted as f64)))
}

/// Fits ratio and offset by least squares; the ratio alone where the line would be chance.
fn line(seen: &[Counted]) -> (f64, f64) {
    let counted = mean(seen.iter().map(|one| one.counted as f64));
    let billed = mean(seen.iter().map(|one| one.billed as f64));
    // What no vocabulary explains is added to each request: a long system message of the server's own.
    let through_zero = match RATIOS.contains(&(billed / counted)) {
        true => (billed / counted, 0.0),
        false => (1.0, billed - counted),
    };
    let spread = mean(seen.iter().map(|one| (one.counted as f64 - counted).powi(2)));
    let together =
        mean(seen.iter().map(|one| (one.counted as f64 - counted) * (one.billed as f64 - billed)));
    // Requests of nearly one length tell nothing of the slope.
    if seen.len() < LEAST_FOR_A_LINE || spread.sqrt() < 0.05 * counted {
        return through_zero;
    }
    let ratio = together / spread;
    let offset = billed - ratio * counted;
    // No server takes away from what is sent; an offset below zero is a slope that chance made too steep.
    if RATIOS.contains(&ratio) && offset >= 0.0 { (ratio, offset) } else { through_zero }
}

/// Leaves out what lies far from the line.
fn near(seen: &[Counted], (ratio, offset): (f64, f64)) -> Vec<Counted> {
    let residual = |one: &Counted| one.billed as f64 - ratio * one.counted as f64 - offset;
    let middle = median(seen.iter().map(residual));
    let distance = median(seen.iter().map(|one| (residual(one) - middle).abs()));
    // Where most agree to the token, a few tokens are no outlier.
    let most = (FAR * distance).max(0.02 * mean(seen.iter().map(|one| one.billed as f64)) + 2.0);
    seen.iter().copied().filter(|one| (residual(one) - middle).abs() <= most).collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let number = values.len().max(1) as f64;
    values.sum::<f64>() / number
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
