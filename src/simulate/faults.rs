//! Faults to order: what goes wrong, and when.
//!
//! A fault strikes only a request that would have been answered, so that `first:3` means three
//! good requests. Which one strikes is a pure function of a [`Draw`]: no state is kept here.

use std::fmt;
use std::str::FromStr;

/// Something that a provider, or the way to it, can do to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// 429 `rate_limit_exceeded`, with a short `retry-after-ms`.
    RateLimit,
    /// 429 `insufficient_quota`.
    Quota,
    /// 500 `server_error`.
    ServerError,
    /// 503 `server_is_overloaded`.
    Overloaded,
    /// 401 `invalid_api_key`.
    Unauthorized,
    /// 403, a country that is not served.
    Forbidden,
    /// 404 `model_not_found`.
    ModelNotFound,
    /// 400 `invalid_value`.
    InvalidRequest,
    /// 400 `context_length_exceeded`.
    Context,
    /// 413.
    TooLarge,
    /// The connection is reset (TCP RST) before any byte of a reply.
    Reset,
    /// The connection is closed in good order, without a reply.
    Close,
    /// No reply comes; the connection is closed after [`super::Settings::hang`].
    Hang,
    /// The reply comes in small parts.
    Slow,
    /// The reply ends before the length that it announced.
    Cut,
    /// A reply of 200 whose JSON is broken off.
    BadJson,
    /// A gateway's 502, an HTML page.
    Html,
    /// A reply of 200 without a body.
    Empty,
    /// The model declines.
    Refusal,
    /// The answer is withheld by a filter.
    ContentFilter,
    /// The answer is cut as by the token limit; once for each model and conversation.
    Length,
    /// A reply of 200 whose `choices` (or `output`) is a string.
    WrongType,
    /// An answer that is outside of the schema or the choices.
    WrongLabel,
    /// The answer is made and charged, and then the connection is reset.
    Lost,
}

impl Fault {
    /// Every fault, in the order in which they are listed to people.
    pub const ALL: [Self; 24] = [
        Self::RateLimit,
        Self::Quota,
        Self::ServerError,
        Self::Overloaded,
        Self::Unauthorized,
        Self::Forbidden,
        Self::ModelNotFound,
        Self::InvalidRequest,
        Self::Context,
        Self::TooLarge,
        Self::Reset,
        Self::Close,
        Self::Hang,
        Self::Slow,
        Self::Cut,
        Self::BadJson,
        Self::Html,
        Self::Empty,
        Self::Refusal,
        Self::ContentFilter,
        Self::Length,
        Self::WrongType,
        Self::WrongLabel,
        Self::Lost,
    ];

    /// Returns the fault's word on the command line and in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimit => "429",
            Self::Quota => "quota",
            Self::ServerError => "500",
            Self::Overloaded => "503",
            Self::Unauthorized => "401",
            Self::Forbidden => "403",
            Self::ModelNotFound => "404",
            Self::InvalidRequest => "400",
            Self::Context => "context",
            Self::TooLarge => "413",
            Self::Reset => "reset",
            Self::Close => "close",
            Self::Hang => "hang",
            Self::Slow => "slow",
            Self::Cut => "cut",
            Self::BadJson => "badjson",
            Self::Html => "html",
            Self::Empty => "empty",
            Self::Refusal => "refusal",
            Self::ContentFilter => "content_filter",
            Self::Length => "length",
            Self::WrongType => "wrongtype",
            Self::WrongLabel => "wronglabel",
            Self::Lost => "lost",
        }
    }

    /// Says whether a completion is made, and charged, when it strikes.
    pub fn is_charged(self) -> bool {
        match self {
            Self::Slow
            | Self::Cut
            | Self::BadJson
            | Self::Empty
            | Self::Refusal
            | Self::ContentFilter
            | Self::Length
            | Self::WrongType
            | Self::WrongLabel
            | Self::Lost => true,
            Self::RateLimit
            | Self::Quota
            | Self::ServerError
            | Self::Overloaded
            | Self::Unauthorized
            | Self::Forbidden
            | Self::ModelNotFound
            | Self::InvalidRequest
            | Self::Context
            | Self::TooLarge
            | Self::Reset
            | Self::Close
            | Self::Hang
            | Self::Html => false,
        }
    }

    /// Returns the fault that `word` names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.as_str() == word)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which requests a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// This share of all requests, 0 to 1.
    Rate(f64),
    /// The first so many requests that the provider sees.
    First(u64),
    /// Each n-th request that the provider sees.
    Every(u64),
    /// The first so many times that the provider sees the same body.
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
/// Counted rules come before rates, each in the order of the text. Rates share one draw, so that
/// each is exact and their sum is the share of requests that fail.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults(Vec<FaultRule>);

/// What the choice of a fault depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    /// How many requests came before this one.
    pub(super) before: u64,
    /// How many requests with the same body came before this one.
    pub(super) same_before: u64,
    /// A number in 0..1, drawn for this body and this try.
    pub(super) unit: f64,
}

impl Faults {
    /// Returns the rules, in the order in which they were given.
    pub fn rules(&self) -> &[FaultRule] {
        &self.0
    }

    /// Returns the fault that strikes, if one does.
    pub(super) fn pick(&self, draw: Draw) -> Option<Fault> {
        let counted = self.0.iter().find(|rule| match rule.when {
            When::First(count) => draw.before < count,
            When::Every(nth) => (draw.before + 1).is_multiple_of(nth),
            When::Tries(count) => draw.same_before < count,
            When::Rate(_) => false,
        });
        counted.map(|rule| rule.fault).or_else(|| self.pick_by_rate(draw.unit))
    }

    fn pick_by_rate(&self, unit: f64) -> Option<Fault> {
        let mut below = 0.0;
        self.0.iter().find_map(|rule| {
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
        let rules = parts.map(FaultRule::from_str).collect::<Result<Vec<_>, _>>()?;
        let rates = rules.iter().filter_map(|rule| match rule.when {
            When::Rate(rate) => Some(rate),
            When::First(_) | When::Every(_) | When::Tries(_) => None,
        });
        let sum: f64 = rates.sum();
        // A sum such as 0.1 + 0.2 + 0.7 may miss 1 by a rounding.
        if sum > 1.0 + 1e-9 {
            return Err(FaultError::RatesAboveOne { sum });
        }
        Ok(Self(rules))
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
    /// More than every request would fail.
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
        Draw { before, same_before, unit }
    }

    #[test]
    fn every_fault_has_one_word() {
        for fault in Fault::ALL {
            assert_eq!(Fault::parse(fault.as_str()), Some(fault));
        }
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
