//! Faults to order: what goes wrong, and when.
//!
//! A fault strikes only what would have gone well, so that `first:3` means three good requests.
//! Each [`Moment`] is counted and drawn for by itself: a fault of batches neither counts calls nor
//! takes its share from theirs. Which one strikes is a pure function of a [`Draw`]; the counts are
//! kept by [`super::draws`].

use std::fmt;
use std::str::FromStr;

use super::fault::{Fault, Moment};

/// Which of the things that come to its moment a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// This share of them all, 0 to 1.
    Rate(f64),
    /// The first so many that the provider sees.
    First(u64),
    /// Each n-th that the provider sees.
    Every(u64),
    /// The first so many times that the provider sees the same one; for a call, the same body.
    Tries(u64),
}

/// One fault and when it strikes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaultRule {
    /// What goes wrong.
    pub fault: Fault,
    /// When.
    pub when: When,
}

/// All faults that are ordered; reads text such as `429=0.02,reset=first:3,500=every:10,length=once`.
///
/// Counted rules come before rates, each in the order of the text. The rates of one moment share
/// one draw, so that each is exact and their sum is the share of what fails there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults(Vec<FaultRule>);

/// What the choice of a fault depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    /// What is drawn for.
    pub(super) moment: Moment,
    /// How many came to this moment before this one.
    pub(super) before: u64,
    /// How many of these were the same as this one.
    pub(super) same_before: u64,
    /// A number in 0..1, drawn for this one and this try.
    pub(super) unit: f64,
}

impl Faults {
    /// Returns the rules, in the order in which they were given.
    pub fn rules(&self) -> &[FaultRule] {
        &self.0
    }

    /// Says whether any could strike at `moment`.
    pub(super) fn any_at(&self, moment: Moment) -> bool {
        self.of(moment).next().is_some()
    }

    /// Returns the fault that strikes, if one does.
    pub(super) fn pick(&self, draw: Draw) -> Option<Fault> {
        let counted = self.of(draw.moment).find(|rule| match rule.when {
            When::First(count) => draw.before < count,
            When::Every(nth) => (draw.before + 1).is_multiple_of(nth),
            When::Tries(count) => draw.same_before < count,
            When::Rate(_) => false,
        });
        counted.map(|rule| rule.fault).or_else(|| self.pick_by_rate(draw.moment, draw.unit))
    }

    fn of(&self, moment: Moment) -> impl Iterator<Item = &FaultRule> {
        self.0.iter().filter(move |rule| rule.fault.moments().contains(&moment))
    }

    fn pick_by_rate(&self, moment: Moment, unit: f64) -> Option<Fault> {
        let mut below = 0.0;
        self.of(moment).find_map(|rule| {
            let When::Rate(rate) = rule.when else { return None };
            below += rate;
            (unit < below).then_some(rule.fault)
        })
    }
}

impl FromStr for Faults {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let faults = Self(parts.map(FaultRule::from_str).collect::<Result<Vec<_>, _>>()?);
        for moment in Moment::ALL {
            let rates = faults.of(moment).filter_map(|rule| match rule.when {
                When::Rate(rate) => Some(rate),
                When::First(_) | When::Every(_) | When::Tries(_) => None,
            });
            let sum: f64 = rates.sum();
            // A sum such as 0.1 + 0.2 + 0.7 may miss 1 by a rounding.
            if sum > 1.0 + 1e-9 {
                return Err(FaultError::RatesAboveOne { sum });
            }
        }
        Ok(faults)
    }
}

impl FromStr for FaultRule {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (word, when) =
            text.split_once('=').ok_or_else(|| FaultError::NoWhen { text: text.to_owned() })?;
        let word = word.trim();
        let fault =
            Fault::parse(word).ok_or_else(|| FaultError::UnknownFault { word: word.to_owned() })?;
        let when = when.trim();
        let when =
            parse_when(when).ok_or_else(|| FaultError::BadWhen { fault, text: when.to_owned() })?;
        Ok(Self { fault, when })
    }
}

fn parse_when(text: &str) -> Option<When> {
    let count = |digits: &str| digits.parse::<u64>().ok().filter(|count| *count > 0);
    match text.split_once(':') {
        Some(("first", digits)) => count(digits).map(When::First),
        Some(("every", digits)) => count(digits).map(When::Every),
        Some(("tries", digits)) => count(digits).map(When::Tries),
        Some(_) => None,
        None if text == "once" => Some(When::Tries(1)),
        None => {
            let rate = text.parse::<f64>().ok()?;
            (0.0..=1.0).contains(&rate).then_some(When::Rate(rate))
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, FaultRule { fault, when }) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{fault}=")?;
            match when {
                When::Rate(rate) => write!(f, "{rate}")?,
                When::First(count) => write!(f, "first:{count}")?,
                When::Every(nth) => write!(f, "every:{nth}")?,
                When::Tries(count) => write!(f, "tries:{count}")?,
            }
        }
        Ok(())
    }
}

/// Why a text does not order faults.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FaultError {
    /// A part has no `=`.
    #[error(
        "`{text}` does not say when: write `{text}=0.01`, `{text}=first:3`, `{text}=every:10` or `{text}=once`"
    )]
    NoWhen {
        /// The part.
        text: String,
    },
    /// No fault has this name.
    #[error("there is no fault `{word}`; there are {}", known_faults())]
    UnknownFault {
        /// The name.
        word: String,
    },
    /// What stands behind `=` is neither a share nor a count.
    #[error(
        "`{text}` does not say when `{fault}` strikes: write a share from 0 to 1, `first:N`, `every:N`, `tries:N` or `once`"
    )]
    BadWhen {
        /// The fault.
        fault: Fault,
        /// What stands behind `=`.
        text: String,
    },
    /// More than everything would fail at one moment.
    #[error("the shares of the faults add up to {sum}, which is more than 1")]
    RatesAboveOne {
        /// The sum.
        sum: f64,
    },
}

fn known_faults() -> String {
    Fault::ALL.map(Fault::as_str).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(before: u64, same_before: u64, unit: f64) -> Draw {
        Draw { moment: Moment::Call, before, same_before, unit }
    }

    #[test]
    fn rates_are_exact_and_share_one_draw() {
        let faults: Faults = "429=0.25, 500=0.25".parse().unwrap();
        assert_eq!(faults.pick(draw(0, 0, 0.0)), Some(Fault::RateLimit));
        assert_eq!(faults.pick(draw(0, 0, 0.25)), Some(Fault::ServerError));
        assert_eq!(faults.pick(draw(0, 0, 0.4999)), Some(Fault::ServerError));
        assert_eq!(faults.pick(draw(0, 0, 0.5)), None);
        assert_eq!("cut=1".parse::<Faults>().unwrap().pick(draw(9, 9, 0.9999)), Some(Fault::Cut));
        assert_eq!("cut=0".parse::<Faults>().unwrap().pick(draw(0, 0, 0.0)), None);
    }

    #[test]
    fn counted_rules_strike_when_they_say() {
        let pick = |text: &str, before, same| {
            text.parse::<Faults>().unwrap().pick(draw(before, same, 0.99)).is_some()
        };
        assert!(pick("reset=first:2", 1, 0) && !pick("reset=first:2", 2, 0));
        assert!(pick("reset=every:3", 2, 0) && !pick("reset=every:3", 3, 0));
        assert!(pick("reset=once", 50, 0) && !pick("reset=once", 50, 1));
        assert!(pick("reset=tries:2", 50, 1) && !pick("reset=tries:2", 50, 2));
    }

    #[test]
    fn each_moment_has_rules_and_rates_of_its_own() {
        let faults: Faults = "429=0.6,line_500=0.6,refusal=0.4,poll_500=first:1".parse().unwrap();
        let pick = |moment, unit| faults.pick(Draw { moment, ..draw(9, 9, unit) });
        assert_eq!(pick(Moment::Call, 0.5), Some(Fault::RateLimit));
        assert_eq!(pick(Moment::Line, 0.5), Some(Fault::LineServerError));
        for moment in [Moment::Call, Moment::Line] {
            assert_eq!(pick(moment, 0.7), Some(Fault::Refusal), "an answer is made at both");
        }
        assert_eq!(pick(Moment::Poll, 0.0), None);
        let first = Draw { moment: Moment::Poll, ..draw(0, 0, 0.0) };
        assert_eq!(faults.pick(first), Some(Fault::PollServerError));
        assert!("line_500=0.7,refusal=0.4".parse::<Faults>().is_err());
    }

    #[test]
    fn no_faults_is_a_text_too_and_every_text_reads_back() {
        assert_eq!("".parse::<Faults>(), Ok(Faults::default()));
        for text in ["429=0.02,reset=first:3", "hang=every:7,lost=tries:2,html=1"] {
            assert_eq!(text.parse::<Faults>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_ordered_is_explained() {
        let message = |text: &str| text.parse::<Faults>().unwrap_err().to_string();
        assert!(message("429").starts_with("`429` does not say when: write `429=0.01`"));
        assert!(message("teapot=1").contains("no fault `teapot`; there are 429, quota, 500"));
        for when in ["2", "-0.1", "NaN", "inf", "", "first:0", "every:x", "often", "first"] {
            assert!(
                message(&format!("500={when}")).contains("does not say when `500` strikes"),
                "{when}"
            );
        }
        assert!(message("500=0,5").starts_with("`5` does not say when"));
        assert!(message("429=0.6,500=0.6").contains("add up to 1.2"));
        assert!("429=0.1,500=0.2,503=0.7".parse::<Faults>().is_ok());
    }
}
